//! What one reader of an event stream gets: first what it missed, from the journal, then what comes, from its queue, in the order of positions
//! and without a gap that is not said.
//!
//! It joins the live events like this: read the journal to its end; open a queue, which begins at some position; read the journal up to that
//! position; go on with the queue. A reader for which the queue was too small begins again, unless it has taken nothing for a while: then it
//! is cut.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use router::event::Position;
use tokio::sync::oneshot;

use super::queue::{EventQueue, EventSender, Placed, event_queue};
use super::replay::{Request, Turn};
use super::{StreamFilter, Streams};

/// A reader that lets its full queue stand for longer is cut.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// What comes next for a reader.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item {
    /// An event.
    Event(Placed),
    /// Events that it should have got are not there.
    Gap(Gap),
    /// It gets nothing more.
    Cut(Cut),
}

/// What a reader misses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gap {
    /// Events are no longer kept.
    Expired {
        /// Position of the first of them.
        from: Position,
        /// Position of the last.
        to: Position,
    },
    /// The reader named a position that the journal never came to, so nobody can tell what it missed: it was given out by another server, or by
    /// this one before it went back to a backup.
    Unknown {
        /// The newest position here. What comes after it follows.
        last: Position,
    },
}

/// Why a reader gets nothing more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// It took too little for too long. It can continue after this position.
    TooSlow(Position),
    /// The journal cannot be read for it. It can continue after this position when that is mended.
    Unreadable(Position),
}

/// The reader's end of an event stream.
#[derive(Debug)]
pub struct EventStream {
    /// `None` for one that has nothing but a queue.
    origin: Option<Origin>,
    queue: Option<EventQueue>,
    asked: Option<oneshot::Receiver<Turn>>,
    gap: Option<Gap>,
    ready: VecDeque<Placed>,
    /// Position of the first event that was neither read nor passed over.
    next: Position,
    /// Everything up to here was handed out or is not wanted.
    done: Position,
    has_ended: bool,
}

/// Where a stream gets what it missed.
#[derive(Debug)]
pub(super) struct Origin {
    streams: Arc<Streams>,
    filter: Arc<StreamFilter>,
}

impl Origin {
    pub(super) fn new(streams: &Arc<Streams>, filter: &Arc<StreamFilter>) -> Self {
        streams.metrics.open.inc();
        Self { streams: Arc::clone(streams), filter: Arc::clone(filter) }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.streams.metrics.open.dec();
    }
}

/// A stream of whatever is put in at the other end.
pub fn event_stream() -> (EventSender, EventStream) {
    let (sender, queue) = event_queue(Position(0));
    (sender, EventStream::new(None, Some(queue), Position(0), None))
}

impl EventStream {
    /// From `next` on. With a queue that begins there, or none.
    pub(super) fn new(origin: Option<Origin>, queue: Option<EventQueue>, next: Position, gap: Option<Gap>) -> Self {
        let done = Position(next.0.saturating_sub(1));
        Self { origin, queue, asked: None, gap, ready: VecDeque::new(), next, done, has_ended: false }
    }

    /// What comes next; `None` when the stream has ended. May be dropped before it is done, and asked again.
    pub async fn next(&mut self) -> Option<Item> {
        while !self.has_ended {
            if let Some(gap) = self.gap.take() {
                return Some(Item::Gap(gap));
            }
            if let Some(placed) = self.ready.pop_front() {
                self.done = placed.0;
                return Some(Item::Event(placed));
            }
            self.done = self.done.max(Position(self.next.0.saturating_sub(1)));
            let is_live = self.queue.as_ref().is_some_and(|queue| queue.begins <= self.next) || self.origin.is_none();
            let item = if is_live { self.live().await } else { self.catch_up().await };
            if item.is_some() {
                return item;
            }
        }
        None
    }

    /// The next of the queue, or how it ended.
    async fn live(&mut self) -> Option<Item> {
        let queue = self.queue.as_mut()?;
        if let Some((position, event)) = queue.next().await {
            if position < self.next {
                return None;
            }
            (self.next, self.done) = (position.next(), position);
            return Some(Item::Event((position, event)));
        }
        let behind = queue.behind_since();
        self.queue = None;
        match (behind, &self.origin) {
            (Some(since), Some(_)) if since.elapsed() < PATIENCE => None,
            (Some(_), origin) => {
                if let Some(origin) = origin {
                    origin.streams.metrics.cut.inc();
                }
                self.cut(Cut::TooSlow(self.done))
            }
            (None, _) => {
                self.has_ended = true;
                None
            }
        }
    }

    /// One turn of reading the journal.
    async fn catch_up(&mut self) -> Option<Item> {
        let Some(origin) = &self.origin else { return self.cut(Cut::Unreadable(self.done)) };
        if self.queue.as_ref().is_some_and(|queue| queue.behind_since().is_some()) {
            // It was too small for what came while the journal was read.
            self.queue = None;
        }
        let asked = match &mut self.asked {
            Some(asked) => asked,
            asked => {
                let (reply, answer) = oneshot::channel();
                let before = self.queue.as_ref().map(|queue| queue.begins);
                origin.streams.replay.ask(Request { filter: Arc::clone(&origin.filter), from: self.next, before, reply });
                asked.insert(answer)
            }
        };
        let turn = asked.await;
        self.asked = None;
        let Ok(turn) = turn else { return self.cut(Cut::Unreadable(self.done)) };
        if let Some(oldest) = turn.oldest {
            origin.streams.metrics.gaps.inc();
            self.gap = Some(Gap::Expired { from: self.next, to: Position(oldest.0 - 1) });
        }
        (self.ready, self.next) = (turn.events.into(), turn.next);
        if turn.is_last && self.queue.is_none() {
            self.queue = Some(origin.streams.join(&origin.filter));
        }
        None
    }

    fn cut(&mut self, cut: Cut) -> Option<Item> {
        self.has_ended = true;
        Some(Item::Cut(cut))
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        let behind = self.queue.as_ref().and_then(EventQueue::behind_since);
        if let (Some(since), Some(origin)) = (behind, &self.origin)
            && since.elapsed() >= PATIENCE
        {
            // It never read on, so that its connection was closed.
            origin.streams.metrics.cut.inc();
        }
    }
}

impl Gap {
    /// A reader that says it was here continues after the gap.
    pub fn resumes_after(&self) -> Position {
        match self {
            Gap::Expired { to, .. } => *to,
            Gap::Unknown { last } => *last,
        }
    }
}
