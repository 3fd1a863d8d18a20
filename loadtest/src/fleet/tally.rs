//! What a fleet counts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use crate::stats::Latencies;

/// What one worker's devices did and saw; added up at the end.
#[derive(Clone, Default, Serialize, Debug)]
pub struct Tally {
    /// Devices connected now.
    pub connected: u64,
    /// Devices that were connected at some time.
    pub arrived: u64,
    /// Full handshakes begun.
    pub handshakes: u64,
    /// Full handshakes that ended in a session.
    pub handshakes_finished: u64,
    /// Connections that went on with a session from before.
    pub resumes: u64,
    /// Connections that ended, by reason.
    pub disconnects: BTreeMap<&'static str, u64>,
    /// Publishes begun.
    pub sent: u64,
    /// Publishes that the server acknowledged.
    pub acknowledged: u64,
    /// Publishes that were refused or took too long.
    pub failed: u64,
    /// Publishes that are neither.
    pub open: u64,
    /// Publishes that were left out because too many were open.
    pub left_out: u64,
    /// Devices of which no publish was acknowledged that began after the last roll call.
    pub unserved: u64,
    /// Events sent without acknowledgement.
    pub shouted: u64,
    /// From publish to acknowledgement, since the start or since they were last taken.
    #[serde(rename = "publish_latency_ms")]
    pub publish_latency: Latencies,
    /// Messages that devices sent once more.
    pub retransmissions: u64,
    /// Events that came from the server.
    pub events_received: u64,
    /// Numbered news among them that their device had heard before.
    pub news_repeated: u64,
    /// Function calls that were answered.
    pub calls_answered: u64,
    /// Pings that the server answered.
    pub pings_answered: u64,
    /// Record numbers that a device saw twice under one key, with different contents.
    pub sequences_repeated: u64,
    /// The same, seen on the wire without the devices' help.
    pub wire_sequences_repeated: u64,
    /// Records that were compared on the wire.
    pub records_audited: u64,
    /// Records that were not, because the audit was full.
    pub records_unaudited: u64,
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// Datagrams that the kernel did not take.
    pub datagrams_refused: u64,
    /// Datagrams received.
    pub datagrams_received: u64,
    /// Datagrams that belonged to no device.
    pub datagrams_unclaimed: u64,
    /// TCP connections made.
    pub connections_made: u64,
    /// TCP connections that could not be made.
    pub connections_refused: u64,
    /// Bytes sent over TCP.
    pub bytes_sent: u64,
    /// Bytes received over TCP.
    pub bytes_received: u64,
}

impl Tally {
    /// Adds another worker's.
    pub fn merge(&mut self, other: &Self) {
        for (reason, count) in &other.disconnects {
            *self.disconnects.entry(reason).or_default() += count;
        }
        self.publish_latency.merge(&other.publish_latency);
        let sums = [
            (&mut self.connected, other.connected),
            (&mut self.arrived, other.arrived),
            (&mut self.handshakes, other.handshakes),
            (&mut self.handshakes_finished, other.handshakes_finished),
            (&mut self.resumes, other.resumes),
            (&mut self.sent, other.sent),
            (&mut self.acknowledged, other.acknowledged),
            (&mut self.failed, other.failed),
            (&mut self.open, other.open),
            (&mut self.left_out, other.left_out),
            (&mut self.unserved, other.unserved),
            (&mut self.shouted, other.shouted),
            (&mut self.retransmissions, other.retransmissions),
            (&mut self.events_received, other.events_received),
            (&mut self.news_repeated, other.news_repeated),
            (&mut self.calls_answered, other.calls_answered),
            (&mut self.pings_answered, other.pings_answered),
            (&mut self.sequences_repeated, other.sequences_repeated),
            (&mut self.wire_sequences_repeated, other.wire_sequences_repeated),
            (&mut self.records_audited, other.records_audited),
            (&mut self.records_unaudited, other.records_unaudited),
            (&mut self.datagrams_sent, other.datagrams_sent),
            (&mut self.datagrams_refused, other.datagrams_refused),
            (&mut self.datagrams_received, other.datagrams_received),
            (&mut self.datagrams_unclaimed, other.datagrams_unclaimed),
            (&mut self.connections_made, other.connections_made),
            (&mut self.connections_refused, other.connections_refused),
            (&mut self.bytes_sent, other.bytes_sent),
            (&mut self.bytes_received, other.bytes_received),
        ];
        for (own, others) in sums {
            *own += others;
        }
    }
}

/// The few counts that others watch while a worker runs. Only the worker writes.
#[derive(Default, Debug)]
pub(super) struct Gauges {
    connected: AtomicU64,
    arrived: AtomicU64,
    handshakes: AtomicU64,
    handshakes_finished: AtomicU64,
    acknowledged: AtomicU64,
    failed: AtomicU64,
    open: AtomicU64,
    unserved: AtomicU64,
    events_received: AtomicU64,
    shouted: AtomicU64,
    retransmissions: AtomicU64,
    pings_answered: AtomicU64,
    sequences_repeated: AtomicU64,
}

/// A fleet at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Moment {
    /// Devices connected.
    pub connected: u64,
    /// Devices that were connected at some time.
    pub arrived: u64,
    /// Full handshakes begun so far.
    pub handshakes: u64,
    /// Full handshakes that ended in a session so far.
    pub handshakes_finished: u64,
    /// Publishes acknowledged so far.
    pub acknowledged: u64,
    /// Publishes refused or over time so far.
    pub failed: u64,
    /// Publishes that are neither acknowledged nor failed.
    pub open: u64,
    /// Devices of which no publish was acknowledged that began after the last roll call.
    pub unserved: u64,
    /// Events that came from the server so far.
    pub events_received: u64,
    /// Events sent without acknowledgement so far.
    pub shouted: u64,
    /// Messages that devices sent once more so far.
    pub retransmissions: u64,
    /// Pings answered so far.
    pub pings_answered: u64,
    /// Record numbers that devices saw twice so far.
    pub sequences_repeated: u64,
}

impl Gauges {
    pub(super) fn show(&self, tally: &Tally) {
        self.connected.store(tally.connected, Ordering::Relaxed);
        self.arrived.store(tally.arrived, Ordering::Relaxed);
        self.handshakes.store(tally.handshakes, Ordering::Relaxed);
        self.handshakes_finished.store(tally.handshakes_finished, Ordering::Relaxed);
        self.acknowledged.store(tally.acknowledged, Ordering::Relaxed);
        self.failed.store(tally.failed, Ordering::Relaxed);
        self.open.store(tally.open, Ordering::Relaxed);
        self.unserved.store(tally.unserved, Ordering::Relaxed);
        self.events_received.store(tally.events_received, Ordering::Relaxed);
        self.shouted.store(tally.shouted, Ordering::Relaxed);
        self.retransmissions.store(tally.retransmissions, Ordering::Relaxed);
        self.pings_answered.store(tally.pings_answered, Ordering::Relaxed);
        self.sequences_repeated.store(tally.sequences_repeated, Ordering::Relaxed);
    }

    pub(super) fn add_to(&self, moment: &mut Moment) {
        moment.connected += self.connected.load(Ordering::Relaxed);
        moment.arrived += self.arrived.load(Ordering::Relaxed);
        moment.handshakes += self.handshakes.load(Ordering::Relaxed);
        moment.handshakes_finished += self.handshakes_finished.load(Ordering::Relaxed);
        moment.acknowledged += self.acknowledged.load(Ordering::Relaxed);
        moment.failed += self.failed.load(Ordering::Relaxed);
        moment.open += self.open.load(Ordering::Relaxed);
        moment.unserved += self.unserved.load(Ordering::Relaxed);
        moment.events_received += self.events_received.load(Ordering::Relaxed);
        moment.shouted += self.shouted.load(Ordering::Relaxed);
        moment.retransmissions += self.retransmissions.load(Ordering::Relaxed);
        moment.pings_answered += self.pings_answered.load(Ordering::Relaxed);
        moment.sequences_repeated += self.sequences_repeated.load(Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, to_value};
    use std::time::Duration;

    fn tally(unit: u64) -> Tally {
        let mut tally =
            Tally { connected: unit, sent: 10 * unit, acknowledged: 7 * unit, failed: unit, open: 2 * unit, ..Tally::default() };
        tally.disconnects.insert("ping timeout", unit);
        tally.publish_latency.record(Duration::from_millis(unit));
        tally
    }

    #[test]
    fn tallies_add_up() {
        let mut sum = tally(1);
        sum.merge(&tally(2));
        assert_eq!((sum.connected, sum.sent, sum.open, sum.disconnects["ping timeout"]), (3, 30, 6, 3));
        assert_eq!(sum.publish_latency.count(), 2);
    }

    #[test]
    fn every_count_is_written_and_latencies_as_percentiles() -> serde_json::Result<()> {
        let json = to_value(tally(2))?;
        assert_eq!([&json["connected"], &json["open"], &json["disconnects"]["ping timeout"]], [2, 4, 2]);
        assert_eq!(json["publish_latency_ms"]["max"], 2.0);
        assert_eq!(to_value(Tally::default())?["publish_latency_ms"], Value::Null);
        Ok(())
    }
}
