//! Bulkheads: every request belongs to a class, each class has a limit of requests at work, and what is beyond waits for a moment or is refused. So
//! calls that wait for devices take no place of reads, and a storm of logins none of anybody who has a token.
//!
//! What is decided is in `gate` and `pace`; here requests wait. [`admit`] is where they come in.

mod accounts;
mod admit;
mod class;
mod gate;
mod pace;
mod seat;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::timeout_at;

use super::Settings;
use super::counters::{ClassCounters, Counters, count};
use super::error::ApiError;
use accounts::Accounts;
use gate::{Arrival, Bound, Gate};
use pace::Pace;

pub(super) use admit::{Arrived, Deadline, Route, admit};
pub use class::Class;
pub(super) use class::Classes;
pub(super) use seat::Seat;

/// Requests of other classes have a place within so long, or are refused.
const WAIT_MAX: Duration = Duration::from_millis(500);
/// Hashing a password takes its time, and whoever logs in has some.
const LOGIN_WAIT_MAX: Duration = Duration::from_secs(2);
/// Requests that may wait for a place.
const WAITING_MAX: usize = 256;
/// Logins that may wait: what two threads hash within [`LOGIN_WAIT_MAX`] on a processor that has other things to do.
const LOGINS_WAITING_MAX: usize = 32;
/// Logins at work: two that hash, and as many that write to the database.
const LOGINS_MAX: u64 = 4;
/// Bodies of unknown or great length that may be on their way.
const UPLOADS_MAX: u64 = 32;
/// Reads at work, from and to.
const READS: (u64, u64) = (8, 1024);
/// Writes at work, from and to. The journal writes many at once.
const WRITES: (u64, u64) = (16, 1024);

/// The gates of all classes. A handle: clones are the same.
#[derive(Clone)]
pub(super) struct Bulkheads {
    inner: Arc<Inner>,
}

struct Inner {
    gates: [Mutex<Gate<Turn>>; Class::COUNT],
    accounts: Accounts,
    counters: Arc<Counters>,
}

/// How one that waits hears that its turn has come.
type Turn = oneshot::Sender<Permit>;

/// A place among those at work, given back when dropped.
pub(super) struct Permit {
    bulkheads: Bulkheads,
    class: Class,
    /// When it began. What it waited before says nothing of how many should be at work: with fewer, it would have waited longer.
    since: Instant,
}

impl Bulkheads {
    pub(super) fn new(settings: &Settings, counters: Arc<Counters>) -> Self {
        let now = Instant::now();
        let gates = Class::ALL.map(|class| {
            let gate = gate_of(class, settings, now);
            note(&counters.classes[class.index()], &gate);
            Mutex::new(gate)
        });
        Self { inner: Arc::new(Inner { gates, accounts: Accounts::new(settings.calls_per_account), counters }) }
    }

    /// Refuses a request of `class` that would find neither a place nor one to wait in: before anything of it is looked at.
    fn look_in(&self, class: Class) -> Result<(), ApiError> {
        let gate = self.gate(class);
        if gate.is_crowded() { Err(self.refused(class, gate.retry_after(Instant::now()))) } else { Ok(()) }
    }

    /// A place in `class` for a request that has to be answered by `deadline`.
    async fn enter(&self, class: Class, deadline: Instant) -> Result<Permit, ApiError> {
        let (now, (turn, mut turned)) = (Instant::now(), oneshot::channel());
        if deadline <= now {
            count(&self.counters(class).late);
            return Err(ApiError::not_begun());
        }
        let until = deadline.min(now + wait_max(class));
        match self.arrive(class, now, until, turn)? {
            Arrival::Begins => return Ok(Permit { bulkheads: self.clone(), class, since: now }),
            Arrival::Waits => {}
        }
        match timeout_at(until.into(), &mut turned).await {
            Ok(Ok(permit)) => Ok(permit),
            // Its turn may come in the very moment in which it gives up.
            _ => turned.try_recv().map_err(|_| self.gave_up(class, deadline)),
        }
    }

    fn arrive(&self, class: Class, now: Instant, until: Instant, turn: Turn) -> Result<Arrival, ApiError> {
        let mut gate = self.gate(class);
        let arrival = gate.arrive(now, until, turn);
        note(self.counters(class), &gate);
        arrival.map_err(|refused| self.refused(class, refused.retry_after))
    }

    fn gave_up(&self, class: Class, deadline: Instant) -> ApiError {
        let (now, mut gate) = (Instant::now(), self.gate(class));
        gate.forget_late(now);
        note(self.counters(class), &gate);
        if deadline > now {
            return self.refused(class, gate.retry_after(now));
        }
        count(&self.counters(class).late);
        ApiError::not_begun()
    }

    fn refused(&self, class: Class, retry_after: Duration) -> ApiError {
        count(&self.counters(class).refused);
        if class == Class::Streams {
            count(&self.inner.counters.refused_streams);
        }
        ApiError::crowded(class, whole_seconds(retry_after))
    }

    /// One is done. Those whose turn has come are told when the gate is free again: one that has left gives its place back at once.
    fn leave(&self, class: Class, since: Instant) {
        let now = Instant::now();
        let mut turns = Vec::new();
        {
            let mut gate = self.gate(class);
            gate.leave(now, now.saturating_duration_since(since));
            while let Some(turn) = gate.next(now) {
                turns.push(turn);
            }
            note(self.counters(class), &gate);
        }
        for turn in turns {
            // Whoever waited may have gone; then the place is given back with what was not sent.
            let _ = turn.send(Permit { bulkheads: self.clone(), class, since: now });
        }
    }

    fn gate(&self, class: Class) -> MutexGuard<'_, Gate<Turn>> {
        self.inner.gates[class.index()].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counters(&self, class: Class) -> &ClassCounters {
        &self.inner.counters.classes[class.index()]
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.bulkheads.leave(self.class, self.since);
    }
}

fn gate_of(class: Class, settings: &Settings, now: Instant) -> Gate<Turn> {
    let bound = match class {
        Class::Calls => Bound::Fixed(settings.calls),
        Class::Streams => Bound::Fixed(settings.streams),
        Class::Logins => Bound::Fixed(crate::config::Limit::AtMost(LOGINS_MAX)),
        Class::Uploads => Bound::Fixed(crate::config::Limit::AtMost(UPLOADS_MAX)),
        Class::Reads => Bound::Paced(Pace::new(now, READS)),
        Class::Writes => Bound::Paced(Pace::new(now, WRITES)),
    };
    Gate::new(now, bound, waiting_max(class))
}

fn waiting_max(class: Class) -> usize {
    match class {
        Class::Calls | Class::Reads | Class::Writes => WAITING_MAX,
        Class::Logins => LOGINS_WAITING_MAX,
        // What lasts so long as these is not waited for.
        Class::Streams | Class::Uploads => 0,
    }
}

fn wait_max(class: Class) -> Duration {
    if class == Class::Logins { LOGIN_WAIT_MAX } else { WAIT_MAX }
}

fn note(counters: &ClassCounters, gate: &Gate<Turn>) {
    counters.note(gate.limit(), gate.at_work(), gate.waiting());
}

/// As Retry-After has it: whole seconds, and never too early.
fn whole_seconds(time: Duration) -> u32 {
    u32::try_from(time.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests;
