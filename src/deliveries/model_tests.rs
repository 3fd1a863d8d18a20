//! The store against a reference model, with reopening and the loss of the journal's end among the operations.

use std::collections::{BTreeMap, BTreeSet};

use firmware_protocol::time::UnixMillis;
use proptest::prelude::*;
use router::event::Position;
use tempfile::TempDir;
use webhooks::delivery::DeliveryId;

use super::test_world::*;
use super::*;
use crate::config::Limit;

const HOOKS: u8 = 4;

#[derive(Clone, Debug)]
enum Operation {
    /// Events that each have to go to the hooks of a mask, and so many more that nobody wants.
    Accept(Vec<u8>, u8),
    /// Attempts of pending deliveries, told by a number, ended in a way.
    Record(Vec<(u16, u8)>),
    /// The same records again.
    RecordAgain,
    Tidy(Keeping),
    RemoveHook(u8),
    Replay(u8),
    /// Attempts of the newest replay ended well or not.
    RecordReplay(Vec<bool>),
    CancelReplay,
    Reopen,
    LoseEnd(u8),
}

#[derive(Clone, Debug)]
struct Keeping {
    pending_s: u8,
    finished_s: u8,
    pending_bytes: Option<u16>,
}

/// What a delivery should be.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Expected {
    state: State,
    attempts: u16,
    out_of_order: bool,
    due: UnixMillis,
    published_at: UnixMillis,
    bytes: u64,
    finished_at: UnixMillis,
    replayed: bool,
}

struct World {
    directory: TempDir,
    store: Option<Deliveries>,
    /// What is in the database.
    kept: BTreeMap<DeliveryId, Expected>,
    /// What became of all deliveries that ever were, by hook, in the order of the counters; hooks that were removed are left out.
    counted: BTreeMap<u8, Counted>,
    totals: Counted,
    journal: u64,
    /// Position in the database less that in the journal.
    shift: u64,
    clock_s: u64,
    last: Vec<(DeliveryId, Recorded)>,
    job: Option<JobId>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Counted {
    accepted: u64,
    delivered: u64,
    expired: u64,
    rejected: [u64; 6],
}

fn any_operation() -> impl Strategy<Value = Operation> {
    let keeping = (0u8..60, 0u8..60, proptest::option::of(0u16..600));
    prop_oneof![
        6 => (proptest::collection::vec(0u8..16, 0..12), 0u8..4).prop_map(|(masks, more)| Operation::Accept(masks, more)),
        6 => proptest::collection::vec((any::<u16>(), 0u8..8), 0..10).prop_map(Operation::Record),
        1 => Just(Operation::RecordAgain),
        2 => keeping.prop_map(|(pending_s, finished_s, pending_bytes)| Operation::Tidy(Keeping { pending_s, finished_s, pending_bytes })),
        1 => (0..HOOKS).prop_map(Operation::RemoveHook),
        2 => (0..HOOKS).prop_map(Operation::Replay),
        2 => proptest::collection::vec(any::<bool>(), 0..6).prop_map(Operation::RecordReplay),
        1 => Just(Operation::CancelReplay),
        2 => Just(Operation::Reopen),
        1 => (0u8..5).prop_map(Operation::LoseEnd),
    ]
}

impl World {
    fn new() -> Self {
        let (directory, store) = store();
        Self {
            directory,
            store: Some(store),
            kept: BTreeMap::new(),
            counted: BTreeMap::new(),
            totals: Counted::default(),
            journal: 0,
            shift: 0,
            clock_s: 0,
            last: Vec::new(),
            job: None,
        }
    }

    fn store(&mut self) -> &mut Deliveries {
        self.store.as_mut().unwrap()
    }

    fn now(&self) -> UnixMillis {
        at(self.clock_s)
    }

    fn run(&mut self, operation: Operation) {
        self.clock_s += 1;
        match operation {
            Operation::Accept(masks, more) => self.accept(&masks, more),
            Operation::Record(ends) => self.record(&ends),
            Operation::RecordAgain => {
                let (now, last) = (self.now(), self.last.clone());
                assert_eq!(self.store().record(now, &last).unwrap(), 0);
            }
            Operation::Tidy(keeping) => self.tidy(&keeping),
            Operation::RemoveHook(number) => self.remove_hook(number),
            Operation::Replay(number) => self.replay(number),
            Operation::RecordReplay(ends) => self.record_replay(&ends),
            Operation::CancelReplay => self.job.take().into_iter().for_each(|job| drop(self.store().cancel_replay(job).unwrap())),
            Operation::Reopen => self.store = self.store.take().map(|store| reopen(&self.directory, store)),
            Operation::LoseEnd(events) => self.lose_end(events.into()),
        }
        self.check();
    }

    fn accept(&mut self, masks: &[u8], more: u8) {
        let mut batch = Vec::new();
        for mask in masks {
            self.journal += 1;
            self.clock_s = self.clock_s.max(self.journal + self.shift);
            let hooks: Vec<u8> = (0..HOOKS).filter(|hook| mask & (1 << hook) != 0).collect();
            let event = event(self.clock_s);
            for number in &hooks {
                let expected = Expected {
                    state: State::Pending,
                    attempts: 0,
                    out_of_order: false,
                    due: UnixMillis(0),
                    published_at: event.published_at,
                    bytes: event.data.as_ref().unwrap().len() as u64,
                    finished_at: UnixMillis(0),
                    replayed: false,
                };
                self.kept.insert(id(*number, self.journal + self.shift), expected);
                self.counted.entry(*number).or_default().accepted += 1;
                self.totals.accepted += 1;
            }
            batch.push((Position(self.journal), event, hooks.into_iter().map(hook).collect()));
        }
        self.journal += u64::from(more);
        let cursor = Position(self.journal);
        self.store().accept(&batch, cursor).unwrap();
        // What was accepted already is not accepted again.
        self.store().accept(&batch, cursor).unwrap();
        assert_eq!(self.store().cursor(), cursor);
    }

    fn record(&mut self, ends: &[(u16, u8)]) {
        let (now, mut records) = (self.now(), Vec::new());
        for (pick, end) in ends {
            let pending: Vec<_> = self.kept.iter().filter(|(_, expected)| expected.state == State::Pending).map(|(id, _)| *id).collect();
            let Some(id) = pending.get(usize::from(*pick) % pending.len().max(1)).copied() else { continue };
            let number = self.kept[&id].attempts + 1;
            let recorded = match end {
                0..3 => delivered(number),
                3 => rejected(number, Reason::Exhausted),
                4 => Recorded { attempt: None, then: Then::Rejected(Reason::Disabled) },
                5 => retried(number, at(self.clock_s + u64::from(*pick % 50)), false),
                _ => retried(number, at(self.clock_s + u64::from(*pick % 50)), true),
            };
            self.expect(id, &recorded, now);
            records.push((id, recorded));
        }
        assert_eq!(self.store().record(now, &records).unwrap(), records.len());
        self.last = records;
    }

    fn expect(&mut self, id: DeliveryId, recorded: &Recorded, now: UnixMillis) {
        let expected = self.kept.get_mut(&id).unwrap();
        expected.attempts += u16::from(recorded.attempt.is_some());
        match recorded.then {
            Then::Retry { at, out_of_order, .. } => {
                (expected.due, expected.out_of_order) = (at, expected.out_of_order | out_of_order);
            }
            Then::Delivered => self.finish(id, State::Delivered, now),
            Then::Expired => self.finish(id, State::Expired, now),
            Then::Rejected(reason) => self.finish(id, State::Rejected(reason), now),
        }
    }

    fn finish(&mut self, id: DeliveryId, state: State, now: UnixMillis) {
        let expected = self.kept.get_mut(&id).unwrap();
        (expected.state, expected.finished_at, expected.due) = (state, now, UnixMillis(0));
        for counted in [self.counted.entry(id.hook.0[0]).or_default(), &mut self.totals] {
            match state {
                State::Pending => {}
                State::Delivered => counted.delivered += 1,
                State::Expired => counted.expired += 1,
                State::Rejected(reason) => counted.rejected[reason as usize] += 1,
            }
        }
    }

    fn tidy(&mut self, keeping: &Keeping) {
        let now = self.now();
        let limits = Limits {
            pending_ms: u64::from(keeping.pending_s) * 1_000,
            pending_bytes: keeping.pending_bytes.map_or(Limit::Unlimited, |bytes| Limit::AtMost(u64::from(bytes) + 1)),
            finished_ms: u64::from(keeping.finished_s) * 1_000,
            finished_bytes: Limit::Unlimited,
        };
        let mut dropped = BTreeSet::new();
        loop {
            let tidied = self.store().tidy(now, &limits).unwrap();
            dropped.extend(tidied.dropped.into_iter().map(|(id, _)| id));
            if !tidied.is_more {
                break;
            }
        }
        assert_eq!(dropped, self.expect_tidied(&limits, now));
    }

    fn expect_tidied(&mut self, limits: &Limits, now: UnixMillis) -> BTreeSet<DeliveryId> {
        let mut dropped = BTreeSet::new();
        let pending = |kept: &BTreeMap<DeliveryId, Expected>| -> Vec<(DeliveryId, Expected)> {
            kept.iter().filter(|(_, expected)| expected.state == State::Pending).map(|(id, expected)| (*id, expected.clone())).collect()
        };
        for (id, expected) in pending(&self.kept) {
            if expected.published_at.0 < now.0.saturating_sub(limits.pending_ms) {
                self.finish(id, State::Expired, now);
                dropped.insert(id);
            }
        }
        if let Limit::AtMost(most) = limits.pending_bytes {
            for number in 0..HOOKS {
                let mut all: Vec<_> = pending(&self.kept).into_iter().filter(|(id, _)| id.hook == hook(number)).collect();
                all.sort_by_key(|(id, expected)| (!expected.out_of_order, id.position));
                let mut bytes: u64 = all.iter().map(|(_, expected)| expected.bytes).sum();
                for (id, expected) in all {
                    if bytes > most {
                        bytes -= expected.bytes;
                        self.finish(id, State::Rejected(Reason::Overflow), now);
                        dropped.insert(id);
                    }
                }
            }
        }
        let keep_from = now.0.saturating_sub(limits.finished_ms);
        self.kept.retain(|_, expected| expected.state == State::Pending || expected.finished_at.0 >= keep_from);
        dropped
    }

    fn remove_hook(&mut self, number: u8) {
        self.store().remove_hook(hook(number)).unwrap();
        let now = self.now();
        let mut rounds = 0;
        while self.store().tidy(now, &KEEP_ALL).unwrap().is_more {
            rounds += 1;
            assert!(rounds < 10);
        }
        let pending = self.kept.iter().filter(|(id, expected)| id.hook == hook(number) && expected.state == State::Pending).count();
        self.totals.rejected[Reason::Removed as usize] += pending as u64;
        self.kept.retain(|id, _| id.hook != hook(number));
        self.counted.remove(&number);
    }

    fn replay(&mut self, number: u8) {
        let now = self.now();
        if let Some(job) = self.job {
            self.store().cancel_replay(job).unwrap();
        }
        let job = self.store().begin_replay(now, hook(number), Selection::FailedSince(0)).unwrap();
        let job = self.store().fill_replay(job.id).unwrap();
        assert_eq!(job.found, self.dead(number).len() as u64);
        self.job = Some(job.id);
    }

    fn dead(&self, number: u8) -> Vec<DeliveryId> {
        let is_dead = |expected: &Expected| matches!(expected.state, State::Expired | State::Rejected(_)) && !expected.replayed;
        self.kept.iter().filter(|(id, expected)| id.hook == hook(number) && is_dead(expected)).map(|(id, _)| *id).collect()
    }

    fn record_replay(&mut self, ends: &[bool]) {
        let Some(job) = self.job else { return };
        let (entries, _) = self.store().load_replay(job, Position(0), ends.len()).unwrap();
        let mut records = Vec::new();
        for ((entry, _), is_well) in entries.iter().zip(ends) {
            let expected = self.kept.get_mut(&entry.id).unwrap();
            expected.attempts += 1;
            expected.replayed |= is_well;
            let number = expected.attempts;
            records.push((entry.id.position, if *is_well { delivered(number) } else { rejected(number, Reason::Exhausted) }));
        }
        self.store().record_replay(job, &records).unwrap();
    }

    fn lose_end(&mut self, events: u64) {
        let last = self.journal.saturating_sub(events);
        let resumed = self.store().resume(Position(last)).unwrap();
        assert_eq!(resumed, Resumed { after: Position(last), lost: self.journal - last });
        self.shift += self.journal - last;
        self.journal = last;
    }

    fn check(&mut self) {
        let store = self.store.as_ref().unwrap();
        check_numbers(store);
        check_events(store);
        let told = |counters: Counters| Counted {
            accepted: counters.accepted,
            delivered: counters.delivered,
            expired: counters.expired,
            rejected: Reason::ALL.map(|reason| counters.rejected.of(reason)),
        };
        assert_eq!(told(store.totals()), self.totals);
        for number in 0..HOOKS {
            assert_eq!(told(store.counters(hook(number))), self.counted.get(&number).copied().unwrap_or_default(), "hook {number}");
            self.check_hook(number);
        }
    }

    fn check_hook(&self, number: u8) {
        let store = self.store.as_ref().unwrap();
        let ours: Vec<_> = self.kept.iter().filter(|(id, _)| id.hook == hook(number)).collect();
        let positions = |wanted: &dyn Fn(&Expected) -> bool| -> Vec<u64> {
            ours.iter().filter(|(_, expected)| wanted(expected)).map(|(id, _)| id.position.0).collect()
        };
        let is_pending = |expected: &Expected| expected.state == State::Pending;
        assert_eq!(loaded(store, number), positions(&|expected| is_pending(expected) && !expected.out_of_order));
        let mut due = positions(&|expected| is_pending(expected) && expected.out_of_order);
        due.sort_by_key(|position| (self.kept[&id(number, *position)].due, *position));
        let (entries, more) = store.reader().retries(hook(number), RETRIES_START, usize::MAX).unwrap();
        assert_eq!((entries.iter().map(|entry| entry.id.position.0).collect::<Vec<_>>(), more), (due, false));
        let page = store.reader().list(hook(number), &Filter::default(), None, 1_000).unwrap();
        let mut all: Vec<_> = page.deliveries.iter().map(|listed| (listed.id, listed.delivery.clone())).collect();
        all.reverse();
        assert_eq!(all.len(), ours.len());
        for ((id, delivery), (expected_id, expected)) in all.into_iter().zip(ours) {
            let Delivery { state, attempts, out_of_order, due, published_at, bytes, finished_at, replayed, .. } = delivery;
            let found = Expected { state, attempts, out_of_order, due, published_at, bytes: bytes.into(), finished_at, replayed };
            assert_eq!((&id, &found), (expected_id, expected));
        }
    }
}

/// How many cases are tried, unless `PROPTEST_CASES` says it.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").map_or(24, |cases| cases.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn the_store_does_what_the_model_does(operations in proptest::collection::vec(any_operation(), 1..40)) {
        let mut world = World::new();
        operations.into_iter().for_each(|operation| world.run(operation));
    }
}
