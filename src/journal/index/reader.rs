//! Reading the events of one account with the help of the index.

use firmware_protocol::id::OwnerId;
use router::event::Position;

use super::OwnerIndex;
use crate::journal::error::EventsError;
use crate::journal::events::{EventReader, Read};

/// Reads the events of one account from a position on.
#[derive(Debug)]
pub struct OwnerReader<'a> {
    index: &'a OwnerIndex,
    owner: OwnerId,
    next: Position,
    before: Position,
    reader: Option<EventReader>,
}

impl<'a> OwnerReader<'a> {
    /// Of `owner` from the event at `position` on.
    pub fn new(index: &'a OwnerIndex, owner: OwnerId, position: Position) -> Self {
        Self { index, owner, next: position.max(Position(1)), before: Position(0), reader: None }
    }

    /// What comes next. One call looks at no more than one frame.
    ///
    /// # Errors
    /// Events from [`OwnerReader::next_position`] on are no longer kept, or a file cannot be read.
    pub fn read(&mut self) -> Result<Read, EventsError> {
        if self.next >= self.before {
            self.look_up()?;
        }
        let Some(reader) = &mut self.reader else { return Ok(Read::End) };
        let owner = self.owner;
        let read = reader.read(|of| of == owner)?;
        self.next = reader.next_position();
        Ok(read)
    }

    /// All events of the account before this position were returned.
    pub fn next_position(&self) -> Position {
        self.next
    }

    fn look_up(&mut self) -> Result<(), EventsError> {
        self.before = Position(0);
        let events = &self.index.events;
        let stretch = self.index.find(self.owner, self.next);
        let follows = self.reader.take().filter(|reader| reader.next_position() == stretch.from);
        let opened = match (follows, stretch.place) {
            (Some(reader), _) => reader,
            (None, Some(place)) => events.read_at(place, stretch.from)?,
            (None, None) => events.read_from(stretch.from)?,
        };
        (self.next, self.before, self.reader) = (stretch.from, stretch.before, Some(opened));
        Ok(())
    }
}
