//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::bench::Benchmark;

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

/// `fleet`
#[derive(Args, Debug)]
pub struct FleetArguments {
    /// The server's address for devices: a loopback address.
    #[arg(long, value_name = "HOST:PORT")]
    pub server: String,
    /// The server's public key, DER or PEM.
    #[arg(long, value_name = "FILE")]
    pub server_key: PathBuf,
    /// How many devices.
    #[arg(long, value_name = "N")]
    pub devices: u32,
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
    /// Devices behind one socket. More than one when there are more devices than open files; they handshake in turn.
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
    /// How many devices.
    #[arg(long, value_name = "N")]
    pub devices: u32,
    /// Decides the keys.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The list for the server; private keys go to a file beside it, `keys.private.csv` for `keys.csv`.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// `drill`
#[derive(Subcommand, Debug)]
pub enum Drill {
    /// kill -9 again and again while every device publishes.
    KillRestart(KillRestartArguments),
}

/// `drill kill-restart`
#[derive(Args, Debug)]
pub struct KillRestartArguments {
    /// How many devices.
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub devices: u32,
    /// How many kills.
    #[arg(long, value_name = "K", default_value_t = 20)]
    pub kills: u32,
    /// Seconds from one publish of a device to the next.
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = seconds)]
    pub every: f64,
    /// Decides keys, moments and pauses.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Devices behind one socket.
    #[arg(long, value_name = "K", default_value_t = 1)]
    pub per_socket: usize,
    /// The server's program; by default the one beside this.
    #[arg(long, value_name = "PATH")]
    pub holdfast: Option<PathBuf>,
    /// Leave the server's directory behind.
    #[arg(long)]
    pub keep: bool,
    /// Where to write the report as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// `bench`
#[derive(Args, Debug)]
pub struct BenchArguments {
    /// Only these.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub only: Vec<Benchmark>,
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_is_typed_arrives() -> Result<(), clap::Error> {
        let typed = "holdfast-load fleet --server 127.0.0.1:5684 --server-key k --devices 5 --every 0.5 --for 3 --per-socket 4";
        let Command::Fleet(fleet) = Arguments::try_parse_from(typed.split(' '))?.command else { panic!("not a fleet") };
        assert_eq!((fleet.devices, fleet.every, fleet.lasts, fleet.seed, fleet.per_socket), (5, 0.5, 3.0, 1, 4));
        let typed = "holdfast-load bench --only ready_ms,dtls_handshakes";
        let Command::Bench(bench) = Arguments::try_parse_from(typed.split(' '))?.command else { panic!("not a bench") };
        assert_eq!(bench.only, [Benchmark::ReadyMs, Benchmark::DtlsHandshakes]);
        for bad in ["bench --only speed", "keys --devices 1", "drill kill-restart --every 0", "drill kill-restart --every NaN", "drill"] {
            assert!(Arguments::try_parse_from(["holdfast-load"].into_iter().chain(bad.split(' '))).is_err(), "{bad}");
        }
        Ok(())
    }
}
