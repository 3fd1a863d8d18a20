//! Decides what is sent when, and what becomes of it.
//!
//! The [`Dispatcher`] is told what happens ([`Input`]) and says what is to be done ([`Output`]). It does no I/O, reads no clock and draws no randomness of its
//! own: one seed and one sequence of inputs give one sequence of outputs. Deliveries are in the server's store; only a window of each queue is in
//! memory here, and nothing at all of a destination that is down. It can be dropped at any time and made anew from the store: nothing is lost with it
//! but attempts in flight, which are made again.
//!
//! Each hook is a destination of its own ([`destination`]), with a breaker ([`breaker`]), a pace ([`pace`]), a budget of retries ([`budget`]), a
//! queue ([`queue`]) with lanes ([`lane`]), and a state of health ([`health`]). Who has something to send and may send it waits for its turn ([`fairness`]). Who
//! waits for a moment has a timer. Nothing is ever looked for among all destinations.

pub mod breaker;
pub mod budget;
pub mod destination;
mod ending;
pub mod fairness;
pub mod health;
pub mod lane;
pub mod messages;
pub mod pace;
pub mod queue;
pub mod schedule;
#[cfg(test)]
mod tests;
pub mod window;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use firmware_protocol::entropy::SeededEntropy;
use firmware_protocol::time::{Millis, Now};
use hashbrown::HashMap;

use self::destination::Destination;
use self::ending::Ended;
use self::fairness::{Fairness, Pool, Slot, cost};
use self::health::Health;
pub use self::messages::{Entry, Input, JobId, Lane, Output, Settings, Source, Step, TenantId};
use crate::delivery::{DeliveryId, Outcome};
use crate::hook::HookId;

/// Deliveries in memory, of all destinations. When there are more, each has only a small window.
pub const HELD_MAX: usize = 131_072;
/// Attempts in flight, of all destinations, unless configured otherwise.
pub const WORKERS_MAX: u32 = 1_024;

/// How one destination is, for its owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct View {
    /// So.
    pub health: Health,
    /// Attempts in flight.
    pub in_flight: usize,
    /// Attempts that may be.
    pub in_flight_max: u16,
    /// Its answers take long: it is served apart.
    pub is_slow: bool,
    /// Nothing is sent before that, because it is down or wants nothing.
    pub waits_until: Option<Millis>,
}

/// What there is, and what was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Destinations.
    pub destinations: usize,
    /// Deliveries in memory, or being loaded.
    pub held: usize,
    /// Attempts in flight.
    pub in_flight: u32,
    /// Inputs that told of a hook, an attempt or a load that there is not, or of a delivery a second time.
    pub ignored: u64,
}

/// The dispatcher.
#[derive(Debug)]
pub struct Dispatcher {
    entropy: SeededEntropy,
    fairness: Fairness,
    destinations: Vec<Option<Box<Destination>>>,
    vacant: Vec<Slot>,
    known: HashMap<HookId, Slot>,
    /// At most one for each destination.
    timers: BTreeSet<(Millis, Slot)>,
    out: VecDeque<Output>,
    counts: Counts,
}

impl Dispatcher {
    /// One without hooks, for so many attempts in flight. The seed should be random; no secret depends on it.
    pub fn new(workers_max: u32, seed: u64) -> Self {
        Self {
            entropy: SeededEntropy::new(seed),
            fairness: Fairness::new(workers_max),
            destinations: Vec::new(),
            vacant: Vec::new(),
            known: HashMap::new(),
            timers: BTreeSet::new(),
            out: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    /// Takes what happened. What follows from it can be [polled](Self::poll) then.
    pub fn handle(&mut self, now: Now, input: Input<'_>) {
        match input {
            Input::HookChanged { hook, settings, health, has_pending } => self.hook_changed(now, hook, settings, health, has_pending),
            Input::HookRemoved(hook) => self.hook_removed(now, hook),
            Input::Arrived { hook, entries } => self.arrived(now, hook, entries),
            Input::Loaded { hook, source, entries, more } => self.loaded(now, hook, source, entries, more),
            Input::LoadFailed(hook) => self.with(now, hook, |it, _| it.queue.load_failed(now.at)),
            Input::Ended { delivery, outcome, took } => self.ended(now, delivery, outcome, took),
            Input::Withdrawn(delivery) => self.withdrawn(now, delivery),
            Input::Replay { hook, job } => self.replay(now, hook, job),
            Input::Cancelled { hook, job } => self.with(now, hook, |it, _| it.queue.cancel(now.unix, job)),
            Input::Tick => {}
        }
        self.run_timers(now);
        self.pump(now);
    }

    /// What is to be done next.
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When it wants to be told that time has passed, unless it is told something else before.
    pub fn timeout_at(&self) -> Option<Millis> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// How a destination is.
    pub fn view(&self, now: Now, hook: HookId) -> Option<View> {
        let it = self.destinations.get(*self.known.get(&hook)? as usize)?.as_ref().filter(|it| !it.is_removed)?;
        let waits = it.breaker.wake_at(now.at).filter(|_| it.breaker.is_open()).unwrap_or_default().max(it.pace.pause_until());
        Some(View {
            health: it.watch.health(),
            in_flight: it.flights.len(),
            in_flight_max: it.limit(now, self.fairness.destination_max(it.pool)),
            is_slow: it.pool == Pool::Slow,
            waits_until: Some(waits).filter(|until| *until > now.at),
        })
    }

    /// What there is.
    pub fn counts(&self) -> Counts {
        Counts { destinations: self.known.len(), in_flight: self.fairness.busy(), ..self.counts }
    }

    fn hook_changed(&mut self, now: Now, hook: HookId, settings: Settings, health: Option<Health>, has_pending: bool) {
        let tenant = self.fairness.join(settings.tenant);
        let Some(slot) = self.known.get(&hook).copied() else {
            let mut destination = Destination::new(now, hook, tenant, settings, health, has_pending);
            destination.show_disabled(now, &mut self.out);
            let slot = self.add(hook, destination);
            return self.tend(now, slot);
        };
        let Some(it) = self.destinations.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        let (old, pool) = (std::mem::replace(&mut it.tenant, tenant), it.pool);
        it.change(now, settings, &mut self.out);
        if old != tenant {
            // Where it stands in the old tenant's ring it is passed over.
            it.is_listed = false;
            for _ in 0..it.flights.len() {
                self.fairness.give_back(pool, old);
                self.fairness.hold(pool, tenant);
            }
        }
        self.fairness.leave(old);
        self.tend(now, slot);
    }

    fn hook_removed(&mut self, now: Now, hook: HookId) {
        self.with(now, hook, |it, _| {
            it.is_removed = true;
            it.queue.unload();
        });
    }

    fn arrived(&mut self, now: Now, hook: HookId, entries: &[Entry]) {
        let is_crowded = self.is_crowded();
        if !self.known.contains_key(&hook) {
            self.counts.ignored += entries.len() as u64;
            return;
        }
        let mut repeated = 0;
        self.with(now, hook, |it, _| repeated = it.queue.arrived(now.unix, entries, it.place(is_crowded)));
        self.counts.ignored += repeated as u64;
    }

    fn loaded(&mut self, now: Now, hook: HookId, source: Source, entries: &[Entry], more: bool) {
        let mut was_asked = true;
        self.with(now, hook, |it, out| {
            was_asked = it.queue.loaded(now.unix, source, entries, more, |job, position| {
                out.push_back(Output::Record { delivery: DeliveryId { hook, position }, job: Some(job), step: Step::Passed });
            });
        });
        self.counts.ignored += u64::from(!was_asked);
    }

    fn ended(&mut self, now: Now, delivery: DeliveryId, outcome: &Outcome, took: Duration) {
        let Some(slot) = self.known.get(&delivery.hook).copied() else { return self.counts.ignored += 1 };
        let Some(it) = self.destinations.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        let ended = Ended { position: delivery.position, outcome, took };
        if it.ended(now, &ended, &mut self.entropy, &mut self.out) {
            self.fairness.give_back(it.pool, it.tenant);
        } else {
            self.counts.ignored += 1;
        }
        self.tend(now, slot);
    }

    fn withdrawn(&mut self, now: Now, delivery: DeliveryId) {
        let mut landed = None;
        self.with(now, delivery.hook, |it, _| {
            it.queue.withdraw(now.unix, delivery.position);
            landed = it.land(delivery.position).map(|_| (it.pool, it.tenant));
        });
        landed.into_iter().for_each(|(pool, tenant)| self.fairness.give_back(pool, tenant));
    }

    fn replay(&mut self, now: Now, hook: HookId, job: JobId) {
        self.with(now, hook, |it, out| {
            if !it.queue.window.add(job) {
                out.push_back(Output::JobRefused { hook, job });
            }
        });
    }

    /// Does something with a destination and looks after it.
    fn with(&mut self, now: Now, hook: HookId, change: impl FnOnce(&mut Destination, &mut VecDeque<Output>)) {
        let Some(slot) = self.known.get(&hook).copied() else { return self.counts.ignored += 1 };
        if let Some(Some(it)) = self.destinations.get_mut(slot as usize) {
            change(it, &mut self.out);
        }
        self.tend(now, slot);
    }

    fn add(&mut self, hook: HookId, destination: Destination) -> Slot {
        let destination = Some(Box::new(destination));
        let slot = self.vacant.pop().unwrap_or_else(|| Slot::try_from(self.destinations.len()).unwrap_or(Slot::MAX));
        match self.destinations.get_mut(slot as usize) {
            Some(place) => *place = destination,
            None => self.destinations.push(destination),
        }
        self.known.insert(hook, slot);
        slot
    }

    fn is_crowded(&self) -> bool {
        self.counts.held >= HELD_MAX
    }

    /// Looks after a destination to which something has happened: loads what it needs, lists it if it can send, and sets its timer.
    fn tend(&mut self, now: Now, slot: Slot) {
        let is_crowded = self.is_crowded();
        let Some(it) = self.destinations.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        if it.is_removed && it.flights.is_empty() {
            return self.forget(slot);
        }
        it.tick(now, &mut self.out);
        let place = it.place(is_crowded);
        if let Some((source, max)) = Some(place).filter(|place| *place > 0).and_then(|place| it.queue.next_load(now.at, place)) {
            self.out.push_back(Output::Load { hook: it.hook, source, max });
        }
        it.queue.shrink();
        let held = it.queue.items.len() + it.queue.window.promised();
        self.counts.held = self.counts.held + held - std::mem::replace(&mut it.counted, held);
        let wanted = it.wanted_pool(now);
        let in_flight = u32::try_from(it.flights.len()).unwrap_or(u32::MAX);
        if wanted != it.pool && self.fairness.shift(it.tenant, it.pool, wanted, in_flight) {
            // Where it stands in the ring of the other pool it is passed over.
            (it.pool, it.is_listed) = (wanted, false);
        }
        if !it.is_listed && it.is_sendable(now, self.fairness.destination_max(it.pool)) {
            it.is_listed = true;
            self.fairness.list(it.pool, it.tenant, slot, it.left);
        }
        self.arm(now, slot);
    }

    fn arm(&mut self, now: Now, slot: Slot) {
        let Some(it) = self.destinations.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        let Some(at) = it.wake_at(now).map(|at| at.max(Millis(now.at.0.saturating_add(1)))) else { return };
        // One that is too early does no harm.
        if it.armed.is_none_or(|armed| at < armed) {
            it.armed.replace(at).into_iter().for_each(|armed| _ = self.timers.remove(&(armed, slot)));
            self.timers.insert((at, slot));
        }
    }

    fn forget(&mut self, slot: Slot) {
        let Some(it) = self.destinations.get_mut(slot as usize).and_then(Option::take) else { return };
        self.known.remove(&it.hook);
        it.armed.into_iter().for_each(|armed| _ = self.timers.remove(&(armed, slot)));
        self.counts.held -= it.counted;
        self.fairness.leave(it.tenant);
        self.vacant.push(slot);
    }

    fn run_timers(&mut self, now: Now) {
        while let Some((_, slot)) = self.timers.first().copied().filter(|(at, _)| *at <= now.at) {
            self.timers.pop_first();
            if let Some(Some(it)) = self.destinations.get_mut(slot as usize) {
                it.armed = None;
            }
            self.tend(now, slot);
        }
    }

    /// Begins attempts while there is a free worker and somebody whose turn it is.
    fn pump(&mut self, now: Now) {
        for pool in Pool::ALL {
            while let Some((tenant, slot)) = self.fairness.next(pool) {
                self.serve(now, pool, tenant, slot);
            }
        }
    }

    fn serve(&mut self, now: Now, pool: Pool, tenant: u32, slot: Slot) {
        let most = self.fairness.destination_max(pool);
        let it = self.destinations.get_mut(slot as usize).and_then(Option::as_mut);
        let Some(it) = it.filter(|it| it.is_listed && it.pool == pool && it.tenant == tenant) else {
            self.fairness.unlist(pool, tenant);
            return;
        };
        let begun = Some(()).filter(|()| it.is_sendable(now, most)).and_then(|()| it.begin(now, &mut self.out));
        begun.into_iter().for_each(|bytes| self.fairness.take(pool, tenant, cost(bytes)));
        if begun.is_none() || !it.is_sendable(now, most) {
            it.is_listed = false;
            it.left = self.fairness.unlist(pool, tenant);
        }
        self.tend(now, slot);
    }
}
