//! Following the committed events from a position on, over what has expired meanwhile and what is damaged.

use std::sync::Arc;

use router::event::{Event, Position, Whose};

use super::error::{EventsError, OpenError};
use super::events::{EventReader, Events, Read};

/// What comes next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TailRead {
    /// An event that is wanted.
    Event(Position, Arc<Event>),
    /// Some events were not wanted.
    Passed,
    /// Events that were not read in time are no longer kept.
    Expired {
        /// The first of them.
        from: Position,
        /// The first after them.
        before: Position,
    },
    /// Events that should be kept are not there: the journal is damaged.
    Missing {
        /// The first of them.
        from: Position,
        /// The first after them.
        before: Position,
    },
    /// All that is durable was read. Ask again later.
    End,
}

/// Reads on and on. When events expire before they are read it says so, and goes on with the oldest that are kept.
#[derive(Debug)]
pub struct Tail {
    events: Events,
    reader: Option<EventReader>,
    next: Position,
}

impl Tail {
    /// Of `events` those after `position`.
    pub fn after(events: Events, position: Position) -> Self {
        Self { events, reader: None, next: position.next() }
    }

    /// What comes next, of the events that are wanted, by whose they are. One call looks at no more than one frame. Always ask with the same `wants`.
    ///
    /// # Errors
    /// A file cannot be read, or the position is ahead of the journal. Asked again, it tries again; a frame that is damaged is then [`TailRead::Missing`].
    pub fn read(&mut self, wants: impl FnMut(Whose) -> bool) -> Result<TailRead, EventsError> {
        let read = match self.try_read(wants) {
            Err(EventsError::Dropped { oldest, .. }) if oldest > self.next => {
                self.reader = None;
                let from = std::mem::replace(&mut self.next, oldest);
                return Ok(TailRead::Expired { from, before: oldest });
            }
            Err(error) => {
                if !matches!(error, EventsError::Read(OpenError::Damaged { .. })) {
                    self.reader = None;
                }
                return Err(error);
            }
            Ok(read) => read,
        };
        Ok(match read {
            Read::Event(position, event) => TailRead::Event(position, event),
            Read::Passed { .. } => TailRead::Passed,
            Read::Missing { from, before } => TailRead::Missing { from, before },
            Read::End => TailRead::End,
        })
    }

    /// Begins again after `position`.
    pub fn go_back_to(&mut self, position: Position) {
        (self.reader, self.next) = (None, position.next());
    }

    /// All events up to here were returned, not wanted, or said to have expired.
    pub fn reached(&self) -> Position {
        Position(self.next.0.saturating_sub(1))
    }

    fn try_read(&mut self, wants: impl FnMut(Whose) -> bool) -> Result<Read, EventsError> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            reader => reader.insert(self.events.read_from(self.next)?),
        };
        let read = reader.read(wants)?;
        self.next = reader.next_position();
        Ok(read)
    }
}
