//! One registered device sends records as fast as it can while its neighbours publish: they notice nothing. Nothing acknowledged is lost or taken
//! twice, nobody needs a new session, and 99 of 100 publishes are acknowledged within [`P99_MOST_MS`].
//!
//! The server limits devices here as it does by default. Over TCP it ends a connection that is over its limit, so what is sent in a second depends on
//! how soon the loud device is back; over UDP it must send what was asked for, or nothing was drilled.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use super::bystanders::{Bystanders, CONNECT_LIMIT, RUN, Record, Watch};
use super::judge::{Verdict, judge};
use super::{Ground, register};
use crate::fleet::text::LOUD_NAME;
use crate::fleet::{Crew, FleetReport, Tally, Transport};
use crate::keys::DeviceKeys;
use crate::loud::Loud;
use crate::metrics::Metrics;
use crate::report::{Check, DrillReport};
use crate::server::Server;
use crate::socket_drops::socket_drops;
use crate::stats::Latencies;

/// What 99 of 100 publishes of the neighbours take at most, in milliseconds.
const P99_MOST_MS: u64 = 25;
/// Of 100 records that the loud device should send over UDP, so many may be missing: it shares the machine.
const UNSENT_MOST_PERCENT: u64 = 10;
/// The server's default limit on the events of one device (docs/configuration.md); twice as many may come at once.
const EVENTS_PER_S: u64 = 20;

/// What to drill.
#[derive(Clone, Debug)]
pub struct LoudDrill {
    /// The server.
    pub ground: Ground,
    /// What carries the messages of all devices.
    pub transport: Transport,
    /// Its neighbours.
    pub bystanders: Bystanders,
    /// Records that it sends in a second.
    pub rate_per_s: u32,
}

/// What happened besides what devices saw.
#[derive(Default)]
struct Story {
    calm: Latencies,
    sent: u64,
    took: Duration,
    cpu: Duration,
    refused: Refused,
    drops: u64,
}

/// What the server did not take of devices.
#[derive(Clone, Copy, Default)]
struct Refused {
    records: u64,
    connections: u64,
    events: u64,
}

impl Refused {
    fn from(metrics: &Metrics) -> Self {
        let over = Some("reason=\"record_limit\"");
        Self {
            records: metrics.sum("holdfast_datagrams_dropped_total", over),
            connections: metrics.sum("holdfast_tcp_closed_total", over),
            events: metrics.sum("holdfast_events_refused_total", None),
        }
    }
}

/// What became of the loud device.
#[derive(Default)]
struct Culprit {
    tally: Tally,
    /// Events of it that the server accepted.
    accepted: u64,
}

/// Runs the drill.
pub fn loud(drill: &LoudDrill) -> Result<DrillReport> {
    drill.ground.drill(|server| run(drill, server))
}

fn run(drill: &LoudDrill, server: &mut Server) -> Result<DrillReport> {
    let (everybody, seed) = (drill.bystanders.devices.saturating_add(1), drill.bystanders.seed);
    let keys = match drill.transport {
        Transport::Udp => DeviceKeys::derive(everybody, 0, seed)?,
        Transport::Tcp => DeviceKeys::derive(0, everybody, seed)?,
    };
    server.limit_devices()?;
    server.start()?;
    let (neighbours, culprit) = part(register(server, keys)?).context("there are no neighbours")?;
    let mut watch = drill.bystanders.come(neighbours)?;
    let loud = Loud::start(culprit, drill.rate_per_s, seed, drill.bystanders.longest())?;
    let story = play(drill, server, &mut watch, &loud)?;
    let ((record, report), mut culprit) = (watch.stop()?, Culprit { tally: loud.stop()?, accepted: 0 });
    server.stop()?;
    let cli = server.cli();
    let events = cli.accepted_events()?.inspect(|event| {
        culprit.accepted += u64::from(event.as_ref().is_ok_and(|event| event.name == LOUD_NAME));
    });
    let verdict = judge(&report.ledgers, RUN, events)?;
    Ok(conclude(drill, &story, &record, &report, &culprit, verdict))
}

/// The neighbours, and the last device of all on its own.
fn part(mut neighbours: Crew) -> Option<(Crew, Crew)> {
    let mut culprit = neighbours.clone();
    if let (Some(quiet), Some(loud)) = (&mut neighbours.udp, &mut culprit.udp) {
        loud.keys = vec![quiet.keys.pop()?];
    }
    if let (Some(quiet), Some(loud)) = (&mut neighbours.tcp, &mut culprit.tcp) {
        loud.keys = vec![quiet.keys.pop()?];
    }
    Some((neighbours, culprit))
}

fn play(drill: &LoudDrill, server: &mut Server, watch: &mut Watch, loud: &Loud) -> Result<Story> {
    let mut story = Story::default();
    watch.connect(server)?;
    if !loud.wait_connected(CONNECT_LIMIT) {
        bail!("the loud device did not connect within {CONNECT_LIMIT:?}");
    }
    watch.work_in_peace(server, drill.bystanders.peace())?;
    let drops = socket_drops(server.devices())?;
    story.calm = watch.fleet.take_latencies()?;

    let (begun, cpu) = (Instant::now(), server.cpu_time()?);
    loud.shout(true)?;
    watch.endure("loud", drill.bystanders.lasts, server)?;
    loud.shout(false)?;
    (story.sent, story.took, story.cpu) = (loud.sent(), begun.elapsed(), server.cpu_time()?.saturating_sub(cpu));

    watch.settle(server)?;
    story.refused = Refused::from(&server.metrics()?);
    story.drops = socket_drops(server.devices())?.saturating_sub(drops);
    Ok(story)
}

fn conclude(drill: &LoudDrill, story: &Story, record: &Record, report: &FleetReport, culprit: &Culprit, verdict: Verdict) -> DrillReport {
    let (tally, connected) = (&report.tally, record.connected);
    let mut checks = vec![
        Check::equal("devices_connected", drill.bystanders.devices.into(), connected.connected),
        Check::equal("acknowledged_events_lost", 0, verdict.lost),
        Check::equal("events_accepted_twice", 0, verdict.twice),
        // One that is never acknowledged has no latency.
        Check::equal("events_not_acknowledged", 0, verdict.unacknowledged + tally.left_out),
        Check::equal("handshakes_after_connecting", 0, tally.handshakes - connected.handshakes),
        Check::equal("sequences_seen_twice", 0, tally.sequences_repeated + tally.wire_sequences_repeated),
        Check::at_most("loud_events_accepted", EVENTS_PER_S * (story.took.as_secs() + 1) + 2 * EVENTS_PER_S, culprit.accepted),
        Check::at_most("publish_p99_ms_loud", P99_MOST_MS, tally.publish_latency.p99_whole_ms().unwrap_or(u64::MAX)),
    ];
    if drill.transport == Transport::Udp {
        checks.push(Check::at_most("percent_of_records_not_sent", UNSENT_MOST_PERCENT, unsent_percent(drill, story)));
    }
    let mut figures = drill.bystanders.figures(record);
    add_figures(&mut figures, drill, story, report, culprit);
    DrillReport::new(checks, figures)
}

/// What is missing of what the loud device should have sent, in whole percents.
fn unsent_percent(drill: &LoudDrill, story: &Story) -> u64 {
    let wanted = u128::from(drill.rate_per_s) * story.took.as_millis() / 1000;
    let missing = wanted.saturating_sub(story.sent.into());
    u64::try_from((missing * 100).div_ceil(wanted.max(1))).unwrap_or(u64::MAX)
}

fn add_figures(figures: &mut Map<String, Value>, drill: &LoudDrill, story: &Story, report: &FleetReport, culprit: &Culprit) {
    let mut note = |name: &str, value| figures.insert(name.to_owned(), value);
    note("transport", drill.transport.name().into());
    note("records_sent", story.sent.into());
    note("records_sent_per_s", json!(story.sent as f64 / story.took.as_secs_f64()));
    note("records_dropped_by_server", story.refused.records.into());
    note("connections_ended_by_server", story.refused.connections.into());
    note("events_refused_by_server", story.refused.events.into());
    note("loud_handshakes", culprit.tally.handshakes.into());
    note("loud_disconnects", json!(culprit.tally.disconnects));
    note("publish_latency_ms_calm", json!(story.calm));
    note("publish_latency_ms_loud", json!(report.tally.publish_latency));
    note("server_socket_drops", story.drops.into());
    note("server_cpu_percent_loud", json!(100.0 * story.cpu.as_secs_f64() / story.took.as_secs_f64()));
    note("fleet", report.figures());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Moment;
    use std::collections::BTreeMap;

    /// The checks that fail after a minute at 10 000 a second in which so many records were sent, and the neighbours saw this.
    fn failed(transport: Transport, sent: u64, tally: Tally, verdict: Verdict) -> Vec<&'static str> {
        let (ground, second, lasts) = (Ground::default(), Duration::from_secs(1), Duration::from_mins(1));
        let bystanders = Bystanders { devices: 9, every: second, lasts, threads: 1, seed: 1 };
        let drill = LoudDrill { ground, transport, bystanders, rate_per_s: 10_000 };
        let story = Story { sent, took: lasts, ..Story::default() };
        let record = Record { connected: Moment { connected: 9, handshakes: 9, ..Moment::default() }, ..Record::default() };
        let report = FleetReport { tally, parts: BTreeMap::new(), ledgers: Vec::new() };
        let report = conclude(&drill, &story, &record, &report, &Culprit::default(), verdict);
        report.checks.iter().filter(|check| !check.ok).map(|check| check.name).collect()
    }

    fn tally(latencies_ms: &[u64]) -> Tally {
        let mut tally = Tally { handshakes: 9, ..Tally::default() };
        latencies_ms.iter().for_each(|ms| tally.publish_latency.record(Duration::from_millis(*ms)));
        tally
    }

    #[test]
    fn neighbours_that_wait_are_found_and_so_are_those_that_wait_for_ever() {
        let (udp, all, good) = (Transport::Udp, 600_000, Verdict::default());
        assert!(failed(udp, all, tally(&[2, 25]), good).is_empty());
        assert_eq!(failed(udp, all, tally(&[2, 26]), good), ["publish_p99_ms_loud"]);
        assert_eq!(failed(udp, all, tally(&[]), good), ["publish_p99_ms_loud"]);
        assert_eq!(failed(udp, all, tally(&[2]), Verdict { unacknowledged: 1, ..good }), ["events_not_acknowledged"]);
        assert_eq!(failed(udp, all, Tally { left_out: 1, ..tally(&[2]) }, good), ["events_not_acknowledged"]);
        assert_eq!(failed(udp, all, Tally { handshakes: 10, ..tally(&[2]) }, good), ["handshakes_after_connecting"]);
        assert_eq!(failed(udp, all, tally(&[2]), Verdict { lost: 1, ..good }), ["acknowledged_events_lost"]);
    }

    #[test]
    fn a_loud_device_that_was_quiet_proves_nothing_over_udp() {
        let good = Verdict::default();
        assert!(failed(Transport::Udp, 540_000, tally(&[2]), good).is_empty());
        assert_eq!(failed(Transport::Udp, 539_999, tally(&[2]), good), ["percent_of_records_not_sent"]);
        assert!(failed(Transport::Tcp, 4_000, tally(&[2]), good).is_empty());
    }

    #[test]
    fn the_last_device_is_the_loud_one() -> Result<()> {
        let keys = DeviceKeys::derive(3, 0, 1)?.udp;
        let (ids, server_key) = (keys.iter().map(|key| key.id).collect::<Vec<_>>(), *keys[0].pair.public());
        let udp = crate::fleet::Devices { server: ([127, 0, 0, 1], 1).into(), server_key, keys };
        let (quiet, loud) = part(Crew { udp: Some(udp), tcp: None }).context("three can be parted")?;
        let names = |crew: Crew| crew.udp.map(|udp| udp.keys.iter().map(|key| key.id).collect::<Vec<_>>());
        assert_eq!((names(quiet), names(loud)), (Some(ids[..2].to_vec()), Some(ids[2..].to_vec())));
        Ok(())
    }

    #[test]
    fn what_the_server_refused_is_read_from_its_metrics() {
        let text = "holdfast_datagrams_dropped_total{reason=\"forged\"} 1\nholdfast_datagrams_dropped_total{reason=\"record_limit\"} 20\n\
                    holdfast_events_refused_total{limit=\"device\"} 3\nholdfast_events_refused_total{limit=\"owner\"} 4\n\
                    holdfast_tcp_closed_total{reason=\"record_limit\"} 5\n";
        let refused = Refused::from(&Metrics::new(text.to_owned()));
        assert_eq!((refused.records, refused.connections, refused.events), (20, 5, 7));
    }
}
