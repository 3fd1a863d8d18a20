//! Hooks at work: what became of deliveries, what attempts come to, how hooks are, and what their owners were told. No label names a hook.

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts};
use webhooks::client::Counts;
use webhooks::delivery::{Outcome, Phase};
use webhooks::dispatcher::health::State;

use super::synthetic::SyntheticMetrics;
use super::{Metrics, label};
use crate::deliveries::{Counters, Reason};
use crate::stale::Pulse;

/// Seconds that an attempt takes: as long as it may.
const ATTEMPT_BUCKETS: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0, 20.0, 30.0];
/// Seconds from the event to its delivery: longer, if attempts failed.
const DELIVERY_BUCKETS: [f64; 14] = [0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 30.0, 300.0, 3_600.0, 86_400.0];
/// All states of a hook.
const STATES: [State; 5] = [State::Healthy, State::Degraded, State::Failing, State::Open, State::Disabled];
/// How an attempt ends to which somebody answered.
const ANSWERS: [&str; 4] = ["success", "redirect", "client_error", "server_error"];
/// What the client does, by name.
const CLIENT: [&str; 5] = ["opened", "reused", "repeated", "refused", "evicted"];

/// How an owner is told of a hook.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// By a request to the hook's second address.
    Url,
    /// By mail.
    Mail,
    /// There is none.
    None,
}

/// How the dispatcher is at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// Attempts in flight.
    pub in_flight: u64,
    /// Events in the journal that it has not come to.
    pub behind: u64,
    /// Hooks in each state.
    pub hooks: BTreeMap<State, u64>,
    /// Age of the oldest delivery that waits for its turn, of hooks that are healthy or degraded.
    pub oldest_pending: Duration,
}

/// What hooks come to.
#[derive(Clone, Debug)]
pub struct WebhookMetrics {
    /// Events that the dispatcher has gone past, whether hooks want them or not.
    pub read: IntCounter,
    /// 1 if it has stopped.
    pub failed: IntGauge,
    /// What the synthetic hook comes to.
    pub synthetic: SyntheticMetrics,
    deliveries: IntCounterVec,
    pending: IntGauge,
    pending_bytes: IntGauge,
    dead_letters: IntGauge,
    replayed: IntCounter,
    attempts: IntCounterVec,
    attempt_s: Histogram,
    delivery_s: Histogram,
    in_flight: IntGauge,
    behind: IntGauge,
    hooks: IntGaugeVec,
    oldest_pending_s: IntGauge,
    published: IntCounterVec,
    notices: IntCounterVec,
    imbalance: IntGauge,
    client: IntCounterVec,
    connections: IntGaugeVec,
    /// Beside what follows the stored numbers.
    counted: Pulse,
    /// Beside how the dispatcher is.
    seen: Pulse,
    /// Beside the imbalance.
    taken: Pulse,
    /// Beside the connections.
    connected: Pulse,
}

impl Metrics {
    /// Metrics of hooks.
    pub fn webhooks(&self) -> WebhookMetrics {
        let metrics = WebhookMetrics {
            counted: self.pulse("webhook_deliveries", 30),
            seen: self.pulse("webhook_hooks", 30),
            taken: self.pulse("webhook_imbalance", 300),
            connected: self.pulse("webhook_connections", 30),
            synthetic: self.synthetic(),
            read: self.counter("holdfast_webhook_read_events_total", "Events that the dispatcher of hooks has gone past."),
            failed: self.gauge("holdfast_webhook_failed", "1 if hooks are not carried out any more."),
            deliveries: self.deliveries(),
            pending: self.gauge("holdfast_webhook_pending_deliveries", "Deliveries that are to be made."),
            pending_bytes: self.gauge("holdfast_webhook_pending_bytes", "Bytes of the events of these."),
            dead_letters: self.gauge("holdfast_webhook_dead_letters", "Deliveries given up that are kept and were not replayed."),
            replayed: self.counter("holdfast_webhook_replayed_total", "Deliveries made in replays."),
            attempts: self.attempts(),
            attempt_s: self.histogram("holdfast_webhook_attempt_seconds", "What an attempt takes.", &ATTEMPT_BUCKETS),
            delivery_s: self.histogram(
                "holdfast_webhook_delivery_seconds",
                "From the acceptance of an event to its delivery, replays aside.",
                &DELIVERY_BUCKETS,
            ),
            in_flight: self.gauge("holdfast_webhook_in_flight_attempts", "Attempts that have begun and not ended."),
            behind: self.gauge("holdfast_webhook_behind_events", "Events that the dispatcher of hooks has not come to."),
            hooks: self.gauges("holdfast_webhook_hooks", "Hooks, by how well their deliveries go.", "state"),
            oldest_pending_s: self.gauge(
                "holdfast_webhook_oldest_pending_seconds",
                "Age of the oldest delivery that waits for its turn, of hooks that are healthy or degraded.",
            ),
            published: self.counters_of(
                "holdfast_webhook_published_events_total",
                "Events made of answers that were to be published.",
                "outcome",
                &["ok", "failed"],
            ),
            notices: self.notices(),
            imbalance: self.gauge(
                "holdfast_webhook_imbalance_deliveries",
                "Deliveries accepted that are neither done with nor found among those to be made.",
            ),
            client: self.counters_of("holdfast_webhook_client_total", "What was done with connections of hooks.", "what", &CLIENT),
            connections: self.gauges("holdfast_webhook_connections", "Connections of hooks.", "state"),
        };
        metrics.show_states();
        metrics
    }

    fn deliveries(&self) -> IntCounterVec {
        let opts = Opts::new("holdfast_webhook_deliveries_total", "Deliveries accepted, and what became of them.");
        let deliveries = self.add(IntCounterVec::new(opts, &["state", "reason"]));
        ["accepted", "delivered", "expired"].iter().for_each(|state| drop(deliveries.with_label_values(&[*state, ""])));
        Reason::ALL.iter().for_each(|reason| drop(deliveries.with_label_values(&["rejected", reason.name()])));
        deliveries
    }

    fn attempts(&self) -> IntCounterVec {
        let attempts = self.counters_of("holdfast_webhook_attempts_total", "Attempts, by how they ended.", "outcome", &ANSWERS);
        Phase::ALL.iter().for_each(|phase| drop(attempts.with_label_values(&[phase.to_string()])));
        attempts
    }

    fn notices(&self) -> IntCounterVec {
        let opts = Opts::new("holdfast_webhook_notices_total", "Notices to owners of hooks.");
        let notices = self.add(IntCounterVec::new(opts, &["way", "outcome"]));
        for way in [Way::Url, Way::Mail, Way::None] {
            ["ok", "failed"].iter().for_each(|outcome| drop(notices.with_label_values(&[way.name(), *outcome])));
        }
        notices
    }

    pub(super) fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        self.add(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())))
    }
}

impl Way {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Url => "url",
            Self::Mail => "mail",
            Self::None => "none",
        }
    }
}

impl WebhookMetrics {
    /// Those that have labels, before anything happened.
    fn show_states(&self) {
        STATES.iter().for_each(|state| self.hooks.with_label_values(&[state.name()]).set(0));
        ["used", "idle"].iter().for_each(|state| self.connections.with_label_values(&[*state]).set(0));
    }

    /// What is stored of all deliveries together. To be called every few seconds.
    pub fn totals(&self, totals: &Counters) {
        let states = [("accepted", totals.accepted), ("delivered", totals.delivered), ("expired", totals.expired)];
        states.into_iter().for_each(|(state, count)| raise(&self.deliveries.with_label_values(&[state, ""]), count));
        for (reason, count) in totals.rejected.each() {
            raise(&self.deliveries.with_label_values(&["rejected", &label(reason.name())]), count);
        }
        raise(&self.replayed, totals.replayed);
        if self.counted.beat() {
            set(&self.pending, totals.pending);
            set(&self.pending_bytes, totals.pending_bytes);
            set(&self.dead_letters, totals.dead_letters);
        }
    }

    /// How the dispatcher is. To be called every few seconds.
    pub fn saw(&self, seen: &Seen) {
        if !self.seen.beat() {
            return;
        }
        set(&self.in_flight, seen.in_flight);
        set(&self.behind, seen.behind);
        set(&self.oldest_pending_s, seen.oldest_pending.as_secs());
        for state in STATES {
            set(&self.hooks.with_label_values(&[state.name()]), seen.hooks.get(&state).copied().unwrap_or(0));
        }
    }

    /// What the client has done, and the connections it has. To be called every few seconds.
    pub fn client(&self, counts: &Counts) {
        let Counts { opened, reused, repeated, refused, evicted, idle, connections } = *counts;
        for (what, count) in CLIENT.into_iter().zip([opened, reused, repeated, refused, evicted]) {
            raise(&self.client.with_label_values(&[what]), count);
        }
        if self.connected.beat() {
            set(&self.connections.with_label_values(&["idle"]), idle);
            set(&self.connections.with_label_values(&["used"]), connections.saturating_sub(idle));
        }
    }

    /// An attempt ended so.
    pub fn ended(&self, outcome: &Outcome, took: Duration) {
        let name = match outcome {
            Outcome::Failed { phase, .. } => phase.to_string(),
            Outcome::Answered { status, .. } => answer(*status).to_owned(),
        };
        self.attempts.with_label_values(&[name]).inc();
        self.attempt_s.observe(took.as_secs_f64());
    }

    /// An event was delivered, so long after it was accepted. Not for replays.
    pub fn delivered(&self, age: Duration) {
        self.delivery_s.observe(age.as_secs_f64());
    }

    /// So many events made of an answer were published, or could not be.
    pub fn published(&self, events: u64, is_ok: bool) {
        self.published.with_label_values(&[outcome(is_ok)]).inc_by(events);
    }

    /// An owner was told something, or could not be.
    pub fn noticed(&self, way: Way, is_ok: bool) {
        self.notices.with_label_values(&[way.name(), outcome(is_ok)]).inc();
    }

    /// So many deliveries are missing, or negative: there are too many.
    pub fn imbalance(&self, missing: i64) {
        if self.taken.beat() {
            self.imbalance.set(missing);
        }
    }
}

/// What an answer with this status comes to.
fn answer(status: u16) -> &'static str {
    match status {
        200..300 => "success",
        300..400 => "redirect",
        500.. => "server_error",
        _ => "client_error",
    }
}

fn outcome(is_ok: bool) -> &'static str {
    if is_ok { "ok" } else { "failed" }
}

/// A counter that follows a number that only grows.
fn raise(counter: &IntCounter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}

fn set(gauge: &IntGauge, to: u64) {
    gauge.set(i64::try_from(to).unwrap_or(i64::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(metrics: &Metrics, line: &str) -> bool {
        metrics.render().lines().any(|told| told == line)
    }

    #[test]
    fn every_label_is_there_before_anything_happens() {
        let metrics = Metrics::new();
        let webhooks = metrics.webhooks();
        for line in [
            "holdfast_webhook_deliveries_total{reason=\"\",state=\"accepted\"} 0",
            "holdfast_webhook_deliveries_total{reason=\"overflow\",state=\"rejected\"} 0",
            "holdfast_webhook_attempts_total{outcome=\"redirect\"} 0",
            "holdfast_webhook_attempts_total{outcome=\"wait\"} 0",
            "holdfast_webhook_hooks{state=\"open\"} 0",
            "holdfast_webhook_notices_total{outcome=\"failed\",way=\"mail\"} 0",
            "holdfast_webhook_published_events_total{outcome=\"failed\"} 0",
            "holdfast_webhook_client_total{what=\"repeated\"} 0",
            "holdfast_webhook_connections{state=\"used\"} 0",
        ] {
            assert!(told(&metrics, line), "{line}");
        }
        let lines = metrics.render().lines().count();
        webhooks.ended(&Outcome::Answered { status: 99, retry_after_s: None }, Duration::ZERO);
        webhooks.saw(&Seen { hooks: [(State::Open, 3)].into(), ..Seen::default() });
        webhooks.totals(&Counters { accepted: 7, delivered: 5, pending: 2, ..Counters::default() });
        webhooks.noticed(Way::None, false);
        assert_eq!(metrics.render().lines().count(), lines, "no label is new");
        assert!(told(&metrics, "holdfast_webhook_hooks{state=\"open\"} 3"));
        assert!(told(&metrics, "holdfast_webhook_attempts_total{outcome=\"client_error\"} 1"));
    }

    #[test]
    fn what_is_stored_is_followed_and_never_falls() {
        let metrics = Metrics::new();
        let webhooks = metrics.webhooks();
        for accepted in [5, 9, 7] {
            webhooks.totals(&Counters { accepted, pending: accepted, pending_bytes: 3 * accepted, ..Counters::default() });
        }
        assert!(told(&metrics, "holdfast_webhook_deliveries_total{reason=\"\",state=\"accepted\"} 9"));
        assert!(told(&metrics, "holdfast_webhook_pending_deliveries 7"));
        assert!(told(&metrics, "holdfast_webhook_pending_bytes 21"));
    }
}
