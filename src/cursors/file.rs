//! A cursor on disk: one file with two slots of 4096 bytes, written in turn. Whatever a crash does to the one that is being written, the other
//! is whole.
//!
//! All integers are little-endian. A slot:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | `HOLDFCUR` |
//! | 8 | 2 | format version |
//! | 10 | 2 | number of reasons |
//! | 12 | 4 | CRC32C of the whole slot with zeros here |
//! | 16 | 8 | number of the commit; even ones are in the first slot, odd ones in the second |
//! | 24 | 8 | position at which the cursor was made |
//! | 32 | 8 | position |
//! | 40 | 8 | delivered |
//! | 48 | 8 | expired |
//! | 56 | 8 | newest durable position when this was written |
//! | 64 | 8 | events that were durable and are not in the journal any more |
//! | 72 | | rejected, for each reason: length of its name u8, name, count u64 |
//!
//! The rest is zeros. In version 1 the reasons are at 56, and what is there now was not known.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use router::event::Position;

use super::{CursorError, Ledger, Mark, NAME_BYTES_MAX, REASONS_MAX, Standing, io_error};
use crate::durable;

const SLOT: usize = 4_096;
const SLOT_LEN: u64 = 4_096;
const MAGIC: [u8; 8] = *b"HOLDFCUR";
const VERSION: u16 = 2;
/// The version without what was seen and lost.
const UNSEEN: u16 = 1;
const CHECKSUM: std::ops::Range<usize> = 12..16;
const REASONS_AT: usize = 72;
/// Where they are in version 1.
const UNSEEN_REASONS_AT: usize = 56;

const _: () = assert!(REASONS_AT + REASONS_MAX * (1 + NAME_BYTES_MAX + 8) <= SLOT);

/// The open file of a cursor.
pub(super) struct CursorFile {
    file: File,
    path: PathBuf,
    /// Number of the newest commit in it.
    number: u64,
}

/// What a slot holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Stored {
    number: u64,
    pub(super) standing: Standing,
}

enum Slot {
    Whole(Stored),
    Damaged,
    Newer(u16),
}

impl CursorFile {
    /// A new file with a cursor at `origin`.
    pub(super) fn create(path: &Path, origin: Position) -> Result<(Self, Stored), CursorError> {
        let mark = Mark { position: origin, ledger: Ledger::default() };
        let standing = Standing { origin, mark, seen: origin, lost: 0 };
        let [first, second] = [0, 1].map(|number| Stored { number, standing: standing.clone() });
        let write = |file: &mut File| file.write_all(&[encode(&first), encode(&second)].concat());
        let file = durable::replace_file_with(path, write).map_err(io_error("make", path))?;
        Ok((Self { file, path: path.to_path_buf(), number: 1 }, second))
    }

    /// Opens the file. One damaged slot is what a crash within a commit leaves; then the commit before counts.
    pub(super) fn open(path: &Path) -> Result<(Self, Stored), CursorError> {
        let file = File::options().read(true).write(true).open(path).map_err(io_error("open", path))?;
        let stored = match [slot(&file, 0), slot(&file, 1)] {
            [Err(error), _] | [_, Err(error)] => return Err(io_error("read", path)(error)),
            [Ok(first), Ok(second)] => newest(first, second, path)?,
        };
        Ok((Self { file, path: path.to_path_buf(), number: stored.number }, stored))
    }

    /// Writes the next commit over the one before the last, durably.
    pub(super) fn write(&mut self, standing: &Standing) -> Result<(), CursorError> {
        let next = Stored { number: self.number + 1, standing: standing.clone() };
        self.file.write_all_at(&encode(&next), next.number % 2 * SLOT_LEN).map_err(io_error("write", &self.path))?;
        self.sync()?;
        self.number = next.number;
        Ok(())
    }

    /// Makes durable what was found: a process that was killed may have left it unsynced.
    pub(super) fn sync(&self) -> Result<(), CursorError> {
        durable::sync_file(&self.file).map_err(io_error("sync", &self.path))
    }
}

#[cfg(test)]
impl CursorFile {
    /// From now on nothing can be written.
    pub(super) fn break_off(&mut self) {
        self.file = File::open(&self.path).unwrap();
    }
}

fn newest(first: Slot, second: Slot, path: &Path) -> Result<Stored, CursorError> {
    let damaged = |what| Err(CursorError::Damaged { path: path.to_path_buf(), what });
    match (first, second) {
        (Slot::Newer(version), _) | (_, Slot::Newer(version)) => {
            Err(CursorError::NewerFormat { path: path.to_path_buf(), version, known: VERSION })
        }
        (Slot::Damaged, Slot::Damaged) => damaged("neither copy is whole"),
        (Slot::Whole(only), Slot::Damaged) | (Slot::Damaged, Slot::Whole(only)) => Ok(only),
        (Slot::Whole(first), Slot::Whole(second)) => {
            let (old, new) = if first.number < second.number { (first, second) } else { (second, first) };
            let goes_back = new.standing.mark.position < old.standing.mark.position;
            if new.number != old.number + 1 || goes_back || new.standing.origin != old.standing.origin {
                return damaged("the copies do not follow each other");
            }
            Ok(new)
        }
    }
}

fn slot(file: &File, index: u64) -> io::Result<Slot> {
    let mut bytes = [0; SLOT];
    match file.read_exact_at(&mut bytes, index * SLOT_LEN) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Slot::Damaged),
        read => read.map(|()| decode(&bytes, index)),
    }
}

fn encode(stored: &Stored) -> Vec<u8> {
    let Standing { origin, mark: Mark { position, ledger }, seen, lost } = &stored.standing;
    let mut bytes = Vec::with_capacity(SLOT);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&u16::try_from(ledger.rejected.len()).unwrap_or(u16::MAX).to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    for number in [stored.number, origin.0, position.0, ledger.delivered, ledger.expired, seen.0, *lost] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    for (reason, count) in &ledger.rejected {
        bytes.push(u8::try_from(reason.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(reason.as_bytes());
        bytes.extend_from_slice(&count.to_le_bytes());
    }
    bytes.resize(SLOT, 0);
    let checksum = crc32c::crc32c(&bytes);
    bytes[CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; SLOT], index: u64) -> Slot {
    let mut unsigned = *bytes;
    unsigned[CHECKSUM].fill(0);
    if bytes[..8] != MAGIC || bytes[CHECKSUM] != crc32c::crc32c(&unsigned).to_le_bytes() {
        return Slot::Damaged;
    }
    match u16::from_le_bytes([bytes[8], bytes[9]]) {
        version @ (UNSEEN | VERSION) => {
            fields(bytes, version).filter(|stored| stored.number % 2 == index).map_or(Slot::Damaged, Slot::Whole)
        }
        version => Slot::Newer(version),
    }
}

fn fields(bytes: &[u8; SLOT], version: u16) -> Option<Stored> {
    let number = |at: usize| bytes.get(at..at + 8).and_then(|eight| eight.try_into().ok()).map(u64::from_le_bytes);
    let mut rejected = BTreeMap::new();
    let mut at = if version == UNSEEN { UNSEEN_REASONS_AT } else { REASONS_AT };
    for _ in 0..u16::from_le_bytes([bytes[10], bytes[11]]) {
        let end = at + 1 + usize::from(*bytes.get(at)?);
        let reason = str::from_utf8(bytes.get(at + 1..end)?).ok()?;
        rejected.insert(reason.to_owned(), number(end)?);
        at = end + 8;
    }
    let ledger = Ledger { delivered: number(40)?, expired: number(48)?, rejected };
    let mark = Mark { position: Position(number(32)?), ledger };
    let (seen, lost) = if version == UNSEEN { (mark.position, 0) } else { (Position(number(56)?), number(64)?) };
    Some(Stored { number: number(16)?, standing: Standing { origin: Position(number(24)?), mark, seen, lost } })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn mark(position: u64) -> Mark {
        let rejected = [("offline".to_owned(), position / 2), ("too-large".to_owned(), 1)].into();
        Mark { position: Position(position), ledger: Ledger { delivered: position, expired: 2, rejected } }
    }

    fn standing(position: u64) -> Standing {
        Standing { origin: Position(5), mark: mark(position), seen: Position(position + 3), lost: position / 4 }
    }

    fn written(dir: &Path, commits: u64) -> PathBuf {
        let path = dir.join("a.cursor");
        let (mut file, stored) = CursorFile::create(&path, Position(5)).unwrap();
        assert_eq!((stored.standing.mark.position, stored.standing.mark.ledger), (Position(5), Ledger::default()));
        for commit in 1..=commits {
            file.write(&standing(5 + commit)).unwrap();
        }
        path
    }

    #[test]
    fn what_was_committed_last_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        for commits in 1..5 {
            let path = written(dir.path(), commits);
            let (_, stored) = CursorFile::open(&path).unwrap();
            assert_eq!(stored.standing, standing(5 + commits));
            assert_eq!(fs::metadata(&path).unwrap().len(), 2 * SLOT_LEN);
        }
    }

    #[test]
    fn a_torn_commit_leaves_the_one_before_and_a_file_without_a_whole_slot_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path(), 4);
        let good = fs::read(&path).unwrap();
        // Commit 5 is the newest: the first was made with numbers 0 and 1.
        for (torn, expected) in [(1, 8), (0, 9)] {
            for at in [0, 9, 33, 60, SLOT - 1] {
                let mut bytes = good.clone();
                bytes[torn * SLOT + at] ^= 0x40;
                fs::write(&path, &bytes).unwrap();
                assert_eq!(CursorFile::open(&path).unwrap().1.standing, standing(expected), "slot {torn}, byte {at}");
                bytes[(1 - torn) * SLOT + at] ^= 0x40;
                fs::write(&path, &bytes).unwrap();
                assert!(matches!(CursorFile::open(&path), Err(CursorError::Damaged { .. })));
            }
        }
        fs::write(&path, &good[..SLOT]).unwrap();
        assert_eq!(CursorFile::open(&path).unwrap().1.standing, standing(8));
        fs::write(&path, b"").unwrap();
        assert!(matches!(CursorFile::open(&path), Err(CursorError::Damaged { .. })));
    }

    #[test]
    fn copies_that_contradict_each_other_and_newer_formats_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path(), 4);
        let good = fs::read(&path).unwrap();
        let old = fs::read(written(dir.path(), 1)).unwrap();
        fs::write(&path, [&old[..SLOT], &good[SLOT..]].concat()).unwrap();
        assert!(matches!(CursorFile::open(&path), Err(CursorError::Damaged { .. })), "numbers 2 and 5");
        fs::write(&path, [&good[SLOT..], &good[..SLOT]].concat()).unwrap();
        assert!(matches!(CursorFile::open(&path), Err(CursorError::Damaged { .. })), "each in the other's place");
        let mut newer = good[..SLOT].to_vec();
        newer[8] = 3;
        newer[CHECKSUM].fill(0);
        let checksum = crc32c::crc32c(&newer);
        newer[CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
        fs::write(&path, [&newer, &good[SLOT..]].concat()).unwrap();
        assert!(matches!(CursorFile::open(&path), Err(CursorError::NewerFormat { version: 3, known: 2, .. })));
    }

    /// To be run by hand when a format version is added; a version that has been released never changes.
    #[test]
    #[ignore = "writes a golden file"]
    fn write_golden_files() {
        let dir = tempfile::tempdir().unwrap();
        fs::copy(written(dir.path(), 4), golden(VERSION)).unwrap();
    }

    fn golden(version: u16) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("testdata/cursors/v{version}.cursor"))
    }

    #[test]
    fn every_version_keeps_decoding() {
        let dir = tempfile::tempdir().unwrap();
        let of_version_1 = Standing { seen: Position(9), lost: 0, ..standing(9) };
        for (version, expected) in [(1, of_version_1), (2, standing(9))] {
            let path = dir.path().join("a.cursor");
            fs::copy(golden(version), &path).unwrap();
            assert_eq!(CursorFile::open(&path).unwrap().1.standing, expected, "version {version}");
        }
        let bytes = fs::read(written(dir.path(), 4)).unwrap();
        assert_eq!(bytes, fs::read(golden(VERSION)).unwrap(), "what is written does not change");
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(mut slot in proptest::collection::vec(any::<u8>(), 64..300), reasons in any::<u16>(), version in UNSEEN..=VERSION) {
            slot[..8].copy_from_slice(&MAGIC);
            slot[8..10].copy_from_slice(&version.to_le_bytes());
            slot[10..12].copy_from_slice(&reasons.to_le_bytes());
            slot.resize(SLOT, 0xff);
            slot[CHECKSUM].fill(0);
            let checksum = crc32c::crc32c(&slot);
            slot[CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
            decode(slot.first_chunk().unwrap(), 0);
        }
    }
}
