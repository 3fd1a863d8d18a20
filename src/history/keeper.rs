//! The thread that writes the history. It follows the committed events; what it missed, and what came before its time, it reads from the journal.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use router::event::Position;

use super::feed::{Fed, Feed};
use super::store::{HistoryError, Limits, Store};
use super::{Batch, is_wanted};
use crate::dates;
use crate::journal::{EventReader, Events, EventsError};
use crate::metrics::HistoryMetrics;

/// How long it waits for events before it looks whether it shall stop.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often it notes how far it has come, and removes what is too old.
const TIDY_EVERY: Duration = Duration::from_secs(10);
/// Events written at once.
const BATCH_MAX: usize = 512;
/// Events read from the journal before it looks whether it shall stop.
const READ_MAX: usize = 16_384;

/// Where the store stands once it is open. Nobody waits for that.
pub type Shelf = Arc<OnceLock<Store>>;

/// The keeper.
#[derive(Debug)]
pub struct Keeper {
    directory: PathBuf,
    shelf: Shelf,
    events: Events,
    fed: Fed,
    limits: Limits,
    metrics: Arc<HistoryMetrics>,
}

/// What the keeper works with once the store is open.
struct Keeping {
    store: Store,
    events: Events,
    fed: Fed,
    limits: Limits,
    metrics: Arc<HistoryMetrics>,
    /// Everything up to here is written.
    cursor: Position,
    /// Something was written that a power cut could undo.
    dirty: bool,
}

impl Keeper {
    /// A keeper of the history in `directory` that follows `events`, and the feed through which it hears of new ones.
    pub fn new(directory: PathBuf, events: Events, limits: Limits, metrics: Arc<HistoryMetrics>) -> (Self, Feed) {
        let (feed, fed) = Feed::new(events.last());
        (Self { directory, shelf: Shelf::default(), events, fed, limits, metrics }, feed)
    }

    /// Where the store will stand.
    pub fn shelf(&self) -> Shelf {
        Arc::clone(&self.shelf)
    }

    /// Opens the history and runs until `stop` is set. When it fails, everything else goes on.
    pub fn run(self, stop: &AtomicBool) {
        let (shelf, metrics) = (self.shelf(), Arc::clone(&self.metrics));
        // A database that panics over its files must not end a process that serves sessions.
        let ended = catch_unwind(AssertUnwindSafe(|| self.open()?.keep(stop)));
        if let Err(error) = ended.unwrap_or(Err(HistoryError::Panicked)) {
            tracing::error!(%error, "the history is not written any more; the next start makes it anew from the journal");
            metrics.failed.set(1);
            if let Some(Err(error)) = shelf.get().map(Store::condemn) {
                tracing::warn!(%error, "the history could not be marked as broken");
            }
        }
    }

    fn open(self) -> Result<Keeping, HistoryError> {
        let store = Store::open(&self.directory)?;
        // A journal that was lost has fewer events than the history knows of.
        let cursor = store.cursor()?.min(self.events.last());
        let store = self.shelf.get_or_init(|| store).clone();
        let Self { events, fed, limits, metrics, .. } = self;
        Ok(Keeping { store, events, fed, limits, metrics, cursor, dirty: false })
    }
}

impl Keeping {
    fn keep(&mut self, stop: &AtomicBool) -> Result<(), HistoryError> {
        self.catch_up(stop)?;
        let mut tidied = Instant::now();
        while !stop.load(Ordering::Acquire) {
            self.metrics.followed.beat();
            if self.follow()? {
                break;
            }
            if self.fed.seen.take_missed() {
                self.metrics.missed.inc();
                self.catch_up(stop)?;
            }
            if tidied.elapsed() >= TIDY_EVERY {
                tidied = Instant::now();
                self.tidy(stop)?;
            }
        }
        self.note_cursor()?;
        self.sync()
    }

    /// Waits for events and writes them. `true` if none will come any more.
    fn follow(&mut self) -> Result<bool, HistoryError> {
        let mut batch = match self.fed.batches.recv_timeout(LOOK_EVERY) {
            Ok(batch) => batch,
            Err(RecvTimeoutError::Timeout) => return Ok(false),
            Err(RecvTimeoutError::Disconnected) => return Ok(true),
        };
        while batch.len() < BATCH_MAX
            && let Ok(more) = self.fed.batches.try_recv()
        {
            batch.extend(more);
        }
        self.write(&batch, None)?;
        Ok(false)
    }

    fn write(&mut self, batch: &Batch, cursor: Option<Position>) -> Result<(), HistoryError> {
        self.store.add(batch, cursor)?;
        self.dirty = true;
        self.cursor = cursor.unwrap_or(self.cursor);
        self.metrics.records.inc_by(batch.len() as u64);
        self.metrics.bytes.set(i64::try_from(self.store.bytes()).unwrap_or(i64::MAX));
        Ok(())
    }

    /// Reads from the journal all that has not been written. If it cannot be read, what is missing stays missing.
    fn catch_up(&mut self, stop: &AtomicBool) -> Result<(), HistoryError> {
        match self.read_journal(stop) {
            Err(HistoryError::Journal(error)) => {
                tracing::warn!(%error, "the history could not read the journal");
                Ok(())
            }
            done => done,
        }
    }

    fn read_journal(&mut self, stop: &AtomicBool) -> Result<(), HistoryError> {
        let mut reader = match self.events.read_from(self.cursor.next()) {
            Err(EventsError::Dropped { oldest, .. }) => self.events.read_from(oldest)?,
            reader => reader?,
        };
        while !stop.load(Ordering::Acquire) {
            self.metrics.followed.beat();
            let (batch, Some(last)) = read_batch(&mut reader)? else { break };
            self.write(&batch, Some(last))?;
        }
        Ok(())
    }

    fn tidy(&mut self, stop: &AtomicBool) -> Result<(), HistoryError> {
        self.note_cursor()?;
        while !stop.load(Ordering::Acquire) && self.store.expire(dates::now(), self.limits)? {}
        self.metrics.bytes.set(i64::try_from(self.store.bytes()).unwrap_or(i64::MAX));
        self.sync()
    }

    fn sync(&mut self) -> Result<(), HistoryError> {
        if std::mem::take(&mut self.dirty) { self.store.sync() } else { Ok(()) }
    }

    /// Notes how far events have gone past, once all that was wanted of them is written.
    fn note_cursor(&mut self) -> Result<(), HistoryError> {
        let upto = self.fed.seen.upto();
        let waiting: Batch = self.fed.batches.try_iter().flatten().collect();
        let missed = self.fed.seen.take_missed();
        if missed {
            // The cursor stays: what was missed is read from there.
            self.fed.seen.note_missed();
            return self.write(&waiting, None);
        }
        if upto > self.cursor || !waiting.is_empty() {
            self.write(&waiting, Some(upto.max(self.cursor)))?;
        }
        Ok(())
    }
}

/// What is wanted of the next events, and the position of the last of them; no position if there are none.
fn read_batch(reader: &mut EventReader) -> Result<(Batch, Option<Position>), EventsError> {
    let (mut batch, mut last) = (Batch::new(), None);
    for _ in 0..READ_MAX {
        let Some((position, event)) = reader.next_event()? else { break };
        last = Some(position);
        batch.extend(is_wanted(&event).then_some((position, event)));
        if batch.len() >= BATCH_MAX {
            break;
        }
    }
    Ok((batch, last))
}
