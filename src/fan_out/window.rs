//! What has become of the events that one shard was sent, in the order of their positions.
//!
//! Events meet their fates in any order; the account moves on only over those that are all settled. Whatever lies between two entries was wanted by
//! nobody.

use std::collections::VecDeque;

use router::event::Position;
use router::fate::Fate;

use super::account::Account;

/// Most entries of a shard, at 24 bytes each: a device that is online and dead holds its event for 45 seconds, in which its neighbours go on.
const ENTRIES_MAX: usize = 262_144;

/// Why nobody gets events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lapse {
    /// They are no longer kept, or too old for devices.
    Expired,
    /// They are not in the journal, though they should be: they are in no ledger.
    Missing,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Waiting,
    Met(Fate),
    Lapsed(Lapse),
}

/// Events from `first` on that share a state.
#[derive(Clone, Copy, Debug)]
struct Entry {
    first: Position,
    count: u32,
    state: State,
}

/// The events of one shard after its account.
#[derive(Debug)]
pub(super) struct Window {
    account: Account,
    /// Everything up to here was seen.
    reached: Position,
    entries: VecDeque<Entry>,
}

impl Window {
    /// After everything that is in this account.
    pub(super) fn new(account: Account) -> Self {
        Self { account, reached: account.position, entries: VecDeque::new() }
    }

    /// Everything up to here was seen.
    pub(super) fn reached(&self) -> Position {
        self.reached
    }

    pub(super) fn has_room(&self) -> bool {
        self.entries.len() < ENTRIES_MAX
    }

    /// What has become of events so far.
    pub(super) fn account(&self) -> Account {
        self.account
    }

    /// The event at `position` goes to the shard. Everything before it that was not seen is wanted by nobody.
    pub(super) fn send(&mut self, position: Position) {
        self.push(Entry { first: position, count: 1, state: State::Waiting });
        self.account.waiting += 1;
        self.reached = self.reached.max(position);
    }

    /// Nobody gets the events from `from` on and before `before`, as far as they were not seen.
    pub(super) fn lapse(&mut self, from: Position, before: Position, lapse: Lapse) {
        let mut from = from.max(self.reached.next());
        while from < before {
            let count = u32::try_from(before.0 - from.0).unwrap_or(u32::MAX);
            self.push(Entry { first: from, count, state: State::Lapsed(lapse) });
            from = Position(from.0 + u64::from(count));
            self.reached = Position(from.0 - 1);
        }
        self.settle();
    }

    /// Nobody wants what was not seen up to here.
    pub(super) fn pass_to(&mut self, position: Position) {
        self.reached = self.reached.max(position);
        self.settle();
    }

    /// The shard says what became of an event. Repetitions and what was never sent change nothing.
    pub(super) fn meet(&mut self, position: Position, fate: Fate) {
        let at = self.entries.partition_point(|entry| entry.first < position);
        if let Some(entry) = self.entries.get_mut(at).filter(|entry| entry.first == position && entry.state == State::Waiting) {
            entry.state = State::Met(fate);
            self.account.waiting -= 1;
        }
    }

    /// Moves the account on over everything that is settled.
    pub(super) fn settle(&mut self) {
        while let Some(entry) = self.entries.front().copied() {
            self.unwanted_before(entry.first);
            match entry.state {
                State::Waiting => return,
                State::Met(fate) => self.account.fates[fate.index()] += 1,
                State::Lapsed(Lapse::Expired) => self.account.expired += u64::from(entry.count),
                State::Lapsed(Lapse::Missing) => {}
            }
            self.account.position = Position(entry.first.0 + u64::from(entry.count) - 1);
            self.entries.pop_front();
        }
        self.unwanted_before(self.reached.next());
        if self.entries.capacity() > ENTRIES_MAX / 16 {
            self.entries.shrink_to_fit();
        }
    }

    fn push(&mut self, entry: Entry) {
        self.entries.push_back(entry);
    }

    /// Nobody wants what is after the account and before this position.
    fn unwanted_before(&mut self, position: Position) {
        let before = Position(position.0.saturating_sub(1));
        self.account.fates[Fate::Unwanted.index()] += before.0.saturating_sub(self.account.position.0);
        self.account.position = self.account.position.max(before);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn window() -> Window {
        Window::new(Account { position: Position(10), ..Account::default() })
    }

    fn totals(window: &Window) -> (u64, u64, u64, u64) {
        let account = window.account();
        (account.position.0, account.fates[Fate::Unwanted.index()], account.fates[Fate::Delivered.index()], account.expired)
    }

    #[test]
    fn the_account_waits_for_the_oldest_event_without_a_fate() {
        let mut window = window();
        window.send(Position(13));
        window.send(Position(14));
        window.pass_to(Position(20));
        assert_eq!(totals(&window), (12, 2, 0, 0), "11 and 12 are wanted by nobody");
        window.meet(Position(14), Fate::Delivered);
        window.settle();
        assert_eq!((totals(&window), window.account().waiting), ((12, 2, 0, 0), 1));
        window.meet(Position(13), Fate::Delivered);
        window.meet(Position(13), Fate::Refused);
        window.meet(Position(99), Fate::Refused);
        window.settle();
        assert_eq!((totals(&window), window.account().waiting), ((20, 8, 2, 0), 0));
    }

    #[test]
    fn what_expired_is_in_the_ledger_and_what_is_missing_is_not() {
        let mut window = window();
        window.lapse(Position(8), Position(15), Lapse::Expired);
        assert_eq!(totals(&window), (14, 0, 0, 4), "only what was not seen before");
        window.lapse(Position(15), Position(18), Lapse::Missing);
        window.pass_to(Position(19));
        assert_eq!(totals(&window), (19, 2, 0, 4));
    }

    proptest! {
        #[test]
        fn every_position_is_in_the_account_once(
            steps in prop::collection::vec((0u8..4, 0u64..6), 0..80),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..80),
        ) {
            let (mut window, mut at, mut out, mut missing) = (window(), 10, Vec::new(), 0);
            for (what, count) in steps {
                match what {
                    0 => at += count,
                    1 => { at += 1 + count; window.send(Position(at)); out.push(at); }
                    2 => { window.lapse(Position(at + 1), Position(at + 1 + count), Lapse::Expired); at += count; }
                    _ => { window.lapse(Position(at + 1), Position(at + 1 + count), Lapse::Missing); at += count; missing += count; }
                }
            }
            window.pass_to(Position(at));
            for index in order {
                if out.is_empty() { break; }
                let position = out.swap_remove(index.index(out.len()));
                window.meet(Position(position), Fate::Unanswered);
                window.settle();
                let account = window.account();
                prop_assert!(out.iter().all(|out| account.position.0 < *out), "never beyond what is out");
            }
            out.drain(..).for_each(|position| window.meet(Position(position), Fate::Delivered));
            window.settle();
            let account = window.account();
            prop_assert_eq!(account.position, Position(at));
            prop_assert_eq!(account.fates.iter().sum::<u64>() + account.expired + missing, at - 10);
            prop_assert_eq!((account.waiting, window.entries.len()), (0, 0));
        }
    }
}
