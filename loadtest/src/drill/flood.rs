//! Forged ClientHellos come as fast as the machine sends them while devices with sessions publish: nothing acknowledged is lost or taken twice, no
//! device needs a new session, and of their datagrams fewer than one in a hundred is lost.

use anyhow::Result;
use serde_json::json;

use super::bystanders::{Bystanders, RUN, Record, Watch};
use super::judge::{Verdict, judge};
use super::{Ground, register};
use crate::fleet::{FleetReport, Moment};
use crate::flood::Flood;
use crate::keys::DeviceKeys;
use crate::report::{Check, DrillReport};
use crate::server::Server;
use crate::socket_drops::socket_drops;

/// What to drill.
#[derive(Clone, Debug)]
pub struct FloodDrill {
    /// The server.
    pub ground: Ground,
    /// Who publishes.
    pub bystanders: Bystanders,
    /// Threads that flood.
    pub flooders: usize,
}

/// What happened besides what devices saw.
#[derive(Default)]
struct Story {
    calm: Phase,
    flooded: Phase,
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
    let keys = DeviceKeys::derive(drill.bystanders.devices, 0, drill.bystanders.seed)?;
    server.start()?;
    let mut watch = drill.bystanders.come(register(server, keys)?)?;
    let story = play(drill, server, &mut watch)?;
    let (record, report) = watch.stop()?;
    server.stop()?;
    let verdict = judge(&report.ledgers, RUN, server.cli().accepted_events()?)?;
    Ok(conclude(drill, &story, &record, &report, verdict))
}

fn play(drill: &FloodDrill, server: &mut Server, watch: &mut Watch) -> Result<Story> {
    let mut story = Story::default();
    let connected = watch.connect(server)?;
    watch.work_in_peace(server, drill.bystanders.peace())?;
    let (calm, drops) = (watch.fleet.moment(), socket_drops(server.devices())?);
    story.calm = Phase::between(connected, calm);

    let flood = Flood::start(server.devices(), drill.flooders, drill.bystanders.seed)?;
    watch.endure("flood", drill.bystanders.lasts, server)?;
    story.hellos = flood.stop()?;
    story.drops = socket_drops(server.devices())?.saturating_sub(drops);

    watch.settle(server)?;
    story.flooded = Phase::between(calm, watch.fleet.moment());
    Ok(story)
}

fn conclude(drill: &FloodDrill, story: &Story, record: &Record, report: &FleetReport, verdict: Verdict) -> DrillReport {
    let (tally, connected) = (&report.tally, record.connected);
    let checks = vec![
        Check::equal("devices_connected", drill.bystanders.devices.into(), connected.connected),
        Check::equal("acknowledged_events_lost", 0, verdict.lost),
        Check::equal("events_accepted_twice", 0, verdict.twice),
        Check::equal("handshakes_after_connecting", 0, tally.handshakes - connected.handshakes),
        Check::at_most("datagrams_lost_of_10_000", 99, story.flooded.lost_of_10_000()),
        Check::equal("sequences_seen_twice", 0, tally.sequences_repeated + tally.wire_sequences_repeated),
    ];
    let mut figures = drill.bystanders.figures(record);
    let mut note = |name: &str, value| figures.insert(name.to_owned(), value);
    note("hellos_sent", story.hellos.into());
    note("hellos_per_s", json!(story.hellos as f64 / drill.bystanders.lasts.as_secs_f64()));
    note("server_socket_drops", story.drops.into());
    note("lost_percent_calm", json!(story.calm.lost_percent()));
    note("lost_percent_flooded", json!(story.flooded.lost_percent()));
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
