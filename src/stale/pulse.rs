//! What whoever sets a gauge does beside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counts how often a gauge was set. Copies are the same.
#[derive(Clone, Default, Debug)]
pub struct Pulse(Arc<Inner>);

#[derive(Default, Debug)]
struct Inner {
    beats: AtomicU64,
    sticks: AtomicBool,
}

impl Pulse {
    /// The gauge is about to be set. `false` if it shall not be, because a test wants to see that somebody notices.
    pub fn beat(&self) -> bool {
        let moves = !self.0.sticks.load(Ordering::Relaxed);
        if moves {
            self.0.beats.fetch_add(1, Ordering::Relaxed);
        }
        moves
    }

    /// How often it was.
    pub fn beats(&self) -> u64 {
        self.0.beats.load(Ordering::Relaxed)
    }

    /// It shall not be set from now on, or be set again.
    pub(super) fn stick(&self, sticks: bool) {
        self.0.sticks.store(sticks, Ordering::Relaxed);
    }
}
