//! What can be typed.

mod drill;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::bench::Benchmark;
use crate::chaos::{Chance, Rules, Weather};

pub use self::drill::*;

/// Simulated fleets of protocol-true devices, drills and benchmarks. Loopback only.
#[derive(Parser, Debug)]
#[command(name = "holdfast-load", version, about)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Connect many devices to a running server and let them publish.
    Fleet(FleetArguments),
    /// Make the keys of a fleet: the list for the server, and the private keys beside it.
    Keys(KeysArguments),
    /// Break a server of its own while a fleet uses it, and check what became of every message.
    #[command(subcommand)]
    Drill(Drill),
    /// Stand between devices and a running server as a bad network.
    Chaos(ChaosArguments),
    /// Measure what a server of its own costs.
    Bench(BenchArguments),
    /// The least a server can do.
    #[command(hide = true)]
    Bare {
        /// Port for devices on UDP.
        udp: u16,
        /// Port for devices on TCP.
        tcp: u16,
        /// Port for REST.
        http: u16,
        /// Port for health checks.
        admin: u16,
    },
}

/// How many devices: some of either kind, or of both.
#[derive(Args, Clone, Copy, Debug)]
#[group(required = true, multiple = true)]
pub struct NumberArguments {
    /// How many devices on UDP.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub devices: u32,
    /// How many devices on TCP.
    #[arg(long, value_name = "M", default_value_t = 0)]
    pub tcp_devices: u32,
}

/// `fleet`
#[derive(Args, Debug)]
pub struct FleetArguments {
    /// How many.
    #[command(flatten)]
    pub number: NumberArguments,
    /// The server's address for devices on UDP: a loopback address.
    #[arg(long, value_name = "HOST:PORT", required_unless_present = "tcp_devices")]
    pub server: Option<String>,
    /// The server's public key for them, DER or PEM.
    #[arg(long, value_name = "FILE", required_unless_present = "tcp_devices")]
    pub server_key: Option<PathBuf>,
    /// The server's address for devices on TCP: a loopback address.
    #[arg(long, value_name = "HOST:PORT", requires = "tcp_devices")]
    pub tcp_server: Option<String>,
    /// The server's public key for them, DER or PEM.
    #[arg(long, value_name = "FILE", requires = "tcp_devices")]
    pub tcp_server_key: Option<PathBuf>,
    /// Private keys written by `keys`. Without them they are made from the seed, which gives the same ones.
    #[arg(long, value_name = "FILE")]
    pub keys: Option<PathBuf>,
    /// Seconds from one publish of a device to the next.
    #[arg(long, value_name = "S", default_value_t = 10.0, value_parser = seconds)]
    pub every: f64,
    /// Seconds to run, the first connections included.
    #[arg(long = "for", value_name = "S", default_value_t = 60.0, value_parser = seconds)]
    pub lasts: f64,
    /// Decides keys and everything random.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Devices on UDP behind one socket. More than one when there are more devices than open files; on IPv4 only.
    #[arg(long, value_name = "K", default_value_t = 1)]
    pub per_socket: usize,
    /// Do not look for record numbers used twice, which takes about 100 bytes for every datagram.
    #[arg(long)]
    pub no_audit: bool,
    /// Where to write the counts as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// `keys`
#[derive(Args, Debug)]
pub struct KeysArguments {
    /// How many.
    #[command(flatten)]
    pub number: NumberArguments,
    /// Decides the keys.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The list for the server; private keys go to a file beside it, `keys.private.csv` for `keys.csv`.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// What a bad network does.
#[derive(Args, Clone, Debug)]
pub struct WeatherArguments {
    /// Decides everything random.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Milliseconds that everything takes at least.
    #[arg(long, value_name = "MS", default_value_t = 20)]
    pub delay_ms: u64,
    /// Milliseconds that are added at most.
    #[arg(long, value_name = "MS", default_value_t = 200)]
    pub jitter_ms: u64,
    /// Datagrams lost, in each direction.
    #[arg(long, value_name = "PERCENT", default_value = "2", value_parser = percent)]
    pub loss: Chance,
    /// Datagrams that come twice.
    #[arg(long, value_name = "PERCENT", default_value = "1", value_parser = percent)]
    pub duplicate: Chance,
    /// Datagrams that are held back for half a second.
    #[arg(long, value_name = "PERCENT", default_value = "1", value_parser = percent)]
    pub reorder: Chance,
    /// Devices whose source port changes; over TCP their connection is cut.
    #[arg(long, value_name = "PERCENT", default_value = "10", value_parser = percent)]
    pub rebinding: Chance,
    /// Mean of the seconds between two such changes of a device.
    #[arg(long, value_name = "S", default_value_t = 60.0, value_parser = seconds)]
    pub rebind_every: f64,
}

impl WeatherArguments {
    /// What was typed, as rules.
    pub fn weather(&self) -> Weather {
        let common = Rules {
            delay: Duration::from_millis(self.delay_ms),
            jitter: Duration::from_millis(self.jitter_ms),
            loss: self.loss,
            duplicate: self.duplicate,
            reorder: self.reorder,
            reorder_hold: Duration::from_millis(500),
            ..Rules::default()
        };
        let rebinding = Rules { rebind_every: Some(Duration::from_secs_f64(self.rebind_every)), ..common };
        Weather { seed: self.seed, common, others: vec![(self.rebinding, rebinding)] }
    }
}

/// `chaos`
#[derive(Args, Debug)]
pub struct ChaosArguments {
    /// Where devices come to: a loopback address.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,
    /// The server's address for devices: a loopback address.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub server: SocketAddr,
    /// TCP connections instead of datagrams. Of what was said about datagrams, only delay, jitter and changes of port matter then.
    #[arg(long)]
    pub tcp: bool,
    /// What the network is like.
    #[command(flatten)]
    pub weather: WeatherArguments,
    /// With --tcp: mean of the seconds between two moments at which a direction stands still.
    #[arg(long, value_name = "S", value_parser = seconds, requires = "tcp")]
    pub stall_every: Option<f64>,
    /// With --tcp: seconds for which it stands still.
    #[arg(long, value_name = "S", default_value_t = 2.0, value_parser = seconds)]
    pub stall_for: f64,
    /// With --tcp: mean number of bytes after which a connection is cut.
    #[arg(long, value_name = "BYTES", requires = "tcp")]
    pub cut_after: Option<u64>,
    /// With --tcp: pieces towards the server that are torn in two.
    #[arg(long, value_name = "PERCENT", default_value = "10", value_parser = percent)]
    pub tear: Chance,
    /// Most devices, or connections at a time.
    #[arg(long, value_name = "N", default_value_t = 5000)]
    pub links_max: usize,
    /// Seconds to run.
    #[arg(long = "for", value_name = "S", default_value_t = 60.0, value_parser = seconds)]
    pub lasts: f64,
    /// Where to write the counts as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

impl ChaosArguments {
    /// What was typed, as rules.
    pub fn weather(&self) -> Weather {
        let mut weather = self.weather.weather();
        let others = weather.others.iter_mut().map(|(_, rules)| rules);
        for rules in others.chain([&mut weather.common]) {
            rules.stall_every = self.stall_every.map(Duration::from_secs_f64);
            rules.stall_for = Duration::from_secs_f64(self.stall_for);
            rules.cut_after = self.cut_after;
            rules.tear = self.tear;
        }
        weather
    }
}

/// `bench`
#[derive(Args, Debug)]
pub struct BenchArguments {
    /// Only these.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub only: Vec<Benchmark>,
    /// How many deliveries wait in webhook_drain, about.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..=10_000_000))]
    pub backlog: u64,
    /// The server's program; by default the one beside this.
    #[arg(long, value_name = "PATH")]
    pub holdfast: Option<PathBuf>,
    /// Where to write the report as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// A time in seconds: above 0, at most a day.
fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    (0.001..=86_400.0).contains(&seconds).then_some(seconds).ok_or_else(|| "seconds go from 0.001 to 86400".to_owned())
}

/// A share in percent.
fn percent(text: &str) -> Result<Chance, String> {
    text.parse().ok().and_then(Chance::percent).ok_or_else(|| "percents go from 0 to 100".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::Case;
    use crate::fleet::Transport;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_is_typed_arrives() -> Result<(), clap::Error> {
        let typed = "holdfast-load fleet --server 127.0.0.1:5684 --server-key k --devices 5 --every 0.5 --for 3 --per-socket 4";
        let Command::Fleet(fleet) = Arguments::try_parse_from(typed.split(' '))?.command else { panic!("not a fleet") };
        assert_eq!((fleet.number.devices, fleet.every, fleet.lasts, fleet.seed, fleet.per_socket), (5, 0.5, 3.0, 1, 4));
        let typed = "holdfast-load fleet --tcp-server 127.0.0.1:5683 --tcp-server-key k --tcp-devices 6";
        let Command::Fleet(fleet) = Arguments::try_parse_from(typed.split(' '))?.command else { panic!("not a fleet") };
        assert_eq!((fleet.number.devices, fleet.number.tcp_devices, fleet.server.is_some()), (0, 6, false));
        let typed = "holdfast-load bench --only ready_ms,dtls_handshakes";
        let Command::Bench(bench) = Arguments::try_parse_from(typed.split(' '))?.command else { panic!("not a bench") };
        assert_eq!(bench.only, [Benchmark::ReadyMs, Benchmark::DtlsHandshakes]);
        let typed = "holdfast-load drill chaos --devices 9 --tcp-devices 4 --seconds 5 --loss 2.5 --rebinding 0";
        let Command::Drill(Drill::Chaos(chaos)) = Arguments::try_parse_from(typed.split(' '))?.command else { panic!("not chaos") };
        assert_eq!((chaos.devices, chaos.tcp_devices, chaos.drill.keep), (9, 4, false));
        assert_eq!((Some(chaos.weather.loss), chaos.weather.rebinding), (Chance::percent(2.5), Chance::NEVER));
        let typed = "holdfast-load chaos --listen 127.0.0.1:0 --server 127.0.0.1:9 --tcp --cut-after 5 --stall-every 3";
        let Command::Chaos(chaos) = Arguments::try_parse_from(typed.split(' '))?.command else { panic!("not chaos") };
        let weather = chaos.weather();
        assert!(weather.others.iter().all(|(_, rules)| rules.cut_after == Some(5)) && weather.common.stall_every.is_some());
        let typed = "holdfast-load drill loud --transport tcp --rate 500";
        let Command::Drill(Drill::Loud(loud)) = Arguments::try_parse_from(typed.split(' '))?.command else { panic!("not loud") };
        assert_eq!((loud.transport, loud.bystanders.devices, loud.rate), (Transport::Tcp, 200, 500));
        let typed = "holdfast-load drill mass-return --per-second 400 --devices 300 --untimed";
        let Command::Drill(Drill::MassReturn(back)) = Arguments::try_parse_from(typed.split(' '))?.command else { panic!("no return") };
        assert_eq!((back.per_second, back.devices, back.keep_sessions, back.untimed), (Some(400), 300, false, true));
        let typed = "holdfast-load drill stall --stall 6 --full 4 --every 1";
        let Command::Drill(Drill::Stall(stall)) = Arguments::try_parse_from(typed.split(' '))?.command else { panic!("no stall") };
        assert_eq!((stall.stall, stall.full, stall.devices), (6.0, 4.0, 1000));
        let typed = "holdfast-load drill page --only killed,disk-hangs --peace 5";
        let Command::Drill(Drill::Page(page)) = Arguments::try_parse_from(typed.split(' '))?.command else { panic!("no page") };
        assert_eq!((page.only, page.peace), (vec![Case::Killed, Case::DiskHangs], 5.0));
        let typed = "holdfast-load drill gray-faults --only apply,clock-ahead --devices 100";
        let Command::Drill(Drill::GrayFaults(gray)) = Arguments::try_parse_from(typed.split(' '))?.command else { panic!("no faults") };
        assert_eq!((gray.only, gray.devices, gray.soak), (vec!["apply".to_owned(), "clock-ahead".to_owned()], 100, None));
        for bad in [
            "drill page --only bored",
            "drill gray-faults --only bad-luck",
            "drill gray-faults --only apply --soak 9",
            "drill stall --full 0",
            "drill mass-return --per-second 0",
            "drill mass-return --per-second 9 --keep-sessions",
            "drill chaos --loss 101",
            "drill loud --rate 0",
            "drill loud --transport radio",
            "chaos --listen 127.0.0.1:0 --server 127.0.0.1:9 --cut-after 5",
            "bench --only speed",
            "keys --devices 1",
            "keys --out f",
            "fleet --devices 1 --server-key k",
            "fleet --devices 1 --server 127.0.0.1:1 --server-key k --tcp-server 127.0.0.1:2",
            "drill kill-restart --every 0",
            "drill kill-restart --every NaN",
            "drill",
        ] {
            assert!(Arguments::try_parse_from(["holdfast-load"].into_iter().chain(bad.split(' '))).is_err(), "{bad}");
        }
        Ok(())
    }
}
