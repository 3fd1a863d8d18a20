//! The database of the history. A handle: clones are the same. One writes, any number read.

use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use firmware_protocol::id::DeviceId;
use firmware_protocol::time::UnixMillis;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};
use router::event::{Audience, Event, Position, Source, Whose};
use thiserror::Error;

use super::{LAST_RESET, keys};
use crate::config::Limit;
use crate::journal::EventsError;

/// The file that says that a database is not to be trusted.
const CONDEMNED: &str = "condemned";
/// Version of the keys and values.
const FORMAT: u64 = 2;
/// The version before: what it wrote is written in the same way now.
const FORMAT_WITHOUT_PRODUCTS: u64 = 1;
/// Memory for what was read last.
const CACHE_BYTES: u64 = 8 << 20;
/// Memory for what was written last, for each keyspace.
const WRITE_BUFFER_BYTES: u64 = 4 << 20;
/// The database's own log.
const LOG_BYTES: u64 = 64 << 20;
/// Records removed in one go.
const REMOVED_MAX: usize = 1024;

/// The history cannot be read or written.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// The database failed.
    #[error("the history failed: {0}")]
    Database(#[from] fjall::Error),
    /// The database was written by another version.
    #[error("the history is of format version {0}; this program knows versions up to {FORMAT}")]
    Format(u64),
    /// The database came upon something it did not expect in its files.
    #[error("the history's database panicked")]
    Panicked,
    /// It failed while it was used, and is not trusted again.
    #[error("the history failed before")]
    Condemned,
    /// The journal could not be read.
    #[error(transparent)]
    Journal(#[from] EventsError),
    /// A file could not be moved.
    #[error("the history's files: {0}")]
    Files(#[from] io::Error),
}

/// What is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Age up to which records are kept, in milliseconds.
    pub age_ms: u64,
    /// Bytes of all records together, not compressed. The oldest make room.
    pub bytes: Limit,
}

/// Something a device said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Whose the device was then.
    pub whose: Whose,
    /// When it was accepted.
    pub at: UnixMillis,
    /// What it said: vitals as JSON, or the reason of a start.
    pub payload: Vec<u8>,
}

/// The database.
#[derive(Clone)]
pub struct Store {
    directory: PathBuf,
    database: Database,
    records: Keyspace,
    by_time: Keyspace,
    latest: Keyspace,
    resets: Keyspace,
    state: Keyspace,
    /// Payload bytes in `records`. Written by the keeper alone.
    bytes: Arc<AtomicU64>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the database in `directory`. One that cannot be opened is moved aside, because all that is in it can be had from the journal.
    ///
    /// # Errors
    /// A new one cannot be made either.
    pub fn open(directory: &Path) -> Result<Self, HistoryError> {
        let opened = catch_unwind(AssertUnwindSafe(|| Self::open_as_it_is(directory)));
        opened.unwrap_or(Err(HistoryError::Panicked)).or_else(|error| {
            let aside = aside(directory);
            tracing::warn!(%error, moved_to = %aside.display(), "the history cannot be opened; it is made anew from the journal");
            if aside.exists() {
                fs::remove_dir_all(&aside)?;
            }
            fs::rename(directory, &aside)?;
            Self::open_as_it_is(directory)
        })
    }

    fn open_as_it_is(directory: &Path) -> Result<Self, HistoryError> {
        if directory.join(CONDEMNED).exists() {
            return Err(HistoryError::Condemned);
        }
        let database = Database::builder(directory).cache_size(CACHE_BYTES).max_journaling_size(LOG_BYTES).worker_threads(1).open()?;
        let keyspace = |name| database.keyspace(name, || KeyspaceCreateOptions::default().max_memtable_size(WRITE_BUFFER_BYTES));
        let store = Self {
            directory: directory.to_owned(),
            records: keyspace("records")?,
            by_time: keyspace("by_time")?,
            latest: keyspace("latest")?,
            resets: keyspace("resets")?,
            state: keyspace("state")?,
            bytes: Arc::default(),
            database: database.clone(),
        };
        match store.number("format")? {
            None | Some(FORMAT_WITHOUT_PRODUCTS) => store.state.insert("format", FORMAT.to_be_bytes())?,
            Some(FORMAT) => {}
            Some(other) => return Err(HistoryError::Format(other)),
        }
        store.bytes.store(store.number("bytes")?.unwrap_or(0), Ordering::Relaxed);
        Ok(store)
    }

    /// Notes that the database failed while it was used. The next start makes it anew.
    pub(super) fn condemn(&self) -> io::Result<()> {
        fs::write(self.directory.join(CONDEMNED), b"")
    }

    /// Everything up to here is in the database.
    pub(super) fn cursor(&self) -> Result<Position, HistoryError> {
        Ok(Position(self.number("cursor")?.unwrap_or(0)))
    }

    /// Payload bytes of all records together.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Adds what events say, and notes that everything up to `cursor` is here, both or neither. An event that is here already changes nothing.
    pub(super) fn add(&self, events: &[(Position, Arc<Event>)], cursor: Option<Position>) -> Result<(), HistoryError> {
        let mut change = Change { batch: self.database.batch(), bytes: self.bytes() };
        for (position, event) in events {
            let Source::Device(device) = event.source else { continue };
            let record = Record { whose: event.whose(), at: event.published_at, payload: event.data.clone().unwrap_or_default() };
            if event.name == LAST_RESET {
                self.put_newest(&mut change, &self.resets, device, *position, &record)?;
            } else {
                self.put(&mut change, device, *position, &record)?;
                self.put_newest(&mut change, &self.latest, device, *position, &record)?;
            }
        }
        if let Some(cursor) = cursor {
            change.batch.insert(&self.state, "cursor", cursor.0.to_be_bytes());
        }
        self.commit(change)
    }

    fn put(&self, change: &mut Change, device: DeviceId, position: Position, record: &Record) -> Result<(), HistoryError> {
        let key = keys::record(device, record.at, position);
        if self.records.contains_key(&key)? {
            return Ok(());
        }
        let len = u32::try_from(record.payload.len()).unwrap_or(u32::MAX);
        change.bytes += u64::from(len);
        change.batch.insert(&self.by_time, keys::by_time(device, record.at, position), len.to_be_bytes());
        change.batch.insert(&self.records, key, keys::value(record));
        Ok(())
    }

    fn put_newest(
        &self,
        change: &mut Change,
        to: &Keyspace,
        device: DeviceId,
        position: Position,
        record: &Record,
    ) -> Result<(), HistoryError> {
        let known = to.get(device.0)?.and_then(|value| keys::read_placed(&value)).map(|(position, known)| (known.at, position));
        if known.is_none_or(|known| known < (record.at, position)) {
            change.batch.insert(to, device.0, keys::placed(position, record));
        }
        Ok(())
    }

    /// Removes what is too old or too much. `true` if there may be more to remove.
    pub(super) fn expire(&self, now: UnixMillis, limits: Limits) -> Result<bool, HistoryError> {
        let keep_from = now.0.saturating_sub(limits.age_ms);
        let mut change = Change { batch: self.database.batch(), bytes: self.bytes() };
        let (mut removed, mut more) = (0, false);
        for entry in self.by_time.iter() {
            let (key, len) = entry.into_inner()?;
            let Some((at, position, device)) = keys::read_by_time(&key) else { continue };
            let too_much = matches!(limits.bytes, Limit::AtMost(most) if change.bytes > most);
            if at.0 >= keep_from && !too_much {
                break;
            }
            if removed == REMOVED_MAX {
                more = true;
                break;
            }
            removed += 1;
            let len = len.first_chunk().map_or(0, |len| u32::from_be_bytes(*len));
            change.bytes = change.bytes.saturating_sub(len.into());
            change.batch.remove(&self.records, keys::record(device, at, position));
            change.batch.remove(&self.by_time, key);
        }
        if removed > 0 {
            self.commit(change)?;
        }
        Ok(more)
    }

    fn commit(&self, mut change: Change) -> Result<(), HistoryError> {
        change.batch.insert(&self.state, "bytes", change.bytes.to_be_bytes());
        change.batch.commit()?;
        self.bytes.store(change.bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Makes sure that what was added outlives a power cut.
    pub(super) fn sync(&self) -> Result<(), HistoryError> {
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }

    /// The vitals of a device in a span of time in which `audience` heard of it, the newest first and at most `len_max`.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn vitals(
        &self,
        audience: Audience,
        device: DeviceId,
        span: RangeInclusive<UnixMillis>,
        len_max: usize,
    ) -> Result<Vec<Record>, HistoryError> {
        let bounds = keys::record(device, *span.start(), Position(0))..=keys::record(device, *span.end(), Position(u64::MAX));
        if bounds.start() > bounds.end() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for entry in self.records.range(bounds).rev() {
            let (key, value) = entry.into_inner()?;
            found.extend(keys::read_record(&key, &value).filter(|record| audience.hears_of(record.whose)));
            if found.len() == len_max {
                break;
            }
        }
        Ok(found)
    }

    /// The last vitals of a device, if `audience` heard of it then.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn last_vitals(&self, audience: Audience, device: DeviceId) -> Result<Option<Record>, HistoryError> {
        Self::newest(&self.latest, audience, device)
    }

    /// Why a device started last, if `audience` heard of it then.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn last_reset(&self, audience: Audience, device: DeviceId) -> Result<Option<Record>, HistoryError> {
        Self::newest(&self.resets, audience, device)
    }

    fn newest(of: &Keyspace, audience: Audience, device: DeviceId) -> Result<Option<Record>, HistoryError> {
        let placed = of.get(device.0)?.and_then(|value| keys::read_placed(&value));
        Ok(placed.map(|(_, record)| record).filter(|record| audience.hears_of(record.whose)))
    }

    fn number(&self, name: &str) -> Result<Option<u64>, HistoryError> {
        Ok(self.state.get(name)?.and_then(|value| keys::number(&value).map(|(number, _)| number)))
    }
}

/// What is written at once.
struct Change {
    batch: OwnedWriteBatch,
    bytes: u64,
}

/// Where a database goes that cannot be opened. There is one such place, so that broken ones do not pile up.
fn aside(directory: &Path) -> PathBuf {
    directory.with_extension("broken")
}

#[cfg(test)]
mod tests;
