//! What becomes of events: the fan-out to subscribed devices, event streams, the history, and stock taken of all of them.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts};

use super::{Metrics, label};
use crate::stale::Pulse;
use crate::stock::Balance;

/// What the fan-out to subscribed devices counts.
#[derive(Clone, Debug)]
pub struct FanOutMetrics {
    /// Events that shards were sent and whose fate is not known yet.
    pub waiting: IntGauge,
    /// Times that a shard did not keep up and had to read by itself.
    pub behind: IntCounter,
    /// Times that the journal could not be read.
    pub failures: IntCounter,
    /// Beside the gauge.
    pub set: Pulse,
}

/// What the event streams count.
#[derive(Clone, Debug)]
pub struct StreamMetrics {
    /// Streams open.
    pub open: IntGauge,
    /// Events handed to streams.
    pub events: IntCounter,
    /// Streams cut because their reader was too slow.
    pub cut: IntCounter,
    /// Times that a stream's queue was full and its reader had to read the journal.
    pub behind: IntCounter,
    /// Streams that were continued after the position that their reader named.
    pub continued: IntCounter,
    /// Events read from the journal for streams.
    pub replayed: IntCounter,
    /// Gaps that readers were told of.
    pub gaps: IntCounter,
    /// Batches that streams had to read from the journal because the fan-out was behind.
    pub missed: IntCounter,
}

/// What the history counts.
#[derive(Clone, Debug)]
pub struct HistoryMetrics {
    /// Events written.
    pub records: IntCounter,
    /// Payload bytes kept.
    pub bytes: IntGauge,
    /// Times that it was behind and read the journal instead.
    pub missed: IntCounter,
    /// It failed and writes no more.
    pub failed: IntGauge,
    /// Whenever it has looked whether there is something to write.
    pub followed: Pulse,
}

/// What taking stock comes to.
#[derive(Clone, Debug)]
pub struct StockMetrics {
    /// When stock was last taken, in seconds since 1970.
    pub taken_at: IntGauge,
    /// Events that should be in the journal and are not.
    pub missing: IntGauge,
    /// Times that stock could not be taken, or a cursor not be moved.
    pub failures: IntCounter,
    /// Beside the gauge of when it was taken.
    pub taken: Pulse,
    /// When cursors were looked after.
    pub moved: Pulse,
    events: IntCounterVec,
    pending: IntGaugeVec,
    imbalance: IntGaugeVec,
}

impl Metrics {
    /// Metrics of the fan-out.
    pub fn fan_out(&self) -> FanOutMetrics {
        FanOutMetrics {
            set: self.pulse("fan_out_waiting", 10),
            waiting: self.gauge("holdfast_fan_out_waiting_events", "Events on their way to subscribed devices, once for each shard."),
            behind: self.counter("holdfast_fan_out_behind_total", "Times a shard did not keep up and was served by itself."),
            failures: self.counter("holdfast_fan_out_failures_total", "Times the journal could not be read for subscribed devices."),
        }
    }

    /// Metrics of event streams.
    pub fn streams(&self) -> StreamMetrics {
        StreamMetrics {
            open: self.gauge("holdfast_streams_open", "Event streams open."),
            events: self.counter("holdfast_streams_events_total", "Events handed to streams."),
            cut: self.counter("holdfast_streams_cut_total", "Streams cut because their reader took nothing for too long."),
            behind: self.counter("holdfast_streams_behind_total", "Times a reader fell behind and was served from the journal."),
            continued: self.counter("holdfast_streams_continued_total", "Streams continued after the position their reader named."),
            replayed: self.counter("holdfast_streams_replayed_events_total", "Events read from the journal for streams."),
            gaps: self.counter("holdfast_streams_gaps_total", "Gaps that readers of streams were told of."),
            missed: self
                .counter("holdfast_streams_missed_total", "Batches that streams had to read from the journal because they were behind."),
        }
    }

    /// Metrics of the history.
    pub fn history(&self) -> HistoryMetrics {
        HistoryMetrics {
            followed: self.pulse("history_records", 60),
            records: self.counter("holdfast_history_records_total", "Events written to the history."),
            bytes: self.gauge("holdfast_history_bytes", "Bytes that records of the history hold, not compressed."),
            missed: self.counter("holdfast_history_missed_total", "Times the history was behind and read the journal instead."),
            failed: self.gauge("holdfast_history_failed", "1 if the history failed and is written no more."),
        }
    }

    /// Metrics of taking stock.
    pub fn stock(&self) -> StockMetrics {
        let labels = &["sink", "state", "reason"];
        let events = Opts::new("holdfast_sink_events_total", "Events that were accepted for a sink, and what became of them.");
        StockMetrics {
            taken: self.pulse("stock_taken", 60),
            moved: self.pulse("cursors", 30),
            taken_at: self.gauge("holdfast_stock_taken_timestamp_seconds", "When the events of all sinks were last counted."),
            missing: self.gauge("holdfast_journal_missing_events", "Events that should be in the journal and were not found there."),
            failures: self.counter("holdfast_stock_failures_total", "Times events could not be counted, or a cursor not be moved."),
            events: self.add(IntCounterVec::new(events, labels)),
            pending: self.gauges("holdfast_sink_pending_events", "Events after a sink's cursor, counted in the journal.", "sink"),
            imbalance: self.gauges(
                "holdfast_sink_imbalance_messages",
                "Events accepted and neither in the ledger nor in the journal.",
                "sink",
            ),
        }
    }
}

impl StockMetrics {
    /// What was counted of a sink.
    pub fn took(&self, sink: &str, balance: &Balance) {
        let Balance { accepted, ledger, expired_unread, pending } = balance;
        let states = [("accepted", *accepted), ("delivered", ledger.delivered), ("expired", ledger.expired + expired_unread)];
        states.into_iter().for_each(|(state, count)| self.raise([sink, state, ""], count));
        ledger.rejected.iter().for_each(|(reason, count)| self.raise([sink, "rejected", &label(reason)], *count));
        self.pending.with_label_values(&[sink]).set(i64::try_from(*pending).unwrap_or(i64::MAX));
        self.imbalance.with_label_values(&[sink]).set(balance.imbalance());
    }

    /// A counter that follows one that is kept durably.
    fn raise(&self, labels: [&str; 3], to: u64) {
        let counter = self.events.with_label_values(&labels);
        counter.inc_by(to.saturating_sub(counter.get()));
    }
}
