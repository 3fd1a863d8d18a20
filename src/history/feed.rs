//! From committed events to the keeper of the history: what belongs there is passed on, and what could not be passed on is noted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use router::event::{CommittedEvents, Position};

use super::{Batch, is_wanted};

/// Batches that wait for the keeper.
const WAITING_MAX: usize = 256;

/// The end that committed events go past.
#[derive(Debug)]
pub struct Feed {
    sender: SyncSender<Batch>,
    seen: Arc<Seen>,
    /// The position that comes next if nothing is missing.
    next: Position,
}

/// The keeper's end.
#[derive(Debug)]
pub(super) struct Fed {
    pub(super) batches: Receiver<Batch>,
    pub(super) seen: Arc<Seen>,
}

/// What both ends know.
#[derive(Debug)]
pub(super) struct Seen {
    /// Everything up to here has gone past, and was passed on if it was wanted, or was missed.
    upto: AtomicU64,
    missed: AtomicBool,
}

impl Feed {
    /// A feed of the events after `last`.
    pub(super) fn new(last: Position) -> (Self, Fed) {
        let (sender, batches) = sync_channel(WAITING_MAX);
        let seen = Arc::new(Seen { upto: AtomicU64::new(last.0), missed: AtomicBool::new(false) });
        (Self { sender, seen: Arc::clone(&seen), next: last.next() }, Fed { batches, seen })
    }

    /// Passes on what is wanted of a batch. Never waits.
    pub fn offer(&mut self, events: &CommittedEvents) {
        let (Some((first, _)), Some((last, _))) = (events.first(), events.last()) else { return };
        let wanted: Batch = events.iter().filter(|(_, event)| is_wanted(event)).cloned().collect();
        let refused = !wanted.is_empty() && self.sender.try_send(wanted).is_err();
        if refused || *first != self.next {
            self.seen.note_missed();
        }
        self.next = last.next();
        self.seen.upto.store(last.0, Ordering::Release);
    }
}

impl Seen {
    /// Whether something was missed since the last call.
    pub(super) fn take_missed(&self) -> bool {
        self.missed.swap(false, Ordering::Acquire)
    }

    /// Something was missed.
    pub(super) fn note_missed(&self) {
        self.missed.store(true, Ordering::Release);
    }

    /// How far events have gone past. What is in the queue after this was read, and not missed, is all that is wanted up to there.
    pub(super) fn upto(&self) -> Position {
        Position(self.upto.load(Ordering::Acquire))
    }
}
