//! The journal itself: one writer that appends batches and syncs each once.

use std::fs::File;
use std::path::{Path, PathBuf};

use router::event::Position;
use router::journal::Record;

use super::copy::{LatestMark, Mark};
use super::disk;
use super::error::{CommitError, OpenError};
use super::events::Events;
use super::frame::{self, FRAME_BYTES_MAX, Place};
use super::recovery::{self, Recovered, Reopened};
use super::segment::{self, SEGMENT_HEADER_LEN, SegmentHeader, SegmentId};
use super::segments::Segments;
use crate::durable;

const DIRECTORY_MODE: u32 = 0o700;

/// How a journal is written. Any journal can be opened with any options.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// A segment that has reached this size is followed by another.
    pub segment_bytes: u64,
    /// A batch is split into frames of about this size, at most 8 MiB.
    pub frame_bytes: usize,
    /// The current segment is filled with zeros up to a multiple of this, ahead of what is written. A sync that overwrites them changes no
    /// metadata, which makes it nearly twice as fast.
    pub headroom_bytes: u64,
    /// So many of these zeros are touched by [`Journal::commit_from_reserve`] only, so that there is room when the disk is full.
    pub reserve_bytes: u64,
    /// A random number, different at each start of the process.
    pub salt: u64,
}

impl Options {
    /// Segments of 64 MiB, frames and headroom of 1 MiB, a reserve of 4 MiB: a thousand new sessions with all that their devices say.
    pub fn new(salt: u64) -> Options {
        Options { segment_bytes: 64 << 20, frame_bytes: 1 << 20, headroom_bytes: 1 << 20, reserve_bytes: 4 << 20, salt }
    }

    /// Up to where a segment is filled ahead that is written up to `end`.
    fn filled(&self, end: u64) -> u64 {
        (end + self.reserve_bytes).next_multiple_of(self.headroom_bytes.max(1))
    }
}

/// What became of a batch: all of it is durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Committed {
    /// The position of its first event; that of the next event if it had none.
    pub first: Position,
    /// How many events it had. Their positions follow each other from `first`, in the order of the batch.
    pub events: u64,
}

/// The durable log of the acknowledgement path. One per directory: the caller holds a lock on it.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    options: Options,
    segments: Segments,
    current: Current,
    next: Position,
    events: Events,
    mark: LatestMark,
    /// The frames of the batch that is being committed; kept for its memory.
    batch: Vec<u8>,
    /// Why nothing can be committed any more.
    broken: Option<String>,
}

/// The segment that is being written.
#[derive(Debug)]
struct Current {
    file: File,
    id: SegmentId,
    salt: u64,
    /// Up to here everything is written and synced.
    offset: u64,
    /// Length of the file: from `offset` to here there are zeros.
    length: u64,
    chain: u32,
}

impl Journal {
    /// Opens the journal in `dir`, and makes an empty one if there is none.
    ///
    /// # Errors
    ///
    /// Refuses whatever would mean to go on without data that had been acknowledged; nothing is changed then, except that temporary
    /// files may be gone.
    pub fn open(dir: &Path, options: Options) -> Result<(Journal, Recovered), OpenError> {
        let created = durable::create_directory(dir, DIRECTORY_MODE).map_err(OpenError::io("create", dir))?;
        recovery::remove_temporary_files(dir)?;
        let (recovered, sealed, reopened) = recovery::recover(dir)?;
        let current = match reopened {
            Some(reopened) => {
                // A process that was killed may have renamed this segment without coming to the sync of its name.
                durable::sync_directory(dir).map_err(OpenError::io("sync", dir))?;
                Current::from(reopened)
            }
            None => {
                if !created {
                    durable::sync_name(dir).map_err(OpenError::io("sync the name of", dir))?;
                }
                let header = SegmentHeader { previous: 0, id: SegmentId { number: 1, first: Position(1) }, salt: options.salt };
                let failed = |error: CommitError| OpenError::io("create the first segment in", dir)(error.into_io());
                Current::create(dir, header, &options).map_err(failed)?
            }
        };
        let next = recovered.next_position;
        let segments = Segments::new(sealed, current.id);
        let events = Events::new(dir.to_path_buf(), segments.clone(), Position(next.0 - 1));
        let mark = LatestMark::new(current.mark(next));
        let dir = dir.to_path_buf();
        let journal = Journal { dir, options, segments, current, next, events, mark, batch: Vec::new(), broken: None };
        Ok((journal, recovered))
    }

    /// Appends `batch` and syncs it. An empty batch is an empty frame: proof that the disk still works and has room.
    ///
    /// # Errors
    ///
    /// A full disk and a record that is too large leave the journal as it was. After any other error every later commit is refused.
    ///
    /// A disk counts as full when there would be no reserve left. A batch that is refused for that was not written at all, unless the file
    /// system needs room to overwrite what is there (btrfs, ZFS): then it may be found, in part, if power is lost before the next commit
    /// succeeds.
    pub fn commit(&mut self, batch: &[Record]) -> Result<Committed, CommitError> {
        self.unless_broken(|journal| {
            if journal.current.offset >= journal.options.segment_bytes {
                journal.roll()?;
            }
            let options = journal.options;
            journal.append(batch, |end| options.filled(end))
        })
    }

    /// The same for a batch that may use up the reserve, which the next [`Journal::commit`] makes again if it can. It begins no new segment.
    ///
    /// # Errors
    ///
    /// As for [`Journal::commit`]; a disk counts as full when the reserve is used up.
    pub fn commit_from_reserve(&mut self, batch: &[Record]) -> Result<Committed, CommitError> {
        self.unless_broken(|journal| journal.append(batch, |end| end))
    }

    fn unless_broken(&mut self, commit: impl FnOnce(&mut Self) -> Result<Committed, CommitError>) -> Result<Committed, CommitError> {
        if let Some(cause) = &self.broken {
            return Err(CommitError::Broken(cause.clone()));
        }
        let committed = commit(self);
        if let Err(error @ (CommitError::Write(_) | CommitError::Sync(_))) = &committed {
            self.broken = Some(error.to_string());
        }
        committed
    }

    /// `filled` says up to where there must be zeros or frames, for frames up to some end.
    fn append(&mut self, batch: &[Record], filled: impl FnOnce(u64) -> u64) -> Result<Committed, CommitError> {
        let Current { salt, offset, chain, .. } = self.current;
        let place = Place { salt, first: self.next, durable_up_to: offset, chain };
        self.batch.clear();
        let encoded = frame::put_frames(&mut self.batch, batch, self.options.frame_bytes.min(FRAME_BYTES_MAX), place);
        let encoded = encoded.map_err(|error| CommitError::RecordTooLarge { bytes: error.bytes, limit: error.limit })?;
        let end = offset + self.batch.len() as u64;
        self.current.fill_ahead(filled(end))?;
        self.current.write(&self.batch)?;
        disk::sync(&self.current.file)?;

        self.current.offset = end;
        self.current.chain = encoded.chain;
        let first = self.next;
        self.next = Position(first.0 + encoded.events);
        self.events.advance(Position(self.next.0 - 1));
        self.mark.set(self.current.mark(self.next));
        self.batch.shrink_to(2 * FRAME_BYTES_MAX);
        Ok(Committed { first, events: encoded.events })
    }

    fn roll(&mut self) -> Result<(), CommitError> {
        let id = SegmentId { number: self.current.id.number + 1, first: self.next };
        let header = SegmentHeader { previous: self.current.chain, id, salt: self.options.salt };
        let next = Current::create(&self.dir, header, &self.options)?;
        let full = std::mem::replace(&mut self.current, next);
        self.segments.seal(id);
        // Only to save room: zeros at the end mean the same.
        let _ = full.file.set_len(full.offset);
        Ok(())
    }

    /// The position that the next event will get.
    pub fn next_position(&self) -> Position {
        self.next
    }

    /// A handle from which any thread can read events.
    pub fn events(&self) -> Events {
        self.events.clone()
    }

    /// A handle that says up to where the journal is durable, on any thread.
    pub fn latest_mark(&self) -> LatestMark {
        self.mark.clone()
    }

    /// The segments that there are. Any thread may have a handle.
    pub fn segments(&self) -> Segments {
        self.segments.clone()
    }
}

#[cfg(test)]
impl Journal {
    /// The file that is being written, and up to where it is synced.
    pub(super) fn end(&self) -> (PathBuf, u64) {
        (self.current.id.path(&self.dir), self.current.offset)
    }
}

impl Current {
    fn create(dir: &Path, header: SegmentHeader, options: &Options) -> Result<Current, CommitError> {
        let (offset, length) = (SEGMENT_HEADER_LEN, options.filled(SEGMENT_HEADER_LEN));
        let file = segment::create_segment(dir, header, length)?;
        Ok(Current { file, id: header.id, salt: header.salt, offset, length, chain: header.chain() })
    }

    /// Up to where everything is durable, `next` being the position of the next event.
    fn mark(&self, next: Position) -> Mark {
        Mark { segment: self.id.number, bytes: self.offset, next }
    }

    /// Sees to zeros up to `filled`, unless they are there already.
    fn fill_ahead(&mut self, filled: u64) -> Result<(), CommitError> {
        if filled <= self.length {
            return Ok(());
        }
        let written = disk::write_zeros(&self.file, self.length, filled);
        if matches!(written, Err(CommitError::NoSpace(_))) {
            self.cut(self.length)?;
        }
        written?;
        self.length = filled;
        Ok(())
    }

    /// Writes the frames of a batch over zeros. If there is no room even for that, takes back what was written of them.
    fn write(&mut self, frames: &[u8]) -> Result<(), CommitError> {
        let written = disk::write_at(&self.file, frames, self.offset);
        if matches!(written, Err(CommitError::NoSpace(_))) {
            self.cut(self.offset)?;
        }
        written
    }

    fn cut(&mut self, length: u64) -> Result<(), CommitError> {
        self.file.set_len(length).map_err(CommitError::Write)?;
        self.length = length;
        Ok(())
    }
}

impl From<Reopened> for Current {
    fn from(Reopened { file, id, salt, end, length, chain }: Reopened) -> Current {
        Current { file, id, salt, offset: end, length, chain }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::test_records::{event, one_of_each};

    fn journal() -> (tempfile::TempDir, Journal) {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(dir.path(), Options::new(1)).unwrap();
        (dir, journal)
    }

    fn device(path: &str) -> File {
        File::options().read(true).write(true).open(path).unwrap()
    }

    fn an_event() -> [Record; 1] {
        [Record::Event { floor: None, event: event(1) }]
    }

    #[test]
    fn after_a_failed_sync_every_commit_is_refused() {
        let (_dir, mut journal) = journal();
        let good = std::mem::replace(&mut journal.current.file, device("/dev/null"));
        assert!(matches!(journal.commit(&an_event()), Err(CommitError::Sync(_))));
        journal.current.file = good;
        assert!(matches!(journal.commit(&an_event()), Err(CommitError::Broken(_))));
        assert!(matches!(journal.commit(&[]), Err(CommitError::Broken(_))));
        assert_eq!(journal.events().last(), Position(0));
    }

    #[test]
    fn zeros_are_written_ahead_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { headroom_bytes: 4_096, reserve_bytes: 0, ..Options::new(1) };
        let length = |journal: &Journal| std::fs::metadata(journal.end().0).unwrap().len();
        let (mut journal, _) = Journal::open(dir.path(), options).unwrap();
        journal.commit(&an_event()).unwrap();
        assert_eq!(length(&journal), 4_096);
        let (mut journal, recovered) = Journal::open(dir.path(), options).unwrap();
        assert!(recovered.report.torn_tail.is_none());
        assert_eq!(journal.current.length, 4_096);
        while journal.end().1 <= 4_096 {
            assert_eq!(length(&journal), 4_096, "what is there is overwritten");
            journal.commit(&an_event()).unwrap();
        }
        assert_eq!(length(&journal), 8_192);
    }

    #[test]
    fn after_a_failed_write_every_commit_is_refused() {
        let (_dir, mut journal) = journal();
        let good = std::mem::replace(&mut journal.current.file, File::open("/dev/null").unwrap());
        assert!(matches!(journal.commit(&an_event()), Err(CommitError::Write(_))));
        journal.current.file = good;
        assert!(matches!(journal.commit(&an_event()), Err(CommitError::Broken(_))));
    }

    #[test]
    fn a_full_disk_that_cannot_be_tidied_up_is_a_failed_write() {
        let (_dir, mut journal) = journal();
        journal.current.file = device("/dev/full");
        assert!(matches!(journal.commit(&an_event()), Err(CommitError::Write(_))));
    }

    #[test]
    fn a_record_that_is_too_large_leaves_the_journal_as_it_was() {
        let (_dir, mut journal) = journal();
        let Record::Hello { floor, device, at, .. } = one_of_each()[3].clone() else { unreachable!() };
        let large = Record::Hello { floor, device, payload: vec![0; 17 << 20], at };
        let refused = journal.commit(&[an_event()[0].clone(), large]);
        assert!(matches!(refused, Err(CommitError::RecordTooLarge { .. })));
        assert_eq!(journal.commit(&an_event()).unwrap(), Committed { first: Position(1), events: 1 });
    }

    #[test]
    fn a_segment_may_be_cut_while_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) =
            Journal::open(dir.path(), Options { segment_bytes: 2_000, headroom_bytes: 65_536, ..Options::new(1) }).unwrap();
        journal.commit(&an_event()).unwrap();
        // It knows the length of the file with the zeros that follow.
        let mut reader = journal.events().read_from(Position(1)).unwrap();
        while journal.segments().sealed().is_empty() {
            journal.commit(&an_event()).unwrap();
        }
        let mut read = 0;
        while reader.next_event().unwrap().is_some() {
            read += 1;
        }
        assert_eq!(Position(read + 1), journal.next_position());
    }

    #[test]
    fn an_empty_batch_is_written_and_uses_no_position() {
        let (dir, mut journal) = journal();
        let before = journal.end().1;
        assert_eq!(journal.commit(&[]).unwrap(), Committed { first: Position(1), events: 0 });
        assert!(journal.end().1 > before);
        let (_, recovered) = Journal::open(dir.path(), Options::new(1)).unwrap();
        assert_eq!((recovered.next_position, recovered.report.records), (Position(1), 0));
    }

    #[test]
    #[ignore = "needs root: mounts a small tmpfs"]
    fn a_full_disk_refuses_batches_until_there_is_space_again() {
        let dir = tempfile::tempdir().unwrap();
        let run = |program: &str, arguments: &[&str]| {
            assert!(std::process::Command::new(program).args(arguments).arg(dir.path()).status().unwrap().success());
        };
        run("mount", &["-t", "tmpfs", "-o", "size=256k", "tmpfs"]);
        let path = dir.path().join("journal");
        let options = Options { segment_bytes: 50_000, frame_bytes: 3_000, headroom_bytes: 20_000, reserve_bytes: 0, salt: 9 };
        let (mut journal, _) = Journal::open(&path, options).unwrap();
        let batch: Vec<_> = (0..60).map(|number| Record::Event { floor: None, event: event(number) }).collect();
        let mut accepted = 0;
        let refused = loop {
            match journal.commit(&batch) {
                Ok(committed) => accepted += committed.events,
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, CommitError::NoSpace(_)), "{refused}");
        assert!(matches!(journal.commit(&batch), Err(CommitError::NoSpace(_))));
        assert_eq!(journal.events().last(), Position(accepted));
        assert!(!journal.segments().sealed().is_empty());
        run("mount", &["-o", "remount,size=1m"]);
        assert_eq!(journal.commit(&batch).unwrap().first, Position(accepted + 1));
        let (_, recovered) = Journal::open(&path, options).unwrap();
        assert_eq!(recovered.next_position, Position(accepted + 61));
        assert!(recovered.report.torn_tail.is_none());
        drop(journal);
        run("umount", &[]);
    }
}
