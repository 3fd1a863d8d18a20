//! Benchmarks: what the real server costs in processor time and memory of its own, each beside what the machine itself could do in the same minutes.
//!
//! Load generator and server share the machine, so elapsed time says little: figures are medians of several short runs of the server's processor
//! time, and the limit is measured between those runs. The ratio is the share of the limit that is reached.

mod audience;
mod bare;
mod bare_rest;
mod durable;
mod echo;
mod handshakes;
mod memory;
mod million;
mod packed;
mod pings;
mod primitives;
mod ready;
mod records;
mod rest;
mod rsa;
mod sse;
mod syncs;
mod webhooks;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use nix::time::ClockId;

use crate::drill::register;
use crate::fleet::{Fleet, FleetPlan, Transport, Work};
use crate::keys::DeviceKeys;
use crate::report::{BenchReport, Measure};
use crate::server::Server;
use crate::stats::median;
use crate::threads::{self, Ticks};

pub use self::bare::bare;
pub(crate) use self::handshakes::{Rate, dtls_rate};

use self::million::Million;
use self::rest::Asked;
use self::webhooks::Signing;

/// Runs of each benchmark.
const RUNS: usize = 5;
/// How long each run is counted.
const WINDOW: Duration = Duration::from_secs(3);
/// How long the load runs before that.
const WARM_UP: Duration = Duration::from_millis(300);
/// Decides the keys of the devices.
const SEED: u64 = 1;

/// What can be measured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Debug)]
#[value(rename_all = "snake_case")]
pub enum Benchmark {
    /// Full DTLS handshakes for each second of one core.
    DtlsHandshakes,
    /// Full handshakes over TCP for each second of one core.
    TcpHandshakes,
    /// Processor time of a CoAP ping and its answer.
    PingRoundtrips,
    /// Publishes that are acknowledged because they are on disk, for each second of one core.
    DurablePublishes,
    /// Processor time to write events to two thousand readers of event streams.
    SseFanout,
    /// Reads of callers for each second of one core.
    RestReads,
    /// Function calls that devices answer for each second of one core.
    RestCalls,
    /// Events of callers that are on disk when they are told, for each second of one core.
    RestPublishes,
    /// Signed deliveries of hooks that are on disk and recorded, for each second of one core: with secrets, and with pairs of keys.
    WebhookDeliveries,
    /// The same while three in ten of a thousand receivers are dead.
    WebhookDeliveriesSick,
    /// Deliveries of receivers that come back, for each second of one core, and the server's memory while these wait.
    WebhookDrain,
    /// From the start of the process to the first "ready".
    ReadyMs,
    /// Processor time to seal a record.
    RecordSeal,
    /// Processor time to open a record.
    RecordOpen,
    /// Memory of the server for each session that is idle.
    IdleSessionBytes,
    /// From `kill -9` and a new start until sessions out of a million are answered.
    #[value(name = "restart_1m")]
    Restart1M,
    /// Memory of the server for each of a million sessions, and keep-alives of them for each second of one core.
    #[value(name = "sessions_1m")]
    Sessions1M,
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct Bench {
    /// Where the server is, if not beside this program.
    pub holdfast: Option<PathBuf>,
    /// Nothing means everything.
    pub only: Vec<Benchmark>,
    /// Deliveries that wait in [`Benchmark::WebhookDrain`], about.
    pub backlog: u64,
}

/// Runs the benchmarks, one after the other.
pub fn bench(bench: &Bench) -> Result<BenchReport> {
    let chosen = Benchmark::value_variants().iter().filter(|benchmark| bench.only.is_empty() || bench.only.contains(benchmark));
    let (holdfast, mut million, mut report) = (bench.holdfast.as_deref(), None, BenchReport::default());
    for benchmark in chosen {
        let mut add =
            |name: &'static str, measured: Result<Measure>| measured.context(name).map(|measure| report.extend([(name, measure)]));
        match benchmark {
            Benchmark::DtlsHandshakes => add("dtls_handshakes", handshakes::dtls(holdfast))?,
            Benchmark::TcpHandshakes => add("tcp_handshakes", handshakes::tcp(holdfast))?,
            Benchmark::PingRoundtrips => add("ping_roundtrips", pings::measure(holdfast))?,
            Benchmark::DurablePublishes => add("durable_publishes", durable::measure(holdfast))?,
            Benchmark::SseFanout => add("sse_fanout", sse::measure(holdfast))?,
            Benchmark::RestReads => add("rest_reads", rest::measure(holdfast, Asked::Reads))?,
            Benchmark::RestCalls => add("rest_calls", rest::measure(holdfast, Asked::Calls))?,
            Benchmark::RestPublishes => add("rest_publishes", rest::measure(holdfast, Asked::Publishes))?,
            Benchmark::WebhookDeliveries => {
                add("webhook_deliveries_hmac", webhooks::deliveries(holdfast, Signing::Hmac))?;
                add("webhook_deliveries_ed25519", webhooks::deliveries(holdfast, Signing::Ed25519))?;
            }
            Benchmark::WebhookDeliveriesSick => add("webhook_deliveries_sick", webhooks::sick(holdfast))?,
            Benchmark::WebhookDrain => {
                let (drain, memory) = webhooks::drain(holdfast, bench.backlog)?;
                add("webhook_drain", Ok(drain))?;
                add("webhook_backlog_rss", Ok(memory))?;
            }
            Benchmark::ReadyMs => add("ready_ms", ready::measure(holdfast))?,
            Benchmark::RecordSeal => add("record_seal", records::seal())?,
            Benchmark::RecordOpen => add("record_open", records::open())?,
            Benchmark::IdleSessionBytes => add("idle_session_bytes", memory::measure(holdfast))?,
            Benchmark::Restart1M => add("restart_1m", made(&mut million, holdfast).and_then(Million::restart))?,
            Benchmark::Sessions1M => {
                let (bytes, keepalives) = made(&mut million, holdfast).and_then(Million::bytes_and_keepalives)?;
                add("session_bytes_1m", Ok(bytes))?;
                add("keepalives_1m", Ok(keepalives))?;
            }
        }
    }
    Ok(report)
}

/// The server with a million sessions, which is made for the first benchmark that needs it.
fn made<'a>(million: &'a mut Option<Million>, holdfast: Option<&Path>) -> Result<&'a mut Million> {
    if million.is_none() {
        *million = Some(Million::new(holdfast)?);
    }
    million.as_mut().context("it was made")
}

/// A server with a fleet that rests.
struct Rig {
    server: Server,
    fleet: Fleet,
    /// Where the server's time went in all windows.
    spent: Ticks,
}

impl Rig {
    fn new(holdfast: Option<&Path>, transport: Transport, devices: u32, work: Work) -> Result<Self> {
        Self::with(Server::prepare(holdfast)?, transport, devices, work)
    }

    /// With a server that is not started yet.
    fn with(mut server: Server, transport: Transport, devices: u32, work: Work) -> Result<Self> {
        let keys = match transport {
            Transport::Udp => DeviceKeys::derive(devices, 0, SEED)?,
            Transport::Tcp => DeviceKeys::derive(0, devices, SEED)?,
        };
        server.start()?;
        let fleet = Fleet::start(FleetPlan {
            crew: register(&server, keys)?,
            work,
            seed: SEED,
            run: 1,
            per_socket: 1,
            audit: false,
            threads: 1,
            lasts: Duration::from_secs(600),
        })?;
        Ok(Self { server, fleet, spent: Ticks::new() })
    }

    /// Waits until all of so many devices have come.
    fn wait_connected(&self, devices: u32, limit: Duration) -> Result<()> {
        let connected = self.fleet.wait(limit, |_| {}, |moment| moment.connected == u64::from(devices));
        ensure!(connected, "{} of {devices} devices connected", self.fleet.moment().connected);
        Ok(())
    }

    /// Lets the fleet work for a while: how far `count` came, and what the server needed for it in seconds of processor time.
    fn window(&mut self, count: impl Fn(&Fleet) -> u64) -> Result<(u64, f64)> {
        self.fleet.work(true)?;
        std::thread::sleep(WARM_UP);
        let before = self.server.cpu_by_thread()?;
        let (counted, cpu) = (count(&self.fleet), self.server.cpu_time()?);
        std::thread::sleep(WINDOW);
        let (counted, cpu) = (count(&self.fleet) - counted, self.server.cpu_time()? - cpu);
        threads::add_spent(&mut self.spent, &before, &self.server.cpu_by_thread()?);
        self.fleet.work(false)?;
        self.server.check_alive()?;
        ensure!(counted > 0, "nothing was answered within {WINDOW:?}");
        Ok((counted, cpu.as_secs_f64()))
    }

    /// Ends both; says which threads of the server spent its time.
    fn end(mut self) -> Result<String> {
        self.fleet.stop()?;
        self.server.stop()?;
        Ok(threads::shares(&self.spent))
    }
}

/// One figure of one run, its limit measured beside it, and how much of the limit was reached.
#[derive(Clone, Copy, Debug)]
struct Run {
    value: f64,
    limit: f64,
    ratio: f64,
}

/// Medians of `runs`.
fn measure(runs: &[Run], unit: &'static str, note: String) -> Result<Measure> {
    let middle = |part: fn(&Run) -> f64| median(&runs.iter().map(part).collect::<Vec<_>>()).context("no run");
    let (value, limit, ratio) = (middle(|run| run.value)?, middle(|run| run.limit)?, middle(|run| run.ratio)?);
    Ok(Measure { value, unit, limit: Some(limit), ratio: Some(ratio), note })
}

/// What some operations of OpenSSL cost: processor time of each, by name.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Primitives(Vec<(&'static str, Duration)>);

impl Primitives {
    fn sum(&self) -> Duration {
        self.0.iter().map(|(_, cost)| cost).sum()
    }

    /// The median of each: `keygen 11.5 + sign 20.1 µs`.
    fn medians(runs: &[Self]) -> String {
        let names = runs.first().into_iter().flat_map(|first| &first.0).enumerate();
        let each = names.map(|(index, (name, _))| {
            let us: Vec<f64> = runs.iter().map(|run| run.0[index].1.as_secs_f64() * 1e6).collect();
            format!("{name} {:.1}", median(&us).unwrap_or_default())
        });
        format!("{} µs", each.collect::<Vec<_>>().join(" + "))
    }
}

/// Processor time of the calling thread.
fn thread_cpu() -> Result<Duration> {
    Ok(ClockId::CLOCK_THREAD_CPUTIME_ID.now()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measure_is_the_median_of_its_runs() -> Result<()> {
        let runs = [(3.0, 6.0), (1.0, 4.0), (2.0, 8.0)].map(|(value, limit)| Run { value, limit, ratio: value / limit });
        let measure = measure(&runs, "x", "n".into())?;
        assert_eq!((measure.value, measure.limit, measure.ratio), (2.0, Some(6.0), Some(0.25)));
        assert!(super::measure(&[], "x", String::new()).is_err());
        Ok(())
    }

    #[test]
    fn primitives_are_named_with_their_medians() {
        let run = |sign, verify| Primitives(vec![("sign", Duration::from_micros(sign)), ("verify", Duration::from_micros(verify))]);
        assert_eq!(Primitives::medians(&[run(5, 1), run(3, 2), run(4, 9)]), "sign 4.0 + verify 2.0 µs");
        assert_eq!(run(5, 1).sum(), Duration::from_micros(6));
    }

    #[test]
    fn names_are_the_ones_in_the_report() {
        let names: Vec<String> =
            Benchmark::value_variants().iter().filter_map(|one| Some(one.to_possible_value()?.get_name().to_owned())).collect();
        let running = ["dtls_handshakes", "tcp_handshakes", "ping_roundtrips", "durable_publishes", "sse_fanout"];
        let rest = ["rest_reads", "rest_calls", "rest_publishes"];
        let hooks = ["webhook_deliveries", "webhook_deliveries_sick", "webhook_drain"];
        let others = ["ready_ms", "record_seal", "record_open", "idle_session_bytes"];
        // The last of these is two in the report, as are the first and the last of hooks.
        assert_eq!(names, [&running[..], &rest, &hooks, &others, &["restart_1m", "sessions_1m"]].concat());
    }
}
