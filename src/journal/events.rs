//! Reading events by position, while the journal is being written.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use router::event::{Event, Position, Whose};

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

    /// The segments they are in.
    pub fn segments(&self) -> &Segments {
        &self.shared.segments
    }

    /// A reader whose first event will be the one at `position`, which may be the next to be committed. Position 0 means 1.
    ///
    /// # Errors
    ///
    /// If the event has been dropped, or is further ahead.
    pub fn read_from(&self, position: Position) -> Result<EventReader, EventsError> {
        let next = position.max(Position(1));
        let last = self.last();
        if next > last && next != last.next() {
            return Err(EventsError::NotYet { wanted: next, last });
        }
        let Some(home) = self.shared.segments.home(next) else {
            return Err(EventsError::Dropped { wanted: next, oldest: self.oldest() });
        };
        let segment = self.open_segment(home.id, next)?.with_window(WINDOW_BYTES);
        Ok(EventReader { events: self.clone(), segment, home: home.id, next, seen: last, ready: VecDeque::new(), missing: None })
    }

    /// The same for somebody who knows a frame before that event, or at it.
    pub(super) fn read_at(&self, place: Place, position: Position) -> Result<EventReader, EventsError> {
        let (seen, mut segment) = (self.last(), self.open_segment(place.segment, position)?.with_window(WINDOW_BYTES));
        segment.seek(place.offset, place.chain);
        let (events, home) = (self.clone(), place.segment);
        Ok(EventReader { events, segment, home, next: position, seen, ready: VecDeque::new(), missing: None })
    }

    /// Opens the segment that has, or will have, the event at `wanted`. One that is gone was dropped.
    pub(super) fn open_segment(&self, home: SegmentId, wanted: Position) -> Result<SegmentReader, EventsError> {
        match SegmentReader::open(&self.shared.dir, home) {
            Err(OpenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Err(EventsError::Dropped { wanted, oldest: self.oldest() })
            }
            opened => Ok(opened?),
        }
    }
}

/// Where a frame begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) segment: SegmentId,
    pub(super) offset: u64,
    /// Chain value before it.
    pub(super) chain: u32,
}

/// What comes next in the journal for somebody who does not want everything.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Read {
    /// An event that is wanted.
    Event(Position, Arc<Event>),
    /// Nothing of this many bytes was wanted.
    Passed {
        /// How much was looked at.
        bytes: u64,
    },
    /// Events that should be here are not, though nobody removed them: the journal is damaged.
    Missing {
        /// The first of them.
        from: Position,
        /// The first after them.
        before: Position,
    },
    /// All that is durable was read. Ask again later.
    End,
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
    /// Positions that were to be read and are nowhere: the first, and the first after them.
    missing: Option<(Position, Position)>,
}

impl EventReader {
    /// The next event, or `None` if the newest durable one has been read. Ask again later.
    ///
    /// # Errors
    ///
    /// If the segment after the one just read has been dropped, or a file cannot be read.
    pub fn next_event(&mut self) -> Result<Option<(Position, Arc<Event>)>, EventsError> {
        loop {
            match self.read(|_| true)? {
                Read::Event(position, event) => return Ok(Some((position, event))),
                Read::Passed { .. } | Read::Missing { .. } => {}
                Read::End => return Ok(None),
            }
        }
    }

    /// What comes next for somebody who wants some events, by whose they are. The others are passed over and not read, which is much cheaper. Always
    /// ask with the same `wants`: it sees events some time before they are returned.
    ///
    /// # Errors
    ///
    /// As for [`EventReader::next_event`].
    pub fn read(&mut self, wants: impl FnMut(Whose) -> bool) -> Result<Read, EventsError> {
        if let Some((position, event)) = self.ready.pop_front() {
            return Ok(Read::Event(position, event));
        }
        if self.next > self.seen {
            let last = self.events.last();
            if self.next > last {
                return Ok(Read::End);
            }
            // What was read ahead of the durable events may have been overwritten since.
            self.segment.refresh()?;
            self.seen = last;
        }
        // While a durable event is still to come, every frame up to it is complete and does not change.
        let bytes = self.read_frame(wants)?;
        if let Some((from, before)) = self.missing.take() {
            return Ok(Read::Missing { from, before });
        }
        Ok(self.ready.pop_front().map_or(Read::Passed { bytes }, |(position, event)| Read::Event(position, event)))
    }

    /// All events before this position were returned or passed over.
    pub fn next_position(&self) -> Position {
        self.ready.front().map_or(self.next, |(position, _)| *position)
    }

    /// Reads one frame, or goes on to the next segment. Returns the size of the frame. One that cannot be read is passed over at the next call.
    fn read_frame(&mut self, wants: impl FnMut(Whose) -> bool) -> Result<u64, EventsError> {
        let (wanted, ready) = (self.next, &mut self.ready);
        match self.segment.next_frame()? {
            Step::Frame(frame) => {
                if frame.header.next() > wanted {
                    let read = frame.for_each_wanted(wants, |position, event| {
                        if position >= wanted {
                            ready.push_back((position, event));
                        }
                    });
                    if let Err(error) = read {
                        ready.clear();
                        return Err(error.into());
                    }
                    self.missing = Some((wanted, frame.header.first)).filter(|(from, before)| from < before);
                    self.next = frame.header.next();
                }
                Ok(frame.header.frame_len())
            }
            Step::End | Step::Invalid(_) => self.enter_next().map(|()| 0),
        }
    }

    /// Goes on to the segment after this one.
    fn enter_next(&mut self) -> Result<(), EventsError> {
        let wanted = self.next;
        let follows = SegmentId { number: self.home.number + 1, first: wanted };
        let next = self.events.shared.segments.after(self.home).unwrap_or(follows);
        self.segment = self.events.open_segment(next, wanted)?.with_window(WINDOW_BYTES);
        self.home = next;
        self.missing = Some((wanted, next.first)).filter(|(from, before)| from < before);
        self.next = wanted.max(next.first);
        Ok(())
    }
}
