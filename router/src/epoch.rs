//! Who speaks for a shard. A thread that has stopped may go on at any time, in the middle of whatever it was doing; if another has its shard by then,
//! nothing that it still says may count. So each thread has a shard for one epoch, and the watchdog raises the epoch before it gives the shard away.
//!
//! Epochs are an array of numbers that one thread writes and all read, without waiting.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The how manieth thread of a shard, from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Epoch(pub u64);

impl Epoch {
    /// That of a shard's first thread in a process.
    pub const FIRST: Self = Self(1);
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The epochs of all shards.
#[derive(Clone, Debug)]
pub struct Epochs(Arc<[AtomicU64]>);

/// One thread's time with a shard.
#[derive(Clone, Debug)]
pub struct Tenure {
    epochs: Epochs,
    shard: usize,
    epoch: Epoch,
}

impl Epochs {
    /// Of so many shards, with their first threads.
    pub fn new(shards: usize) -> Self {
        Self((0..shards).map(|_| AtomicU64::new(Epoch::FIRST.0)).collect())
    }

    /// The epoch of a shard now.
    pub fn of(&self, shard: usize) -> Epoch {
        self.0.get(shard).map_or(Epoch::FIRST, |epoch| Epoch(epoch.load(Ordering::Relaxed)))
    }

    /// From now on nothing counts that the thread of `shard` says. The next one's epoch. Only the watchdog does this.
    pub fn raise(&self, shard: usize) -> Epoch {
        self.0.get(shard).map_or(Epoch::FIRST, |epoch| Epoch(epoch.fetch_add(1, Ordering::Relaxed) + 1))
    }

    /// The time of the thread that has `shard` in this epoch.
    pub fn tenure(&self, shard: usize, epoch: Epoch) -> Tenure {
        Tenure { epochs: self.clone(), shard, epoch }
    }

    /// Number of shards.
    pub fn shards(&self) -> usize {
        self.0.len()
    }
}

impl Tenure {
    /// Whether somebody else has the shard, or is about to.
    pub fn is_over(&self) -> bool {
        self.epochs.of(self.shard) != self.epoch
    }

    /// In which epoch.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenure_ends_when_the_epoch_of_its_shard_is_raised_and_of_no_other() {
        let epochs = Epochs::new(3);
        let [own, other] = [1, 2].map(|shard| epochs.tenure(shard, epochs.of(shard)));
        assert!(!own.is_over() && own.epoch() == Epoch::FIRST);
        let next = epochs.tenure(1, epochs.raise(1));
        assert!(own.is_over() && !next.is_over() && !other.is_over());
        assert_eq!((next.epoch(), epochs.of(1), epochs.of(2)), (Epoch(2), Epoch(2), Epoch::FIRST));
    }
}
