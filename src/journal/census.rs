//! How many events there really are: the journal's records counted one by one, not by their positions.
//!
//! Every frame is read once and its checksum checked; payloads of records are not looked at. What a segment was found to hold is remembered for
//! each MiB of it, so that asking again costs no more than that. A segment that has been counted is not read again by this process.

use std::collections::BTreeMap;

use router::event::Position;

use super::error::{EventsError, OpenError};
use super::events::{Events, Place};
use super::segment::{SegmentId, SegmentReader, Step};
use super::segments::Home;

/// Bytes of a segment that are counted together, and once more if a position is among them.
const BLOCK_BYTES: u64 = 1 << 20;

/// The events of a journal as they are on disk.
#[derive(Debug)]
pub struct Census {
    events: Events,
    /// By number.
    segments: BTreeMap<u64, Counted>,
}

/// What was found in a segment so far.
#[derive(Debug)]
struct Counted {
    blocks: Vec<Block>,
    segment: SegmentId,
    /// Position of the first event that has not been looked for.
    next: Position,
    /// Up to where the file was read.
    end: u64,
    /// Reads on. `None` once all of the segment was counted.
    walk: Option<SegmentReader>,
}

#[derive(Debug)]
struct Block {
    first: Position,
    place: Place,
    found: u64,
}

impl Census {
    /// Nothing is counted yet.
    pub fn new(events: Events) -> Self {
        Self { events, segments: BTreeMap::new() }
    }

    /// Counts from the segment with the event at `from` on up to the event at `upto`, which must be the last of a commit, but not much more than
    /// `bytes_max` of what was not counted before. `true` if that was all.
    ///
    /// # Errors
    /// A segment cannot be read, or was dropped meanwhile.
    pub fn count(&mut self, from: Position, upto: Position, bytes_max: u64) -> Result<bool, EventsError> {
        self.forget();
        let (mut at, mut bytes) = (from.max(self.events.oldest()), 0);
        while at <= upto {
            let Some(home) = self.events.segments().home(at) else { return Ok(false) };
            bytes += self.count_in(home, upto, bytes_max - bytes)?;
            match home.next {
                _ if bytes >= bytes_max => return Ok(false),
                Some(next) => at = next,
                None => break,
            }
        }
        Ok(true)
    }

    /// Counts about `bytes_max` of an older segment, the newest that was not. `true` if there is none.
    ///
    /// # Errors
    /// As for [`Census::count`].
    pub fn reach_back(&mut self, bytes_max: u64) -> Result<bool, EventsError> {
        let sealed = self.events.segments().sealed();
        let is_open = |number| self.segments.get(&number).is_none_or(|counted| counted.walk.is_some());
        let Some(segment) = sealed.iter().rev().find(|segment| is_open(segment.number())) else { return Ok(true) };
        let home = Home { id: segment.id, next: Some(segment.next) };
        self.count_in(home, segment.next, bytes_max).map(|_| false)
    }

    /// How many events were found after this position, up to where was counted.
    ///
    /// # Errors
    /// As for [`Census::count`].
    pub fn found_after(&self, position: Position) -> Result<u64, EventsError> {
        let later = self.segments.values().filter(|counted| counted.next > position.next());
        later.map(|counted| counted.found_after(&self.events, position)).sum()
    }

    /// How many events were not found where they should be, as far as was counted.
    pub fn missing(&self) -> u64 {
        self.segments.values().map(Counted::missing).sum()
    }

    /// Reads on in the segment at `home`: how many bytes that was.
    fn count_in(&mut self, home: Home, upto: Position, bytes_max: u64) -> Result<u64, EventsError> {
        let counted = match self.segments.get_mut(&home.id.number) {
            Some(counted) => counted,
            None => self.segments.entry(home.id.number).or_insert(Counted::open(&self.events, home.id)?),
        };
        Ok(counted.go_on(home, upto, bytes_max)?)
    }

    /// Forgets segments that are gone.
    fn forget(&mut self) {
        let oldest = self.events.segments().oldest_number();
        self.segments.retain(|number, _| *number >= oldest);
    }
}

impl Counted {
    fn open(events: &Events, segment: SegmentId) -> Result<Self, EventsError> {
        let reader = events.open_segment(segment, segment.first)?;
        Ok(Self { blocks: Vec::new(), segment, next: segment.first, end: reader.offset(), walk: Some(reader) })
    }

    fn go_on(&mut self, home: Home, upto: Position, bytes_max: u64) -> Result<u64, OpenError> {
        let Some(mut reader) = self.walk.take() else { return Ok(0) };
        let read = self.read(&mut reader, upto, bytes_max);
        self.end = reader.offset();
        let ended = matches!(read, Ok((_, true)));
        match home.next.filter(|next| ended || self.next >= *next) {
            Some(next) => self.next = self.next.max(next),
            None => self.walk = Some(reader),
        }
        read.map(|(bytes, _)| bytes)
    }

    /// How many bytes were read, and whether there was nothing more to read.
    fn read(&mut self, reader: &mut SegmentReader, upto: Position, bytes_max: u64) -> Result<(u64, bool), OpenError> {
        reader.refresh()?;
        let mut bytes = 0;
        while bytes < bytes_max && self.next <= upto {
            let place = Place { segment: self.segment, offset: reader.offset(), chain: reader.chain() };
            let Step::Frame(frame) = reader.next_frame()? else { return Ok((bytes, true)) };
            bytes += frame.header.frame_len();
            let found = frame.count_events(Position(0));
            self.add(place, frame.header.first, found);
            self.next = self.next.max(frame.header.next());
        }
        Ok((bytes, false))
    }

    fn add(&mut self, place: Place, first: Position, found: u64) {
        match self.blocks.last_mut() {
            Some(block) if place.offset < block.place.offset + BLOCK_BYTES => block.found += found,
            _ => self.blocks.push(Block { first, place, found }),
        }
    }

    fn found_after(&self, events: &Events, position: Position) -> Result<u64, EventsError> {
        let later = self.blocks.partition_point(|block| block.first <= position);
        let found = self.blocks[later..].iter().map(|block| block.found).sum::<u64>();
        let Some(split) = later.checked_sub(1).map(|at| &self.blocks[at]) else { return Ok(found) };
        let end = self.blocks.get(later).map_or(self.end, |block| block.place.offset);
        Ok(found + split.count_again(events, position, end)?)
    }

    fn missing(&self) -> u64 {
        let found = self.blocks.iter().map(|block| block.found).sum::<u64>();
        self.next.0.saturating_sub(self.segment.first.0).saturating_sub(found)
    }
}

impl Block {
    /// How many events there are after this position, up to where the block ends in the file.
    fn count_again(&self, events: &Events, position: Position, end: u64) -> Result<u64, EventsError> {
        let mut reader = events.open_segment(self.place.segment, self.place.segment.first)?;
        reader.seek(self.place.offset, self.place.chain);
        let mut found = 0;
        while reader.offset() < end
            && let Step::Frame(frame) = reader.next_frame()?
        {
            found += frame.count_events(position);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
