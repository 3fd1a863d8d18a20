//! Every metric once, with one line that says what it counts. Labels are of fixed sets; nothing here names a device.

use std::sync::Arc;
use std::time::Duration;

use firmware_protocol::coap::Code;
use firmware_protocol::dtls::demux::Junk;
use firmware_protocol::dtls::server::Refusal;
use firmware_protocol::session::{Dropped, Unkept};
use firmware_protocol::tcp::handshake::Refusal as TcpRefusal;
use firmware_protocol::time::UnixMillis;
use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{
    Counter, CounterVec, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};
use router::epoch::Epoch;
use router::fate::{Fate, Fates};

use crate::about;
use crate::api::{ApiSeries, Counters};
use crate::clock::Clock;
use crate::evidence::EvidenceSeries;
use crate::stale::{Pulse, Roll, Series, Source, StaleMetrics};
use crate::stock::Balance;
use crate::terminators::{KernelDrops, Over, SocketName};
use crate::waiting_room::{Entered, Refused};
use crate::watchdog::{ProgressSeries, Watch};

/// Upper ends of the buckets for what a commit takes: a device repeats after 4 s, and its application gives up after 20 s.
const COMMIT_BUCKETS: [f64; 15] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0, 8.0, 12.0, 20.0, 30.0];

/// All metrics of the server.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    roll: Roll,
    /// Beside what the journal's writer counts.
    settled: Pulse,
}

/// What all terminators count, over both transports where it says nothing else.
#[derive(Clone, Debug)]
pub struct TerminatorMetrics {
    /// Datagrams read.
    pub datagrams_received: IntCounter,
    /// Datagrams sent.
    pub datagrams_sent: IntCounter,
    /// Messages of devices handed to shards.
    pub messages_received: IntCounter,
    /// Messages of devices acknowledged after commit.
    pub messages_acknowledged: IntCounter,
    /// Stateless answers to first hellos.
    pub cookies_sent: IntCounter,
    /// Handshakes proved.
    pub handshakes: IntCounter,
    sessions: IntGauge,
    sessions_set: Pulse,
    dropped: IntCounterVec,
    events_refused: IntCounterVec,
    unkept: IntCounterVec,
}

/// What the terminator of devices on TCP counts besides.
#[derive(Clone, Debug)]
pub struct TcpMetrics {
    /// Connections open.
    pub connections: IntGauge,
    /// Handshakes proved.
    pub handshakes: IntCounter,
    closed: IntCounterVec,
    refused: IntCounterVec,
}

/// What the handshake threads count.
#[derive(Clone, Debug)]
pub struct HandshakeMetrics {
    /// Handshakes begun and not yet proved.
    pub pending: IntGauge,
    refused: IntCounterVec,
    udp_set: Pulse,
    tcp_set: Pulse,
    waiting: IntGaugeVec,
    admitted: IntCounterVec,
    waited_s: CounterVec,
    repeated: IntCounterVec,
}

/// What one of the handshake threads counts of those who wait for it.
#[derive(Clone, Debug)]
pub struct RoomMetrics {
    waiting: IntGauge,
    set: Pulse,
    admitted: IntCounter,
    waited_s: Counter,
    repeated: IntCounter,
}

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

/// What the registry counts.
#[derive(Clone, Debug)]
pub struct RegistryMetrics {
    /// Whether its database can be changed.
    pub up: IntGauge,
    /// Whenever that was tried.
    pub tried: Pulse,
    errors: IntCounterVec,
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

    /// Metrics of the detector of what stands still.
    pub fn stale(&self) -> StaleMetrics {
        StaleMetrics {
            stale: self.gauges("holdfast_stale_series", "1 for a number that stands still while what it follows moves.", "series"),
            evaluated_at: self
                .gauge("holdfast_stale_detector_evaluation_timestamp_seconds", "When it was looked last for numbers that stand still."),
        }
    }

    /// Says which build runs with which configuration.
    pub fn identity(&self, config: &str) {
        let build = Opts::new("holdfast_build_info", "1 for the build that runs.");
        let build = self.add(IntGaugeVec::new(build, &["version", "revision"]));
        build.with_label_values(&[about::VERSION, about::REVISION]).set(1);
        self.gauges("holdfast_config_info", "1 for the hash of the configuration in effect.", "hash").with_label_values(&[config]).set(1);
    }

    /// Everything that is counted, as it stands now.
    pub fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }

    /// Metrics of all terminators together.
    pub fn terminators(&self) -> TerminatorMetrics {
        let handshakes = self.counter("holdfast_dtls_handshakes_total", "Handshakes proved.");
        let set = Pulse::default();
        self.follow("sessions", 30, Source::Pulse(set.clone()), (Source::Counter(handshakes.clone()), 5));
        TerminatorMetrics {
            datagrams_received: self.counter("holdfast_udp_datagrams_received_total", "Datagrams read."),
            datagrams_sent: self.counter("holdfast_udp_datagrams_sent_total", "Datagrams sent."),
            messages_received: self.counter("holdfast_messages_received_total", "Messages of devices handed to shards."),
            messages_acknowledged: self
                .counter("holdfast_messages_acknowledged_total", "Messages of devices acknowledged after their commit."),
            cookies_sent: self.counter("holdfast_dtls_cookies_sent_total", "Stateless answers to first hellos."),
            handshakes,
            sessions_set: set,
            sessions: self.gauge("holdfast_sessions", "Sessions in use."),
            events_refused: self.counters_of(
                "holdfast_events_refused_total",
                "Events of devices beyond a limit.",
                "limit",
                &["device", "owner"],
            ),
            unkept: self.counters_of(
                "holdfast_messages_unkept_total",
                "Messages of devices answered 5.03: not known to be kept.",
                "reason",
                &["late", "too_many_waiting", "journal"],
            ),
            dropped: self.counters_of(
                "holdfast_datagrams_dropped_total",
                "Datagrams and messages without effect.",
                "reason",
                &["orphan", "forged", "wrong_key", "replayed"],
            ),
        }
    }

    /// Metrics of TCP alone.
    pub fn tcp(&self) -> TcpMetrics {
        TcpMetrics {
            connections: self.gauge("holdfast_tcp_connections", "Connections of devices open."),
            handshakes: self.counter("holdfast_tcp_handshakes_total", "Handshakes over TCP proved."),
            closed: self.counters("holdfast_tcp_closed_total", "Connections of devices that ended.", "reason"),
            refused: self.counters("holdfast_tcp_refused_total", "Connections and messages of devices that were not taken.", "reason"),
        }
    }

    /// Metrics of the handshake threads.
    pub fn handshakes(&self) -> HandshakeMetrics {
        HandshakeMetrics {
            udp_set: self.pulse("handshakes_waiting_udp", 30),
            tcp_set: self.pulse("handshakes_waiting_tcp", 30),
            pending: self.gauge("holdfast_dtls_handshakes_pending", "Handshakes begun and not yet proved."),
            refused: self.counters_of(
                "holdfast_dtls_handshakes_refused_total",
                "Flights and hellos that were refused.",
                "reason",
                &["unknown_key", "expired", "waiting_full", "waiting_prefix_full", "waiting_expired"],
            ),
            waiting: self.gauges("holdfast_handshakes_waiting", "Devices that wait until their handshake begins.", "transport"),
            admitted: self.counters("holdfast_handshakes_admitted_total", "Handshakes that began.", "transport"),
            waited_s: self.add(CounterVec::new(
                Opts::new("holdfast_handshakes_waited_seconds_total", "What those that began had waited, added up."),
                &["transport"],
            )),
            repeated: self.counters("holdfast_handshakes_repeated_total", "Hellos that waited already when they came again.", "transport"),
        }
    }

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

    /// What the API counts.
    pub fn api(&self, counters: &Arc<Counters>) {
        self.add(ApiSeries::new(counters));
    }

    /// What the kernel drops because nobody reads these sockets in time.
    pub fn kernel_drops(&self, sockets: Vec<SocketName>) {
        self.add(KernelDrops::new(sockets));
    }

    /// When this process began, and whether the one before it ended without being told to.
    pub fn process(&self, began: UnixMillis, after_crash: bool) {
        let start = self.add(Gauge::new("holdfast_process_start_time_seconds", "When the server was started."));
        start.set(Duration::from_millis(began.0).as_secs_f64());
        let help = "1 if the server before this one ended without being told to.";
        self.gauge("holdfast_started_after_crash", help).set(i64::from(after_crash));
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

    /// Metrics of the fan-out.
    pub fn fan_out(&self) -> FanOutMetrics {
        FanOutMetrics {
            set: self.pulse("fan_out_waiting", 10),
            waiting: self.gauge("holdfast_fan_out_waiting_events", "Events on their way to subscribed devices, once for each shard."),
            behind: self.counter("holdfast_fan_out_behind_total", "Times a shard did not keep up and was served by itself."),
            failures: self.counter("holdfast_fan_out_failures_total", "Times the journal could not be read for subscribed devices."),
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

    /// What is told of the progress of threads.
    pub fn watchdog(&self, watch: &Watch, clock: Clock) {
        self.add(Ok(ProgressSeries::new(watch, clock)));
        self.add(Ok(EvidenceSeries::new(&watch.evidence, &watch.bulletin)));
        let bulletin = watch.bulletin.clone();
        self.follow("watchdog", 3, Source::Read(Arc::new(move || bulletin.judged_at().0)), (Source::Time, 1));
        let all = watch.notes().to_vec();
        let handed = Source::Read(Arc::new(move || all.iter().map(|notes| notes.counts().0).sum()));
        self.follow("journal_commits", 5, Source::Pulse(self.settled.clone()), (handed, 10));
        for notes in watch.notes() {
            let (seen, noted) = (Arc::clone(notes), Arc::clone(notes));
            let name = format!("evidence_{}", label(&notes.observer().to_string()));
            let output = Source::Read(Arc::new(move || noted.counts().1));
            self.follow(&name, 5, output, (Source::Read(Arc::new(move || seen.counts().0)), 5));
        }
    }

    /// Metrics of the registry.
    pub fn registry(&self) -> RegistryMetrics {
        RegistryMetrics {
            tried: self.pulse("registry_up", 30),
            up: self.gauge("holdfast_registry_up", "1 if the database of users and devices can be changed."),
            errors: self.counters_of(
                "holdfast_registry_errors_total",
                "Changes and questions that failed because of the database.",
                "kind",
                &["locked", "full", "disk", "read_only", "gone", "corrupt", "slow"],
            ),
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
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl TerminatorMetrics {
    /// Messages that found the lane to their shard full.
    pub fn shard_full(&self) -> IntCounter {
        self.dropped.with_label_values(&["shard_full"])
    }

    /// There is one session more.
    pub fn session_began(&self) {
        if self.sessions_set.beat() {
            self.sessions.inc();
        }
    }

    /// There is one session less.
    pub fn session_ended(&self) {
        if self.sessions_set.beat() {
            self.sessions.dec();
        }
    }

    /// A handshake led to no session that counts.
    pub fn no_session(&self) {
        self.sessions_set.beat();
    }

    /// Something was dropped for `reason`.
    pub fn dropped(&self, reason: &str) {
        self.dropped.with_label_values(&[reason]).inc();
    }

    /// A message is answered 5.03 for `reason`.
    pub fn unkept(&self, reason: &str) {
        self.unkept.with_label_values(&[reason]).inc();
    }

    /// A session answered a message 5.03 by itself.
    pub fn session_unkept(&self, unkept: Unkept) {
        self.unkept(match unkept {
            Unkept::Late => "late",
            Unkept::TooMany => "too_many_waiting",
        });
    }

    /// A message was answered with `code` because a shard or the journal said so.
    pub fn answered(&self, code: Code) {
        match code {
            Code::EMPTY => self.messages_acknowledged.inc(),
            Code::UNAVAILABLE => self.unkept("journal"),
            _ => {}
        }
    }

    /// An event was over a limit.
    pub fn event_refused(&self, over: Over) {
        let limit = match over {
            Over::Device => "device",
            Over::Owner => "owner",
        };
        self.events_refused.with_label_values(&[limit]).inc();
    }

    /// A datagram was nothing for us.
    pub fn junk(&self, junk: Junk) {
        self.dropped(match junk {
            Junk::KeepAlive => "keep_alive",
            Junk::TooLong => "too_long",
            Junk::Malformed => "malformed",
            Junk::Handshake => "handshake",
        });
    }

    /// A session did nothing with a datagram.
    pub fn session_drop(&self, dropped: Dropped) {
        self.dropped(match dropped {
            Dropped::Replayed => "replayed",
            Dropped::Forged => "forged",
            Dropped::WrongKey => "wrong_key",
            Dropped::Unexpected => "unexpected",
            Dropped::Malformed => "malformed_message",
        });
    }
}

impl JournalMetrics {
    /// A record was not written for `reason`.
    pub fn refused(&self, reason: &str) {
        self.refused.with_label_values(&[reason]).inc();
    }
}

/// The name of a reason as labels have it.
fn label(reason: &str) -> String {
    reason.replace('-', "_")
}

impl CallMetrics {
    /// One of this `kind` ended so.
    pub fn ended(&self, kind: &str, outcome: &str) {
        self.0.with_label_values(&[kind, outcome]).inc();
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

impl RegistryMetrics {
    /// Something failed because of trouble of this `kind`.
    pub fn failed(&self, kind: &str) {
        self.errors.with_label_values(&[kind]).inc();
    }
}

impl TcpMetrics {
    /// A connection ended for `reason`.
    pub fn closed(&self, reason: &str) {
        self.closed.with_label_values(&[reason]).inc();
    }

    /// A connection or a message was not taken for `reason`.
    pub fn refused(&self, reason: &str) {
        self.refused.with_label_values(&[reason]).inc();
    }
}

impl RoomMetrics {
    /// So many wait.
    pub fn waiting(&self, count: usize) {
        if self.set.beat() {
            self.waiting.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// One came.
    ///
    /// # Errors
    /// It cannot wait: what the reason is called.
    pub fn entered(&self, entered: Result<Entered, Refused>) -> Result<(), &'static str> {
        match entered {
            Ok(Entered::New | Entered::Instead) => Ok(()),
            Ok(Entered::Repeated) => {
                self.repeated.inc();
                Ok(())
            }
            Err(Refused::Full) => Err("waiting_full"),
            Err(Refused::PrefixFull) => Err("waiting_prefix_full"),
        }
    }

    /// One begins that waited for so long.
    pub fn admitted(&self, waited: Duration) {
        self.admitted.inc();
        self.waited_s.inc_by(waited.as_secs_f64());
    }
}

impl HandshakeMetrics {
    /// Of those who wait for a handshake over `transport`.
    pub fn room(&self, transport: &str) -> RoomMetrics {
        let label = &[transport];
        RoomMetrics {
            waiting: self.waiting.with_label_values(label),
            set: if transport == "tcp" { self.tcp_set.clone() } else { self.udp_set.clone() },
            admitted: self.admitted.with_label_values(label),
            waited_s: self.waited_s.with_label_values(label),
            repeated: self.repeated.with_label_values(label),
        }
    }

    /// A device's answer over TCP was refused.
    pub fn tcp_refusal(&self, refusal: TcpRefusal) {
        self.refused(match refusal {
            TcpRefusal::Malformed => "tcp_malformed",
            TcpRefusal::UnknownKey => "tcp_unknown_key",
            TcpRefusal::WrongKey => "tcp_wrong_key",
            TcpRefusal::Crypto => "internal",
        });
    }

    /// A hello or flight was refused for `reason`.
    pub fn refused(&self, reason: &str) {
        self.refused.with_label_values(&[reason]).inc();
    }

    /// A flight was refused.
    pub fn refusal(&self, refusal: Refusal) {
        self.refused(match refusal {
            Refusal::Malformed => "malformed",
            Refusal::UnknownKey => "unknown_key",
            Refusal::BadSignature => "bad_signature",
            Refusal::BadPoint => "bad_point",
            Refusal::BadFinished => "bad_finished",
        });
    }
}
