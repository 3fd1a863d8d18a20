//! One destination: where a hook sends to, with its queue, what is in flight, and what is known of it.

use std::collections::VecDeque;

use firmware_protocol::time::{Millis, Now, UnixMillis};
use router::event::Position;

use super::breaker::Breaker;
use super::budget::Budget;
use super::fairness::Pool;
use super::health::{Health, State, Watch};
use super::messages::{Dead, JobId, Ordering, Output, Settings, Step};
use super::pace::{Pace, SLOW};
use super::queue::{Item, Of, Queue};
use super::schedule::{KEPT, passed};
use super::window::WINDOW_MAX;
use crate::delivery::DeliveryId;
use crate::hook::HookId;

/// Deliveries of one destination in memory while it is probed.
pub const PROBED_WINDOW: usize = 8;
/// Deliveries of one destination in memory while all of them together are too many.
pub const SMALL_WINDOW: usize = 16;

/// An attempt in flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Flight {
    pub(super) position: Position,
    pub(super) began: Millis,
    pub(super) is_probe: bool,
}

/// A destination.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) hook: HookId,
    pub(super) tenant: u32,
    pub(super) settings: Settings,
    pub(super) breaker: Breaker,
    pub(super) pace: Pace,
    pub(super) budget: Budget,
    pub(super) queue: Queue,
    pub(super) watch: Watch,
    /// The oldest first.
    pub(super) flights: Vec<Flight>,
    /// Where its workers are counted.
    pub(super) pool: Pool,
    /// It waits for its turn there.
    pub(super) is_listed: bool,
    /// What was left of its last turn.
    pub(super) left: i32,
    /// When it is looked after again.
    pub(super) armed: Option<Millis>,
    /// Deliveries in memory that it is counted with.
    pub(super) counted: usize,
    /// The hook is no more; attempts are in flight.
    pub(super) is_removed: bool,
    failed_probes: usize,
}

impl Destination {
    pub(super) fn new(now: Now, hook: HookId, tenant: u32, settings: Settings, health: Option<Health>, has_pending: bool) -> Self {
        let health = health.filter(|health| settings.is_disabled || health.state != State::Disabled);
        let state = health.map_or(State::Healthy, |health| health.state);
        let mut pace = Pace::default();
        if state >= State::Failing {
            pace.distrust();
        }
        Self {
            hook,
            tenant,
            settings,
            breaker: if state == State::Open { Breaker::probing(now.at) } else { Breaker::new(now.at) },
            pace,
            budget: Budget::new(now.at),
            queue: Queue::new(settings.ordering == Ordering::PerDevice, has_pending),
            watch: Watch::new(now.unix, hook, health),
            flights: Vec::new(),
            pool: if state >= State::Failing { Pool::Slow } else { Pool::Fast },
            is_listed: false,
            left: 0,
            armed: None,
            counted: 0,
            is_removed: false,
            failed_probes: 0,
        }
    }

    /// The hook says something else now.
    pub(super) fn change(&mut self, now: Now, settings: Settings, out: &mut VecDeque<Output>) {
        let old = std::mem::replace(&mut self.settings, settings);
        let is_ordered = settings.ordering == Ordering::PerDevice;
        if settings.is_disabled || is_ordered != self.queue.is_ordered || self.is_removed {
            self.queue.unload();
            self.queue.is_ordered = is_ordered;
        }
        self.is_removed = false;
        if old.revision != settings.revision || old.is_disabled != settings.is_disabled {
            self.breaker = Breaker::new(now.at);
            self.pace = Pace::default();
            self.watch.reset(now.unix, out);
        }
        self.show_disabled(now, out);
    }

    pub(super) fn show_disabled(&mut self, now: Now, out: &mut VecDeque<Output>) {
        if self.settings.is_disabled {
            self.watch.disabled(now.unix, out);
        }
    }

    /// Nothing is sent and nothing is kept in memory.
    pub(super) fn is_shut(&self) -> bool {
        self.is_removed || self.settings.is_disabled || self.breaker.is_open()
    }

    /// Deliveries that may be in memory.
    pub(super) fn place(&self, is_crowded: bool) -> usize {
        match () {
            () if self.is_shut() => 0,
            () if self.breaker.is_probing() => PROBED_WINDOW,
            () if is_crowded => SMALL_WINDOW,
            () => WINDOW_MAX,
        }
    }

    /// Attempts that may be in flight, of a pool that allows so many.
    pub(super) fn limit(&self, now: Now, most: u16) -> u16 {
        self.breaker.limit(now.at).min(self.pace.limit()).min(most)
    }

    /// Whether an attempt may begin.
    pub(super) fn is_sendable(&self, now: Now, most: u16) -> bool {
        let has_limit = self.flights.len() < usize::from(self.limit(now, most));
        // One that hangs and still counts as fast takes no more workers from those that are.
        let hangs = self.pool == Pool::Fast && self.hangs(now);
        !self.is_shut() && has_limit && !hangs && self.pace.pause_until() <= now.at && self.queue.has_ready(self.budget.has(now.at))
    }

    /// Its oldest attempt takes longer than one of a fast destination.
    pub(super) fn hangs(&self, now: Now) -> bool {
        self.flights.first().is_some_and(|oldest| now.at.since(oldest.began) > SLOW)
    }

    /// Which pool it belongs to.
    pub(super) fn wanted_pool(&self, now: Now) -> Pool {
        let is_slow = self.pace.is_slow() || !self.breaker.is_closed() || self.hangs(now);
        if is_slow { Pool::Slow } else { Pool::Fast }
    }

    /// Begins the attempt whose turn it is: how large its event is.
    pub(super) fn begin(&mut self, now: Now, out: &mut VecDeque<Output>) -> Option<u32> {
        let is_probe = self.breaker.is_probing();
        let skip = if is_probe { self.failed_probes } else { 0 };
        while let Some((position, item)) = self.queue.take(self.budget.has(now.at), skip) {
            let delivery = DeliveryId { hook: self.hook, position };
            if is_expired(now.unix, &item) {
                out.push_back(Output::Record { delivery, job: None, step: Step::Dead(Dead::Expired) });
                self.queue.finish(now.unix, position);
                continue;
            }
            self.account(now, &item);
            self.flights.push(Flight { position, began: now.at, is_probe });
            out.push_back(Output::Begin { delivery, attempt: item.attempts.saturating_add(1), job: job(&item) });
            return Some(item.bytes);
        }
        None
    }

    fn account(&mut self, now: Now, item: &Item) {
        match item.of {
            Of::Queue if item.attempts == 0 => self.budget.earn(),
            Of::Queue | Of::Retries => _ = self.budget.spend(now.at),
            Of::Replay(_) => {}
        }
    }

    /// An attempt is in flight no more.
    pub(super) fn land(&mut self, position: Position) -> Option<Flight> {
        let place = self.flights.iter().position(|flight| flight.position == position)?;
        Some(self.flights.remove(place))
    }

    /// A probe failed: the next is another delivery.
    pub(super) fn note_probe(&mut self, has_failed: bool) {
        self.failed_probes = if has_failed { self.failed_probes.wrapping_add(1) } else { 0 };
    }

    /// Notes that time has passed.
    pub(super) fn tick(&mut self, now: Now, out: &mut VecDeque<Output>) {
        self.breaker.tick(now.at);
        self.queue.promote(now.unix);
        if !self.is_removed {
            self.watch.tick(now.unix, out);
        }
        while let Some(job) = self.queue.job_done() {
            out.push_back(Output::JobDone { hook: self.hook, job });
        }
    }

    /// When it has to be looked after, if nothing else happens.
    pub(super) fn wake_at(&self, now: Now) -> Option<Millis> {
        if self.is_removed {
            return None;
        }
        let told = self.watch.wake_at().map(|at| moment(now, at));
        if self.settings.is_disabled {
            return told;
        }
        let due = self.queue.next_due().map(|at| moment(now, at));
        let has_ready = self.queue.has_ready(true);
        let paused = Some(self.pace.pause_until()).filter(|until| has_ready && *until > now.at);
        let poor = (self.queue.has_retries() && !self.budget.has(now.at)).then(|| self.budget.wake_at());
        let hangs = self.flights.first().filter(|_| self.pool == Pool::Fast).map(|oldest| Millis((oldest.began + SLOW).0 + 1));
        let hangs = hangs.filter(|at| *at > now.at);
        let times = [told, due, paused, poor, hangs, self.breaker.wake_at(now.at), self.queue.window.wake_at(now.at)];
        times.into_iter().flatten().min()
    }
}

/// Which delivery of the store it is: what a record of it says.
pub(super) fn job(item: &Item) -> Option<JobId> {
    if let Of::Replay(job) = item.of { Some(job) } else { None }
}

fn is_expired(now: UnixMillis, item: &Item) -> bool {
    job(item).is_none() && passed(now, item.accepted) >= KEPT
}

/// When the wall clock will show that, on the other clock.
fn moment(now: Now, at: UnixMillis) -> Millis {
    Millis(now.at.0.saturating_add(at.0.saturating_sub(now.unix.0)))
}
