//! Threads of a kind are frozen one after the other at random moments while every device publishes. Each time another thread takes over or the process ends
//! and is started again, and every device is served within eight seconds; nothing is left standing, nothing that was acknowledged is lost.

use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use firmware_protocol::entropy::SeededEntropy;
use serde_json::json;

use super::bystanders::{Bystanders, RUN, Watch};
use super::frost::{Cure, SHARDS, Struck, strike};
use super::judge::{Verdict, judge};
use super::{Ground, register};
use crate::fleet::FleetReport;
use crate::freezer::Freezer;
use crate::keys::DeviceKeys;
use crate::report::{Check, DrillReport};
use crate::server::Server;
use crate::stats::Latencies;

/// Longest time from one to the next, in which all is well.
const BETWEEN_MS: u64 = 1_500;
const SERVED_MOST: Duration = Duration::from_secs(8);
/// Longest time that each takes, and what follows.
const EACH: Duration = Duration::from_secs(25);

/// Which threads.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub enum Threads {
    /// A shard, another each time.
    Shard,
    /// The first terminator.
    Terminator,
    /// The journal's writer.
    Journal,
    /// The watchdog.
    Watchdog,
}

impl Threads {
    fn next(self, entropy: &mut SeededEntropy) -> String {
        match self {
            Self::Shard => format!("shard-{}", entropy.below(SHARDS)),
            Self::Terminator => "terminator-0".to_owned(),
            Self::Journal => "journal".to_owned(),
            Self::Watchdog => "watchdog".to_owned(),
        }
    }
}

/// What to drill.
#[derive(Clone, Debug)]
pub struct FrozenThreads {
    /// The server.
    pub ground: Ground,
    /// Everybody.
    pub bystanders: Bystanders,
    /// Which threads.
    pub threads: Threads,
    /// How often.
    pub times: u32,
}

/// Runs the drill.
pub fn frozen_threads(drill: &FrozenThreads) -> Result<DrillReport> {
    drill.ground.drill(|server| run(drill, server))
}

fn run(drill: &FrozenThreads, server: &mut Server) -> Result<DrillReport> {
    let freezer = Freezer::new()?;
    let keys = DeviceKeys::derive(drill.bystanders.devices, 0, drill.bystanders.seed)?;
    server.start()?;
    let everybody = Bystanders { lasts: EACH * drill.times, ..drill.bystanders.clone() };
    let mut watch = everybody.come(register(server, keys)?)?;
    let (connected, all) = play(drill, server, &freezer, &mut watch)?;
    let (_, report) = watch.stop()?;
    server.stop()?;
    let verdict = judge(&report.ledgers, RUN, server.cli().accepted_events()?)?;
    Ok(conclude(drill, connected, &all, &report, verdict))
}

fn play(drill: &FrozenThreads, server: &mut Server, freezer: &Freezer, watch: &mut Watch) -> Result<([u64; 2], Vec<Struck>)> {
    let connected = watch.connect(server)?;
    watch.work_in_peace(server, Duration::from_secs(3))?;
    let (mut entropy, mut all) = (SeededEntropy::new(drill.bystanders.seed), Vec::new());
    for _ in 0..drill.times {
        watch.fleet.work(true)?;
        watch.endure("well", Duration::from_millis(1 + entropy.below(BETWEEN_MS)), server)?;
        let name = drill.threads.next(&mut entropy);
        all.push(strike(freezer, server, &[&watch.fleet], &name)?);
        // What it has delayed is over before the next: a device that meets one again and again would be right to make a new session.
        watch.settle(server)?;
    }
    Ok(([connected.connected, connected.handshakes], all))
}

fn conclude(
    drill: &FrozenThreads,
    [connected, handshakes]: [u64; 2],
    all: &[Struck],
    report: &FleetReport,
    verdict: Verdict,
) -> DrillReport {
    let count = |is: &dyn Fn(&Struck) -> bool| all.iter().filter(|struck| is(struck)).count() as u64;
    let in_time = |struck: &Struck| struck.served.is_some_and(|served| served <= SERVED_MOST);
    let checks = vec![
        Check::equal("devices_connected", drill.bystanders.devices.into(), connected),
        Check::equal("left_standing", 0, count(&|struck| struck.cure == Cure::None)),
        Check::equal("served_within_8_s", drill.times.into(), count(&in_time)),
        Check::equal("threads_too_many", 0, count(&|struck| struck.left != 1)),
        Check::equal("handshakes_after_connecting", 0, report.tally.handshakes - handshakes),
        Check::equal("acknowledged_events_lost", 0, verdict.lost),
        Check::equal("events_accepted_twice", 0, verdict.twice),
        Check::equal("sequences_seen_twice", 0, report.tally.sequences_repeated + report.tally.wire_sequences_repeated),
    ];
    let (mut named, mut served) = (Latencies::default(), Latencies::default());
    all.iter().filter_map(|struck| struck.named).for_each(|span| named.record(span));
    all.iter().filter_map(|struck| struck.served).for_each(|span| served.record(span));
    let mut figures = drill.bystanders.figures(&super::bystanders::Record::default());
    let mut note = |name: &str, value| figures.insert(name.to_owned(), value);
    note("times", drill.times.into());
    note("takeovers", count(&|struck| struck.cure == Cure::Takeover).into());
    note("restarts", count(&|struck| struck.cure == Cure::Restart).into());
    note("named_ms", json!(named));
    note("served_again_ms", json!(served));
    note("events_accepted", verdict.accepted.into());
    note("events_not_acknowledged", verdict.unacknowledged.into());
    note("fleet", report.figures());
    DrillReport::new(checks, figures)
}
