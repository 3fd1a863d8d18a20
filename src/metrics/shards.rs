//! What shards count, what callers ask of devices through them, and takeovers.

use firmware_protocol::time::UnixMillis;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts};
use router::epoch::Epoch;
use router::fate::{Fate, Fates};

use super::{Metrics, label};

/// What the shards count, all together.
#[derive(Clone, Debug)]
pub struct ShardMetrics {
    /// Outputs that found a full lane, by destination.
    pub lane_full: IntCounterVec,
    /// Inputs handled.
    pub inputs: IntCounter,
    processed: IntCounterVec,
    deliveries: IntCounterVec,
}

/// What callers of the API asked of devices, and what came of it.
#[derive(Clone, Debug)]
pub struct CallMetrics(IntCounterVec);

/// What takeovers of shards come to.
#[derive(Clone, Debug)]
pub struct TakeoverMetrics {
    takeovers: IntCounter,
    last_at: IntGauge,
    epochs: IntGaugeVec,
    fenced: IntCounterVec,
}

impl Metrics {
    /// Metrics of the shards.
    pub fn shards(&self) -> ShardMetrics {
        ShardMetrics {
            lane_full: self.counters_of(
                "holdfast_shard_lane_full_total",
                "Outputs of shards that found a full lane.",
                "destination",
                &["terminator", "writer", "errands"],
            ),
            inputs: self.counter("holdfast_shard_inputs_total", "Inputs handled by shards."),
            processed: self.counters("holdfast_shard_processed_messages_total", "What a shard has dealt with, heartbeats aside.", "shard"),
            deliveries: self.counters_of(
                "holdfast_deliveries_total",
                "Events for single subscribed devices that met their fate.",
                "outcome",
                &["delivered", "offline", "unanswered"],
            ),
        }
    }

    /// Counters of what terminators have handed to each of so many shards.
    pub fn shards_enqueued(&self, shards: usize) -> Vec<IntCounter> {
        let enqueued = self.counters("holdfast_shard_enqueued_messages_total", "What terminators have handed to a shard.", "shard");
        (0..shards).map(|shard| enqueued.with_label_values(&[shard.to_string()])).collect()
    }

    /// Metrics of what is asked of devices.
    pub fn calls(&self) -> CallMetrics {
        let help = "Questions to devices and publishes of callers, by what came of them.";
        let calls = self.add(IntCounterVec::new(Opts::new("holdfast_calls_total", help), &["kind", "outcome"]));
        for kind in ["call", "read", "ping", "signal", "vitals", "publish"] {
            ["ok", "failed"].iter().for_each(|outcome| drop(calls.with_label_values(&[kind, *outcome])));
        }
        CallMetrics(calls)
    }

    /// Metrics of takeovers.
    pub fn takeovers(&self) -> TakeoverMetrics {
        TakeoverMetrics {
            takeovers: self.counter("holdfast_takeovers_total", "Shards that had stalled and were taken over by another thread."),
            last_at: self.gauge("holdfast_takeover_timestamp_seconds", "When a shard was last taken over."),
            epochs: self.gauges("holdfast_shard_epoch", "The how manieth thread of a shard it is that counts.", "shard"),
            fenced: self.counters_of(
                "holdfast_fenced_messages_total",
                "What threads said that had their shard no more, and who refused it.",
                "by",
                &["journal", "terminator", "fan_out", "errands", "api"],
            ),
        }
    }
}

impl ShardMetrics {
    /// What one shard has dealt with.
    pub fn processed(&self, shard: usize) -> IntCounter {
        self.processed.with_label_values(&[shard.to_string()])
    }

    /// That is what became of events for single devices.
    pub fn delivered(&self, fates: &Fates) {
        for fate in Fate::ALL {
            let count = fates[fate.index()];
            if count > 0 {
                self.deliveries.with_label_values(&[&label(fate.name())]).inc_by(count);
            }
        }
    }
}

impl CallMetrics {
    /// One of this `kind` ended so.
    pub fn ended(&self, kind: &str, outcome: &str) {
        self.0.with_label_values(&[kind, outcome]).inc();
    }
}

impl TakeoverMetrics {
    /// What is refused by one of those who listen to shards.
    pub fn fenced(&self, by: &str) -> IntCounter {
        self.fenced.with_label_values(&[by])
    }

    /// One begins, for this shard and with this epoch.
    pub fn began(&self, now: UnixMillis, shard: usize, epoch: Epoch) {
        self.takeovers.inc();
        self.last_at.set(i64::from(now.seconds()));
        self.epoch(shard, epoch);
    }

    /// Another thread counts for a shard.
    pub fn epoch(&self, shard: usize, Epoch(epoch): Epoch) {
        self.epochs.with_label_values(&[shard.to_string()]).set(i64::try_from(epoch).unwrap_or(i64::MAX));
    }
}
