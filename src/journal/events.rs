//! Reading events by position, while the journal is being written.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use router::event::{Event, Position};
use router::journal::Record;

use super::error::{EventsError, OpenError};
use super::segment::{SegmentId, SegmentReader, Step};
use super::segments::Segments;

/// Read at once. A reader that follows the writer reads it anew after each commit.
const WINDOW_BYTES: usize = 32 << 10;

/// The durable events of a journal. Cheap to clone; any thread may have one.
#[derive(Clone, Debug)]
pub struct Events {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    segments: Segments,
    /// Position of the newest durable event, 0 if there is none. Only the writer changes it.
    last: AtomicU64,
}

impl Events {
    pub(super) fn new(dir: PathBuf, segments: Segments, last: Position) -> Events {
        Events { shared: Arc::new(Shared { dir, segments, last: AtomicU64::new(last.0) }) }
    }

    /// Makes events up to `last` visible.
    pub(super) fn advance(&self, last: Position) {
        self.shared.last.store(last.0, Ordering::Release);
    }

    /// Position of the newest durable event; 0 if there never was one.
    pub fn last(&self) -> Position {
        Position(self.shared.last.load(Ordering::Acquire))
    }

    /// Position of the oldest event that is kept; that of the next one if there is none.
    pub fn oldest(&self) -> Position {
        self.shared.segments.oldest()
    }

    /// A reader whose first event will be the one at `position`, which may be the next to be committed. Position 0 means 1.
    ///
    /// # Errors
    ///
    /// If the event has been dropped, or is further ahead.
    pub fn read_from(&self, position: Position) -> Result<EventReader, EventsError> {
        let next = position.max(Position(1));
        let last = self.last();
        if next > last.next() {
            return Err(EventsError::NotYet { wanted: next, last });
        }
        let Some(home) = self.shared.segments.home(next) else {
            return Err(EventsError::Dropped { wanted: next, oldest: self.oldest() });
        };
        let segment = self.open(home, next)?;
        Ok(EventReader { events: self.clone(), segment, home, next, seen: last, ready: VecDeque::new() })
    }

    /// Opens the segment that has, or will have, the event at `wanted`.
    fn open(&self, home: SegmentId, wanted: Position) -> Result<SegmentReader, EventsError> {
        match SegmentReader::open(&self.shared.dir, home) {
            Err(OpenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Err(EventsError::Dropped { wanted, oldest: self.oldest() })
            }
            opened => Ok(opened?.with_window(WINDOW_BYTES)),
        }
    }
}

/// Yields events in order, from one position on.
#[derive(Debug)]
pub struct EventReader {
    events: Events,
    segment: SegmentReader,
    home: SegmentId,
    /// Position of the first event that has not been decoded yet.
    next: Position,
    /// The newest durable position when the segment was last looked at.
    seen: Position,
    /// Events of the last frame.
    ready: VecDeque<(Position, Arc<Event>)>,
}

impl EventReader {
    /// The next event, or `None` if the newest durable one has been read. Ask again later.
    ///
    /// # Errors
    ///
    /// If the segment after the one just read has been dropped, or a file cannot be read.
    pub fn next_event(&mut self) -> Result<Option<(Position, Arc<Event>)>, EventsError> {
        if self.ready.is_empty() && self.next > self.seen {
            let last = self.events.last();
            if self.next > last {
                return Ok(None);
            }
            // What was read ahead of the durable events may have been overwritten since.
            self.segment.refresh()?;
            self.seen = last;
        }
        // While a durable event is still to come, every frame up to it is complete and does not change.
        while self.ready.is_empty() && self.next <= self.seen {
            self.read_frame()?;
        }
        Ok(self.ready.pop_front())
    }

    fn read_frame(&mut self) -> Result<(), EventsError> {
        let (wanted, ready) = (self.next, &mut self.ready);
        match self.segment.next_frame()? {
            Step::Frame(frame) if frame.header.next() <= wanted => {}
            Step::Frame(frame) => {
                let mut position = frame.header.first;
                frame.for_each(|record| {
                    let Record::Event { event, .. } = record else { return };
                    if position >= wanted {
                        ready.push_back((position, event));
                    }
                    position = position.next();
                })?;
                self.next = position;
            }
            Step::End | Step::Invalid(_) => {
                self.home = SegmentId { number: self.home.number + 1, first: wanted };
                self.segment = self.events.open(self.home, wanted)?;
            }
        }
        Ok(())
    }
}
