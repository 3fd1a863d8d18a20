//! Wakes whoever follows the journal when events were committed. Ringing again before the listener has answered costs nothing, and a listener that is slow or
//! not there holds nobody up.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

type Listener = Box<dyn Fn() + Send + Sync>;

/// The bell. A handle: clones are the same.
#[derive(Clone, Default)]
pub struct CommitBell {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    is_rung: AtomicBool,
    listener: OnceLock<Listener>,
}

impl CommitBell {
    /// Has this called when it rings, from whatever thread rings it: it must not wait. There is one listener, the first.
    pub fn listen(&self, listener: impl Fn() + Send + Sync + 'static) {
        let _ = self.shared.listener.set(Box::new(listener));
    }

    /// Events were committed.
    pub fn ring(&self) {
        if !self.shared.is_rung.swap(true, Ordering::AcqRel)
            && let Some(listener) = self.shared.listener.get()
        {
            listener();
        }
    }

    /// To be called before looking at what was committed: what comes after that rings again.
    pub fn answer(&self) {
        self.shared.is_rung.store(false, Ordering::Release);
    }
}

impl fmt::Debug for CommitBell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommitBell").field("is_rung", &self.shared.is_rung).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn it_calls_once_until_it_is_answered() {
        let (bell, calls) = (CommitBell::default(), Arc::new(AtomicUsize::new(0)));
        bell.ring();
        let counted = Arc::clone(&calls);
        bell.listen(move || _ = counted.fetch_add(1, Ordering::Relaxed));
        bell.ring();
        assert_eq!(calls.load(Ordering::Relaxed), 0, "it was rung before there was a listener, who looks at once");
        bell.answer();
        (0..3).for_each(|_| bell.ring());
        bell.answer();
        bell.ring();
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }
}
