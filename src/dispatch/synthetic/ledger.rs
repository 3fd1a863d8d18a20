//! Which synthetic events are under way, and what is to be said of one that arrives.

use std::collections::VecDeque;
use std::time::Duration;

use firmware_protocol::time::UnixMillis;
use serde::{Deserialize, Serialize};

use crate::metrics::SyntheticFailure;

/// How long one may take.
pub(super) const LATE_AFTER: Duration = Duration::from_secs(10);
/// How long one is waited for.
pub(super) const MISSING_AFTER: Duration = Duration::from_secs(120);
/// Of one shard, however fast they are sent.
const OPEN_MAX: usize = 16;

/// What a synthetic event says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Message {
    /// Which process sent it.
    run: u64,
    /// Through which shard.
    shard: usize,
    /// The how manieth of that shard.
    number: u64,
    /// When.
    sent_ms: u64,
}

/// What an arrival comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Arrival {
    /// It is as it should be, and took so long.
    Verified(Duration),
    /// It is not.
    Failed(SyntheticFailure),
    /// Nobody waits for it: it came before, or is one of a process before this one.
    Unawaited,
}

/// What is under way.
#[derive(Debug)]
pub(super) struct Ledger {
    run: u64,
    lanes: Vec<Lane>,
}

/// The events of one shard.
#[derive(Clone, Debug, Default)]
struct Lane {
    sent: u64,
    newest: u64,
    open: VecDeque<(u64, UnixMillis)>,
}

impl Ledger {
    /// That of a process with this number.
    pub(super) fn new(run: u64, shards: usize) -> Self {
        Self { run, lanes: vec![Lane::default(); shards] }
    }

    /// The next event of a shard, which is given to it now.
    pub(super) fn send(&mut self, now: UnixMillis, shard: usize) -> Option<Message> {
        let lane = self.lanes.get_mut(shard)?;
        lane.sent += 1;
        if lane.open.len() == OPEN_MAX {
            lane.open.pop_front();
        }
        lane.open.push_back((lane.sent, now));
        Some(Message { run: self.run, shard, number: lane.sent, sent_ms: now.0 })
    }

    /// The shard did not take it.
    pub(super) fn withdraw(&mut self, message: &Message) {
        if let Some(lane) = self.lanes.get_mut(message.shard) {
            lane.open.retain(|(number, _)| *number != message.number);
        }
    }

    /// One arrived, in this attempt.
    pub(super) fn arrive(&mut self, now: UnixMillis, message: &Message, attempt: u32) -> Arrival {
        let lane = self.lanes.get_mut(message.shard).filter(|_| message.run == self.run);
        let Some(lane) = lane else { return Arrival::Unawaited };
        let Some(at) = lane.open.iter().position(|(number, _)| *number == message.number) else { return Arrival::Unawaited };
        let Some((number, sent_at)) = lane.open.remove(at) else { return Arrival::Unawaited };
        let is_overtaken = number < lane.newest;
        lane.newest = lane.newest.max(number);
        let took = Duration::from_millis(now.0.saturating_sub(sent_at.0));
        match took {
            // After failures one may be overtaken.
            _ if is_overtaken && attempt <= 1 => Arrival::Failed(SyntheticFailure::Disorder),
            took if took > LATE_AFTER => Arrival::Failed(SyntheticFailure::Late),
            took => Arrival::Verified(took),
        }
    }

    /// Waits no longer for those that were sent too long ago. How many.
    pub(super) fn give_up(&mut self, now: UnixMillis) -> usize {
        let limit = u64::try_from(MISSING_AFTER.as_millis()).unwrap_or(u64::MAX);
        let before: usize = self.lanes.iter().map(|lane| lane.open.len()).sum();
        self.lanes.iter_mut().for_each(|lane| lane.open.retain(|(_, sent_at)| now.0.saturating_sub(sent_at.0) < limit));
        before - self.lanes.iter().map(|lane| lane.open.len()).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> UnixMillis {
        UnixMillis(seconds * 1_000)
    }

    #[test]
    fn what_arrives_in_order_and_in_time_is_verified_once() {
        let mut ledger = Ledger::new(7, 2);
        let [one, two, other] = [(0, 0), (30, 0), (30, 1)].map(|(seconds, shard)| ledger.send(at(seconds), shard).unwrap());
        assert_eq!(ledger.arrive(at(1), &one, 1), Arrival::Verified(Duration::from_secs(1)));
        assert_eq!(ledger.arrive(at(1), &one, 2), Arrival::Unawaited);
        assert_eq!(ledger.arrive(at(40), &two, 1), Arrival::Verified(LATE_AFTER));
        assert_eq!(ledger.arrive(at(41), &other, 1), Arrival::Failed(SyntheticFailure::Late));
    }

    #[test]
    fn one_that_is_overtaken_is_out_of_order_unless_it_had_failed() {
        for (attempt, arrival) in [(1, Arrival::Failed(SyntheticFailure::Disorder)), (2, Arrival::Verified(Duration::from_secs(2)))] {
            let mut ledger = Ledger::new(7, 1);
            let [one, two] = [ledger.send(at(0), 0).unwrap(), ledger.send(at(1), 0).unwrap()];
            assert_eq!(ledger.arrive(at(2), &two, 1), Arrival::Verified(Duration::from_secs(1)));
            assert_eq!(ledger.arrive(at(2), &one, attempt), arrival);
        }
    }

    #[test]
    fn those_of_others_and_those_that_were_not_sent_are_not_waited_for() {
        let (mut ledger, mut before) = (Ledger::new(7, 1), Ledger::new(6, 9));
        let withdrawn = ledger.send(at(0), 0).unwrap();
        ledger.withdraw(&withdrawn);
        for message in [withdrawn, before.send(at(0), 0).unwrap(), before.send(at(0), 8).unwrap()] {
            assert_eq!(ledger.arrive(at(1), &message, 1), Arrival::Unawaited);
        }
        assert_eq!((ledger.send(at(0), 1), ledger.give_up(at(1_000))), (None, 0));
    }

    #[test]
    fn one_that_never_comes_is_missing_once_and_memory_has_an_end() {
        let mut ledger = Ledger::new(7, 2);
        let lost = ledger.send(at(0), 0).unwrap();
        ledger.send(at(30), 1).unwrap();
        assert_eq!([119, 120, 121, 150].map(|seconds| ledger.give_up(at(seconds))), [0, 1, 0, 1]);
        assert_eq!(ledger.arrive(at(151), &lost, 1), Arrival::Unawaited);
        assert!((0..1_000).all(|_| ledger.send(at(200), 0).is_some()));
        assert_eq!(ledger.give_up(at(400)), OPEN_MAX);
    }
}
