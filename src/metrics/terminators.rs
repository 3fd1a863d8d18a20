//! What terminators count, over both transports, and what the one on TCP counts besides.

use firmware_protocol::coap::Code;
use firmware_protocol::dtls::demux::Junk;
use firmware_protocol::session::{Dropped, Unkept};
use prometheus::{IntCounter, IntCounterVec, IntGauge};

use super::Metrics;
use crate::stale::{Pulse, Source};
use crate::terminators::{KernelDrops, Over, SocketName};

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

impl Metrics {
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

    /// What the kernel drops because nobody reads these sockets in time.
    pub fn kernel_drops(&self, sockets: Vec<SocketName>) {
        self.add(KernelDrops::new(sockets));
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
