//! What the journal's writer counts, and keeping the journal small.

use prometheus::{Counter, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge};

use super::Metrics;
use crate::stale::Pulse;

/// Upper ends of the buckets for what a commit takes: a device repeats after 4 s, and its application gives up after 20 s.
const COMMIT_BUCKETS: [f64; 15] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0, 8.0, 12.0, 20.0, 30.0];

/// What the journal's writer counts.
#[derive(Clone, Debug)]
pub struct JournalMetrics {
    /// Records made durable.
    pub records: IntCounter,
    /// Events made durable.
    pub events: IntCounter,
    /// Commits: one write and one sync each.
    pub commits: IntCounter,
    /// Seconds spent in commits.
    pub commit_s: Counter,
    /// The same, one by one.
    pub commit_duration: Histogram,
    /// Whether the disk is full.
    pub degraded: IntGauge,
    /// Whenever something was committed or refused.
    pub settled: Pulse,
    refused: IntCounterVec,
}

/// What keeping the journal small comes to.
#[derive(Clone, Debug)]
pub struct RetentionMetrics {
    /// Bytes of segments on disk.
    pub bytes: IntGauge,
    /// Segments on disk.
    pub segments: IntGauge,
    /// Position of the oldest event that is kept.
    pub oldest: IntGauge,
    /// Events that were removed.
    pub expired: IntCounter,
    /// Those of them that the slowest sink had not come to.
    pub unread: IntCounter,
    /// Snapshots made.
    pub compactions: IntCounter,
    /// Attempts at snapshots, or to remove segments, that failed.
    pub failures: IntCounter,
    /// Bytes that are free on the journal's file system.
    pub disk_free: IntGauge,
    /// Bytes that there are on it.
    pub disk_size: IntGauge,
    /// Beside the gauges.
    pub set: Pulse,
}

impl Metrics {
    /// Metrics of the journal.
    pub fn journal(&self) -> JournalMetrics {
        JournalMetrics {
            settled: self.settled.clone(),
            records: self.counter("holdfast_journal_records_total", "Records made durable."),
            events: self.counter("holdfast_journal_events_total", "Events made durable."),
            commits: self.counter("holdfast_journal_commits_total", "Commits: one write and one sync each."),
            commit_s: self.add(Counter::new("holdfast_journal_commit_seconds_total", "Seconds spent in commits.")),
            commit_duration: self.add(Histogram::with_opts(
                HistogramOpts::new("holdfast_journal_commit_duration_seconds", "What a commit takes.").buckets(COMMIT_BUCKETS.to_vec()),
            )),
            degraded: self.gauge("holdfast_journal_degraded", "1 while the disk is full: only what sessions need is written."),
            refused: self.counters_of(
                "holdfast_journal_refused_records_total",
                "Records that were not written.",
                "reason",
                &["disk_full", "reserve_used_up"],
            ),
        }
    }

    /// Metrics of how the journal is kept small.
    pub fn retention(&self) -> RetentionMetrics {
        RetentionMetrics {
            set: self.pulse("journal_bytes", 120),
            bytes: self.gauge("holdfast_journal_bytes", "Bytes of the journal's segments."),
            segments: self.gauge("holdfast_journal_segments", "Segments of the journal."),
            oldest: self.gauge("holdfast_journal_oldest_position", "Position of the oldest event that is kept."),
            expired: self.counter("holdfast_journal_expired_events_total", "Events removed because of their age or for want of room."),
            unread: self.counter("holdfast_journal_expired_unread_events_total", "Expired events that the slowest sink had not come to."),
            compactions: self.counter("holdfast_journal_compactions_total", "Snapshots made of the journal."),
            failures: self
                .counter("holdfast_journal_compaction_failures_total", "Snapshots that could not be made, and segments not removed."),
            disk_free: self.gauge("holdfast_disk_free_bytes", "Bytes free for this process on the journal's file system."),
            disk_size: self.gauge("holdfast_disk_size_bytes", "Bytes that the journal's file system has."),
        }
    }
}

impl JournalMetrics {
    /// A record was not written for `reason`.
    pub fn refused(&self, reason: &str) {
        self.refused.with_label_values(&[reason]).inc();
    }
}
