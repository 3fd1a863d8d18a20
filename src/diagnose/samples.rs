//! What the server counts, every five seconds of the last ten minutes: so that somebody who comes late sees what became different, and when.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use firmware_protocol::time::Millis;
use prometheus::proto::{Metric, MetricFamily, MetricType};

/// From one sample to the next.
pub(super) const EVERY: Duration = Duration::from_secs(5);
/// Samples that are kept: ten minutes of them.
const KEPT_MAX: usize = 120;

/// A metric, and the values of its label that count; all if none is named.
type Series = (&'static str, &'static [&'static str]);

/// Something that is counted or measured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(usize)]
pub enum Measure {
    /// Datagrams read.
    Datagrams,
    /// Messages of devices handed to shards.
    Messages,
    /// Messages acknowledged.
    Acknowledged,
    /// Messages answered 5.03.
    Unkept,
    /// Sessions, at the moment.
    Sessions,
    /// Handshakes proved.
    Proved,
    /// Handshakes that began.
    Begun,
    /// Devices that wait for a handshake, at the moment.
    Waiting,
    /// Devices that waited in vain.
    WaitedInVain,
    /// Handshakes refused because nobody has that key.
    UnknownKeys,
    /// Handshakes that were not finished.
    Unfinished,
    /// Events beyond the limit of a device.
    OverDevice,
    /// Events beyond the limit of an account.
    OverAccount,
    /// Records beyond the limit of a device.
    OverRecords,
    /// Datagrams of sessions that nobody has.
    Orphaned,
    /// Datagrams that were not sealed with their session's keys.
    Forged,
    /// Messages between threads that found no room.
    LanesFull,
    /// Commits of the journal.
    Commits,
    /// Seconds spent in them.
    CommitSeconds,
    /// Events made durable.
    Events,
    /// Records that the journal refused.
    JournalRefused,
    /// Whether the disk is full, at the moment.
    Degraded,
    /// Whether the registry can be changed, at the moment.
    RegistryUp,
    /// Changes and questions that failed because of the registry.
    RegistryErrors,
    /// Shards that were taken over.
    TakenOver,
    /// Shards that pass heartbeats on while their users see failures, at the moment.
    GrayShards,
}

impl Measure {
    /// All there are, in their order.
    pub const ALL: [Self; 26] = [
        Self::Datagrams,
        Self::Messages,
        Self::Acknowledged,
        Self::Unkept,
        Self::Sessions,
        Self::Proved,
        Self::Begun,
        Self::Waiting,
        Self::WaitedInVain,
        Self::UnknownKeys,
        Self::Unfinished,
        Self::OverDevice,
        Self::OverAccount,
        Self::OverRecords,
        Self::Orphaned,
        Self::Forged,
        Self::LanesFull,
        Self::Commits,
        Self::CommitSeconds,
        Self::Events,
        Self::JournalRefused,
        Self::Degraded,
        Self::RegistryUp,
        Self::RegistryErrors,
        Self::TakenOver,
        Self::GrayShards,
    ];

    /// What it is called.
    pub fn name(self) -> &'static str {
        self.definition().0
    }

    /// Whether it only rises, so that it has a rate.
    pub fn is_counter(self) -> bool {
        !matches!(self, Self::Sessions | Self::Waiting | Self::Degraded | Self::RegistryUp | Self::GrayShards)
    }

    /// Its name, and the metrics of which it is the sum.
    fn definition(self) -> (&'static str, &'static [Series]) {
        const REFUSED: &str = "holdfast_dtls_handshakes_refused_total";
        const DROPPED: &str = "holdfast_datagrams_dropped_total";
        match self {
            Self::Datagrams => ("datagrams read", &[("holdfast_udp_datagrams_received_total", &[])]),
            Self::Messages => ("messages of devices", &[("holdfast_messages_received_total", &[])]),
            Self::Acknowledged => ("messages acknowledged", &[("holdfast_messages_acknowledged_total", &[])]),
            Self::Unkept => ("messages answered 5.03", &[("holdfast_messages_unkept_total", &[])]),
            Self::Sessions => ("sessions", &[("holdfast_sessions", &[])]),
            Self::Proved => ("handshakes proved", &[("holdfast_dtls_handshakes_total", &[]), ("holdfast_tcp_handshakes_total", &[])]),
            Self::Begun => ("handshakes begun", &[("holdfast_handshakes_admitted_total", &[])]),
            Self::Waiting => ("devices waiting for a handshake", &[("holdfast_handshakes_waiting", &[])]),
            Self::WaitedInVain => (
                "devices that waited in vain",
                &[(
                    REFUSED,
                    &[
                        "waiting_full",
                        "waiting_prefix_full",
                        "waiting_expired",
                        "tcp_waiting_full",
                        "tcp_waiting_prefix_full",
                        "tcp_waiting_expired",
                    ],
                )],
            ),
            Self::UnknownKeys => ("handshakes with unknown keys", &[(REFUSED, &["unknown_key", "tcp_unknown_key", "tcp_wrong_key"])]),
            Self::Unfinished => ("handshakes not finished", &[(REFUSED, &["expired"])]),
            Self::OverDevice => ("events beyond a device's limit", &[("holdfast_events_refused_total", &["device"])]),
            Self::OverAccount => ("events beyond an account's limit", &[("holdfast_events_refused_total", &["owner"])]),
            Self::OverRecords => {
                ("records beyond a device's limit", &[(DROPPED, &["record_limit"]), ("holdfast_tcp_closed_total", &["record_limit"])])
            }
            Self::Orphaned => ("datagrams of lost sessions", &[(DROPPED, &["orphan"])]),
            Self::Forged => ("forged datagrams", &[(DROPPED, &["forged"])]),
            Self::LanesFull => (
                "messages between threads without room",
                &[(DROPPED, &["handshakes_full", "worker_full", "shard_full", "writer_full"]), ("holdfast_shard_lane_full_total", &[])],
            ),
            Self::Commits => ("commits of the journal", &[("holdfast_journal_commits_total", &[])]),
            Self::CommitSeconds => ("seconds in commits", &[("holdfast_journal_commit_seconds_total", &[])]),
            Self::Events => ("events made durable", &[("holdfast_journal_events_total", &[])]),
            Self::JournalRefused => ("records refused by the journal", &[("holdfast_journal_refused_records_total", &[])]),
            Self::Degraded => ("full disk", &[("holdfast_journal_degraded", &[])]),
            Self::RegistryUp => ("registry up", &[("holdfast_registry_up", &[])]),
            Self::RegistryErrors => ("registry errors", &[("holdfast_registry_errors_total", &[])]),
            Self::TakenOver => ("shards taken over", &[("holdfast_takeovers_total", &[])]),
            Self::GrayShards => ("gray shards", &[("holdfast_shard_gray", &[])]),
        }
    }
}

/// Everything that was counted at one moment.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sample {
    /// When.
    pub at: Millis,
    /// By how much whoever takes samples was late since the last one, at most.
    pub late: Duration,
    values: [f64; Measure::ALL.len()],
}

impl Sample {
    /// With nothing counted.
    pub fn empty(at: Millis) -> Self {
        Self { at, late: Duration::ZERO, values: [0.0; Measure::ALL.len()] }
    }

    /// Out of all metrics.
    pub fn of(at: Millis, late: Duration, families: &[MetricFamily]) -> Self {
        let values = Measure::ALL.map(|measure| {
            let series = measure.definition().1.iter();
            let found = series.flat_map(|(name, values)| {
                families.iter().filter(move |family| family.name() == *name).map(move |family| sum(family, values))
            });
            found.sum()
        });
        Self { at, late, values }
    }

    /// What a measure was.
    pub fn value(&self, measure: Measure) -> f64 {
        self.values[measure as usize]
    }

    /// The same with another value.
    pub fn with(mut self, measure: Measure, value: f64) -> Self {
        self.values[measure as usize] = value;
        self
    }
}

fn sum(family: &MetricFamily, wanted: &[&str]) -> f64 {
    let counts = |metric: &&Metric| wanted.is_empty() || metric.get_label().iter().any(|label| wanted.contains(&label.value()));
    let value = |metric: &Metric| match family.get_field_type() {
        MetricType::COUNTER => metric.get_counter().get_value(),
        MetricType::GAUGE => metric.get_gauge().get_value(),
        _ => 0.0,
    };
    family.get_metric().iter().filter(counts).map(value).sum()
}

/// The samples of the last ten minutes.
#[derive(Clone, Debug, Default)]
pub struct Samples(Arc<Mutex<VecDeque<Sample>>>);

impl Samples {
    /// Keeps one more.
    pub fn keep(&self, sample: Sample) {
        let mut kept = self.lock();
        if kept.len() >= KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back(sample);
    }

    /// All, the oldest first.
    pub fn list(&self) -> Vec<Sample> {
        self.lock().iter().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Sample>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::terminators::Over;

    #[test]
    fn measures_stand_where_their_numbers_say() {
        for (number, measure) in Measure::ALL.into_iter().enumerate() {
            assert_eq!(measure as usize, number, "{measure:?}");
        }
    }

    #[test]
    fn a_sample_sums_what_belongs_together() {
        let metrics = Metrics::new();
        let (terminators, handshakes, tcp) = (metrics.terminators(), metrics.handshakes(), metrics.tcp());
        let journal = metrics.journal();
        terminators.event_refused(Over::Device);
        (0..3).for_each(|_| terminators.event_refused(Over::Owner));
        (0..4).for_each(|_| terminators.dropped("record_limit"));
        tcp.closed("record_limit");
        tcp.closed("silent");
        handshakes.refused("unknown_key");
        handshakes.refused("tcp_wrong_key");
        handshakes.refused("expired");
        handshakes.room("dtls").waiting(5);
        handshakes.room("tcp").waiting(6);
        journal.commit_s.inc_by(1.5);
        journal.degraded.set(1);
        let sample = Sample::of(Millis(7), Duration::ZERO, &metrics.gather());
        let values = [
            (Measure::OverDevice, 1.0),
            (Measure::OverAccount, 3.0),
            (Measure::OverRecords, 5.0),
            (Measure::UnknownKeys, 2.0),
            (Measure::Unfinished, 1.0),
            (Measure::Waiting, 11.0),
            (Measure::CommitSeconds, 1.5),
            (Measure::Degraded, 1.0),
            (Measure::Sessions, 0.0),
        ];
        for (measure, value) in values {
            assert!((sample.value(measure) - value).abs() < 1e-9, "{measure:?}: {}", sample.value(measure));
        }
    }

    #[test]
    fn only_so_many_are_kept() {
        let samples = Samples::default();
        (0..200).for_each(|n| samples.keep(Sample::empty(Millis(n))));
        let kept = samples.list();
        assert_eq!((kept.len(), kept[0].at, kept[KEPT_MAX - 1].at), (KEPT_MAX, Millis(80), Millis(199)));
    }
}
