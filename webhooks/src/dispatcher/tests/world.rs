//! A server in virtual time: a store that forgets nothing, receivers that behave as they are told, and a look at everything the dispatcher says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use firmware_protocol::entropy::SeededEntropy;
use firmware_protocol::id::DeviceId;
use firmware_protocol::time::{Millis, Now, UnixMillis};
use router::event::Position;

use crate::delivery::{DeliveryId, Outcome, Phase};
use crate::dispatcher::fairness::SHARE;
use crate::dispatcher::health::Health;
use crate::dispatcher::messages::{Dead, DisableWhy, Notice, Ordering};
use crate::dispatcher::pace::CAP;
use crate::dispatcher::{Dispatcher, Entry, Input, JobId, Lane, Output, Settings, Source, Step, TenantId};
use crate::hook::HookId;

const BEGAN: u64 = 1_700_000_000_000;

/// How a receiver behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Receiver {
    /// It answers with this status after so many milliseconds.
    Answers(u16, u64),
    /// Nobody takes the connection.
    Refuses,
    /// It takes the connection and does not answer.
    Hangs,
    /// Of a hundred attempts, so many fail.
    Flaky(u64),
    /// Events of this device fail.
    Dislikes(u8),
    /// It answers with this status and asks for so many seconds.
    Asks(u16, u64),
    /// It wants nothing for so many seconds.
    Full(Option<u64>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stored {
    pub(super) entry: Entry,
    pub(super) out_of_order: bool,
}

/// What is stored of a hook.
#[derive(Clone, Debug)]
pub(super) struct Shelf {
    pub(super) settings: Settings,
    pub(super) health: Option<Health>,
    pub(super) receiver: Receiver,
    pub(super) pending: BTreeMap<Position, Stored>,
    /// The pending ones, out of order, by when they are due.
    retries: BTreeSet<(UnixMillis, Position)>,
    pub(super) jobs: BTreeMap<JobId, BTreeMap<Position, Stored>>,
    pub(super) accepted: usize,
    pub(super) delivered: usize,
    pub(super) dead: BTreeMap<String, usize>,
    flying: BTreeMap<Position, Option<JobId>>,
    lanes: BTreeSet<Lane>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Coming {
    Ended(HookId, Position, u64),
    Loaded(HookId, usize),
    Arrival(u8, u8),
}

/// An attempt, as it was begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Begun {
    pub(super) at: u64,
    pub(super) hook: HookId,
    pub(super) position: Position,
    pub(super) attempt: u8,
    pub(super) job: Option<JobId>,
    /// Time since it was accepted.
    pub(super) waited: u64,
}

pub(super) struct World {
    pub(super) now: u64,
    pub(super) dispatcher: Dispatcher,
    pub(super) shelves: BTreeMap<HookId, Shelf>,
    pub(super) begun: Vec<Begun>,
    pub(super) notices: Vec<(u64, HookId, Notice)>,
    pub(super) disabled: Vec<(HookId, DisableWhy)>,
    pub(super) jobs_done: Vec<JobId>,
    pub(super) jobs_refused: Vec<JobId>,
    pub(super) loads: usize,
    pub(super) loads_fail: bool,
    entropy: SeededEntropy,
    workers: u32,
    flying: u32,
    position: u64,
    sequence: u64,
    coming: BTreeMap<(u64, u64), Coming>,
    answers: BTreeMap<usize, (Source, Vec<Entry>, bool)>,
}

pub(super) fn hook(number: u8) -> HookId {
    hook_of(u16::from(number))
}

pub(super) fn hook_of(number: u16) -> HookId {
    let mut id = [7; 12];
    id[..2].copy_from_slice(&number.to_be_bytes());
    HookId(id)
}

pub(super) fn lane(device: u8) -> Lane {
    Lane::of(DeviceId([device; 12]))
}

pub(super) fn settings(tenant: u64) -> Settings {
    Settings { tenant: TenantId(tenant), ordering: Ordering::PerDevice, attempts_max: 12, is_disabled: false, revision: 0 }
}

impl World {
    pub(super) fn new(workers: u32, seed: u64) -> Self {
        Self {
            now: 0,
            dispatcher: Dispatcher::new(workers, seed),
            shelves: BTreeMap::new(),
            begun: Vec::new(),
            notices: Vec::new(),
            disabled: Vec::new(),
            jobs_done: Vec::new(),
            jobs_refused: Vec::new(),
            loads: 0,
            loads_fail: false,
            entropy: SeededEntropy::new(seed ^ 0x5eed),
            workers,
            flying: 0,
            position: 0,
            sequence: 0,
            coming: BTreeMap::new(),
            answers: BTreeMap::new(),
        }
    }

    pub(super) fn time(&self) -> Now {
        Now { at: Millis(self.now), unix: UnixMillis(BEGAN + self.now) }
    }

    pub(super) fn add(&mut self, hook: HookId, settings: Settings, receiver: Receiver) {
        let shelf = Shelf {
            settings,
            health: None,
            receiver,
            pending: BTreeMap::new(),
            retries: BTreeSet::new(),
            jobs: BTreeMap::new(),
            accepted: 0,
            delivered: 0,
            dead: BTreeMap::new(),
            flying: BTreeMap::new(),
            lanes: BTreeSet::new(),
        };
        self.shelves.insert(hook, shelf);
        self.tell_hook(hook);
    }

    pub(super) fn shelf(&mut self, hook: HookId) -> &mut Shelf {
        self.shelves.get_mut(&hook).unwrap()
    }

    pub(super) fn change(&mut self, hook: HookId, change: impl FnOnce(&mut Settings)) {
        change(&mut self.shelf(hook).settings);
        self.tell_hook(hook);
    }

    fn tell_hook(&mut self, hook: HookId) {
        let shelf = &self.shelves[&hook];
        let has_pending = !shelf.pending.is_empty();
        let input = Input::HookChanged { hook, settings: shelf.settings, health: shelf.health, has_pending };
        self.dispatcher.handle(self.time(), input);
        self.drain();
    }

    /// So many events of a device are accepted for a hook.
    pub(super) fn accept(&mut self, hook: HookId, device: u8, count: usize) {
        let accepted = self.time().unix;
        let entries: Vec<_> = (0..count)
            .map(|_| {
                self.position += 1;
                Entry {
                    position: Position(self.position),
                    lane: Some(lane(device)).filter(|_| device > 0),
                    bytes: 100,
                    accepted,
                    attempts: 0,
                    due: UnixMillis(0),
                }
            })
            .collect();
        let shelf = self.shelf(hook);
        shelf.accepted += count;
        shelf.pending.extend(entries.iter().map(|entry| (entry.position, Stored { entry: *entry, out_of_order: false })));
        self.dispatcher.handle(self.time(), Input::Arrived { hook, entries: &entries });
        self.drain();
    }

    /// Accepts one event later.
    pub(super) fn accept_at(&mut self, at: u64, hook: u8, device: u8) {
        self.plan(at, Coming::Arrival(hook, device));
    }

    /// The process dies and begins anew: all that is not stored is gone.
    pub(super) fn restart(&mut self, seed: u64) {
        self.dispatcher = Dispatcher::new(self.workers, seed);
        self.coming.retain(|_, coming| matches!(coming, Coming::Arrival(..)));
        self.answers.clear();
        self.flying = 0;
        let hooks: Vec<_> = self.shelves.keys().copied().collect();
        for shelf in self.shelves.values_mut() {
            shelf.flying.clear();
            shelf.lanes.clear();
        }
        for hook in hooks {
            self.tell_hook(hook);
            let jobs: Vec<_> = self.shelves[&hook].jobs.keys().copied().collect();
            jobs.into_iter().for_each(|job| self.tell_job(hook, job));
        }
    }

    /// Replays everything that was accepted up to now and is not pending, of these positions.
    pub(super) fn replay(&mut self, hook: HookId, job: JobId, positions: impl Iterator<Item = u64>) {
        let accepted = UnixMillis(BEGAN);
        let entry = |position| Entry {
            position: Position(position),
            lane: Some(lane(u8::try_from(position % 5).unwrap())),
            bytes: 100,
            accepted,
            attempts: 0,
            due: UnixMillis(0),
        };
        let newest = self.position;
        let shelf = self.shelf(hook);
        let missing = positions.filter(|position| *position <= newest && !shelf.pending.contains_key(&Position(*position)));
        let wanted: BTreeMap<_, _> = missing.map(entry).map(|entry| (entry.position, Stored { entry, out_of_order: true })).collect();
        shelf.jobs.insert(job, wanted);
        self.tell_job(hook, job);
    }

    fn tell_job(&mut self, hook: HookId, job: JobId) {
        self.dispatcher.handle(self.time(), Input::Replay { hook, job });
        self.drain();
    }

    pub(super) fn input(&mut self, input: Input<'_>) {
        self.dispatcher.handle(self.time(), input);
        self.drain();
    }

    fn plan(&mut self, at: u64, coming: Coming) {
        self.sequence += 1;
        self.coming.insert((at, self.sequence), coming);
    }

    /// Lets so many milliseconds pass.
    pub(super) fn run(&mut self, for_ms: u64) {
        let end = self.now + for_ms;
        while self.step(end) {}
        self.now = end;
        self.input(Input::Tick);
    }

    /// Goes on until nothing is pending. Whether that came to be in this time.
    pub(super) fn finish(&mut self, within_ms: u64) -> bool {
        let end = self.now + within_ms;
        while self.shelves.values().any(|shelf| !shelf.pending.is_empty() || !shelf.jobs.is_empty()) {
            if !self.step(end) {
                return false;
            }
        }
        true
    }

    /// The next thing happens, if it does before `end`.
    fn step(&mut self, end: u64) -> bool {
        let coming = self.coming.keys().next().copied();
        let timeout = self.dispatcher.timeout_at().map(|at| at.0.max(self.now));
        let next = coming.map(|(at, _)| at).into_iter().chain(timeout).min().filter(|at| *at <= end);
        let Some(at) = next else { return false };
        self.now = self.now.max(at);
        match coming.filter(|(planned, _)| *planned <= at).and_then(|key| self.coming.remove(&key)) {
            Some(coming) => self.happen(coming),
            None => self.input(Input::Tick),
        }
        true
    }

    fn happen(&mut self, coming: Coming) {
        match coming {
            Coming::Arrival(number, device) => self.accept(hook(number), device, 1),
            Coming::Loaded(hook, number) if self.loads_fail && number.is_multiple_of(5) => {
                self.answers.remove(&number);
                self.input(Input::LoadFailed(hook));
            }
            Coming::Loaded(hook, number) => {
                let (source, entries, more) = self.answers.remove(&number).unwrap();
                self.input(Input::Loaded { hook, source, entries: &entries, more });
            }
            Coming::Ended(hook, position, began) => self.end(hook, position, began),
        }
    }

    fn end(&mut self, hook: HookId, position: Position, began: u64) {
        let took = self.now - began;
        let outcome = self.outcome(hook, position, took);
        self.flying -= 1;
        let shelf = self.shelf(hook);
        shelf.flying.remove(&position).expect("it is in flight");
        let lane = lane_of(shelf, position);
        lane.into_iter().for_each(|lane| assert!(shelf.lanes.remove(&lane)));
        let delivery = DeliveryId { hook, position };
        self.input(Input::Ended { delivery, outcome: &outcome, took: Duration::from_millis(took) });
    }

    fn outcome(&mut self, hook: HookId, position: Position, took: u64) -> Outcome {
        let failed = |phase| Outcome::Failed { phase, error: String::new() };
        let answered = |status| Outcome::Answered { status, retry_after_s: None };
        let shelf = &self.shelves[&hook];
        match shelf.receiver {
            _ if took >= 20_000 => failed(Phase::Wait),
            Receiver::Answers(status, _) => answered(status),
            Receiver::Refuses => failed(Phase::Connect),
            Receiver::Hangs => answered(200),
            Receiver::Flaky(percent) => answered(if self.entropy.below(100) < percent { 500 } else { 200 }),
            Receiver::Dislikes(device) => {
                let is_disliked = lane_of(shelf, position) == Some(lane(device));
                answered(if is_disliked { 500 } else { 200 })
            }
            Receiver::Asks(status, seconds) => Outcome::Answered { status, retry_after_s: Some(seconds) },
            Receiver::Full(retry_after_s) => Outcome::Answered { status: 429, retry_after_s },
        }
    }

    fn takes(&mut self, receiver: Receiver) -> u64 {
        match receiver {
            Receiver::Answers(_, ms) => ms,
            Receiver::Hangs => 20_000,
            Receiver::Refuses => 2,
            _ => 20 + self.entropy.below(60),
        }
    }

    /// Does what the dispatcher says.
    pub(super) fn drain(&mut self) {
        while let Some(output) = self.dispatcher.poll() {
            match output {
                Output::Begin { delivery, attempt, job } => self.begin(delivery, attempt, job),
                Output::Load { hook, source, max } => self.load(hook, source, max),
                Output::Record { delivery, job, step } => self.record(delivery, job, step),
                Output::State { hook, health } => self.shelf(hook).health = Some(health),
                Output::Notice { hook, notice } => self.notices.push((self.now, hook, notice)),
                Output::Disable { hook, why } => {
                    self.shelf(hook).settings.is_disabled = true;
                    self.disabled.push((hook, why));
                }
                Output::JobRefused { job, .. } => self.jobs_refused.push(job),
                Output::JobDone { hook, job } => {
                    let left = self.shelf(hook).jobs.remove(&job).expect("there is such a replay");
                    assert!(left.is_empty(), "{left:?}");
                    self.jobs_done.push(job);
                }
            }
        }
    }

    fn begin(&mut self, delivery: DeliveryId, attempt: u8, job: Option<JobId>) {
        let (now, unix) = (self.now, self.time().unix);
        let DeliveryId { hook, position } = delivery;
        assert!(self.flying < self.workers, "more attempts than workers");
        self.flying += 1;
        let most = usize::from(CAP).min(((self.workers - self.workers / 4) / SHARE).max(1) as usize);
        let shelf = self.shelf(hook);
        assert!(!shelf.settings.is_disabled, "{hook} is disabled");
        assert!(shelf.flying.len() < most, "more attempts than a destination may have");
        assert!(!shelf.flying.contains_key(&position), "{position} is in flight already");
        let stored = match job {
            Some(job) => shelf.jobs[&job][&position],
            None => *shelf.pending.get(&position).unwrap_or_else(|| panic!("{position} is not pending")),
        };
        assert!(stored.entry.due <= unix, "{position} is not due");
        assert_eq!(attempt, stored.entry.attempts + 1);
        let is_ordered = shelf.settings.ordering == Ordering::PerDevice;
        if let Some(lane) = stored.entry.lane.filter(|_| is_ordered) {
            assert!(shelf.lanes.insert(lane), "two of a lane are in flight");
            let ahead = |(_, other): (&Position, &Stored)| other.entry.lane == Some(lane) && !other.out_of_order;
            let is_next = stored.out_of_order || !shelf.pending.range(..position).any(ahead);
            assert!(is_next, "{position} overtakes another");
        }
        shelf.flying.insert(position, job);
        let (receiver, waited) = (shelf.receiver, unix.0 - stored.entry.accepted.0);
        let took = self.takes(receiver);
        self.plan(now + took, Coming::Ended(hook, position, now));
        self.begun.push(Begun { at: now, hook, position, attempt, job, waited });
    }

    fn load(&mut self, hook: HookId, source: Source, max: usize) {
        assert!(max > 0 && max <= 256);
        self.loads += 1;
        let shelf = &self.shelves[&hook];
        let in_place = |after: Position| shelf.pending.range(after.next()..).filter(|(_, stored)| !stored.out_of_order);
        let mut entries: Vec<Entry> = match source {
            Source::Queue { after } => in_place(after).map(|(_, stored)| stored.entry).take(max + 1).collect(),
            Source::Lane { lane, after, through } => {
                let of_lane = in_place(after).filter(|(position, stored)| **position <= through && stored.entry.lane == Some(lane));
                of_lane.map(|(_, stored)| stored.entry).take(max + 1).collect()
            }
            Source::Retries { after } => {
                let keys = shelf.retries.range(after..).filter(|key| **key > after).take(max + 1);
                keys.map(|(_, position)| shelf.pending[position].entry).collect()
            }
            Source::Replay { job, after } => {
                let job = shelf.jobs.get(&job).into_iter().flat_map(|job| job.range(after.next()..));
                job.map(|(_, stored)| stored.entry).take(max + 1).collect()
            }
        };
        let more = entries.len() > max;
        entries.truncate(max);
        let (at, number) = (self.now + self.entropy.below(30), self.loads);
        self.answers.insert(number, (source, entries, more));
        self.plan(at, Coming::Loaded(hook, number));
    }

    fn record(&mut self, delivery: DeliveryId, job: Option<JobId>, step: Step) {
        let shelf = self.shelf(delivery.hook);
        let position = delivery.position;
        let place = match job {
            Some(job) => shelf.jobs.entry(job).or_default(),
            None => &mut shelf.pending,
        };
        let stored = place.get_mut(&position).unwrap_or_else(|| panic!("{position} is recorded and not there"));
        if job.is_none() && stored.out_of_order {
            shelf.retries.remove(&(stored.entry.due, position));
        }
        match step {
            Step::Retry { due, attempts, out_of_order } => {
                assert!(!stored.out_of_order || out_of_order, "it cannot go back into its place");
                (stored.entry.due, stored.entry.attempts, stored.out_of_order) = (due, attempts, out_of_order);
                if job.is_none() && out_of_order {
                    shelf.retries.insert((due, position));
                }
            }
            Step::Done | Step::Dead(_) | Step::Passed => {
                place.remove(&position);
                match step {
                    _ if job.is_some() => {}
                    Step::Dead(dead) => *shelf.dead.entry(name(dead)).or_default() += 1,
                    _ => shelf.delivered += 1,
                }
            }
        }
    }

    /// Whether nothing of a hook is in flight.
    pub(super) fn is_idle(&self, hook: HookId) -> bool {
        self.shelves[&hook].flying.is_empty()
    }

    /// A replay is called off. What is in flight of it is still recorded.
    pub(super) fn cancel(&mut self, hook: HookId, job: JobId) {
        let shelf = self.shelf(hook);
        let flying: Vec<_> = shelf.flying.iter().filter(|(_, of)| **of == Some(job)).map(|(position, _)| *position).collect();
        if flying.is_empty() {
            shelf.jobs.remove(&job);
            self.input(Input::Cancelled { hook, job });
        }
    }

    /// Somebody removes a pending delivery from the store. If it is in flight, nobody will tell how it ended.
    pub(super) fn take_away(&mut self, hook: HookId, position: Position) {
        let shelf = self.shelves.get_mut(&hook).unwrap();
        if shelf.flying.contains_key(&position) {
            let lane = lane_of(shelf, position);
            lane.into_iter().for_each(|lane| assert!(shelf.lanes.remove(&lane)));
            shelf.flying.remove(&position);
            self.flying -= 1;
            self.coming.retain(|_, coming| !matches!(coming, Coming::Ended(of, at, _) if (*of, *at) == (hook, position)));
        }
        let stored = shelf.pending.remove(&position).unwrap();
        shelf.retries.remove(&(stored.entry.due, position));
        shelf.accepted -= 1;
        self.input(Input::Withdrawn(DeliveryId { hook, position }));
    }

    /// Everything accepted is accounted for.
    pub(super) fn check_ledger(&self) {
        for (hook, shelf) in &self.shelves {
            let dead: usize = shelf.dead.values().sum();
            assert_eq!(shelf.accepted, shelf.delivered + shelf.pending.len() + dead, "{hook}");
        }
    }
}

fn name(dead: Dead) -> String {
    format!("{dead:?}")
}

fn lane_of(shelf: &Shelf, position: Position) -> Option<Lane> {
    let of_job = shelf.jobs.values().find_map(|job| job.get(&position));
    let stored = shelf.pending.get(&position).or(of_job)?;
    stored.entry.lane.filter(|_| shelf.settings.ordering == Ordering::PerDevice)
}
