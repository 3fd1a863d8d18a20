//! Segment files: their names, their headers and their creation. The layout is in the module documentation of the journal.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use router::event::Position;

use super::disk;
use super::error::{CommitError, OpenError};
use super::wire::{self, Malformed, Take};
use crate::durable;

mod reader;

pub(super) use reader::{SegmentReader, Step};

/// Bytes before the first frame.
pub(super) const SEGMENT_HEADER: usize = 44;
/// The same, as an offset.
pub(super) const SEGMENT_HEADER_LEN: u64 = 44;
/// The newest version that can be read, and the one that is written.
pub(super) const SEGMENT_VERSION: u16 = 1;

const SEGMENT_MAGIC: [u8; 8] = *b"HOLDFJNL";

/// What the name of a segment says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SegmentId {
    pub(super) number: u64,
    /// Position of the first event at or after its start.
    pub(super) first: Position,
}

impl SegmentId {
    pub(super) fn path(self, dir: &Path) -> PathBuf {
        dir.join(format!("{:020}-{:012}.segment", self.first.0, self.number))
    }

    fn parse(name: &str) -> Option<SegmentId> {
        let (first, number) = name.strip_suffix(".segment")?.split_once('-')?;
        let digits =
            |text: &str, len: usize| (text.len() == len && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok());
        Some(SegmentId { number: digits(number, 12)??, first: Position(digits(first, 20)??) })
    }
}

/// A segment that will not change any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SealedSegment {
    pub(super) id: SegmentId,
    /// Position of the first event after it.
    pub(super) next: Position,
}

impl SealedSegment {
    /// Its number; segments are numbered without gaps from 1.
    pub fn number(&self) -> u64 {
        self.id.number
    }

    /// The positions in it: from the first, up to but without the second. Equal if it holds no event.
    pub fn positions(&self) -> (Position, Position) {
        (self.id.first, self.next)
    }

    /// The file, in the journal's directory `dir`.
    pub fn path(&self, dir: &Path) -> PathBuf {
        self.id.path(dir)
    }
}

/// The segments in `dir`, by number.
pub(super) fn list_segments(dir: &Path) -> Result<Vec<SegmentId>, OpenError> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(dir).map_err(OpenError::io("list", dir))? {
        let entry = entry.map_err(OpenError::io("list", dir))?;
        segments.extend(entry.file_name().to_str().and_then(SegmentId::parse));
    }
    segments.sort_by_key(|id| (id.number, id.first));
    Ok(segments)
}

/// What a segment says about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SegmentHeader {
    /// Chain value at the end of the segment before.
    pub(super) previous: u32,
    pub(super) id: SegmentId,
    pub(super) salt: u64,
}

impl SegmentHeader {
    pub(super) fn to_bytes(self) -> [u8; SEGMENT_HEADER] {
        let mut bytes = Vec::with_capacity(SEGMENT_HEADER);
        bytes.extend_from_slice(&SEGMENT_MAGIC);
        wire::put_u16(&mut bytes, SEGMENT_VERSION);
        wire::put_u16(&mut bytes, 0);
        wire::put_u32(&mut bytes, self.previous);
        wire::put_u64(&mut bytes, self.id.number);
        wire::put_u64(&mut bytes, self.id.first.0);
        wire::put_u64(&mut bytes, self.salt);
        let checksum = crc32c::crc32c(&bytes);
        wire::put_u32(&mut bytes, checksum);
        bytes.try_into().expect("the fields above have this length")
    }

    /// The chain value with which the first frame goes on.
    pub(super) fn chain(self) -> u32 {
        let [.., a, b, c, d] = self.to_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    fn parse(bytes: &[u8; SEGMENT_HEADER], path: &Path) -> Result<SegmentHeader, OpenError> {
        let damaged = |Malformed(what)| OpenError::damaged(path, 0, what);
        let (checked, checksum) = bytes.split_at(SEGMENT_HEADER - 4);
        let mut take = Take(checked);
        if take.array().map_err(damaged)? != SEGMENT_MAGIC {
            return Err(damaged(Malformed("this is not a segment")));
        }
        let version = take.u16().map_err(damaged)?;
        if crc32c::crc32c(checked).to_le_bytes() != checksum {
            return Err(damaged(Malformed("the checksum of the segment header does not fit")));
        }
        if version != SEGMENT_VERSION {
            return Err(OpenError::NewerFormat { path: path.into(), offset: 0, what: "segment", version, known: SEGMENT_VERSION });
        }
        let mut rest = || {
            take.u16()?;
            let previous = take.u32()?;
            let id = SegmentId { number: take.u64()?, first: Position(take.u64()?) };
            Ok(SegmentHeader { previous, id, salt: take.u64()? })
        };
        rest().map_err(damaged)
    }
}

/// Makes a new segment of `header` and zeros up to `length`. When this returns, the segment is durable under its name.
pub(super) fn create_segment(dir: &Path, header: SegmentHeader, length: u64) -> Result<File, CommitError> {
    let path = header.id.path(dir);
    let prepared = durable::temporary_name(&path);
    let named = fill_segment(&prepared, header, length)
        .and_then(|file| fs::rename(&prepared, &path).map(|()| file).map_err(CommitError::from_write));
    if named.is_err() {
        // It takes up room that there may be none of. If this fails too, the next start removes it.
        let _ = fs::remove_file(&prepared);
    }
    let file = named?;
    durable::sync_directory(dir).map_err(CommitError::Sync)?;
    Ok(file)
}

fn fill_segment(prepared: &Path, header: SegmentHeader, length: u64) -> Result<File, CommitError> {
    let file = durable::create_private(prepared).map_err(CommitError::from_write)?;
    disk::write_at(&file, &header.to_bytes(), 0)?;
    disk::write_zeros(&file, SEGMENT_HEADER_LEN, length)?;
    disk::sync(&file)?;
    Ok(file)
}

impl CommitError {
    /// Tells a full disk from other failures.
    pub(super) fn from_write(error: io::Error) -> CommitError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => CommitError::NoSpace(error),
            _ => CommitError::Write(error),
        }
    }

    /// The failure of the operating system in it.
    pub(super) fn into_io(self) -> io::Error {
        match self {
            CommitError::NoSpace(error) | CommitError::Write(error) | CommitError::Sync(error) => error,
            other => io::Error::other(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_strict_and_sort_by_position() {
        let id = SegmentId { number: 12, first: Position(345) };
        let name = "00000000000000000345-000000000012.segment";
        assert_eq!(id.path(Path::new("")), Path::new(name));
        assert_eq!(SegmentId::parse(name), Some(id));
        for other in ["345-12.segment", "+0000000000000000345-000000000012.segment", "00000000000000000345-000000000012.segment.tmp"] {
            assert_eq!(SegmentId::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_changed_header_is_refused() {
        let header = SegmentHeader { previous: 1, id: SegmentId { number: 2, first: Position(3) }, salt: 4 };
        let bytes = header.to_bytes();
        assert_eq!(SegmentHeader::parse(&bytes, Path::new("x")).unwrap(), header);
        for index in 0..bytes.len() {
            let mut changed = bytes;
            changed[index] ^= 0x10;
            assert!(matches!(SegmentHeader::parse(&changed, Path::new("x")), Err(OpenError::Damaged { .. })));
        }
    }
}
