//! When a terminator looks at each of its sessions again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use firmware_protocol::time::Millis;

/// All alarms of one terminator. An alarm that was set to an earlier time leaves its former entry behind, which then wakes nobody.
#[derive(Debug)]
pub(super) struct Timers<K> {
    entries: BinaryHeap<Reverse<(Millis, K)>>,
}

/// The alarm of one session, kept beside it.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Alarm {
    at: Option<Millis>,
}

impl<K: Copy + Ord> Timers<K> {
    /// Makes `alarm`, which is `key`'s, go off at `at` or before.
    pub(super) fn set(&mut self, key: K, alarm: &mut Alarm, at: Millis) {
        if alarm.at.is_none_or(|earlier| at < earlier) {
            alarm.at = Some(at);
            self.entries.push(Reverse((at, key)));
        }
    }

    /// The next entry whose time has come. Whether its alarm goes off, [`Alarm::go_off`] says.
    pub(super) fn pop(&mut self, now: Millis) -> Option<(Millis, K)> {
        let Reverse(entry) = self.entries.peek().filter(|Reverse((at, _))| *at <= now).copied()?;
        self.entries.pop();
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

impl Alarm {
    /// `true` if the entry of `at` is the one that counts. The alarm is not set then.
    pub(super) fn go_off(&mut self, at: Millis) -> bool {
        let goes_off = self.at == Some(at);
        if goes_off {
            self.at = None;
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
