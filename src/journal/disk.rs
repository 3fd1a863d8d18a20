//! What the journal does to its files besides naming them: it writes, fills with zeros, and syncs.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::error::CommitError;
use crate::durable;

/// Zeros are written in pieces of this size.
const PIECE_BYTES: usize = 1 << 20;

/// Writes all of `bytes` at `offset`. On an error some of them may have been written.
pub(super) fn write_at(file: &File, bytes: &[u8], offset: u64) -> Result<(), CommitError> {
    #[cfg(test)]
    faults::check_space(file, bytes, offset)?;
    file.write_all_at(bytes, offset).map_err(CommitError::from_write)
}

/// Writes zeros from `from` up to `to`.
pub(super) fn write_zeros(file: &File, from: u64, to: u64) -> Result<(), CommitError> {
    let len = |at: u64| usize::try_from(to - at).unwrap_or(usize::MAX).min(PIECE_BYTES);
    let zeros = vec![0; len(from.min(to))];
    let mut at = from;
    while at < to {
        let piece = &zeros[..len(at)];
        write_at(file, piece, at)?;
        at += piece.len() as u64;
    }
    Ok(())
}

/// Makes durable what was written. Must not be tried again on the same file after it has failed.
pub(super) fn sync(file: &File) -> Result<(), CommitError> {
    #[cfg(test)]
    faults::check_sync()?;
    durable::sync_file(file).map_err(CommitError::Sync)
}

/// A disk that fails when a test says so, for the thread of the test.
#[cfg(test)]
pub(crate) mod faults {
    use std::cell::Cell;
    use std::fs::File;
    use std::io::{self, ErrorKind};
    use std::os::unix::fs::FileExt;

    use super::CommitError;

    thread_local! {
        static ROOM: Cell<Option<u64>> = const { Cell::new(None) };
        static SYNC_FAILS: Cell<bool> = const { Cell::new(false) };
    }

    /// The disk has room for this many bytes more than its files have, until it is told otherwise.
    pub(crate) fn set_room(bytes: Option<u64>) {
        ROOM.set(bytes);
    }

    /// Whether the next sync fails.
    pub(crate) fn set_sync_fails(fails: bool) {
        SYNC_FAILS.set(fails);
    }

    pub(super) fn check_space(file: &File, bytes: &[u8], offset: u64) -> Result<(), CommitError> {
        let Some(room) = ROOM.get() else { return Ok(()) };
        let Ok(length) = file.metadata().map(|metadata| metadata.len()) else { return Ok(()) };
        let growth = (offset + bytes.len() as u64).saturating_sub(length);
        if growth <= room {
            ROOM.set(Some(room - growth));
            return Ok(());
        }
        let fits = bytes.len() - usize::try_from(growth - room).unwrap();
        file.write_all_at(&bytes[..fits], offset).map_err(CommitError::from_write)?;
        Err(CommitError::from_write(io::Error::from(ErrorKind::StorageFull)))
    }

    pub(super) fn check_sync() -> Result<(), CommitError> {
        if SYNC_FAILS.take() { Err(CommitError::Sync(io::Error::other("the disk failed"))) } else { Ok(()) }
    }
}
