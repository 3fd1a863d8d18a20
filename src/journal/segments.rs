//! Which segments there are: one list that the writer extends, readers look into, and whoever removes segments shortens.
//!
//! The lock is held for moments in memory only. The writer takes it when it begins a segment, never for a commit.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use router::event::Position;

use super::compaction::Covered;
use super::segment::{SealedSegment, SegmentId};

/// The segments of a journal. Cheap to clone: clones are the same list.
#[derive(Clone, Debug)]
pub struct Segments {
    list: Arc<Mutex<List>>,
}

#[derive(Debug)]
struct List {
    /// Oldest first.
    sealed: VecDeque<SealedSegment>,
    current: SegmentId,
}

/// Where an event is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Home {
    pub(super) id: SegmentId,
    /// Position of the first event after the segment, once it is sealed.
    pub(super) next: Option<Position>,
}

impl Segments {
    pub(super) fn new(sealed: Vec<SealedSegment>, current: SegmentId) -> Segments {
        Segments { list: Arc::new(Mutex::new(List { sealed: sealed.into(), current })) }
    }

    /// Those that will not change any more, oldest first.
    pub fn sealed(&self) -> Vec<SealedSegment> {
        self.list().sealed.iter().copied().collect()
    }

    /// The newest of them.
    pub fn last_sealed(&self) -> Option<SealedSegment> {
        self.list().sealed.back().copied()
    }

    /// Position of the oldest event that is kept; that of the next one if there is none.
    pub fn oldest(&self) -> Position {
        let list = self.list();
        list.sealed.front().map_or(list.current, |segment| segment.id).first
    }

    /// Number of the oldest segment.
    pub(super) fn oldest_number(&self) -> u64 {
        let list = self.list();
        list.sealed.front().map_or(list.current, |segment| segment.id).number
    }

    /// Gives up the oldest segments, as far as a snapshot covers them and all their events are before `keep_from`. The files are still
    /// there: [`remove_segments`](super::remove_segments) removes them.
    pub fn release(&self, covered: &Covered, keep_from: Position) -> Vec<SealedSegment> {
        let sealed = &mut self.list().sealed;
        let kept = sealed.iter().position(|segment| segment.number() > covered.segment() || segment.next > keep_from);
        sealed.drain(..kept.unwrap_or(sealed.len())).collect()
    }

    /// The file that is being written, in the journal's directory `dir`.
    pub fn current_path(&self, dir: &Path) -> PathBuf {
        self.list().current.path(dir)
    }

    /// The segment that is being written.
    pub(super) fn current(&self) -> SegmentId {
        self.list().current
    }

    /// The segment that has, or will have, the event at `position`, unless that has been given up.
    pub(super) fn home(&self, position: Position) -> Option<Home> {
        let list = self.list();
        if list.current.first <= position {
            return Some(Home { id: list.current, next: None });
        }
        let after = list.sealed.partition_point(|segment| segment.id.first <= position);
        let segment = list.sealed.get(after.checked_sub(1)?)?;
        Some(Home { id: segment.id, next: Some(segment.next) })
    }

    /// The segment after `segment`, if that is sealed and neither has been given up.
    pub(super) fn after(&self, segment: SegmentId) -> Option<SegmentId> {
        let list = self.list();
        let at = list.sealed.iter().position(|sealed| sealed.id.number == segment.number)?;
        Some(list.sealed.get(at + 1).map_or(list.current, |sealed| sealed.id))
    }

    /// From now on `next` is being written.
    pub(super) fn seal(&self, next: SegmentId) {
        let mut list = self.list();
        let sealed = SealedSegment { id: list.current, next: next.first };
        list.sealed.push_back(sealed);
        list.current = next;
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64, first: u64) -> SegmentId {
        SegmentId { number, first: Position(first) }
    }

    #[test]
    fn a_position_is_found_in_the_last_segment_that_begins_at_or_before_it() {
        let segments = Segments::new(Vec::new(), id(1, 1));
        for next in [id(2, 10), id(3, 10), id(4, 20)] {
            segments.seal(next);
        }
        let homes = [1, 9, 10, 19, 20, 99].map(|position| segments.home(Position(position)).map(|home| home.id.number));
        assert_eq!(homes, [Some(1), Some(1), Some(3), Some(3), Some(4), Some(4)]);
        assert_eq!((segments.oldest(), segments.last_sealed().map(|last| last.number())), (Position(1), Some(3)));

        let covered = Covered::new(2, Position(10));
        assert_eq!(segments.release(&covered, Position(9)).len(), 0, "position 9 is wanted");
        assert_eq!(segments.release(&covered, Position(99)).len(), 2, "no more than is covered");
        assert!(segments.home(Position(9)).is_none());
        assert_eq!(segments.oldest(), Position(10));
    }
}
