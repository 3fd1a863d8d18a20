//! The lanes of one destination: of each, one event is its head and the others wait behind it, and one attempt at a time is in flight.
//!
//! Only so many events of a lane are in memory. What a lane leaves behind in the store is loaded when its turn has come, so that one device with a long
//! queue does not take the places of all others.

use std::collections::{BTreeSet, VecDeque};

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use router::event::Position;

use super::messages::Lane;

/// Events of one lane that wait in memory behind its head.
pub const WAITING_MAX: usize = 16;
/// When there are so few of them, others are loaded.
pub const WAITING_LOW: usize = 4;
/// Lanes of one destination that may leave events behind. When there are more, the queue waits for one of them.
pub const BEHIND_MAX: usize = 64;

#[derive(Debug, Default)]
struct State {
    has_head: bool,
    is_flying: bool,
    waiting: VecDeque<Position>,
    /// The first event that was left behind in the store.
    behind: Option<Position>,
}

impl State {
    fn is_idle(&self) -> bool {
        !self.has_head && !self.is_flying && self.waiting.is_empty() && self.behind.is_none()
    }
}

/// How an event came into its lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Entered {
    /// It is the head.
    Head,
    /// It waits behind the head.
    Waiting,
    /// It stays in the store for now.
    Behind,
    /// There is no place to remember it.
    Refused,
}

/// All lanes in use.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: HashMap<Lane, State>,
    /// Those that wait only for an attempt in flight to end.
    parked: HashMap<Lane, BTreeSet<Position>>,
    /// Lanes that have left events behind.
    behind: usize,
    /// Lanes of which events should be loaded; some of them perhaps no more.
    hungry: VecDeque<Lane>,
}

impl Lanes {
    /// The next event of the queue comes into its lane.
    pub(super) fn enter(&mut self, lane: Lane, position: Position) -> Entered {
        let may_leave = self.behind < BEHIND_MAX;
        let state = self.lanes.entry(lane).or_default();
        if let Some(behind) = &mut state.behind {
            *behind = (*behind).min(position);
            return Entered::Behind;
        }
        if !state.has_head {
            state.has_head = true;
            return Entered::Head;
        }
        if state.waiting.len() < WAITING_MAX {
            state.waiting.push_back(position);
            return Entered::Waiting;
        }
        if !may_leave {
            return Entered::Refused;
        }
        state.behind = Some(position);
        self.behind += 1;
        Entered::Behind
    }

    /// What was left behind is loaded: the next event of the lane. `None` if the lane is not there any more.
    pub(super) fn rejoin(&mut self, lane: Lane, position: Position) -> Option<Entered> {
        let state = self.lanes.get_mut(&lane)?;
        if !state.has_head {
            state.has_head = true;
            return Some(Entered::Head);
        }
        state.waiting.push_back(position);
        Some(Entered::Waiting)
    }

    /// From where on the lane has events in the store: nowhere, or from this position on.
    pub(super) fn set_behind(&mut self, lane: Lane, behind: Option<Position>) {
        let Some(state) = self.lanes.get_mut(&lane) else { return };
        let was = state.behind.is_some();
        state.behind = behind;
        self.behind = self.behind + usize::from(behind.is_some()) - usize::from(was);
        self.tidy(lane);
    }

    /// The next lane of which events should be loaded, and the first that it left behind.
    pub(super) fn next_hungry(&mut self) -> Option<(Lane, Position)> {
        while let Some(lane) = self.hungry.pop_front() {
            let state = self.lanes.get(&lane).filter(|state| state.waiting.len() <= WAITING_LOW);
            if let Some(behind) = state.and_then(|state| state.behind) {
                return Some((lane, behind));
            }
        }
        None
    }

    /// Asks again for the events of a lane if it still has too few.
    pub(super) fn feed(&mut self, lane: Lane) {
        let is_hungry = self.lanes.get(&lane).is_some_and(|state| state.behind.is_some() && state.waiting.len() <= WAITING_LOW);
        if is_hungry {
            self.hungry.push_back(lane);
        }
    }

    /// An attempt begins. `false` if one is in flight already: the event is parked until that is over.
    pub(super) fn begin(&mut self, lane: Lane, position: Position) -> bool {
        let state = self.lanes.entry(lane).or_default();
        if state.is_flying {
            self.parked.entry(lane).or_default().insert(position);
            return false;
        }
        state.is_flying = true;
        true
    }

    /// An attempt ended.
    pub(super) fn end(&mut self, lane: Lane) -> Option<Position> {
        self.lanes.get_mut(&lane)?.is_flying = false;
        let parked = self.unpark(lane);
        self.tidy(lane);
        parked
    }

    /// The head leaves the lane: the next.
    pub(super) fn leave(&mut self, lane: Lane) -> Option<Position> {
        let state = self.lanes.get_mut(&lane)?;
        let next = state.waiting.pop_front();
        state.has_head = next.is_some();
        if state.behind.is_some() && state.waiting.len() <= WAITING_LOW {
            self.hungry.push_back(lane);
        }
        self.tidy(lane);
        next
    }

    /// One that is not the head is not there any more.
    pub(super) fn remove(&mut self, lane: Lane, position: Position) {
        if let Some(state) = self.lanes.get_mut(&lane) {
            state.waiting.retain(|waiting| *waiting != position);
        }
        if let Some(parked) = self.parked.get_mut(&lane) {
            parked.remove(&position);
        }
        self.tidy(lane);
    }

    /// Whether it waits behind the head.
    pub(super) fn is_waiting(&self, lane: Lane, position: Position) -> bool {
        self.lanes.get(&lane).is_some_and(|state| state.waiting.contains(&position))
    }

    /// Whether an attempt is in flight.
    pub(super) fn is_flying(&self, lane: Lane) -> bool {
        self.lanes.get(&lane).is_some_and(|state| state.is_flying)
    }

    /// Lanes that have left events behind.
    pub(super) fn behind(&self) -> usize {
        self.behind
    }

    /// The first event that any lane left behind.
    pub(super) fn first_behind(&self) -> Option<Position> {
        self.lanes.values().filter_map(|state| state.behind).min()
    }

    /// Forgets all but what is in flight: these events, and whether each is the head of its lane.
    pub(super) fn reset(&mut self, flying: impl Iterator<Item = (Lane, bool)>) {
        *self = Self::default();
        for (lane, is_head) in flying {
            let state = self.lanes.entry(lane).or_default();
            (state.is_flying, state.has_head) = (true, is_head);
        }
    }

    /// The first that waits for the attempt in flight to end may go on.
    pub(super) fn unpark(&mut self, lane: Lane) -> Option<Position> {
        let Entry::Occupied(mut parked) = self.parked.entry(lane) else { return None };
        let next = parked.get_mut().pop_first();
        if parked.get().is_empty() {
            parked.remove();
        }
        next
    }

    /// Gives back memory that few lanes do not need.
    pub(super) fn shrink(&mut self) {
        self.lanes.shrink_to_fit();
        self.parked.shrink_to_fit();
        self.hungry.shrink_to_fit();
    }

    fn tidy(&mut self, lane: Lane) {
        if self.lanes.get(&lane).is_some_and(State::is_idle) {
            self.lanes.remove(&lane);
        }
        if self.parked.get(&lane).is_some_and(BTreeSet::is_empty) {
            self.parked.remove(&lane);
        }
    }
}

#[cfg(test)]
mod tests {
    use firmware_protocol::id::DeviceId;

    use super::*;

    fn lane(number: u8) -> Lane {
        Lane::of(DeviceId([number; 12]))
    }

    fn enter(lanes: &mut Lanes, number: u8, positions: std::ops::RangeInclusive<u64>) -> Vec<Entered> {
        positions.map(|position| lanes.enter(lane(number), Position(position))).collect()
    }

    #[test]
    fn one_is_the_head_and_the_others_follow_in_order() {
        let mut lanes = Lanes::default();
        assert_eq!(enter(&mut lanes, 1, 1..=3), [Entered::Head, Entered::Waiting, Entered::Waiting]);
        assert_eq!(enter(&mut lanes, 2, 4..=4), [Entered::Head]);
        let left: Vec<_> = (0..3).map(|_| lanes.leave(lane(1))).collect();
        assert_eq!(left, [Some(Position(2)), Some(Position(3)), None]);
        assert_eq!(lanes.lanes.len(), 1);
    }

    #[test]
    fn a_long_lane_leaves_events_behind_until_there_is_place() {
        let mut lanes = Lanes::default();
        assert_eq!(enter(&mut lanes, 1, 1..=20)[17..], [Entered::Behind; 3]);
        assert_eq!((lanes.behind(), lanes.first_behind(), lanes.next_hungry()), (1, Some(Position(18)), None));
        (0..12).for_each(|_| _ = lanes.leave(lane(1)));
        assert_eq!(lanes.next_hungry(), Some((lane(1), Position(18))));
        assert_eq!(lanes.rejoin(lane(1), Position(18)), Some(Entered::Waiting));
        lanes.set_behind(lane(1), None);
        assert_eq!((lanes.behind(), lanes.next_hungry()), (0, None));
    }

    #[test]
    fn only_so_many_lanes_leave_events_behind() {
        let mut lanes = Lanes::default();
        for number in 0..BEHIND_MAX {
            assert_eq!(enter(&mut lanes, u8::try_from(number).unwrap(), 1..=18).last(), Some(&Entered::Behind));
        }
        assert_eq!(enter(&mut lanes, 200, 1..=18).last(), Some(&Entered::Refused));
        assert_eq!(enter(&mut lanes, 0, 20..=20), [Entered::Behind]);
    }

    #[test]
    fn a_second_attempt_of_a_lane_is_parked() {
        let mut lanes = Lanes::default();
        assert!(lanes.begin(lane(1), Position(1)) && lanes.begin(lane(2), Position(2)));
        assert!(!lanes.begin(lane(1), Position(3)) && !lanes.begin(lane(1), Position(4)));
        assert_eq!(lanes.end(lane(1)), Some(Position(3)));
        assert!(lanes.begin(lane(1), Position(3)));
        assert_eq!([lanes.end(lane(1)), lanes.end(lane(1))], [Some(Position(4)), None]);
        assert!(!lanes.is_flying(lane(1)) && lanes.is_flying(lane(2)));
    }
}
