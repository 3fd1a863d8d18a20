//! The database on disk: its keyspaces, its format, and how it is opened.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use fjall::{Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode, Snapshot};

use super::error::{DeliveriesError, Result};
use super::{keys, mend};
use crate::durable;

/// Version of the keys and values.
pub(super) const FORMAT: u64 = 1;
/// Memory for what was read last.
const CACHE_BYTES: u64 = 16 << 20;
/// Memory for what was written last, for each keyspace: of deliveries and events, and of the rest.
const WRITE_BUFFER_BYTES: u64 = 4 << 20;
const SMALL_WRITE_BUFFER_BYTES: u64 = 1 << 20;
/// The database's own log.
const LOG_BYTES: u64 = 128 << 20;

/// The database. A handle: clones are the same.
#[derive(Clone)]
pub(super) struct Database {
    database: fjall::Database,
    pub(super) events: Keyspace,
    pub(super) holders: Keyspace,
    pub(super) pending: Keyspace,
    pub(super) waiting: Keyspace,
    pub(super) retries: Keyspace,
    pub(super) finished: Keyspace,
    pub(super) by_finish: Keyspace,
    pub(super) dead: Keyspace,
    pub(super) attempts: Keyspace,
    pub(super) counters: Keyspace,
    pub(super) standings: Keyspace,
    pub(super) jobs: Keyspace,
    pub(super) replays: Keyspace,
    pub(super) state: Keyspace,
}

impl Database {
    /// Opens the database in `directory`, or makes it. The torn end that a power cut may leave is cut.
    pub(super) fn open(directory: &Path) -> Result<Self> {
        if !durable::create_directory(directory, 0o700).map_err(files("create", directory))? {
            durable::sync_name(directory).map_err(files("sync the name of", directory))?;
        }
        let error = match open_as_it_is(directory) {
            Err(error @ (DeliveriesError::Database(fjall::Error::JournalRecovery(_)) | DeliveriesError::Panicked)) => error,
            opened => return opened,
        };
        match mend::cut_torn_end(directory).map_err(files("mend", directory))? {
            0 => Err(error),
            bytes => {
                tracing::warn!(%error, bytes, "deliveries that were not synced have gone with a power cut; they are read from the journal again");
                open_as_it_is(directory)
            }
        }
    }

    pub(super) fn batch(&self) -> OwnedWriteBatch {
        self.database.batch()
    }

    /// All keyspaces as they are at this moment.
    pub(super) fn snapshot(&self) -> Snapshot {
        self.database.snapshot()
    }

    /// Makes sure that what was written outlives a power cut.
    pub(super) fn sync(&self) -> Result<()> {
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<u64>> {
        let value = self.state.get(name)?;
        value.map(|value| keys::read_number(&value).ok_or(DeliveriesError::Damaged("a number"))).transpose()
    }

    /// Bytes on disk.
    pub(super) fn bytes(&self) -> Result<u64> {
        Ok(self.database.disk_space()?)
    }

    fn check_format(&self) -> Result<()> {
        match self.number("format")? {
            Some(FORMAT) => Ok(()),
            None => Ok(self.state.insert("format", keys::number(FORMAT))?),
            Some(found) => Err(DeliveriesError::Format { found, known: FORMAT }),
        }
    }
}

fn open_as_it_is(directory: &Path) -> Result<Database> {
    catch_unwind(AssertUnwindSafe(|| open_keyspaces(directory))).unwrap_or(Err(DeliveriesError::Panicked))
}

fn open_keyspaces(directory: &Path) -> Result<Database> {
    let database = fjall::Database::builder(directory).cache_size(CACHE_BYTES).max_journaling_size(LOG_BYTES).worker_threads(1).open()?;
    let keyspace = |name, bytes| database.keyspace(name, || KeyspaceCreateOptions::default().max_memtable_size(bytes));
    let large = |name| keyspace(name, WRITE_BUFFER_BYTES);
    let small = |name| keyspace(name, SMALL_WRITE_BUFFER_BYTES);
    let opened = Database {
        events: large("events")?,
        holders: large("holders")?,
        pending: large("pending")?,
        waiting: large("waiting")?,
        retries: small("retries")?,
        finished: large("finished")?,
        by_finish: large("by_finish")?,
        dead: small("dead")?,
        attempts: large("attempts")?,
        counters: small("counters")?,
        standings: small("standings")?,
        jobs: small("jobs")?,
        replays: small("replays")?,
        state: small("state")?,
        database: database.clone(),
    };
    opened.check_format()?;
    Ok(opened)
}

/// Moves a database aside that cannot be opened. There is one such place, so that broken ones do not pile up. Returns it.
pub(super) fn set_aside(directory: &Path) -> Result<PathBuf> {
    let aside = directory.with_extension("broken");
    if aside.exists() {
        fs::remove_dir_all(&aside).map_err(files("remove", &aside))?;
    }
    fs::rename(directory, &aside).map_err(files("move", directory))?;
    durable::sync_directory(&durable::parent_of(directory)).map_err(files("sync the name of", directory))?;
    Ok(aside)
}

fn files(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DeliveriesError {
    move |source| DeliveriesError::Files { doing, path: path.to_owned(), source }
}
