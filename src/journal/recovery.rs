//! Opening a journal: what is there, what of it counts, and making sure that what counts is on disk.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use router::event::Position;

use super::compaction::Covered;
use super::error::OpenError;
use super::replay::{Last, Replay, Start};
use super::scope::Scope;
use super::segment::{SealedSegment, SegmentId, list_segments};
use super::state::State;
use crate::durable;

/// What a journal held when it was opened.
#[derive(Debug)]
pub struct Recovered {
    /// All records together.
    pub state: State,
    /// The position that the next event will get.
    pub next_position: Position,
    /// What the snapshot that was used stands for.
    pub covered: Option<Covered>,
    /// How it was read.
    pub report: RecoveryReport,
}

/// How a journal was read.
#[derive(Debug, Default)]
pub struct RecoveryReport {
    /// The snapshot that was used, by the last segment it covers.
    pub snapshot: Option<u64>,
    /// Damaged snapshots that were passed over because an older one, or the whole journal, was there.
    pub damaged_snapshots: Vec<OpenError>,
    /// Segments that were read.
    pub segments: u64,
    /// Records that were read.
    pub records: u64,
    /// What was cut from the end.
    pub torn_tail: Option<TornTail>,
}

/// The end of the last segment that a crash left incomplete. Nobody had been told that it was kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TornTail {
    /// The segment's file.
    pub segment: PathBuf,
    /// Where it was cut.
    pub offset: u64,
    /// How much was cut.
    pub bytes_cut: u64,
    /// What did not hold there.
    pub what: &'static str,
}

/// The last segment, ready to be written on.
#[derive(Debug)]
pub(super) struct Reopened {
    pub(super) file: File,
    pub(super) id: SegmentId,
    pub(super) salt: u64,
    pub(super) end: u64,
    /// Length of the file, zeros at its end included.
    pub(super) length: u64,
    pub(super) chain: u32,
}

/// Reads the journal in `dir`. Returns the segments before the last, and the last if there is any.
pub(super) fn recover(dir: &Path) -> Result<(Recovered, Vec<SealedSegment>, Option<Reopened>), OpenError> {
    let segments = list_segments(dir)?;
    let Start { mut replay, snapshot, damaged } = Replay::start(dir, &segments, Scope::ALL)?;
    let sealed = seal(dir, &segments)?;
    let covered = snapshot.map(|segment| Covered::new(segment, replay.extent.next));
    let before = replay.extent.segment;
    let mut torn_tail = None;
    let mut reopened = None;
    if let Some(last) = segments.last().copied() {
        for segment in sealed.iter().filter(|segment| segment.number() > before) {
            replay.sealed(dir, segment.id)?;
        }
        let found = replay.last(dir, last)?;
        torn_tail = found.torn.map(|what| found.tail(dir, what));
        reopened = Some(found.reopen(dir, replay.extent.chain)?);
    }
    let report = RecoveryReport { snapshot, damaged_snapshots: damaged, segments: replay.segments, records: replay.records, torn_tail };
    Ok((Recovered { state: replay.state, next_position: replay.extent.next, covered, report }, sealed, reopened))
}

/// All segments but the last. Their numbers must have no gap, even where a snapshot covers them: readers still need them.
fn seal(dir: &Path, segments: &[SegmentId]) -> Result<Vec<SealedSegment>, OpenError> {
    let sealed = segments.windows(2).map(|pair| {
        if pair[1].number != pair[0].number + 1 {
            return Err(OpenError::MissingSegment { dir: dir.to_path_buf(), number: pair[0].number + 1 });
        }
        if pair[1].first < pair[0].first {
            let (path, expected, found) = (pair[1].path(dir), pair[0].first, pair[1].first);
            return Err(OpenError::NotDense { path, offset: 0, expected, found });
        }
        Ok(SealedSegment { id: pair[0], next: pair[1].first })
    });
    sealed.collect()
}

/// Removes what an interrupted run left unfinished.
pub(super) fn remove_temporary_files(dir: &Path) -> Result<(), OpenError> {
    for entry in fs::read_dir(dir).map_err(OpenError::io("list", dir))? {
        let path = entry.map_err(OpenError::io("list", dir))?.path();
        if path.extension().is_some_and(|extension| extension == "tmp") {
            fs::remove_file(&path).map_err(OpenError::io("remove", &path))?;
        }
    }
    Ok(())
}

impl Last {
    fn tail(&self, dir: &Path, what: &'static str) -> TornTail {
        TornTail { segment: self.header.id.path(dir), offset: self.end, bytes_cut: self.length - self.end, what }
    }

    /// Cuts the torn tail, and makes durable what follows the last bytes that are known to be.
    fn reopen(self, dir: &Path, chain: u32) -> Result<Reopened, OpenError> {
        let path = self.header.id.path(dir);
        let file = File::options().read(true).write(true).open(&path).map_err(OpenError::io("open", &path))?;
        if self.torn.is_some() {
            file.set_len(self.end).map_err(OpenError::io("cut", &path))?;
        }
        write_again(&file, self.vouched, self.end).map_err(OpenError::io("rewrite the end of", &path))?;
        if self.torn.is_some() || self.vouched < self.end {
            durable::sync_file(&file).map_err(OpenError::io("sync", &path))?;
        }
        let length = if self.torn.is_some() { self.end } else { self.length };
        Ok(Reopened { file, id: self.header.id, salt: self.header.salt, end: self.end, length, chain })
    }
}

/// Writes what is between the offsets once more, unchanged.
///
/// The process before this one may have been killed before its sync, or its sync may have failed. In the second case the kernel has marked
/// the pages as clean: they are read from memory, and a sync alone would not write them.
fn write_again(file: &File, from: u64, to: u64) -> std::io::Result<()> {
    const CHUNK_BYTES: usize = 1 << 20;
    let mut buffer = Vec::new();
    let mut at = from;
    while at < to {
        buffer.resize(usize::try_from(to - at).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES), 0);
        file.read_exact_at(&mut buffer, at)?;
        file.write_all_at(&buffer, at)?;
        at += buffer.len() as u64;
    }
    Ok(())
}
