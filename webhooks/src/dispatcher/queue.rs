//! What of one destination's deliveries is in memory, and which of them may be sent.
//!
//! Each is one of three kinds: in its place in the queue, out of order, or part of a replay. It is ready, or waits for its time, or waits behind the head of
//! its lane, or is in flight. What else is in the store, and how it comes here, is in `window.rs`.

use std::collections::{BTreeSet, VecDeque};

use firmware_protocol::time::UnixMillis;
use hashbrown::HashMap;
use router::event::Position;

use super::lane::{Entered, Lanes};
use super::messages::{Entry, JobId, Lane};
use super::window::Window;

/// One turn in so many is for retries first; all others are for new events first.
pub const RETRY_EVERY: u8 = 5;
/// And one in so many for replays.
pub const REPLAY_EVERY: u8 = 20;

/// Where a delivery belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Of {
    /// In its place in the queue.
    Queue,
    /// It was left behind by the events after it.
    Retries,
    /// A replay.
    Replay(JobId),
}

impl Of {
    pub(super) fn index(self) -> usize {
        match self {
            Self::Queue => 0,
            Self::Retries => 1,
            Self::Replay(_) => 2,
        }
    }
}

/// One delivery in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Item {
    pub(super) lane: Option<Lane>,
    pub(super) accepted: UnixMillis,
    pub(super) due: UnixMillis,
    pub(super) bytes: u32,
    pub(super) attempts: u8,
    pub(super) of: Of,
    pub(super) is_flying: bool,
}

/// What may be sent now, by whose turn it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Fresh,
    Retry,
    Replay,
}

/// The deliveries of one destination.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) items: HashMap<Position, Item>,
    pub(super) lanes: Lanes,
    pub(super) is_ordered: bool,
    ready: [VecDeque<Position>; 3],
    /// Heads of lanes, and replays, that wait for their next attempt.
    back: BTreeSet<(UnixMillis, Position)>,
    /// What is out of order and waits for its next attempt.
    pub(super) apart: BTreeSet<(UnixMillis, Position)>,
    /// How many there are of each kind.
    pub(super) held: [usize; 3],
    pub(super) window: Window,
    turn: u8,
}

impl Queue {
    pub(super) fn new(is_ordered: bool, has_pending: bool) -> Self {
        Self {
            items: HashMap::new(),
            lanes: Lanes::default(),
            is_ordered,
            ready: Default::default(),
            back: BTreeSet::new(),
            apart: BTreeSet::new(),
            held: [0; 3],
            window: Window::new(has_pending),
            turn: 0,
        }
    }

    /// Takes a delivery into memory. `false` if there is no place to remember that it waits.
    pub(super) fn hold(&mut self, now: UnixMillis, entry: &Entry, of: Of) -> bool {
        if self.items.contains_key(&entry.position) || self.window.is_stale(entry.position) {
            return true;
        }
        let lane = entry.lane.filter(|_| self.is_ordered);
        let entered = match lane.filter(|_| of == Of::Queue) {
            Some(lane) => self.lanes.enter(lane, entry.position),
            None => Entered::Head,
        };
        match entered {
            Entered::Refused => return false,
            Entered::Behind => return true,
            Entered::Head | Entered::Waiting => self.insert(entry, lane, of),
        }
        if entered == Entered::Head {
            self.make_ready(now, entry.position);
        }
        true
    }

    /// Takes a delivery into memory that its lane had left behind.
    pub(super) fn hold_behind(&mut self, now: UnixMillis, lane: Lane, entry: &Entry) {
        if self.items.contains_key(&entry.position) || self.window.is_stale(entry.position) {
            return;
        }
        let Some(entered) = self.lanes.rejoin(lane, entry.position) else { return };
        self.insert(entry, Some(lane), Of::Queue);
        if entered == Entered::Head {
            self.make_ready(now, entry.position);
        }
    }

    /// Whether there is something to send.
    pub(super) fn has_ready(&self, may_retry: bool) -> bool {
        let [fresh, retries, replays] = &self.ready;
        !fresh.is_empty() || !replays.is_empty() || may_retry && !retries.is_empty()
    }

    /// Whether there are retries to send.
    pub(super) fn has_retries(&self) -> bool {
        !self.ready[Kind::Retry as usize].is_empty()
    }

    /// Begins an attempt of the delivery whose turn it is. A probe skips some, so that it is not the same one each time.
    pub(super) fn take(&mut self, may_retry: bool, skip: usize) -> Option<(Position, Item)> {
        let order = match self.turn {
            turn if turn % REPLAY_EVERY == REPLAY_EVERY - 1 => [Kind::Replay, Kind::Fresh, Kind::Retry],
            turn if turn % RETRY_EVERY == RETRY_EVERY - 1 => [Kind::Retry, Kind::Fresh, Kind::Replay],
            _ => [Kind::Fresh, Kind::Retry, Kind::Replay],
        };
        let position = order.into_iter().filter(|kind| may_retry || *kind != Kind::Retry).find_map(|kind| self.take_of(kind, skip))?;
        self.turn = (self.turn + 1) % (RETRY_EVERY * REPLAY_EVERY);
        let item = self.items.get_mut(&position)?;
        item.is_flying = true;
        Some((position, *item))
    }

    fn take_of(&mut self, kind: Kind, skip: usize) -> Option<Position> {
        let ready = &mut self.ready[kind as usize];
        if skip > 0 && !ready.is_empty() {
            ready.rotate_left(skip % ready.len());
        }
        while let Some(position) = self.ready[kind as usize].pop_front() {
            let lane = self.items.get(&position).and_then(|item| item.lane);
            if lane.is_none_or(|lane| self.lanes.begin(lane, position)) {
                return Some(position);
            }
        }
        None
    }

    /// It is over with a delivery: it was sent, or given up.
    pub(super) fn finish(&mut self, now: UnixMillis, position: Position) {
        if self.land(position) { self.forget(now, position) } else { self.remove(now, position) }
    }

    /// A delivery in flight keeps its place until its next attempt.
    pub(super) fn hold_back(&mut self, now: UnixMillis, position: Position, due: UnixMillis, attempts: u8) {
        self.land(position);
        if let Some(item) = self.items.get_mut(&position) {
            (item.due, item.attempts) = (due, attempts);
            self.make_ready(now, position);
        }
    }

    /// A delivery in flight leaves its place, and the events behind it go on.
    pub(super) fn set_apart(&mut self, now: UnixMillis, position: Position, due: UnixMillis, attempts: u8) {
        self.land(position);
        let Some(old) = self.items.get(&position).copied() else { return };
        if !self.window.keeps(due, position) {
            return self.forget(now, position);
        }
        let item = Item { due, attempts, of: Of::Retries, ..old };
        self.items.insert(position, item);
        self.held[old.of.index()] -= 1;
        self.held[Of::Retries.index()] += 1;
        self.make_ready(now, position);
        if old.of == Of::Queue {
            self.step_on(now, old.lane);
        }
        self.trim_retries();
    }

    /// A delivery in flight goes back to the store, from where it will be loaded again. Whatever is being loaded is void.
    pub(super) fn put_back(&mut self, now: UnixMillis, position: Position, out_of_order: bool) {
        let Some(of) = self.items.get(&position).map(|item| item.of) else { return };
        let of = if of == Of::Queue && out_of_order { Of::Retries } else { of };
        self.window.rewind(of, position);
        self.finish(now, position);
    }

    /// A delivery is not pending any more.
    pub(super) fn withdraw(&mut self, now: UnixMillis, position: Position) {
        let Some(item) = self.items.get(&position).copied() else { return self.window.note_removed(position) };
        if item.is_flying {
            return self.finish(now, position);
        }
        self.ready.iter_mut().for_each(|ready| ready.retain(|other| *other != position));
        self.back.remove(&(item.due, position));
        self.apart.remove(&(item.due, position));
        if let Some(lane) = item.lane.filter(|lane| self.lanes.is_waiting(*lane, position)) {
            self.lanes.remove(lane, position);
            return self.drop_item(position);
        }
        item.lane.into_iter().for_each(|lane| self.lanes.remove(lane, position));
        self.remove(now, position);
    }

    /// Forgets the deliveries of a replay that are not in flight.
    pub(super) fn cancel(&mut self, now: UnixMillis, job: JobId) {
        let of_job = self.items.iter().filter(|(_, item)| item.of == Of::Replay(job) && !item.is_flying);
        let positions: BTreeSet<_> = of_job.map(|(position, _)| *position).collect();
        positions.into_iter().for_each(|position| self.withdraw(now, position));
        self.window.cancel(job);
    }

    /// What has waited for its time is ready.
    pub(super) fn promote(&mut self, now: UnixMillis) {
        while let Some((_, position)) = self.back.first().copied().filter(|(due, _)| *due <= now) {
            self.back.pop_first();
            self.make_ready(now, position);
        }
        while let Some((_, position)) = self.apart.first().copied().filter(|(due, _)| *due <= now) {
            self.apart.pop_first();
            self.make_ready(now, position);
        }
    }

    /// When something that waits for its time is ready.
    pub(super) fn next_due(&self) -> Option<UnixMillis> {
        self.back.first().into_iter().chain(self.apart.first()).map(|(due, _)| *due).min()
    }

    /// Forgets all that is not in flight: it is in the store, and will be loaded again.
    pub(super) fn unload(&mut self) {
        for (position, item) in self.items.iter().filter(|(_, item)| !item.is_flying) {
            self.window.rewind(item.of, *position);
        }
        self.lanes.first_behind().into_iter().for_each(|position| self.window.rewind(Of::Queue, position));
        self.window.void();
        self.items.retain(|_, item| item.is_flying);
        self.items.shrink_to_fit();
        self.held = [0; 3];
        self.items.values().for_each(|item| self.held[item.of.index()] += 1);
        let flying = self.items.values().filter_map(|item| item.lane.map(|lane| (lane, item.of == Of::Queue)));
        self.lanes.reset(flying);
        self.ready = Default::default();
        self.back = BTreeSet::new();
        self.apart = BTreeSet::new();
    }

    /// Gives back memory that one without deliveries does not need.
    pub(super) fn shrink(&mut self) {
        if self.items.is_empty() && self.items.capacity() > 32 {
            self.items = HashMap::new();
            self.ready = Default::default();
            self.lanes.shrink();
        }
    }

    fn insert(&mut self, entry: &Entry, lane: Option<Lane>, of: Of) {
        let Entry { position, accepted, due, bytes, attempts, .. } = *entry;
        self.items.insert(position, Item { lane, accepted, due, bytes, attempts, of, is_flying: false });
        self.held[of.index()] += 1;
    }

    /// Puts a delivery where it waits for its turn, or for its time.
    fn make_ready(&mut self, now: UnixMillis, position: Position) {
        let Some(item) = self.items.get(&position) else { return };
        if item.due > now {
            let waiting = if item.of == Of::Retries { &mut self.apart } else { &mut self.back };
            waiting.insert((item.due, position));
            return;
        }
        let kind = kind(item);
        self.ready[kind as usize].push_back(position);
    }

    /// The attempt of a delivery is over, and the first that waited for that goes on. `false` if there was none.
    fn land(&mut self, position: Position) -> bool {
        let Some(item) = self.items.get_mut(&position).filter(|item| item.is_flying) else { return false };
        item.is_flying = false;
        let parked = item.lane.and_then(|lane| self.lanes.end(lane));
        self.resume(parked);
        true
    }

    /// One goes on that waited only for another of its lane.
    fn resume(&mut self, parked: Option<Position>) {
        let Some((position, item)) = parked.and_then(|position| self.items.get_key_value(&position)) else { return };
        self.ready[kind(item) as usize].push_front(*position);
    }

    /// Forgets one that is neither in flight nor waiting anywhere.
    fn forget(&mut self, now: UnixMillis, position: Position) {
        let Some(item) = self.items.get(&position).copied() else { return };
        self.drop_item(position);
        if item.of == Of::Queue {
            self.step_on(now, item.lane);
        }
    }

    /// Forgets one that others of its lane may have waited for.
    fn remove(&mut self, now: UnixMillis, position: Position) {
        let Some(item) = self.items.get(&position).copied() else { return };
        self.forget(now, position);
        let idle = item.lane.filter(|lane| !self.lanes.is_flying(*lane));
        let parked = idle.and_then(|lane| self.lanes.unpark(lane));
        self.resume(parked);
    }

    pub(super) fn drop_item(&mut self, position: Position) {
        self.window.note_removed(position);
        if let Some(item) = self.items.remove(&position) {
            self.held[item.of.index()] -= 1;
        }
    }

    /// The next of the lane is its head.
    fn step_on(&mut self, now: UnixMillis, lane: Option<Lane>) {
        if let Some(head) = lane.and_then(|lane| self.lanes.leave(lane)) {
            self.make_ready(now, head);
        }
    }
}

fn kind(item: &Item) -> Kind {
    match item.of {
        Of::Queue if item.attempts == 0 => Kind::Fresh,
        Of::Queue | Of::Retries => Kind::Retry,
        Of::Replay(_) => Kind::Replay,
    }
}
