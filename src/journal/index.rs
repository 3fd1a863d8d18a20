//! Which parts of the journal hold events of an account or a product, so that whoever wants those reads little else.
//!
//! For every 128 KiB of a segment there is a small set of the accounts and products with events in it, and where it begins. All of it is in memory and made
//! from the journal: the segment that is being written is followed, older ones are taken in from the newest to the oldest, whenever there is
//! time. What has not been taken in is read as a whole. It takes about 1.2 MB for each GiB of journal.

use std::collections::BTreeMap;

use router::event::{Audience, Position, Whose};

use super::error::{EventsError, OpenError};
use super::events::{Events, Place};
use super::frame::FrameHeader;
use super::segment::{SegmentId, SegmentReader, Step};

mod audiences;
mod reader;

pub use self::reader::AudienceReader;

use self::audiences::Audiences;

/// Bytes of a segment that one set stands for.
const BLOCK_BYTES: u64 = 128 << 10;
/// Most sets in memory, about 40 MB: enough for 32 GiB of journal. What is older has none.
const BLOCKS_MAX: usize = 262_144;

/// Which parts of the journal hold events of an account or a product.
#[derive(Debug)]
pub struct AudienceIndex {
    events: Events,
    /// By number.
    segments: BTreeMap<u64, Indexed>,
    blocks: usize,
    blocks_max: usize,
    tail: Option<Walk>,
    /// An older segment that is being taken in.
    older: Option<(Walk, Indexed)>,
    /// No older segment is taken in any more.
    reached_back: bool,
}

/// What is known of a segment.
#[derive(Debug)]
struct Indexed {
    blocks: Vec<Block>,
    /// Position of the first event that is in no block.
    next: Position,
    /// Where the frame with that event is, or will be.
    end: Place,
}

#[derive(Debug)]
struct Block {
    first: Position,
    offset: u64,
    chain: u32,
    audiences: Audiences,
}

/// A segment that is being gone through.
#[derive(Debug)]
struct Walk {
    segment: SegmentId,
    reader: SegmentReader,
    /// The newest durable position when the file was last looked at.
    seen: Position,
}

/// Where to look next for events of an audience.
struct Stretch {
    /// There is none before this position.
    from: Position,
    /// The frame it is in, or one before it, if that is known.
    place: Option<Place>,
    /// From here on it is worth asking again.
    before: Position,
}

impl AudienceIndex {
    /// An empty index of `events`.
    pub fn new(events: Events) -> Self {
        Self { events, segments: BTreeMap::new(), blocks: 0, blocks_max: BLOCKS_MAX, tail: None, older: None, reached_back: false }
    }

    /// Takes in what was committed since the last call, but no more than about `bytes_max`. `true` if that was all.
    ///
    /// # Errors
    /// A segment cannot be read.
    pub fn follow(&mut self, bytes_max: u64) -> Result<bool, EventsError> {
        self.forget();
        let followed = self.try_follow(bytes_max);
        if followed.is_err() {
            // It begins again with the segment that is being written; what is left out is read as a whole.
            self.tail = None;
        }
        match followed {
            Err(EventsError::Dropped { .. }) => Ok(false),
            followed => followed,
        }
    }

    /// Takes in about `bytes_max` of an older segment: that of the event at `wanted`, else the newest that is missing. `false` if there is none left
    /// to take in, or no room for more.
    ///
    /// # Errors
    /// A segment cannot be read. No older one will be tried.
    pub fn reach_back(&mut self, wanted: Option<Position>, bytes_max: u64) -> Result<bool, EventsError> {
        if self.reached_back || self.segments.is_empty() {
            return Ok(false);
        }
        let reached = self.try_reach_back(wanted, bytes_max);
        self.reached_back = !matches!(reached, Ok(true));
        reached
    }

    fn try_reach_back(&mut self, wanted: Option<Position>, bytes_max: u64) -> Result<bool, EventsError> {
        let (mut walk, mut indexed) = match self.older.take() {
            Some(older) => older,
            None => {
                let Some(segment) = self.missing(wanted) else { return Ok(false) };
                let walk = Walk::open(&self.events, segment)?;
                let indexed = Indexed::from(&walk);
                (walk, indexed)
            }
        };
        let mut bytes = 0;
        while bytes < bytes_max {
            match walk.step(&mut indexed)? {
                Some(read) => bytes += read,
                None if self.blocks + indexed.blocks.len() > self.blocks_max => return Ok(false),
                None => {
                    self.blocks += indexed.blocks.len();
                    self.segments.insert(walk.segment.number, indexed);
                    return Ok(true);
                }
            }
        }
        self.older = Some((walk, indexed));
        Ok(true)
    }

    /// A sealed segment that is not in the index.
    fn missing(&self, wanted: Option<Position>) -> Option<SegmentId> {
        let segments = self.events.segments();
        let home = wanted.and_then(|position| segments.home(position)).filter(|home| home.next.is_some()).map(|home| home.id);
        let mut all = home.into_iter().chain(segments.sealed().into_iter().rev().map(|segment| segment.id));
        all.find(|id| !self.segments.contains_key(&id.number))
    }

    fn try_follow(&mut self, bytes_max: u64) -> Result<bool, EventsError> {
        let mut bytes = 0;
        while bytes < bytes_max {
            if self.tail.is_none() {
                self.begin(self.events.segments().current())?;
            }
            let Some(walk) = &mut self.tail else { break };
            let Some(indexed) = self.segments.get_mut(&walk.segment.number) else { break };
            let last = self.events.last();
            if indexed.next > last {
                return Ok(true);
            }
            if indexed.next > walk.seen {
                walk.reader.refresh()?;
                walk.seen = last;
            }
            let blocks = indexed.blocks.len();
            let read = walk.step(indexed)?;
            self.blocks += indexed.blocks.len() - blocks;
            match read {
                Some(read) => bytes += read,
                None => {
                    let next = SegmentId { number: walk.segment.number + 1, first: indexed.next };
                    self.begin(next)?;
                }
            }
        }
        Ok(false)
    }

    /// Follows this segment from its start.
    fn begin(&mut self, segment: SegmentId) -> Result<(), EventsError> {
        let walk = Walk::open(&self.events, segment)?;
        let known = self.segments.insert(segment.number, Indexed::from(&walk));
        self.blocks -= known.map_or(0, |known| known.blocks.len());
        self.tail = Some(walk);
        Ok(())
    }

    /// Forgets segments that are gone, and the oldest if there is no room.
    fn forget(&mut self) {
        let oldest = self.events.segments().oldest_number();
        while let Some(entry) = self.segments.first_entry()
            && (*entry.key() < oldest || self.blocks > self.blocks_max)
            && self.tail.as_ref().is_none_or(|walk| walk.segment.number != *entry.key())
        {
            self.reached_back |= *entry.key() >= oldest;
            self.blocks -= entry.remove().blocks.len();
        }
    }

    /// Where to look for events of `audience` from a position on.
    fn find(&self, audience: Audience, mut from: Position) -> Stretch {
        loop {
            let Some(home) = self.events.segments().home(from) else {
                return Stretch { from, place: None, before: Position(u64::MAX) };
            };
            let until = home.next.unwrap_or(Position(u64::MAX));
            let Some(indexed) = self.segments.get(&home.id.number) else {
                return Stretch { from, place: None, before: until };
            };
            if let Some((block, before)) = indexed.find(audience, from) {
                let place = Place { segment: home.id, offset: block.offset, chain: block.chain };
                return Stretch { from: from.max(block.first), place: Some(place), before };
            }
            from = from.max(indexed.next);
            if from < until {
                return Stretch { from, place: Some(indexed.end), before: until };
            }
        }
    }
}

impl Indexed {
    fn find(&self, audience: Audience, from: Position) -> Option<(&Block, Position)> {
        let start = self.blocks.partition_point(|block| block.first <= from).saturating_sub(1);
        let ends = self.blocks.iter().skip(start + 1).map(|block| block.first).chain([self.next]);
        self.blocks[start..].iter().zip(ends).find(|(block, before)| *before > from && block.audiences.may_contain(audience))
    }

    fn add(&mut self, place: Place, frame: &FrameHeader, audiences: &Audiences) {
        match self.blocks.last_mut() {
            Some(block) if place.offset < block.offset + BLOCK_BYTES => block.audiences.merge(audiences),
            _ => self.blocks.push(Block { first: frame.first, offset: place.offset, chain: place.chain, audiences: *audiences }),
        }
        self.next = frame.next();
        self.end = Place { offset: place.offset + frame.frame_len(), chain: frame.checksum, ..place };
    }
}

impl From<&Walk> for Indexed {
    fn from(walk: &Walk) -> Self {
        Self { blocks: Vec::new(), next: walk.segment.first, end: walk.place() }
    }
}

impl Walk {
    fn open(events: &Events, segment: SegmentId) -> Result<Self, EventsError> {
        let seen = events.last();
        Ok(Self { segment, reader: events.open_segment(segment, segment.first)?, seen })
    }

    fn place(&self) -> Place {
        Place { segment: self.segment, offset: self.reader.offset(), chain: self.reader.chain() }
    }

    /// Adds the next frame to `indexed` and returns its size; `None` if there is none.
    fn step(&mut self, indexed: &mut Indexed) -> Result<Option<u64>, OpenError> {
        let place = self.place();
        let Step::Frame(frame) = self.reader.next_frame()? else { return Ok(None) };
        let mut audiences = Audiences::default();
        let note = |whose: Whose| {
            whose.audiences().for_each(|audience| audiences.insert(audience));
            false
        };
        frame.for_each_wanted(note, |_, _| ())?;
        indexed.add(place, &frame.header, &audiences);
        Ok(Some(frame.header.frame_len()))
    }
}

#[cfg(test)]
mod tests;
