//! Values that many devices have in common are held once: devices with the same firmware describe the same functions and subscribe to the same
//! events.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

/// Values that were let go by everybody are cleared away when there are this many entries, or twice as many as were in use the last time.
const SWEEP_MIN: usize = 64;

/// What is held, by digest.
#[derive(Debug)]
pub(crate) struct Shared<T> {
    held: HashMap<u64, Weak<T>>,
    sweep_at: usize,
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self { held: HashMap::new(), sweep_at: SWEEP_MIN }
    }
}

impl<T: PartialEq> Shared<T> {
    /// `value`, or the one like it that others hold. A value whose `digest` is that of a different one, which takes somebody to make, is held
    /// on its own.
    pub(crate) fn hold(&mut self, digest: u64, value: T) -> Arc<T> {
        if let Some(known) = self.held.get(&digest).and_then(Weak::upgrade) {
            return if *known == value { known } else { Arc::new(value) };
        }
        if self.held.len() >= self.sweep_at {
            self.held.retain(|_, value| value.strong_count() > 0);
            self.sweep_at = SWEEP_MIN.max(2 * self.held.len());
        }
        let value = Arc::new(value);
        self.held.insert(digest, Arc::downgrade(&value));
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_and_others_are_not() {
        let mut shared = Shared::default();
        let (a, b) = (shared.hold(1, "x"), shared.hold(1, "x"));
        assert!(Arc::ptr_eq(&a, &b));
        let forged = shared.hold(1, "y");
        assert_eq!((*a, *forged), ("x", "y"), "the same digest makes nobody another");
        assert!(Arc::ptr_eq(&a, &shared.hold(1, "x")));
    }

    #[test]
    fn what_nobody_holds_is_cleared_away() {
        let mut shared = Shared::default();
        let kept: Vec<_> = (0..10).map(|number| shared.hold(number, number)).collect();
        (10..100_000).for_each(|number| drop(shared.hold(number, number)));
        assert!(shared.held.len() <= SWEEP_MIN);
        assert!(kept.iter().all(|number| Arc::ptr_eq(number, &shared.hold(**number, **number))));
    }
}
