//! Compaction: a new snapshot from the last one and the segments since, and the removal of segments that nobody needs.
//!
//! Reads only files that do not change, so it needs no lock against the writer. One compaction at a time.

use std::fs;
use std::path::Path;

use firmware_protocol::time::UnixMillis;
use router::event::Position;

use super::error::{CompactionError, OpenError};
use super::replay::{Replay, Start};
use super::scope::Scope;
use super::segment::SealedSegment;
use super::snapshot::{list_snapshots, snapshot_path, write_snapshot};
use crate::durable;

/// How many snapshots are kept.
const SNAPSHOTS_KEPT: usize = 2;

/// What a new snapshot leaves out.
#[derive(Clone, Copy, Debug)]
pub struct CompactionOptions {
    /// Sessions retired before this are forgotten.
    pub forget_retired_before: UnixMillis,
}

/// Proof that a durable snapshot stands for the segments up to one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Covered {
    segment: u64,
    next: Position,
}

impl Covered {
    pub(super) fn new(segment: u64, next: Position) -> Covered {
        Covered { segment, next }
    }

    /// The number of the last segment that it stands for.
    pub fn segment(&self) -> u64 {
        self.segment
    }

    /// The position of the first event after that segment.
    pub fn next_position(&self) -> Position {
        self.next
    }
}

/// Makes a snapshot of the newest one in `dir` and all of `sealed` after it, and removes all but the newest two. Returns what is covered
/// now; `None` if there is nothing to cover. `sealed` is [`Segments::sealed`](super::Segments::sealed).
///
/// Holds the whole state in memory while it works.
pub fn compact(dir: &Path, sealed: &[SealedSegment], options: CompactionOptions) -> Result<Option<Covered>, CompactionError> {
    let segments: Vec<_> = sealed.iter().map(|segment| segment.id).collect();
    let Some(last) = segments.last() else { return Ok(None) };
    if let Some(newest) = list_snapshots(dir)?.first()
        && *newest > last.number
    {
        return Err(OpenError::MissingSegment { dir: dir.to_path_buf(), number: last.number + 1 }.into());
    }
    let Start { mut replay, .. } = Replay::start(dir, &segments, Scope::ALL)?;
    let before = replay.extent.segment;
    for id in segments.iter().filter(|id| id.number > before) {
        replay.sealed(dir, *id)?;
    }
    replay.check_successor(dir)?;
    let extent = replay.extent;
    if extent.segment > before {
        replay.state.forget_retired_before(options.forget_retired_before);
        let failed = |source| CompactionError::Io { doing: "write", path: snapshot_path(dir, extent.segment), source };
        write_snapshot(dir, &replay.state, extent).map_err(failed)?;
        remove_old_snapshots(dir)?;
    }
    Ok(Some(Covered { segment: extent.segment, next: extent.next }))
}

/// Removes the files of segments that were [released](super::Segments::release). Oldest first, each durably before the next, so that whatever a crash
/// leaves has no gap.
pub fn remove_segments(dir: &Path, released: &[SealedSegment]) -> Result<(), CompactionError> {
    for segment in released {
        let path = segment.path(dir);
        durable::remove_file(&path).map_err(|source| CompactionError::Io { doing: "remove", path, source })?;
    }
    Ok(())
}

/// Not synced: a snapshot that comes back after a crash is removed by the next compaction.
fn remove_old_snapshots(dir: &Path) -> Result<(), CompactionError> {
    for old in list_snapshots(dir)?.into_iter().skip(SNAPSHOTS_KEPT) {
        let path = snapshot_path(dir, old);
        fs::remove_file(&path).map_err(|source| CompactionError::Io { doing: "remove", path, source })?;
    }
    Ok(())
}
