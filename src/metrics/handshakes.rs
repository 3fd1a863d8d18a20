//! What the handshake threads count, and of those who wait for them.

use std::time::Duration;

use firmware_protocol::dtls::server::Refusal;
use firmware_protocol::tcp::handshake::Refusal as TcpRefusal;
use prometheus::{Counter, CounterVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts};

use super::Metrics;
use crate::stale::Pulse;
use crate::waiting_room::{Entered, Refused};

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

impl Metrics {
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
