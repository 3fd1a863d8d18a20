//! Every device publishes over a bad network: nobody loses its session, nothing acknowledged is lost, nothing is taken twice.
//!
//! A publish may fail here, and a device may give its session up, where the network lost the same message again and again. The proxy knows how often
//! it did a device harm, and counts as lost only the sessions that this does not explain.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Map, json};

use super::judge::{Verdict, judge};
use super::register;
use crate::chaos::{Counts, Proxy, ProxyPlan, Weather};
use crate::fleet::{Fleet, FleetPlan, FleetReport, Work, allow_sockets};
use crate::keys;
use crate::progress::Progress;
use crate::report::{Check, DrillReport};
use crate::server::Server;
use crate::socket_drops::socket_drops;

/// Longest time for the first connections, apart from what the number of devices adds: a handshake that loses a flight takes seconds longer.
const CONNECT_LIMIT: Duration = Duration::from_secs(120);
const CONNECT_LIMIT_EACH: Duration = Duration::from_millis(5);
/// Longest time for publishes that are open at the end: a device gives one up after 20 s.
const SETTLE_LIMIT: Duration = Duration::from_secs(40);
const RUN: u32 = 1;

/// What to drill.
#[derive(Clone, Debug)]
pub struct Chaos {
    /// Where the server is, if not beside this program.
    pub holdfast: Option<PathBuf>,
    /// How many devices.
    pub devices: u32,
    /// How long they publish.
    pub lasts: Duration,
    /// From one publish of a device to the next.
    pub every: Duration,
    /// What the network is like. Its seed decides keys and moments as well.
    pub weather: Weather,
    /// Threads of the fleet.
    pub threads: usize,
    /// Whether to leave the server's directory behind.
    pub keep: bool,
}

/// What happened besides what devices saw.
struct Story {
    connected: u64,
    connected_in: Duration,
    handshakes: u64,
    rss_kib: [u64; 2],
    /// Datagrams that the kernel dropped before the server, and before the proxy: harm that the proxy knows nothing of.
    drops: [u64; 2],
}

/// Runs the drill.
pub fn chaos(drill: &Chaos) -> Result<DrillReport> {
    let mut server = Server::prepare(drill.holdfast.as_deref())?;
    let report = run(drill, &mut server);
    if drill.keep {
        let kept = server.keep();
        return report.map(|mut report| {
            report.figures.insert("kept".into(), json!(kept));
            report
        });
    }
    report
}

fn run(drill: &Chaos, server: &mut Server) -> Result<DrillReport> {
    let keys = keys::derive(drill.devices, drill.weather.seed)?;
    server.start()?;
    let server_key = register(server, &keys)?;
    let links = keys.len();
    // A socket of the device and one of the proxy.
    allow_sockets(2 * links)?;
    let (listen, weather) = (SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), drill.weather.clone());
    let proxy = Proxy::udp(ProxyPlan { listen, server: server.devices(), weather, links_max: links })?;
    let begun = Instant::now();
    let fleet = Fleet::start(FleetPlan {
        server: proxy.address(),
        server_key,
        keys,
        work: Work::Publish { every: drill.every },
        seed: drill.weather.seed,
        run: RUN,
        per_socket: 1,
        audit: true,
        threads: drill.threads,
        lasts: connect_limit(drill) + drill.lasts + SETTLE_LIMIT * 2,
    })?;
    let mut story = weather_it(drill, server, &fleet)?;
    story.drops = [socket_drops(server.devices())?, socket_drops(proxy.address())?];
    let report = fleet.stop()?;
    let counts = proxy.stop()?;
    server.stop()?;
    let verdict = judge(&report.ledgers, RUN, server.cli().accepted_events()?)?;
    Ok(conclude(drill, &story, &report, &counts, verdict, begun.elapsed()))
}

fn connect_limit(drill: &Chaos) -> Duration {
    CONNECT_LIMIT + CONNECT_LIMIT_EACH * drill.devices
}

fn weather_it(drill: &Chaos, server: &mut Server, fleet: &Fleet) -> Result<Story> {
    let (progress, devices, begun) = (Progress::new(drill.devices as usize), u64::from(drill.devices), Instant::now());
    progress.phase("connecting");
    fleet.wait(connect_limit(drill), |moment| progress.show(moment), |moment| moment.connected == devices);
    server.check_alive()?;
    let (moment, connected_in, rss_before) = (fleet.moment(), begun.elapsed(), server.rss_kib()?);
    progress.phase("publishing");
    fleet.work(true)?;
    fleet.wait(drill.lasts, |moment| progress.show(moment), |_| false);
    progress.phase("settling");
    fleet.work(false)?;
    fleet.wait(SETTLE_LIMIT, |moment| progress.show(moment), |moment| moment.open == 0);
    server.check_alive()?;
    let (connected, handshakes) = (moment.connected, moment.handshakes);
    Ok(Story { connected, connected_in, handshakes, rss_kib: [rss_before, server.rss_kib()?], drops: [0; 2] })
}

fn conclude(drill: &Chaos, story: &Story, report: &FleetReport, counts: &Counts, verdict: Verdict, took: Duration) -> DrillReport {
    let tally = &report.tally;
    let checks = vec![
        Check::equal("devices_connected", drill.devices.into(), story.connected),
        Check::equal("sessions_lost", 0, counts.sessions_lost),
        Check::equal("acknowledged_events_lost", 0, verdict.lost),
        Check::equal("events_accepted_twice", 0, verdict.twice),
        Check::equal("sequences_seen_twice", 0, tally.sequences_repeated + tally.wire_sequences_repeated),
        Check::equal("publishes_open_after_settling", 0, tally.open),
    ];
    let mut figures = Map::new();
    let mut note = |name: &str, value| figures.insert(name.to_owned(), value);
    note("devices", drill.devices.into());
    note("seed", drill.weather.seed.into());
    note("seconds", json!(took.as_secs()));
    note("connected_in_s", json!(story.connected_in.as_secs_f64()));
    note("handshakes_after_connecting", (tally.handshakes - story.handshakes).into());
    note("retransmissions", tally.retransmissions.into());
    note("rebinds", counts.rebinds.into());
    note("server_rss_kib_connected", story.rss_kib[0].into());
    note("server_rss_kib_at_the_end", story.rss_kib[1].into());
    note("server_socket_drops", story.drops[0].into());
    note("proxy_socket_drops", story.drops[1].into());
    note("events_accepted", verdict.accepted.into());
    note("events_not_acknowledged", verdict.unacknowledged.into());
    note("network", json!(counts));
    note("fleet", json!(tally));
    DrillReport::new(checks, figures)
}
