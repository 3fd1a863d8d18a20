//! Forged ClientHellos come as fast as the machine sends them while devices with sessions publish: nothing acknowledged is lost or taken twice, no
//! device needs a new session, and of their datagrams fewer than one in a hundred is lost.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Map, json};

use super::judge::{Verdict, judge};
use super::{Ground, register};
use crate::fleet::{Fleet, FleetPlan, FleetReport, Moment, Work};
use crate::flood::Flood;
use crate::keys::DeviceKeys;
use crate::progress::Progress;
use crate::report::{Check, DrillReport};
use crate::server::Server;
use crate::socket_drops::socket_drops;

const CONNECT_LIMIT: Duration = Duration::from_secs(60);
/// Longest time for publishes that are open at the end: a device gives one up after 20 s.
const SETTLE_LIMIT: Duration = Duration::from_secs(40);
/// Between two looks at the server's memory.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const RUN: u32 = 1;

/// What to drill.
#[derive(Clone, Debug)]
pub struct FloodDrill {
    /// The server.
    pub ground: Ground,
    /// How many devices publish.
    pub devices: u32,
    /// From one publish of a device to the next.
    pub every: Duration,
    /// How long the flood lasts. Before it, the fleet works for a quarter of that without one.
    pub lasts: Duration,
    /// Threads that flood.
    pub flooders: usize,
    /// Threads of the fleet.
    pub threads: usize,
    /// Decides everything random.
    pub seed: u64,
}

/// What happened besides what devices saw.
#[derive(Default)]
struct Story {
    connected: u64,
    handshakes: u64,
    calm: Phase,
    flooded: Phase,
    rss_kib: [u64; 3],
    drops: u64,
    hellos: u64,
}

/// What the fleet did in a while.
#[derive(Clone, Copy, Default)]
struct Phase {
    sent: u64,
    retransmissions: u64,
}

impl Phase {
    fn between(before: Moment, after: Moment) -> Self {
        let sent = |moment: Moment| moment.acknowledged + moment.open;
        Self { sent: sent(after) - sent(before), retransmissions: after.retransmissions - before.retransmissions }
    }

    /// The same as [`Phase::lost_percent`], as a whole number of hundredths.
    fn lost_of_10_000(self) -> u64 {
        (self.retransmissions * 10_000).div_ceil((self.sent + self.retransmissions).max(1))
    }

    /// Messages sent again for each message sent at all, in percent: each stands for one datagram lost, on the way there or back.
    fn lost_percent(self) -> f64 {
        100.0 * self.retransmissions as f64 / (self.sent + self.retransmissions).max(1) as f64
    }
}

/// Runs the drill.
pub fn flood(drill: &FloodDrill) -> Result<DrillReport> {
    drill.ground.drill(|server| run(drill, server))
}

fn run(drill: &FloodDrill, server: &mut Server) -> Result<DrillReport> {
    let keys = DeviceKeys::derive(drill.devices, 0, drill.seed)?;
    server.start()?;
    let fleet = Fleet::start(FleetPlan {
        crew: register(server, keys)?,
        work: Work::Publish { every: drill.every },
        seed: drill.seed,
        run: RUN,
        per_socket: 1,
        audit: true,
        threads: drill.threads,
        lasts: CONNECT_LIMIT + drill.lasts * 2 + SETTLE_LIMIT * 2,
    })?;
    let story = play(drill, server, &fleet)?;
    let report = fleet.stop()?;
    server.stop()?;
    let verdict = judge(&report.ledgers, RUN, server.cli().accepted_events()?)?;
    Ok(conclude(drill, &story, &report, verdict))
}

fn play(drill: &FloodDrill, server: &mut Server, fleet: &Fleet) -> Result<Story> {
    let (mut story, progress) = (Story::default(), Progress::new(drill.devices as usize));
    progress.phase("connecting");
    fleet.wait(CONNECT_LIMIT, |moment| progress.show(moment), |moment| moment.connected == u64::from(drill.devices));
    server.check_alive()?;
    let connected = fleet.moment();
    (story.connected, story.handshakes) = (connected.connected, connected.handshakes);

    progress.phase("calm");
    fleet.work(true)?;
    fleet.wait(drill.lasts / 4, |moment| progress.show(moment), |_| false);
    let (calm, drops) = (fleet.moment(), socket_drops(server.devices())?);
    story.calm = Phase::between(connected, calm);
    story.rss_kib = [server.rss_kib()?; 3];

    progress.phase("flood");
    let flood = Flood::start(server.devices(), drill.flooders, drill.seed)?;
    let looks = drill.lasts.as_secs().max(1) / LOOK_EVERY.as_secs();
    for _ in 0..looks {
        fleet.wait(LOOK_EVERY, |moment| progress.show(moment), |_| false);
        server.check_alive()?;
        story.rss_kib[1] = story.rss_kib[1].max(server.rss_kib()?);
    }
    story.hellos = flood.stop()?;
    story.drops = socket_drops(server.devices())?.saturating_sub(drops);

    // What was lost at the end of the flood is repeated after it.
    progress.phase("settling");
    fleet.work(false)?;
    fleet.wait(SETTLE_LIMIT, |moment| progress.show(moment), |moment| moment.open == 0);
    server.check_alive()?;
    story.flooded = Phase::between(calm, fleet.moment());
    story.rss_kib[2] = server.rss_kib()?;
    Ok(story)
}

fn conclude(drill: &FloodDrill, story: &Story, report: &FleetReport, verdict: Verdict) -> DrillReport {
    let tally = &report.tally;
    let checks = vec![
        Check::equal("devices_connected", drill.devices.into(), story.connected),
        Check::equal("acknowledged_events_lost", 0, verdict.lost),
        Check::equal("events_accepted_twice", 0, verdict.twice),
        Check::equal("handshakes_after_connecting", 0, tally.handshakes - story.handshakes),
        Check::at_most("datagrams_lost_of_10_000", 99, story.flooded.lost_of_10_000()),
        Check::equal("sequences_seen_twice", 0, tally.sequences_repeated + tally.wire_sequences_repeated),
    ];
    let mut figures = Map::new();
    let mut note = |name: &str, value| figures.insert(name.to_owned(), value);
    note("devices", drill.devices.into());
    note("seconds", json!(drill.lasts.as_secs()));
    note("seed", drill.seed.into());
    note("hellos_sent", story.hellos.into());
    note("hellos_per_s", json!(story.hellos as f64 / drill.lasts.as_secs_f64()));
    note("server_socket_drops", story.drops.into());
    note("lost_percent_calm", json!(story.calm.lost_percent()));
    note("lost_percent_flooded", json!(story.flooded.lost_percent()));
    note("server_rss_kib_calm", story.rss_kib[0].into());
    note("server_rss_kib_most", story.rss_kib[1].into());
    note("server_rss_kib_after", story.rss_kib[2].into());
    note("events_not_acknowledged", verdict.unacknowledged.into());
    note("fleet", report.figures());
    DrillReport::new(checks, figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_sent_again_stands_for_a_datagram_lost() {
        let moment = |acknowledged, open, retransmissions| Moment { acknowledged, open, retransmissions, ..Moment::default() };
        let phase = Phase::between(moment(10, 2, 1), moment(100, 1, 12));
        assert_eq!((phase.sent, phase.retransmissions, phase.lost_percent(), phase.lost_of_10_000()), (89, 11, 11.0, 1_100));
        assert_eq!(Phase::default().lost_percent(), 0.0);
    }
}
