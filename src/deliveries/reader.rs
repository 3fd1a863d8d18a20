//! The reading end: what is to be made next, and what is known of single deliveries and hooks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use firmware_protocol::time::UnixMillis;
use fjall::{Keyspace, Readable};
use router::event::{Event, Position};
use webhooks::delivery::DeliveryId;
use webhooks::dispatcher::{JobId, Lane};
use webhooks::hook::HookId;

use super::attempt::Attempt;
use super::counters::Counters;
use super::database::Database;
use super::delivery::{Delivery, Entry};
use super::error::{DeliveriesError, Result};
use super::keys;
use super::replay::Job;
use super::standing::Standing;
use crate::journal;

/// Before every retry.
pub const RETRIES_START: (UnixMillis, Position) = (UnixMillis(0), Position(0));
/// After every position.
pub(super) const END: Position = Position(u64::MAX);

/// The reading end of the database. A handle: clones are the same. It sees what is written at once.
#[derive(Clone)]
pub struct Reader {
    db: Database,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

impl Reader {
    pub(super) fn new(db: Database) -> Self {
        Self { db }
    }

    pub(super) fn db(&self) -> &Database {
        &self.db
    }

    /// Deliveries of a hook that are to be made in order, after a position and at most `len_max`; and whether there are more. Those that wait for a
    /// retry out of order are not among them.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn load(&self, hook: HookId, after: Position, len_max: usize) -> Result<(Vec<Entry>, bool)> {
        let bounds = keys::delivery(DeliveryId { hook, position: after.next() })..=keys::delivery(DeliveryId { hook, position: END });
        let mut entries = Vec::new();
        if after >= END {
            return Ok((entries, false));
        }
        for row in self.db.pending.range(bounds) {
            if entries.len() == len_max {
                return Ok((entries, true));
            }
            let (id, delivery) = read_row(row)?;
            entries.push(delivery.entry(id));
        }
        Ok((entries, false))
    }

    /// The same of one device's lane, up to a position. All deliveries in between are walked over.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn load_lane(
        &self,
        hook: HookId,
        lane: Lane,
        (after, through): (Position, Position),
        len_max: usize,
    ) -> Result<(Vec<Entry>, bool)> {
        let mut entries = Vec::new();
        if after >= through {
            return Ok((entries, false));
        }
        let bounds = keys::delivery(DeliveryId { hook, position: after.next() })..=keys::delivery(DeliveryId { hook, position: through });
        for row in self.db.pending.range(bounds) {
            let (id, delivery) = read_row(row)?;
            if delivery.device.map(Lane::of) != Some(lane) {
                continue;
            }
            if entries.len() == len_max {
                return Ok((entries, true));
            }
            entries.push(delivery.entry(id));
        }
        Ok((entries, false))
    }

    /// Deliveries of a hook that are retried out of order, by when they are due and then by position, after one of them ([`RETRIES_START`]: from the first)
    /// and at most `len_max`; and whether there are more.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn retries(&self, hook: HookId, (due, position): (UnixMillis, Position), len_max: usize) -> Result<(Vec<Entry>, bool)> {
        let (after, last) =
            (keys::retry(DeliveryId { hook, position }, due), keys::retry(DeliveryId { hook, position: END }, UnixMillis(u64::MAX)));
        let mut entries = Vec::new();
        for row in self.db.retries.range((Bound::Excluded(after), Bound::Included(last))) {
            if entries.len() == len_max {
                return Ok((entries, true));
            }
            let (id, _) = keys::read_retry(&row.key()?).ok_or(DeliveriesError::Damaged("a key"))?;
            // One that was done with meanwhile is not among the waiting any more.
            if let Some(value) = self.db.waiting.get(keys::delivery(id))? {
                entries.push(read_delivery(&value)?.entry(id));
            }
        }
        Ok((entries, false))
    }

    /// The event at a position, as long as a delivery of it is kept.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn event(&self, position: Position) -> Result<Option<Arc<Event>>> {
        let bytes = self.db.events.get(keys::number(position.0))?;
        bytes.map(|bytes| journal::event_in(&bytes).ok_or(DeliveriesError::Damaged("an event"))).transpose()
    }

    /// A delivery, and its attempts in order.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn show(&self, id: DeliveryId) -> Result<Option<(Delivery, Vec<Attempt>)>> {
        let (snapshot, key) = (self.db.snapshot(), keys::delivery(id));
        for place in [&self.db.pending, &self.db.waiting, &self.db.finished] {
            if let Some(value) = snapshot.get(place, key)? {
                let attempts = snapshot.prefix(&self.db.attempts, key).map(|row| read_attempt(row.into_inner()?));
                return Ok(Some((read_delivery(&value)?, attempts.collect::<Result<_>>()?)));
            }
        }
        Ok(None)
    }

    /// The oldest delivery of a hook that is to be made, and when its event was accepted.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn oldest_pending(&self, hook: HookId) -> Result<Option<(Position, UnixMillis)>> {
        let first = |place: &Keyspace| -> Result<_> {
            let row = place.prefix(hook.0).next().map(read_row).transpose()?;
            Ok(row.map(|(id, delivery)| (id.position, delivery.published_at)))
        };
        Ok([first(&self.db.pending)?, first(&self.db.waiting)?].into_iter().flatten().min())
    }

    /// When the event of the oldest delivery of a hook was accepted that waits for its turn: not among those that are retried out of order.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn oldest_in_order(&self, hook: HookId) -> Result<Option<UnixMillis>> {
        let row = self.db.pending.prefix(hook.0).next().map(read_row).transpose()?;
        Ok(row.map(|(_, delivery)| delivery.published_at))
    }

    /// The numbers of a hook.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn counters(&self, hook: HookId) -> Result<Counters> {
        self.db.counters.get(hook.0)?.map_or(Ok(Counters::default()), |value| read_counters(&value))
    }

    /// The numbers of all hooks together, with those that were removed.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn totals(&self) -> Result<Counters> {
        self.db.state.get("totals")?.map_or(Ok(Counters::default()), |value| read_counters(&value))
    }

    /// How a hook is; `None` if nothing was said of it yet.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn standing(&self, hook: HookId) -> Result<Option<Standing>> {
        self.db.standings.get(hook.0)?.map(|value| Standing::read(&value)).transpose()
    }

    /// Bytes on disk.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn bytes(&self) -> Result<u64> {
        self.db.bytes()
    }

    pub(super) fn all_counters(&self) -> Result<BTreeMap<HookId, Counters>> {
        let row = |row: fjall::Guard| {
            let (key, value) = row.into_inner()?;
            let hook = HookId(key[..].try_into().map_err(|_| DeliveriesError::Damaged("a key"))?);
            Ok((hook, read_counters(&value)?))
        };
        self.db.counters.iter().map(row).collect()
    }

    pub(super) fn removing(&self) -> Result<BTreeSet<HookId>> {
        let hook = |row: fjall::Guard| keys::read_removing(&row.key()?).ok_or(DeliveriesError::Damaged("a key"));
        self.db.state.prefix(keys::REMOVING).map(hook).collect()
    }

    pub(super) fn jobs(&self) -> Result<BTreeMap<JobId, Job>> {
        self.db.jobs.iter().map(|row| Job::read(&row.into_inner()?.1).map(|job| (job.id, job))).collect()
    }

    pub(super) fn last_finish(&self) -> Result<UnixMillis> {
        let Some(row) = self.db.by_finish.last_key_value() else { return Ok(UnixMillis(0)) };
        Ok(keys::read_by_finish(&row.key()?).ok_or(DeliveriesError::Damaged("a key"))?.0)
    }

    /// A finished delivery.
    pub(super) fn finished(&self, id: DeliveryId) -> Result<Option<Delivery>> {
        self.db.finished.get(keys::delivery(id))?.map(|value| read_delivery(&value)).transpose()
    }
}

/// A delivery and its id, as far as they can be read.
pub(super) type Row = Result<(DeliveryId, Delivery)>;
pub(super) fn read_delivery(value: &[u8]) -> Result<Delivery> {
    Delivery::read(value).ok_or(DeliveriesError::Damaged("a delivery"))
}

/// A delivery from its row.
pub(super) fn read_row(row: fjall::Guard) -> Row {
    let (key, value) = row.into_inner()?;
    Ok((keys::read_delivery(&key).ok_or(DeliveriesError::Damaged("a key"))?, read_delivery(&value)?))
}

fn read_attempt((key, value): (fjall::UserKey, fjall::UserValue)) -> Result<Attempt> {
    let number = key.last_chunk().map(|number| u16::from_be_bytes(*number));
    number.and_then(|number| Attempt::read(number, &value)).ok_or(DeliveriesError::Damaged("an attempt"))
}

fn read_counters(value: &[u8]) -> Result<Counters> {
    Counters::read(value).ok_or(DeliveriesError::Damaged("counters"))
}
