//! When each of many is due next: a heap whose outdated entries are skipped when they come up.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use firmware_protocol::time::Millis;

/// One moment for each index, or none.
#[derive(Debug)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Millis, usize)>>,
    due: Vec<Option<Millis>>,
}

impl Timers {
    pub(crate) fn new(len: usize) -> Self {
        Self { heap: BinaryHeap::new(), due: vec![None; len] }
    }

    /// Makes room for one more, who is due never: its index.
    pub(crate) fn add(&mut self) -> usize {
        self.due.push(None);
        self.due.len() - 1
    }

    /// Replaces the moment at which `index` is due.
    pub(crate) fn set(&mut self, index: usize, due: Option<Millis>) {
        if self.due[index] == due {
            return;
        }
        self.due[index] = due;
        if let Some(at) = due {
            self.heap.push(Reverse((at, index)));
        }
    }

    /// Takes one that is due by `now`.
    pub(crate) fn pop(&mut self, now: Millis) -> Option<usize> {
        let index = self.next().filter(|(at, _)| *at <= now)?.1;
        self.heap.pop();
        self.due[index] = None;
        Some(index)
    }

    /// The earliest moment and whose it is.
    pub(crate) fn next(&mut self) -> Option<(Millis, usize)> {
        while let Some(Reverse((at, index))) = self.heap.peek() {
            if self.due[*index] == Some(*at) {
                return Some((*at, *index));
            }
            self.heap.pop();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts() {
        let mut timers = Timers::new(3);
        timers.set(0, Some(Millis(50)));
        timers.set(1, Some(Millis(20)));
        timers.set(2, Some(Millis(30)));
        timers.set(1, Some(Millis(60)));
        timers.set(2, None);
        timers.set(0, Some(Millis(40)));
        timers.set(0, Some(Millis(50)));
        assert_eq!((timers.next(), timers.pop(Millis(49))), (Some((Millis(50), 0)), None));
        assert_eq!((timers.pop(Millis(100)), timers.pop(Millis(100)), timers.pop(Millis(100))), (Some(0), Some(1), None));
        timers.set(0, Some(Millis(50)));
        assert_eq!(timers.pop(Millis(50)), Some(0), "due again at the same moment");
        let added = timers.add();
        timers.set(added, Some(Millis(7)));
        assert_eq!((added, timers.next()), (3, Some((Millis(7), 3))));
    }
}
