//! One shard's thread is frozen while every device publishes: it is named with the stage within three seconds, its devices are served again within eight,
//! those of other shards do not notice, nothing that was acknowledged is lost, and the thread is gone once it goes on.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use firmware_protocol::id::DeviceId;
use serde_json::json;

use super::bystanders::{Bystanders, RUN, Watch};
use super::frost::{Cure, SHARDS, Struck, strike};
use super::judge::{Verdict, judge};
use super::{Ground, register};
use crate::fleet::{Crew, FleetReport};
use crate::freezer::Freezer;
use crate::keys::DeviceKeys;
use crate::report::{Check, DrillReport};
use crate::server::{Server, WantedCure};
use crate::stats::Latencies;

/// How long the frost goes on after all are served again.
const AFTER: Duration = Duration::from_secs(5);
const NAMED_MOST_MS: u64 = 3_000;
const SERVED_MOST_MS: u64 = 8_000;
/// Where others' publishes take so long, or twice as long as in peace, they have noticed.
const P99_MOST_MS: u64 = 25;

/// What to drill.
#[derive(Clone, Debug)]
pub struct FrozenShard {
    /// The server.
    pub ground: Ground,
    /// Everybody.
    pub bystanders: Bystanders,
    /// How long they work in peace before.
    pub peace: Duration,
    /// Which shard is frozen.
    pub shard: u8,
    /// Whether another thread may take its place. If not, the process ends and is started again.
    pub takeover: bool,
}

/// What happened.
struct Story {
    connected: u64,
    handshakes: u64,
    calm: Latencies,
    others: Latencies,
    struck: Struck,
}

/// Runs the drill.
pub fn frozen_shard(drill: &FrozenShard) -> Result<DrillReport> {
    drill.ground.drill(|server| run(drill, server))
}

fn run(drill: &FrozenShard, server: &mut Server) -> Result<DrillReport> {
    let freezer = Freezer::new()?;
    server.cure_by(if drill.takeover { WantedCure::Takeover } else { WantedCure::Restart })?;
    let keys = DeviceKeys::derive(drill.bystanders.devices, 0, drill.bystanders.seed)?;
    server.start()?;
    let (own, others) = part(register(server, keys)?, drill.shard);
    let count = |crew: &Crew| u32::try_from(crew.udp.as_ref().map_or(0, |udp| udp.keys.len())).unwrap_or(u32::MAX);
    ensure!(count(&own) > 0 && count(&others) > 0, "no device belongs to shard {}", drill.shard);
    let come = |crew: Crew| Bystanders { devices: count(&crew), ..drill.bystanders.clone() }.come(crew);
    let (mut own, mut others) = (come(own)?, come(others)?);
    let story = play(drill, server, &freezer, [&mut own, &mut others])?;
    let ((_, own), (_, others)) = (own.stop()?, others.stop()?);
    server.stop()?;
    let ledgers: Vec<_> = own.ledgers.iter().chain(&others.ledgers).cloned().collect();
    let verdict = judge(&ledgers, RUN, server.cli().accepted_events()?)?;
    Ok(conclude(drill, &story, [&own, &others], verdict))
}

/// The devices of the shard, and all others.
fn part(crew: Crew, shard: u8) -> (Crew, Crew) {
    let (mut own, mut others) = (crew.clone(), crew);
    own.udp.iter_mut().for_each(|udp| udp.keys.retain(|key| shard_of(key.id) == u64::from(shard)));
    others.udp.iter_mut().for_each(|udp| udp.keys.retain(|key| shard_of(key.id) != u64::from(shard)));
    (own, others)
}

/// The shard of a device. It is the server's affair, and said here again because nobody else tells whom a shard serves.
fn shard_of(device: DeviceId) -> u64 {
    let hash = device.0.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    ((hash ^ hash >> 32) & u64::from(u32::MAX)) % SHARDS
}

fn play(drill: &FrozenShard, server: &mut Server, freezer: &Freezer, [own, others]: [&mut Watch; 2]) -> Result<Story> {
    let connected = own.connect(server)?.connected + others.connect(server)?.connected;
    own.work_in_peace(server, Duration::from_millis(1))?;
    others.work_in_peace(server, drill.peace)?;
    let handshakes = own.fleet.moment().handshakes + others.fleet.moment().handshakes;
    own.fleet.take_latencies()?;
    let calm = others.fleet.take_latencies()?;
    let struck = strike(freezer, server, &[&own.fleet, &others.fleet], &format!("shard-{}", drill.shard))?;
    thread::sleep(AFTER);
    let disturbed = others.fleet.take_latencies()?;
    own.settle(server)?;
    others.settle(server)?;
    Ok(Story { connected, handshakes, calm, others: disturbed, struck })
}

fn conclude(drill: &FrozenShard, story: &Story, [own, others]: [&FleetReport; 2], verdict: Verdict) -> DrillReport {
    let Story { connected, handshakes, calm, others: disturbed, struck } = story;
    let ms = |span: Option<Duration>| span.map_or(u64::MAX, |span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
    let wanted = if drill.takeover { Cure::Takeover } else { Cure::Restart };
    let [calm_ms, disturbed_ms] = [calm, disturbed].map(|latencies| latencies.p99_whole_ms().unwrap_or(u64::MAX));
    let sum = |of: fn(&FleetReport) -> u64| of(own) + of(others);
    let mut checks = vec![
        Check::equal("devices_connected", drill.bystanders.devices.into(), *connected),
        Check::equal("cured_as_wanted", 1, (struck.cure == wanted).into()),
        Check::at_most("named_ms", NAMED_MOST_MS, ms(struck.named)),
        Check::equal("stage_named", 1, struck.stage.is_some().into()),
        Check::at_most("served_again_ms", SERVED_MOST_MS, ms(struck.served)),
        Check::equal("threads_of_the_shard", 1, struck.left as u64),
        Check::equal("handshakes_after_connecting", 0, sum(|report| report.tally.handshakes) - handshakes),
        Check::equal("acknowledged_events_lost", 0, verdict.lost),
        Check::equal("events_accepted_twice", 0, verdict.twice),
        Check::equal("unacknowledged_after_settling", 0, verdict.unacknowledged),
        Check::equal("sequences_seen_twice", 0, sum(|report| report.tally.sequences_repeated + report.tally.wire_sequences_repeated)),
    ];
    if drill.takeover {
        checks.push(Check::at_most("others_p99_ms", P99_MOST_MS.max(calm_ms.saturating_mul(2)), disturbed_ms));
    }
    let mut figures = serde_json::Map::new();
    let mut note = |name: &str, value| figures.insert(name.to_owned(), value);
    note("stage", json!(struck.stage));
    note("publish_latency_ms_own", json!(own.tally.publish_latency));
    note("publish_latency_ms_others_calm", json!(calm));
    note("publish_latency_ms_others", json!(disturbed));
    note("events_accepted", verdict.accepted.into());
    note("own", own.figures());
    note("others", others.figures());
    DrillReport::new(checks, figures)
}
