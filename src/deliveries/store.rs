//! The writing end: accepting deliveries, and what all changes have in common.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use firmware_protocol::time::UnixMillis;
use router::event::{Event, Position};
use webhooks::delivery::DeliveryId;
use webhooks::dispatcher::JobId;
use webhooks::hook::HookId;

use super::change::{Change, Changed};
use super::counters::Counters;
use super::database::{self, Database};
use super::delivery::Delivery;
use super::error::{DeliveriesError, Result};
use super::keys;
use super::reader::Reader;
use super::replay::Job;
use crate::journal;

/// An event, its position in the journal, and the hooks it has to go to.
pub type Accepted = (Position, Arc<Event>, Vec<HookId>);

/// From where to read the journal on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resumed {
    /// Everything up to here, in the journal's own positions, is stored.
    pub after: Position,
    /// Events that are stored here and that the journal has lost at its end.
    pub lost: u64,
}

/// The writing end of the database.
pub struct Deliveries {
    pub(super) reader: Reader,
    pub(super) counters: BTreeMap<HookId, Counters>,
    pub(super) totals: Counters,
    /// Everything up to here is stored, in positions of this database.
    pub(super) cursor: Position,
    /// How much these are ahead of the journal's.
    shift: u64,
    /// What is up to here and pending is not too old, as far as that was looked at.
    pub(super) expired_upto: Position,
    /// Bytes that finished deliveries stand for.
    pub(super) finished_bytes: u64,
    /// Times at which deliveries were finished do not go back.
    pub(super) last_finish: UnixMillis,
    /// Where the oldest finished delivery is looked for.
    pub(super) trimmed_upto: Vec<u8>,
    /// Hooks whose deliveries are being removed.
    pub(super) removing: BTreeSet<HookId>,
    pub(super) jobs: BTreeMap<JobId, Job>,
    pub(super) last_job: u64,
    /// A write failed.
    is_broken: bool,
    is_dirty: bool,
}

impl fmt::Debug for Deliveries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deliveries").field("cursor", &self.cursor).field("totals", &self.totals).finish_non_exhaustive()
    }
}

impl Deliveries {
    /// Opens the database in `directory`, or makes it.
    ///
    /// # Errors
    /// It cannot be read, is damaged or of a newer version. Nothing has been thrown away then.
    pub fn open(directory: &Path) -> Result<Self> {
        let db = Database::open(directory)?;
        let number = |name| db.number(name).map(Option::unwrap_or_default);
        let (cursor, shift, expired_upto) = (Position(number("cursor")?), number("shift")?, Position(number("expired_upto")?));
        let (finished_bytes, last_job) = (number("finished_bytes")?, number("last_job")?);
        let reader = Reader::new(db);
        let last_finish = reader.last_finish()?;
        Ok(Self {
            counters: reader.all_counters()?,
            totals: reader.totals()?,
            cursor,
            shift,
            expired_upto,
            finished_bytes,
            last_finish,
            trimmed_upto: Vec::new(),
            removing: reader.removing()?,
            jobs: reader.jobs()?,
            last_job,
            is_broken: false,
            is_dirty: true,
            reader,
        })
    }

    /// Moves a database aside that cannot be opened, and returns where to. What was pending in it is lost to the hooks unless somebody brings it back.
    ///
    /// # Errors
    /// It cannot be moved.
    pub fn set_aside(directory: &Path) -> Result<PathBuf> {
        database::set_aside(directory)
    }

    /// To be called before anything is accepted, with the position of the journal's newest event.
    ///
    /// # Errors
    /// The database failed.
    pub fn resume(&mut self, journal_last: Position) -> Result<Resumed> {
        let stored = self.cursor();
        let lost = stored.0.saturating_sub(journal_last.0);
        if lost > 0 {
            tracing::error!(lost, "the journal has lost durable events whose deliveries are stored; they are made all the same");
            let mut change = Change::new(self);
            change.batch.insert(&self.db().state, "shift", keys::number(self.shift + lost));
            let changed = change.done();
            self.commit(changed)?;
            self.shift += lost;
        }
        Ok(Resumed { after: self.cursor(), lost })
    }

    /// Everything up to here is stored, in the journal's own positions.
    pub fn cursor(&self) -> Position {
        Position(self.cursor.0.saturating_sub(self.shift))
    }

    /// The position here of the event at a position in the journal.
    pub fn position(&self, in_journal: Position) -> Position {
        Position(in_journal.0.saturating_add(self.shift))
    }

    /// Stores deliveries of events, in the order of their positions in the journal, and that everything up to `cursor` is stored: all of it or nothing.
    /// Events up to the cursor that was there before change nothing.
    ///
    /// # Errors
    /// The database failed.
    pub fn accept(&mut self, batch: &[Accepted], cursor: Position) -> Result<()> {
        let (mut upto, mut change) = (self.cursor, Change::new(self));
        for (position, event, hooks) in batch {
            let position = self.position(*position);
            if position <= upto {
                continue;
            }
            upto = position;
            if hooks.is_empty() {
                continue;
            }
            let bytes = journal::event_bytes(event).ok_or(DeliveriesError::Damaged("an event that no record can hold"))?;
            change.batch.insert(&self.db().events, keys::number(position.0), bytes);
            let delivery = Delivery::of(event);
            for (index, hook) in hooks.iter().enumerate() {
                if !hooks[..index].contains(hook) {
                    change.accept(DeliveryId { hook: *hook, position }, &delivery);
                }
            }
        }
        upto = upto.max(self.position(cursor));
        change.batch.insert(&self.db().state, "cursor", keys::number(upto.0));
        let changed = change.done();
        self.commit(changed)?;
        self.cursor = upto;
        Ok(())
    }

    /// Makes sure that everything that was stored outlives a power cut, and returns the cursor, in the journal's own positions: the journal's cursor
    /// may move there.
    ///
    /// # Errors
    /// The database failed. Nothing is stored any more then.
    pub fn sync(&mut self) -> Result<Position> {
        if self.is_broken {
            return Err(DeliveriesError::Broken);
        }
        if self.is_dirty {
            self.db().sync().inspect_err(|_| self.is_broken = true)?;
            self.is_dirty = false;
        }
        Ok(self.cursor())
    }

    /// The reading end.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The numbers of a hook.
    pub fn counters(&self, hook: HookId) -> Counters {
        self.counters.get(&hook).copied().unwrap_or_default()
    }

    /// The numbers of all hooks together, with those that were removed.
    pub fn totals(&self) -> Counters {
        self.totals
    }

    /// All hooks that have numbers.
    pub fn hooks(&self) -> impl Iterator<Item = (HookId, Counters)> + '_ {
        self.counters.iter().map(|(hook, counters)| (*hook, *counters))
    }

    pub(super) fn db(&self) -> &Database {
        self.reader.db()
    }

    /// Writes a change, and has memory follow it.
    pub(super) fn commit(&mut self, changed: Changed) -> Result<()> {
        if self.is_broken {
            return Err(DeliveriesError::Broken);
        }
        self.is_dirty = true;
        changed.batch.commit().inspect_err(|_| self.is_broken = true)?;
        self.counters.extend(changed.counters);
        self.totals = changed.totals;
        self.finished_bytes = changed.finished_bytes;
        self.last_finish = changed.last_finish;
        Ok(())
    }
}
