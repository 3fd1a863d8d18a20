//! Reading a segment frame by frame, whatever its bytes are.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use router::event::{Event, Position, Whose};
use router::journal::Record;

use super::{SEGMENT_HEADER, SEGMENT_HEADER_LEN, SegmentHeader, SegmentId};
use crate::journal::error::OpenError;
use crate::journal::frame::{self, FRAME_HEADER, FRAME_HEADER_LEN, FRAME_MAGIC, FRAME_VERSION, FrameHeader, PAYLOAD_BYTES_MAX, SALT_AT};
use crate::journal::record::{RECORD_VERSION, RecordError, Sifted, pass_record, sift_record, take_record};
use crate::journal::wire::{Malformed, Take};

/// Read at once, unless told otherwise.
const WINDOW_BYTES: usize = 256 << 10;

/// What comes next in a segment.
#[derive(Debug)]
pub(in crate::journal) enum Step<'a> {
    Frame(Frame<'a>),
    /// The file ends here.
    End,
    /// What is here is not the next frame.
    Invalid(&'static str),
}

/// A frame whose checksum and chain value are right.
#[derive(Debug)]
pub(in crate::journal) struct Frame<'a> {
    pub(in crate::journal) offset: u64,
    pub(in crate::journal) header: FrameHeader,
    path: &'a Path,
    payload: &'a [u8],
}

impl Frame<'_> {
    /// Hands every record of the frame to `each`, in order.
    pub(in crate::journal) fn for_each(&self, mut each: impl FnMut(Record)) -> Result<(), OpenError> {
        let mut rest = Take(self.payload);
        let (mut records, mut events) = (0u32, 0u32);
        while !rest.is_empty() {
            let offset = self.offset + FRAME_HEADER_LEN + (self.payload.len() - rest.0.len()) as u64;
            let record = take_record(&mut rest).map_err(|error| self.refusal(error, offset))?;
            records += 1;
            events += u32::from(matches!(record, Record::Event { .. }));
            each(record);
        }
        if (records, events) != (self.header.records, self.header.events) {
            return Err(OpenError::damaged(self.path, self.offset, "the frame holds other records than it says"));
        }
        Ok(())
    }

    /// Hands the events that are wanted, by whose they are, to `each`, in order. The others are counted and not read.
    pub(in crate::journal) fn for_each_wanted(
        &self,
        mut wants: impl FnMut(Whose) -> bool,
        mut each: impl FnMut(Position, Arc<Event>),
    ) -> Result<(), OpenError> {
        let mut rest = Take(self.payload);
        let (mut records, mut position) = (0u32, self.header.first);
        while !rest.is_empty() {
            let offset = self.offset + FRAME_HEADER_LEN + (self.payload.len() - rest.0.len()) as u64;
            let sifted = sift_record(&mut rest, &mut wants).map_err(|error| self.refusal(error, offset))?;
            records += 1;
            match sifted {
                Sifted::Other => continue,
                Sifted::Unwanted => {}
                Sifted::Event(event) => each(position, event),
            }
            position = position.next();
        }
        if (records, position) != (self.header.records, self.header.next()) {
            return Err(OpenError::damaged(self.path, self.offset, "the frame holds other records than it says"));
        }
        Ok(())
    }

    /// How many events are in it after this position, counted one by one whatever the header says.
    pub(in crate::journal) fn count_events(&self, after: Position) -> u64 {
        let (mut rest, mut position, mut found) = (Take(self.payload), self.header.first, 0);
        while let Ok(is_event) = pass_record(&mut rest) {
            if is_event {
                found += u64::from(position > after);
                position = position.next();
            }
        }
        found
    }

    fn refusal(&self, error: RecordError, offset: u64) -> OpenError {
        let path = self.path.to_path_buf();
        match error {
            RecordError::Malformed(what) => OpenError::Damaged { path, offset, what },
            RecordError::UnknownKind(kind) => OpenError::UnknownKind { path, offset, kind },
            RecordError::NewerVersion(version) => {
                OpenError::NewerFormat { path, offset, what: "record", version: version.into(), known: RECORD_VERSION.into() }
            }
        }
    }
}

/// Reads a segment from its start. Holds a window of the file, never the whole of it.
#[derive(Debug)]
pub(in crate::journal) struct SegmentReader {
    file: File,
    path: PathBuf,
    header: SegmentHeader,
    /// Length of the file when last looked at.
    length: u64,
    /// Where the next frame starts.
    offset: u64,
    /// Chain value before it.
    chain: u32,
    window: Vec<u8>,
    window_at: u64,
    /// How much is read at once, unless a frame is larger.
    window_bytes: usize,
}

impl SegmentReader {
    pub(in crate::journal) fn open(dir: &Path, id: SegmentId) -> Result<SegmentReader, OpenError> {
        let path = id.path(dir);
        let file = File::open(&path).map_err(OpenError::io("open", &path))?;
        let length = file.metadata().map_err(OpenError::io("examine", &path))?.len();
        if length < SEGMENT_HEADER_LEN {
            return Err(OpenError::damaged(&path, 0, "the file is shorter than a segment header"));
        }
        let mut bytes = [0; SEGMENT_HEADER];
        file.read_exact_at(&mut bytes, 0).map_err(OpenError::io("read", &path))?;
        let header = SegmentHeader::parse(&bytes, &path)?;
        if header.id != id {
            return Err(OpenError::damaged(&path, 0, "the file name and the segment header disagree"));
        }
        let chain = header.chain();
        Ok(SegmentReader {
            file,
            path,
            header,
            length,
            offset: SEGMENT_HEADER_LEN,
            chain,
            window: Vec::new(),
            window_at: 0,
            window_bytes: WINDOW_BYTES,
        })
    }

    pub(in crate::journal) fn with_window(self, window_bytes: usize) -> SegmentReader {
        SegmentReader { window_bytes, ..self }
    }

    /// Goes on at `offset`, where a frame begins; `chain` is the chain value before it.
    pub(in crate::journal) fn seek(&mut self, offset: u64, chain: u32) {
        (self.offset, self.chain) = (offset.min(self.length), chain);
    }

    pub(in crate::journal) fn path(&self) -> &Path {
        &self.path
    }

    pub(in crate::journal) fn header(&self) -> SegmentHeader {
        self.header
    }

    pub(in crate::journal) fn length(&self) -> u64 {
        self.length
    }

    /// Where the next frame starts.
    pub(in crate::journal) fn offset(&self) -> u64 {
        self.offset
    }

    /// Chain value up to there.
    pub(in crate::journal) fn chain(&self) -> u32 {
        self.chain
    }

    /// Looks at the file again, which may have grown or been overwritten since.
    pub(in crate::journal) fn refresh(&mut self) -> Result<(), OpenError> {
        self.length = self.file.metadata().map_err(OpenError::io("examine", &self.path))?.len();
        self.window.clear();
        Ok(())
    }

    /// The next frame. Stays where it is unless there is one.
    pub(in crate::journal) fn next_frame(&mut self) -> Result<Step<'_>, OpenError> {
        let offset = self.offset;
        if offset == self.length {
            return Ok(Step::End);
        }
        let header = match self.frame_at(offset)? {
            Ok(header) if header.previous == self.chain => header,
            Ok(_) => return Ok(Step::Invalid("a frame that does not follow the one before it")),
            Err(Malformed(what)) => return Ok(Step::Invalid(what)),
        };
        (self.offset, self.chain) = (offset + header.frame_len(), header.checksum);
        let start = usize::try_from(offset - self.window_at).expect("the frame is in the window") + FRAME_HEADER;
        let payload = &self.window[start..][..header.payload as usize];
        Ok(Step::Frame(Frame { offset, header, path: &self.path, payload }))
    }

    /// Whether there is nothing but zeros from here to the end of the file.
    pub(in crate::journal) fn only_zeros_follow(&mut self) -> Result<bool, OpenError> {
        let mut at = self.offset;
        while at < self.length {
            let len = self.length.min(at + WINDOW_BYTES as u64) - at;
            if self.read(at, len)?.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at += len;
        }
        Ok(true)
    }

    /// Where, from the current offset on, a frame is that was written when more than that offset had been synced. The current offset is
    /// one too if the frame there is good but not the next.
    pub(in crate::journal) fn witness_of_loss(&mut self) -> Result<Option<u64>, OpenError> {
        let lost = self.offset;
        let mut at = lost;
        while let Some(candidate) = self.find_frame(at)? {
            at = match self.frame_at(candidate)? {
                Ok(header) if header.durable_up_to > lost => return Ok(Some(candidate)),
                Ok(header) => candidate + header.frame_len(),
                Err(_) => candidate + 1,
            };
        }
        Ok(None)
    }

    /// The first place from `at` on where something starts as frames of this segment start.
    fn find_frame(&mut self, mut at: u64) -> Result<Option<u64>, OpenError> {
        let salt = self.header.salt.to_le_bytes();
        while at + FRAME_HEADER_LEN <= self.length {
            let len = self.length.min(at + WINDOW_BYTES as u64) - at;
            let window = self.read(at, len)?;
            let starts = window.windows(SALT_AT.end);
            let covered = starts.len() as u64;
            let found =
                starts.enumerate().find(|(_, start)| start[0] == FRAME_MAGIC[0] && start[..4] == FRAME_MAGIC && start[SALT_AT] == salt);
            if let Some((index, _)) = found {
                return Ok(Some(at + index as u64));
            }
            at += covered;
        }
        Ok(None)
    }

    /// The header of the frame at `offset` if all of the frame is there and unchanged. Leaves the frame in the window.
    fn frame_at(&mut self, offset: u64) -> Result<Result<FrameHeader, Malformed>, OpenError> {
        let left = self.length - offset;
        if left < FRAME_HEADER_LEN {
            return Ok(Err(Malformed("fewer bytes than a frame header")));
        }
        let bytes = self.read(offset, FRAME_HEADER_LEN)?.first_chunk().expect("a header was read");
        let header = match FrameHeader::parse(bytes) {
            Ok(header) => header,
            Err(malformed) => return Ok(Err(malformed)),
        };
        if header.salt != self.header.salt {
            return Ok(Err(Malformed("a frame of another segment")));
        }
        if header.payload > PAYLOAD_BYTES_MAX || header.frame_len() > left {
            return Ok(Err(Malformed("a frame longer than what is left")));
        }
        if frame::checksum(self.read(offset, header.frame_len())?) != header.checksum {
            return Ok(Err(Malformed("the checksum of a frame does not fit")));
        }
        if header.version != FRAME_VERSION {
            let (path, version) = (self.path.clone(), header.version);
            return Err(OpenError::NewerFormat { path, offset, what: "frame", version, known: FRAME_VERSION });
        }
        Ok(Ok(header))
    }

    /// The `len` bytes at `at`, which the caller knows to be in the file.
    fn read(&mut self, at: u64, len: u64) -> Result<&[u8], OpenError> {
        let len = usize::try_from(len).expect("no more is read than a window or a frame");
        let start = at.checked_sub(self.window_at).and_then(|start| usize::try_from(start).ok());
        if let Some(start) = start.filter(|start| start.checked_add(len).is_some_and(|end| end <= self.window.len())) {
            return Ok(&self.window[start..start + len]);
        }
        let ahead = usize::try_from(self.length - at).unwrap_or(usize::MAX).min(self.window_bytes);
        self.window.resize(len.max(ahead), 0);
        self.window_at = at;
        match read_up_to(&self.file, &mut self.window, at) {
            // A segment is cut where its frames end while others read it: what was there, and is not any more, was zeros.
            Ok(read) => self.window[read..].fill(0),
            Err(error) => {
                self.window.clear();
                return Err(OpenError::io("read", &self.path)(error));
            }
        }
        Ok(&self.window[..len])
    }
}

/// Reads until the buffer is full or the file ends: how much that was.
fn read_up_to(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read_at(&mut buffer[read..], at + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}
