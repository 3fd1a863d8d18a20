//! Every metric once, with one line that says what it counts, in a file for each subject. Labels are of fixed sets; nothing here names a device.

mod handshakes;
mod journal;
mod process;
mod shards;
mod sinks;
mod synthetic;
mod terminators;
mod webhooks;

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::stale::{Pulse, Roll, Series, Source};

pub use handshakes::{HandshakeMetrics, RoomMetrics};
pub use journal::{JournalMetrics, RetentionMetrics};
pub use process::RegistryMetrics;
pub use shards::{CallMetrics, ShardMetrics, TakeoverMetrics};
pub use sinks::{FanOutMetrics, HistoryMetrics, StockMetrics, StreamMetrics};
pub use synthetic::{SyntheticFailure, SyntheticMetrics};
pub use terminators::{TcpMetrics, TerminatorMetrics};
pub use webhooks::{Seen, Way, WebhookMetrics};

/// All metrics of the server.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    roll: Roll,
    /// Beside what the journal's writer counts.
    settled: Pulse,
}

impl Metrics {
    /// No metrics yet.
    pub fn new() -> Self {
        Self { registry: Registry::new(), roll: Roll::default(), settled: Pulse::default() }
    }

    /// The text that Prometheus reads.
    pub fn render(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }

    fn add<C: Collector + Clone + 'static>(&self, metric: Result<C, prometheus::Error>) -> C {
        let metric = metric.expect("names and labels in this file are well-formed");
        self.registry.register(Box::new(metric.clone())).expect("each name in this file is used once");
        metric
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.add(IntCounter::new(name, help))
    }

    fn counters(&self, name: &str, help: &str, label: &str) -> IntCounterVec {
        self.add(IntCounterVec::new(Opts::new(name, help), &[label]))
    }

    /// The same of which these are there from the start: the first of what never happened before would else not be an increase.
    fn counters_of(&self, name: &str, help: &str, label: &str, known: &[&str]) -> IntCounterVec {
        let counters = self.counters(name, help, label);
        known.iter().for_each(|value| drop(counters.with_label_values(&[*value])));
        counters
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.add(IntGauge::new(name, help))
    }

    fn gauges(&self, name: &str, help: &str, label: &str) -> IntGaugeVec {
        self.add(IntGaugeVec::new(Opts::new(name, help), &[label]))
    }

    /// All that should move.
    pub fn roll(&self) -> &Roll {
        &self.roll
    }

    /// Says that a number follows another, and may stand still for so many seconds after that has moved by `least`.
    fn follow(&self, name: &str, patience_s: u64, output: Source, (input, least): (Source, u64)) {
        self.roll.enter(Series { name: name.to_owned(), patience: Duration::from_secs(patience_s), output, input, least });
    }

    /// A gauge that somebody sets again and again, at least once in so many seconds.
    fn pulse(&self, name: &str, patience_s: u64) -> Pulse {
        let pulse = Pulse::default();
        self.follow(name, patience_s, Source::Pulse(pulse.clone()), (Source::Time, 1));
        pulse
    }

    /// Everything that is counted, as it stands now.
    pub fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// The name of a reason as labels have it.
fn label(reason: &str) -> String {
    reason.replace('-', "_")
}
