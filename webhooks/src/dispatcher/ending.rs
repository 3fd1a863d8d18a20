//! What becomes of a delivery when an attempt of it has ended, and of its destination.

use std::collections::VecDeque;
use std::time::Duration;

use firmware_protocol::entropy::SeededEntropy;
use firmware_protocol::time::{Now, UnixMillis};
use router::event::Position;

use super::breaker::Change;
use super::destination::{Destination, Flight, job};
use super::messages::{Cause, Dead, DisableWhy, Notice, Output, Step};
use super::queue::{Item, Of};
use super::schedule::{ATTEMPTS_MAX, Class, HEAD_WAIT_MAX, IN_ORDER_ATTEMPTS, REPLAY_ATTEMPTS_MAX, asked_wait, later, next_due};
use crate::delivery::{DeliveryId, Outcome};

/// An attempt that has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended<'a> {
    pub(super) position: Position,
    pub(super) outcome: &'a Outcome,
    pub(super) took: Duration,
}

impl Destination {
    /// An attempt ended. `false` if there was none in flight.
    pub(super) fn ended(&mut self, now: Now, ended: &Ended<'_>, entropy: &mut SeededEntropy, out: &mut VecDeque<Output>) -> bool {
        let in_flight = u16::try_from(self.flights.len()).unwrap_or(u16::MAX);
        let Some(flight) = self.land(ended.position) else { return false };
        let class = Class::of(ended.outcome);
        self.pace.ended(now.at, flight.began, class, ended.took, in_flight);
        if wants_pause(class, ended.outcome) {
            self.pace.throttle(now.at, asked_wait(ended.outcome));
        }
        self.trip(now, &flight, class, entropy);
        self.settle(now, &flight, class, ended.outcome, entropy, out);
        if !self.is_removed {
            self.judge(now, class, ended.outcome, out);
        }
        true
    }

    /// Tells the breaker.
    fn trip(&mut self, now: Now, flight: &Flight, class: Class, entropy: &mut SeededEntropy) {
        let change = self.breaker.ended(now.at, flight.began, flight.is_probe, class, entropy);
        if flight.is_probe {
            self.note_probe(class.is_fault());
        }
        if change == Some(Change::Opened) {
            self.pace.distrust();
            self.queue.unload();
        }
    }

    /// Decides what becomes of the delivery.
    fn settle(
        &mut self,
        now: Now,
        flight: &Flight,
        class: Class,
        outcome: &Outcome,
        entropy: &mut SeededEntropy,
        out: &mut VecDeque<Output>,
    ) {
        let Some(item) = self.queue.items.get(&flight.position).copied() else { return };
        let step = match class {
            Class::Done => Step::Done,
            Class::Unmade => Step::Dead(Dead::Unmade),
            _ if flight.is_probe && is_silent(outcome) => self.again(now, &item, outcome),
            _ => self.retry(now, &item, outcome, entropy),
        };
        let delivery = DeliveryId { hook: self.hook, position: flight.position };
        out.push_back(Output::Record { delivery, job: job(&item), step });
        self.place_by(now.unix, flight.position, &item, step);
    }

    /// A probe that nobody answered was no attempt of its delivery.
    fn again(&self, now: Now, item: &Item, outcome: &Outcome) -> Step {
        let due = later(now.unix, asked_wait(outcome).unwrap_or_default());
        Step::Retry { due, attempts: item.attempts, out_of_order: item.of != Of::Queue }
    }

    fn retry(&self, now: Now, item: &Item, outcome: &Outcome, entropy: &mut SeededEntropy) -> Step {
        let attempts = item.attempts.saturating_add(1);
        if attempts >= self.attempts_max(item) {
            return Step::Dead(Dead::Exhausted);
        }
        let due = next_due(now.unix, attempts, asked_wait(outcome), entropy);
        Step::Retry { due, attempts, out_of_order: !self.keeps_place(now, item, attempts, due) }
    }

    fn attempts_max(&self, item: &Item) -> u8 {
        match item.of {
            Of::Replay(job) if !self.queue.window.has_job(job) => 1,
            Of::Replay(_) => REPLAY_ATTEMPTS_MAX,
            Of::Queue | Of::Retries => self.settings.attempts_max.clamp(1, ATTEMPTS_MAX),
        }
    }

    /// Whether the events behind it wait for its next attempt: for the first three, and not for longer than the schedule or the destination's own pause.
    fn keeps_place(&self, now: Now, item: &Item, attempts: u8, due: UnixMillis) -> bool {
        let paused = Duration::from_millis(self.pace.pause_until().0.saturating_sub(now.at.0));
        let is_soon = due <= later(now.unix, HEAD_WAIT_MAX.max(paused));
        item.of == Of::Queue && item.lane.is_some() && attempts < IN_ORDER_ATTEMPTS && is_soon
    }

    /// Puts the delivery where its record says.
    fn place_by(&mut self, now: UnixMillis, position: Position, item: &Item, step: Step) {
        match step {
            Step::Done | Step::Dead(_) | Step::Passed => self.queue.finish(now, position),
            Step::Retry { out_of_order, .. } if self.is_shut() => self.queue.put_back(now, position, out_of_order),
            Step::Retry { due, attempts, out_of_order } if out_of_order && job(item).is_none() => {
                self.queue.set_apart(now, position, due, attempts);
            }
            Step::Retry { due, attempts, .. } => self.queue.hold_back(now, position, due, attempts),
        }
    }

    /// Says how the hook is, and disables it if it is past hope.
    fn judge(&mut self, now: Now, class: Class, outcome: &Outcome, out: &mut VecDeque<Output>) {
        let is_closed = self.breaker.is_closed();
        if class == Class::Done {
            return self.watch.succeeded(now.unix, is_closed, out);
        }
        let why = self.watch.failed(now.unix, class, Cause::of(outcome), is_closed, out);
        if let Some(why) = why.filter(|_| !self.settings.is_disabled) {
            self.disable(now, why, out);
        }
    }

    fn disable(&mut self, now: Now, why: DisableWhy, out: &mut VecDeque<Output>) {
        self.settings.is_disabled = true;
        self.queue.unload();
        self.show_disabled(now, out);
        out.push_back(Output::Disable { hook: self.hook, why });
        out.push_back(Output::Notice { hook: self.hook, notice: Notice::Disabled(why) });
    }
}

/// Whether the destination as a whole wants nothing for a while.
fn wants_pause(class: Class, outcome: &Outcome) -> bool {
    class == Class::Throttled || matches!(outcome, Outcome::Answered { status: 503, retry_after_s: Some(_) })
}

/// Whether nobody answered who could have judged the delivery: none, or only what stands before the destination.
fn is_silent(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Failed { .. } | Outcome::Answered { status: 429 | 502 | 503 | 504, .. })
}
