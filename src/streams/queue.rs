//! The queue between whoever has new events and one reader of an event stream. It is bounded in events and in bytes, because neither the
//! server's memory nor the other readers may pay for a reader that lets it fill up.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use router::event::{Event, Position};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Events that wait for one reader.
const QUEUE_EVENTS_MAX: usize = 512;
/// Bytes of events that wait for one reader, all they take in memory. A single event larger than that may wait alone.
const QUEUE_BYTES_MAX: usize = 48 * 1024;

/// An event with its place in the journal.
pub type Placed = (Position, Arc<Event>);

/// A queue of the events from a position on.
pub(super) fn event_queue(begins: Position) -> (EventSender, EventQueue) {
    let (sender, receiver) = mpsc::channel(QUEUE_EVENTS_MAX);
    let shared = Arc::new(Shared::default());
    (EventSender { sender, shared: Arc::clone(&shared) }, EventQueue { receiver, shared, begins })
}

#[derive(Debug, Default)]
struct Shared {
    waiting_bytes: AtomicUsize,
    /// Since when events are missing that come after what is queued.
    behind: OnceLock<Instant>,
}

/// The end that feeds a stream. Dropping it ends the queue after what is in it.
#[derive(Debug)]
pub struct EventSender {
    sender: mpsc::Sender<Placed>,
    shared: Arc<Shared>,
}

/// Why a stream took no event. In either case the sender is of no more use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamEnd {
    /// The reader is behind; what is queued still reaches it.
    Full,
    /// The reader has left.
    Left,
}

impl EventSender {
    /// Queues an event. Never waits.
    ///
    /// # Errors
    /// The queue is full or the reader has left. Drop the sender then: an event that is missing in the middle must not go unnoticed.
    pub fn send(&self, position: Position, event: &Arc<Event>) -> Result<(), StreamEnd> {
        let bytes = weight(event);
        let before = self.shared.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before > 0 && before + bytes > QUEUE_BYTES_MAX {
            self.leave_behind(Instant::now());
            return Err(StreamEnd::Full);
        }
        self.sender.try_send((position, event.clone())).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                self.leave_behind(Instant::now());
                StreamEnd::Full
            }
            mpsc::error::TrySendError::Closed(_) => StreamEnd::Left,
        })
    }

    /// Whether the reader has left.
    pub fn is_abandoned(&self) -> bool {
        self.sender.is_closed()
    }

    /// Events have come since then that this queue will not get.
    pub(super) fn leave_behind(&self, since: Instant) {
        // Only the first time counts.
        let _ = self.shared.behind.set(since);
    }
}

/// The reader's end.
#[derive(Debug)]
pub(super) struct EventQueue {
    receiver: mpsc::Receiver<Placed>,
    shared: Arc<Shared>,
    /// Position of the first event that it may hold.
    pub(super) begins: Position,
}

impl EventQueue {
    /// The next event; `None` when the queue has ended.
    pub(super) async fn next(&mut self) -> Option<Placed> {
        let placed = self.receiver.recv().await?;
        self.shared.waiting_bytes.fetch_sub(weight(&placed.1), Ordering::Relaxed);
        Some(placed)
    }

    /// Since when events are missing that come after what is queued.
    pub(super) fn behind_since(&self) -> Option<Instant> {
        self.shared.behind.get().copied()
    }
}

/// What an event takes in memory.
pub(super) fn weight(event: &Event) -> usize {
    size_of::<Placed>() + size_of::<Event>() + event.name.len() + event.data.as_ref().map_or(0, Vec::len)
}

#[cfg(test)]
mod tests {
    use firmware_protocol::id::OwnerId;
    use firmware_protocol::time::UnixMillis;
    use router::event::{EventId, Source};

    use super::*;

    fn event(data_len: usize) -> Arc<Event> {
        Arc::new(Event {
            id: EventId([0; 16]),
            owner: OwnerId(1),
            product: None,
            source: Source::Api,
            name: "e".into(),
            content_format: 0,
            data: Some(vec![b'x'; data_len]),
            ttl_s: 60,
            published_at: UnixMillis(0),
        })
    }

    #[tokio::test]
    async fn a_reader_that_is_too_slow_gets_what_was_queued_and_hears_that_more_came() {
        let small = QUEUE_BYTES_MAX / weight(&event(0));
        for (data_len, queued) in [(0, small), (QUEUE_BYTES_MAX / 4 - 200, 4), (2 * QUEUE_BYTES_MAX, 1)] {
            let (sender, mut queue) = event_queue(Position(0));
            let event = event(data_len);
            for number in 0..queued {
                assert_eq!(sender.send(Position(number as u64), &event), Ok(()), "{data_len} {number}");
            }
            assert!(queue.behind_since().is_none());
            assert_eq!(sender.send(Position(99), &event), Err(StreamEnd::Full));
            drop(sender);
            for number in 0..queued {
                assert_eq!(queue.next().await.map(|(position, _)| position), Some(Position(number as u64)));
            }
            assert!(queue.next().await.is_none() && queue.behind_since().is_some());
        }
    }

    #[tokio::test]
    async fn a_reader_that_keeps_up_is_never_behind() {
        let (sender, mut queue) = event_queue(Position(0));
        let event = event(QUEUE_BYTES_MAX / 2);
        for number in 0..100 {
            assert_eq!(sender.send(Position(number), &event), Ok(()));
            assert_eq!(queue.next().await.map(|(position, _)| position), Some(Position(number)));
        }
        drop(sender);
        assert!(queue.next().await.is_none() && queue.behind_since().is_none());
    }

    #[tokio::test]
    async fn a_sender_hears_that_its_reader_left() {
        let (sender, queue) = event_queue(Position(0));
        drop(queue);
        assert!(sender.is_abandoned());
        assert_eq!(sender.send(Position(1), &event(1)), Err(StreamEnd::Left));
    }
}
