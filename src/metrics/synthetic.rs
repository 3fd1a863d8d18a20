//! What the synthetic hook comes to, which tries the whole way of an event to a receiver.

use std::time::Duration;

use firmware_protocol::time::UnixMillis;
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};

use super::Metrics;
use crate::stale::{Pulse, Source};

/// Seconds from the event to the receiver.
const BUCKETS: [f64; 11] = [0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0, 60.0];

/// Why a synthetic delivery does not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SyntheticFailure {
    /// A shard did not take its event.
    Unsent,
    /// The signature is not right.
    Signature,
    /// The request is not what was sent.
    Malformed,
    /// One that was sent after it came before it.
    Disorder,
    /// It took too long.
    Late,
    /// It never came.
    Missing,
}

/// What the synthetic hook comes to.
#[derive(Clone, Debug)]
pub struct SyntheticMetrics {
    /// Events that shards were given.
    pub sent: IntCounter,
    delivery_s: Histogram,
    delivered_at: IntGauge,
    failures: IntCounterVec,
    delivered: Pulse,
}

impl Metrics {
    pub(super) fn synthetic(&self) -> SyntheticMetrics {
        let sent = self.counter("holdfast_synthetic_events_total", "Events of the synthetic hook that shards were given.");
        self.follow("synthetic_events", 120, Source::Counter(sent.clone()), (Source::Time, 1));
        let delivered = Pulse::default();
        self.follow("synthetic_delivery", 120, Source::Pulse(delivered.clone()), (Source::Counter(sent.clone()), 1));
        let names = SyntheticFailure::ALL.map(SyntheticFailure::name);
        SyntheticMetrics {
            sent,
            delivered,
            delivery_s: self.histogram(
                "holdfast_synthetic_delivery_seconds",
                "From when a shard was given a synthetic event to its receiver.",
                &BUCKETS,
            ),
            delivered_at: self.gauge("holdfast_synthetic_delivery_timestamp_seconds", "When a synthetic delivery was last verified."),
            failures: self.counters_of(
                "holdfast_synthetic_delivery_failures_total",
                "Synthetic deliveries that were not what they should be.",
                "why",
                &names,
            ),
        }
    }
}

impl SyntheticFailure {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Unsent, Self::Signature, Self::Malformed, Self::Disorder, Self::Late, Self::Missing];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unsent => "unsent",
            Self::Signature => "signature",
            Self::Malformed => "malformed",
            Self::Disorder => "disorder",
            Self::Late => "late",
            Self::Missing => "missing",
        }
    }
}

impl SyntheticMetrics {
    /// One was verified, so long after a shard was given its event.
    pub fn delivered(&self, now: UnixMillis, took: Duration) {
        self.delivery_s.observe(took.as_secs_f64());
        if self.delivered.beat() {
            self.delivered_at.set(i64::from(now.seconds()));
        }
    }

    /// One was not what it should be.
    pub fn failed(&self, why: SyntheticFailure) {
        self.failures.with_label_values(&[why.name()]).inc();
    }
}
