//! When a terminator looks at each of its sessions again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use firmware_protocol::time::Millis;
use router::short::Short;

/// All alarms of one terminator. An alarm that was set to an earlier time leaves its former entry behind, which then wakes nobody.
#[derive(Debug)]
pub(super) struct Timers<K> {
    entries: BinaryHeap<Reverse<(Millis, K)>>,
}

/// The alarm of one session, kept beside it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Alarm {
    at: Short,
}

/// An alarm that is not set.
const NEVER: Short = Short::MAX;
/// Room for entries that is kept however few there are.
const ROOM_MIN: usize = 1_024;

impl<K: Copy + Ord> Timers<K> {
    /// Makes `alarm`, which is `key`'s, go off at `at` or before.
    pub(super) fn set(&mut self, key: K, alarm: &mut Alarm, at: Millis) {
        if at.0 < alarm.at.get() {
            alarm.at = Short::new(at.0);
            self.entries.push(Reverse((at, key)));
        }
    }

    /// The next entry whose time has come. Whether its alarm goes off, [`Alarm::go_off`] says.
    pub(super) fn pop(&mut self, now: Millis) -> Option<(Millis, K)> {
        let Reverse(entry) = self.entries.peek().filter(|Reverse((at, _))| *at <= now).copied()?;
        self.entries.pop();
        // After a start all sessions have an alarm, and most of them never again.
        if self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to(ROOM_MIN.max(self.entries.len() * 2));
        }
        Some(entry)
    }

    /// When the next entry's time comes.
    pub(super) fn timeout_at(&self) -> Option<Millis> {
        self.entries.peek().map(|Reverse((at, _))| *at)
    }
}

impl<K: Ord> Default for Timers<K> {
    fn default() -> Self {
        Self { entries: BinaryHeap::new() }
    }
}

impl Default for Alarm {
    fn default() -> Self {
        Self { at: NEVER }
    }
}

impl Alarm {
    /// `true` if the entry of `at` is the one that counts. The alarm is not set then.
    pub(super) fn go_off(&mut self, at: Millis) -> bool {
        let goes_off = self.at == Short::new(at.0);
        if goes_off {
            self.at = NEVER;
        }
        goes_off
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_goes_off_once_at_its_earliest_time() {
        let (mut timers, mut alarm) = (Timers::default(), Alarm::default());
        for at in [30, 10, 20] {
            timers.set('a', &mut alarm, Millis(at));
        }
        assert_eq!((timers.timeout_at(), timers.pop(Millis(9))), (Some(Millis(10)), None));
        let gone_off: Vec<_> = std::iter::from_fn(|| timers.pop(Millis(99))).filter(|(at, _)| alarm.go_off(*at)).collect();
        assert_eq!(gone_off, [(Millis(10), 'a')]);
        timers.set('a', &mut alarm, Millis(50));
        assert_eq!(timers.timeout_at(), Some(Millis(50)), "it can be set again");
    }
}
