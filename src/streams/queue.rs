//! The queue between whoever has new events and one reader of an event stream. It is bounded in events and in bytes; a reader that lets it
//! fill up is cut off, because neither the server's memory nor the other readers may pay for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use router::event::{Event, Position};
use tokio::sync::mpsc;

/// Events that wait for one reader.
pub(super) const QUEUE_EVENTS_MAX: usize = 1024;
/// Bytes of events that wait for one reader. A single event larger than that may wait alone.
pub(super) const QUEUE_BYTES_MAX: usize = 64 * 1024;

/// An event with its place in the journal.
pub type Placed = (Position, Arc<Event>);

/// A stream and the end that feeds it.
pub fn event_stream() -> (EventSender, EventStream) {
    let (sender, receiver) = mpsc::channel(QUEUE_EVENTS_MAX);
    let waiting_bytes = Arc::new(AtomicUsize::new(0));
    (EventSender { sender, waiting_bytes: waiting_bytes.clone() }, EventStream { receiver, waiting_bytes })
}

/// The end that feeds a stream. Dropping it ends the stream after what is queued.
#[derive(Debug)]
pub struct EventSender {
    sender: mpsc::Sender<Placed>,
    waiting_bytes: Arc<AtomicUsize>,
}

/// Why a stream took no event. In either case the sender is of no more use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamEnd {
    /// The reader is too slow; what is queued still reaches it, and then the stream ends.
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
        let before = self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before > 0 && before + bytes > QUEUE_BYTES_MAX {
            return Err(StreamEnd::Full);
        }
        self.sender.try_send((position, event.clone())).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StreamEnd::Full,
            mpsc::error::TrySendError::Closed(_) => StreamEnd::Left,
        })
    }

    /// Whether the reader has left.
    pub fn is_abandoned(&self) -> bool {
        self.sender.is_closed()
    }
}

/// The reader's end.
#[derive(Debug)]
pub struct EventStream {
    receiver: mpsc::Receiver<Placed>,
    waiting_bytes: Arc<AtomicUsize>,
}

impl EventStream {
    /// The next event; `None` when the stream has ended.
    pub async fn next(&mut self) -> Option<Placed> {
        let placed = self.receiver.recv().await?;
        self.waiting_bytes.fetch_sub(weight(&placed.1), Ordering::Relaxed);
        Some(placed)
    }
}

/// What an event counts for: its own bytes, which are never zero.
fn weight(event: &Event) -> usize {
    event.name.len() + event.data.as_ref().map_or(0, Vec::len) + 1
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
    async fn a_reader_that_is_too_slow_gets_what_was_queued_and_then_the_end() {
        for (data_len, queued) in [(0, QUEUE_EVENTS_MAX), (QUEUE_BYTES_MAX / 4 - 2, 4), (2 * QUEUE_BYTES_MAX, 1)] {
            let (sender, mut stream) = event_stream();
            let event = event(data_len);
            for number in 0..queued {
                assert_eq!(sender.send(Position(number as u64), &event), Ok(()), "{data_len} {number}");
            }
            assert_eq!(sender.send(Position(99), &event), Err(StreamEnd::Full));
            drop(sender);
            for number in 0..queued {
                assert_eq!(stream.next().await.map(|(position, _)| position), Some(Position(number as u64)));
            }
            assert_eq!(stream.next().await, None);
        }
    }

    #[tokio::test]
    async fn a_reader_that_keeps_up_is_never_cut() {
        let (sender, mut stream) = event_stream();
        let event = event(QUEUE_BYTES_MAX / 2);
        for number in 0..100 {
            assert_eq!(sender.send(Position(number), &event), Ok(()));
            assert_eq!(stream.next().await.map(|(position, _)| position), Some(Position(number)));
        }
    }

    #[tokio::test]
    async fn a_sender_hears_that_its_reader_left() {
        let (sender, stream) = event_stream();
        drop(stream);
        assert!(sender.is_abandoned());
        assert_eq!(sender.send(Position(1), &event(1)), Err(StreamEnd::Left));
    }
}
