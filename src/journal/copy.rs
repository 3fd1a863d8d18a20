//! Which files, and how much of them, are a journal up to some moment: for a copy beside a writer that goes on.
//!
//! Copies nothing itself. A copy of these files opens as after a crash, without a torn tail, and holds all that was committed before the mark
//! was taken.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use router::event::Position;

use super::error::OpenError;
use super::segment::list_segments;
use super::snapshot::{list_snapshots, snapshot_path};

/// Up to where a journal was durable at some moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    /// Number of the segment that was being written.
    pub segment: u64,
    /// How many bytes of it were synced.
    pub bytes: u64,
    /// The position that the next event was to get.
    pub next: Position,
}

/// The newest mark of a journal. A handle: clones are the same, and any thread may have one.
#[derive(Clone, Debug)]
pub struct LatestMark {
    mark: Arc<Mutex<Mark>>,
}

impl LatestMark {
    pub(super) fn new(mark: Mark) -> LatestMark {
        LatestMark { mark: Arc::new(Mutex::new(mark)) }
    }

    pub(super) fn set(&self, mark: Mark) {
        *self.mark.lock().unwrap_or_else(PoisonError::into_inner) = mark;
    }

    /// Up to where the journal is durable now. Everything that was acknowledged before is within.
    pub fn get(&self) -> Mark {
        *self.mark.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The files of a journal up to a mark.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FilesUpTo {
    /// Files that do not change any more: segments, and the newest snapshot of them. They can be linked.
    pub whole: Vec<PathBuf>,
    /// The segment that was being written. Only the bytes of the mark belong to the copy.
    pub last: PathBuf,
}

/// The files in `dir` that are the journal up to `mark`.
///
/// # Errors
/// The directory cannot be listed, or what the mark speaks of has been dropped since: a newer mark is needed then.
pub fn files_up_to(dir: &Path, mark: Mark) -> Result<FilesUpTo, OpenError> {
    // Segments before snapshots: a segment that is dropped in between is missed when it is opened, a snapshot that is not there would not be.
    let segments = list_segments(dir)?;
    let snapshot = list_snapshots(dir)?.into_iter().find(|covered| *covered < mark.segment);
    let missing = |number| OpenError::MissingSegment { dir: dir.to_path_buf(), number };
    let start = snapshot.map_or(1, |covered| covered + 1);
    let (oldest, count) = (segments.first().map_or(u64::MAX, |id| id.number), segments.partition_point(|id| id.number <= mark.segment));
    if oldest > start {
        return Err(missing(start));
    }
    if let Some((_, expected)) = segments[..count].iter().zip(oldest..).find(|(id, expected)| id.number != *expected) {
        return Err(missing(expected));
    }
    let Some((last, before)) = segments[..count].split_last().filter(|(last, _)| last.number == mark.segment) else {
        return Err(missing(mark.segment));
    };
    let whole = before.iter().map(|id| id.path(dir)).chain(snapshot.map(|covered| snapshot_path(dir, covered)));
    Ok(FilesUpTo { whole: whole.collect(), last: last.path(dir) })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use firmware_protocol::time::UnixMillis;
    use router::journal::Record;

    use super::*;
    use crate::journal::test_records::{event, one_of_each};
    use crate::journal::{CompactionOptions, Journal, Options, compact, remove_segments};

    const OPTIONS: Options = Options { segment_bytes: 2_000, frame_bytes: 700, headroom_bytes: 4_096, reserve_bytes: 0, salt: 5 };

    fn copy(from: &Path, mark: Mark) -> tempfile::TempDir {
        let to = tempfile::tempdir().unwrap();
        let files = files_up_to(from, mark).unwrap();
        for path in files.whole.iter().chain([&files.last]) {
            let mut bytes = fs::read(path).unwrap();
            if *path == files.last {
                bytes.truncate(usize::try_from(mark.bytes).unwrap());
            }
            fs::write(to.path().join(path.file_name().unwrap()), bytes).unwrap();
        }
        to
    }

    #[test]
    fn a_copy_up_to_a_mark_is_what_the_journal_was_then() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(dir.path(), OPTIONS).unwrap();
        let latest = journal.latest_mark();
        let (mut marks, mut states) = (vec![latest.get()], vec![Default::default()]);
        let mut state = crate::journal::State::default();
        for number in 0..40 {
            let mut batch = vec![Record::Event { floor: None, event: event(number) }];
            if number % 7 == 0 {
                batch.extend(one_of_each());
            }
            journal.commit(&batch).unwrap();
            batch.iter().for_each(|record| state.apply(record));
            marks.push(latest.get());
            states.push(state.clone());
        }
        assert!(journal.segments().sealed().len() > 3);
        for compacted in [false, true] {
            if compacted {
                compact(dir.path(), &journal.segments().sealed(), CompactionOptions { forget_retired_before: UnixMillis(0) }).unwrap();
            }
            for (mark, state) in marks.iter().zip(&states) {
                let copy = copy(dir.path(), *mark);
                let (journal, recovered) = Journal::open(copy.path(), OPTIONS).unwrap();
                assert_eq!((recovered.state, recovered.next_position), (state.clone(), mark.next));
                assert_eq!((recovered.report.torn_tail, journal.latest_mark().get()), (None, *mark));
            }
        }
        let covered = compact(dir.path(), &journal.segments().sealed(), CompactionOptions { forget_retired_before: UnixMillis(0) });
        remove_segments(dir.path(), &journal.segments().release(&covered.unwrap().unwrap(), Position(u64::MAX))).unwrap();
        assert!(matches!(files_up_to(dir.path(), marks[0]), Err(OpenError::MissingSegment { .. })), "it needs what was dropped");
        let copy = copy(dir.path(), latest.get());
        assert_eq!(Journal::open(copy.path(), OPTIONS).unwrap().1.state, state);
    }
}
