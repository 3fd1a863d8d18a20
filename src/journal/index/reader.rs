//! Reading the events of one audience with the help of the index.

use router::event::{Audience, Position};

use super::AudienceIndex;
use crate::journal::error::EventsError;
use crate::journal::events::{EventReader, Read};

/// Reads the events of one audience from a position on.
#[derive(Debug)]
pub struct AudienceReader<'a> {
    index: &'a AudienceIndex,
    audience: Audience,
    next: Position,
    before: Position,
    reader: Option<EventReader>,
}

impl<'a> AudienceReader<'a> {
    /// Of `audience` from the event at `position` on.
    pub fn new(index: &'a AudienceIndex, audience: Audience, position: Position) -> Self {
        Self { index, audience, next: position.max(Position(1)), before: Position(0), reader: None }
    }

    /// What comes next. One call looks at no more than one frame.
    ///
    /// # Errors
    /// Events from [`AudienceReader::next_position`] on are no longer kept, or a file cannot be read.
    pub fn read(&mut self) -> Result<Read, EventsError> {
        if self.next >= self.before {
            self.look_up()?;
        }
        let Some(reader) = &mut self.reader else { return Ok(Read::End) };
        let audience = self.audience;
        let read = reader.read(|whose| audience.hears_of(whose))?;
        self.next = reader.next_position();
        Ok(read)
    }

    /// All events of the audience before this position were returned.
    pub fn next_position(&self) -> Position {
        self.next
    }

    fn look_up(&mut self) -> Result<(), EventsError> {
        self.before = Position(0);
        let events = &self.index.events;
        let stretch = self.index.find(self.audience, self.next);
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
