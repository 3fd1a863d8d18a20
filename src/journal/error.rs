//! What can go wrong with a journal, in words for the person who has to decide.

use std::io;
use std::path::{Path, PathBuf};

use router::event::Position;
use thiserror::Error;

/// Why stored journal data cannot be used. The server must not start, and nothing has been thrown away.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The operating system refused.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// The refusal.
        source: io::Error,
    },
    /// Data that had been synced has changed since.
    #[error("{} is damaged at byte {offset}: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What does not hold there.
        what: &'static str,
    },
    /// The end of the last segment is unreadable, but a later frame proves that it had been synced: acknowledged data is lost.
    #[error("{} is damaged at byte {offset}: it was synced, as the frame at byte {witness} says", path.display())]
    SyncedDataDamaged {
        /// The file.
        path: PathBuf,
        /// Where the first unreadable frame starts.
        offset: u64,
        /// Where the frame is that was written after `offset` had been synced.
        witness: u64,
    },
    /// A segment that should be there is not.
    #[error("segment {number} is missing from {}", dir.display())]
    MissingSegment {
        /// The journal's directory.
        dir: PathBuf,
        /// Its number.
        number: u64,
    },
    /// Event positions do not follow each other.
    #[error("{} is damaged at byte {offset}: events should go on at position {expected}, not {found}", path.display())]
    NotDense {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// The position that follows what came before.
        expected: Position,
        /// The position that is written there.
        found: Position,
    },
    /// Written by a newer version of this program.
    #[error(
        "{} has a {what} of format version {version} at byte {offset}; this program knows versions up to {known}. Start the version of Holdfast \
         that wrote it, or a newer one", path.display()
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What it is.
        what: &'static str,
        /// Its version.
        version: u16,
        /// The newest version that this program can read.
        known: u16,
    },
    /// A record of a kind that this program does not know.
    #[error("{} has a record of unknown kind {kind} at byte {offset}; it was written by a newer version of Holdfast. Start that", path.display())]
    UnknownKind {
        /// The file.
        path: PathBuf,
        /// Where the record starts.
        offset: u64,
        /// Its kind.
        kind: u8,
    },
}

impl OpenError {
    /// For `map_err`: adds what was being done to which file.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
        move |source| OpenError::Io { doing, path: path.to_path_buf(), source }
    }

    pub(super) fn damaged(path: &Path, offset: u64, what: &'static str) -> OpenError {
        OpenError::Damaged { path: path.to_path_buf(), offset, what }
    }
}

/// Why a batch was not committed. After anything but `NoSpace` and `RecordTooLarge` the journal refuses all further work, because what
/// is on disk is no longer known: the process has to exit.
#[derive(Debug, Error)]
pub enum CommitError {
    /// The disk is full. Nothing of the batch was kept, and the journal can be used again.
    #[error("no space for the journal: {0}")]
    NoSpace(io::Error),
    /// A record is larger than the format allows. Nothing of the batch was written, and the journal can be used again.
    #[error("a record of {bytes} bytes is larger than the {limit} that a field or record may have")]
    RecordTooLarge {
        /// Its size, or that of the field that is too long.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// Writing failed.
    #[error("cannot write to the journal: {0}")]
    Write(io::Error),
    /// Syncing failed: what was written is lost, or is not, and nobody can tell.
    #[error("cannot sync the journal: {0}")]
    Sync(io::Error),
    /// An earlier commit failed.
    #[error("the journal is unusable since an earlier failure: {0}")]
    Broken(String),
}

/// Why a snapshot could not be made or segments not be removed. The journal itself is unharmed.
#[derive(Debug, Error)]
pub enum CompactionError {
    /// The snapshot before it or a segment could not be read.
    #[error(transparent)]
    Read(#[from] OpenError),
    /// Writing or removing failed.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// The refusal.
        source: io::Error,
    },
}

/// Why events could not be read.
#[derive(Debug, Error)]
pub enum EventsError {
    /// The events from the wanted position on are no longer kept.
    #[error("events before position {oldest} are no longer kept; position {wanted} was asked for")]
    Dropped {
        /// What was asked for.
        wanted: Position,
        /// The oldest position that is kept.
        oldest: Position,
    },
    /// The wanted position has not been given yet, nor is it the next.
    #[error("position {wanted} was asked for, but the last event is at {last}")]
    NotYet {
        /// What was asked for.
        wanted: Position,
        /// The newest durable position.
        last: Position,
    },
    /// A segment could not be read.
    #[error(transparent)]
    Read(#[from] OpenError),
}
