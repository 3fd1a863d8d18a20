//! Going through segments in order: every frame must follow the one before it, up to where the data ends.

use std::path::Path;

use router::event::Position;

use super::alike::Alike;
use super::error::OpenError;
use super::scope::Scope;
use super::segment::{SEGMENT_HEADER_LEN, SegmentHeader, SegmentId, SegmentReader, Step};
use super::snapshot::{Extent, LoadError, list_snapshots, load_snapshot};
use super::state::State;

/// The state after some first part of the journal, as far as it is wanted.
#[derive(Debug)]
pub(super) struct Replay<'a> {
    pub(super) state: State,
    scope: Scope<'a>,
    alike: Alike,
    /// How far that part reaches.
    pub(super) extent: Extent,
    /// Segments that were read.
    pub(super) segments: u64,
    /// Records that were read.
    pub(super) records: u64,
}

/// Where a replay starts.
#[derive(Debug)]
pub(super) struct Start<'a> {
    pub(super) replay: Replay<'a>,
    /// The snapshot that was used, by the last segment it covers.
    pub(super) snapshot: Option<u64>,
    /// Damaged snapshots that were passed over, newest first.
    pub(super) damaged: Vec<OpenError>,
}

/// The last segment, as far as it is good.
#[derive(Debug)]
pub(super) struct Last {
    pub(super) header: SegmentHeader,
    /// Up to here a later frame says that the data was synced.
    pub(super) vouched: u64,
    /// End of the last good frame.
    pub(super) end: u64,
    /// Length of the file.
    pub(super) length: u64,
    /// Why the next frame is not one, if anything but zeros follows.
    pub(super) torn: Option<&'static str>,
}

impl<'a> Replay<'a> {
    /// A journal from its first record on.
    fn from_nothing(scope: Scope<'a>) -> Self {
        Replay {
            state: State::default(),
            scope,
            alike: Alike::default(),
            extent: Extent { segment: 0, next: Position(1), chain: 0 },
            segments: 0,
            records: 0,
        }
    }

    /// The newest usable snapshot, or nothing if there never was one. `segments` are those that exist, by number.
    ///
    /// A damaged snapshot is passed over only if every segment since the one before it is still there.
    pub(super) fn start(dir: &Path, segments: &[SegmentId], scope: Scope<'a>) -> Result<Start<'a>, OpenError> {
        let oldest = segments.first().map(|id| id.number);
        let mut damaged = Vec::new();
        for snapshot in list_snapshots(dir)?.into_iter().filter(|snapshot| scope.allows(*snapshot)) {
            match load_snapshot(dir, snapshot, scope) {
                Ok((state, alike, extent)) => {
                    let replay = Replay { state, scope, alike, extent, segments: 0, records: 0 };
                    return Start { replay, snapshot: Some(snapshot), damaged }.reaching(dir, oldest);
                }
                Err(LoadError::Refused(error)) => return Err(error),
                Err(LoadError::Invalid(error)) => damaged.push(error),
            }
        }
        let start = Start { replay: Replay::from_nothing(scope), snapshot: None, damaged };
        if segments.is_empty() && start.damaged.is_empty() { Ok(start) } else { start.reaching(dir, oldest) }
    }

    /// Takes in a segment that is not the last.
    pub(super) fn sealed(&mut self, dir: &Path, id: SegmentId) -> Result<(), OpenError> {
        let mut reader = self.enter(dir, id)?;
        match self.frames(&mut reader)? {
            Some(what) if !reader.only_zeros_follow()? => Err(OpenError::damaged(reader.path(), reader.offset(), what)),
            _ => Ok(()),
        }
    }

    /// Takes in the segment that is being written, up to where it is durable.
    pub(super) fn up_to(&mut self, dir: &Path, id: SegmentId, bytes: u64) -> Result<(), OpenError> {
        let mut reader = self.enter(dir, id)?;
        let invalid = self.frames_noting(&mut reader, bytes, |_| ())?;
        match invalid {
            None if reader.offset() >= bytes => Ok(()),
            what => Err(OpenError::damaged(reader.path(), reader.offset(), what.unwrap_or("the segment is shorter than it was"))),
        }
    }

    /// Takes in the last segment.
    pub(super) fn last(&mut self, dir: &Path, id: SegmentId) -> Result<Last, OpenError> {
        let mut reader = self.enter(dir, id)?;
        let mut vouched = SEGMENT_HEADER_LEN;
        let invalid = self.frames_noting(&mut reader, u64::MAX, |durable_up_to| vouched = vouched.max(durable_up_to))?;
        let torn = match invalid {
            Some(what) if !reader.only_zeros_follow()? => Some(what),
            _ => None,
        };
        let (path, offset) = (reader.path().to_path_buf(), reader.offset());
        if vouched > offset {
            return Err(OpenError::damaged(&path, offset, "a frame speaks of synced bytes after itself"));
        }
        if torn.is_some()
            && let Some(witness) = reader.witness_of_loss()?
        {
            return Err(OpenError::SyncedDataDamaged { path, offset, witness });
        }
        Ok(Last { header: reader.header(), vouched, end: offset, length: reader.length(), torn })
    }

    /// Checks that the segment after those taken in goes on where they end. Without this, frames that are missing from the end of a segment
    /// would not be missed.
    pub(super) fn check_successor(&self, dir: &Path) -> Result<(), OpenError> {
        let id = SegmentId { number: self.extent.segment + 1, first: self.extent.next };
        self.open(dir, id).map(drop)
    }

    fn enter(&mut self, dir: &Path, id: SegmentId) -> Result<SegmentReader, OpenError> {
        let reader = self.open(dir, id)?;
        self.extent.segment = id.number;
        self.extent.chain = reader.chain();
        self.segments += 1;
        Ok(reader)
    }

    fn open(&self, dir: &Path, id: SegmentId) -> Result<SegmentReader, OpenError> {
        if id.number != self.extent.segment + 1 {
            return Err(OpenError::MissingSegment { dir: dir.to_path_buf(), number: self.extent.segment + 1 });
        }
        let reader = SegmentReader::open(dir, id)?;
        self.expect(reader.path(), 0, id.first)?;
        if reader.header().previous != self.extent.chain {
            return Err(OpenError::damaged(reader.path(), 0, "the segment does not follow the end of the one before it"));
        }
        Ok(reader)
    }

    fn frames(&mut self, reader: &mut SegmentReader) -> Result<Option<&'static str>, OpenError> {
        self.frames_noting(reader, u64::MAX, |_| ())
    }

    /// Applies all good frames that begin before this offset. Returns why the next is not one, if the file does not end there.
    fn frames_noting(
        &mut self,
        reader: &mut SegmentReader,
        before: u64,
        mut durable_up_to: impl FnMut(u64),
    ) -> Result<Option<&'static str>, OpenError> {
        while reader.offset() < before {
            let path = reader.path().to_path_buf();
            match reader.next_frame()? {
                Step::End => return Ok(None),
                Step::Invalid(what) => return Ok(Some(what)),
                Step::Frame(frame) => {
                    self.expect(&path, frame.offset, frame.header.first)?;
                    frame.for_each(|record| {
                        if self.scope.concerns(&record) {
                            self.state.apply(&record);
                            self.state.share(&record, &mut self.alike);
                        }
                        self.records += 1;
                    })?;
                    durable_up_to(frame.header.durable_up_to);
                    self.extent.next = frame.header.next();
                    self.extent.chain = frame.header.checksum;
                }
            }
        }
        Ok(None)
    }

    fn expect(&self, path: &Path, offset: u64, found: Position) -> Result<(), OpenError> {
        let expected = self.extent.next;
        if found == expected { Ok(()) } else { Err(OpenError::NotDense { path: path.to_path_buf(), offset, expected, found }) }
    }
}

impl<'a> Start<'a> {
    /// Refuses a start that the segments do not reach back to.
    fn reaching(mut self, dir: &Path, oldest: Option<u64>) -> Result<Start<'a>, OpenError> {
        let wanted = self.replay.extent.segment + 1;
        if oldest.is_some_and(|oldest| oldest <= wanted) {
            return Ok(self);
        }
        // The damage of the newest snapshot is the cause, if there is one; the missing segment only follows from it.
        let missing = OpenError::MissingSegment { dir: dir.to_path_buf(), number: wanted };
        Err(if self.damaged.is_empty() { missing } else { self.damaged.swap_remove(0) })
    }
}
