//! What goes: deliveries that were not made in time, those of hooks that have too many, finished ones after a while, and all of hooks that were removed.
//! Each call does a bounded amount of work.

use std::ops::Bound;

use firmware_protocol::time::UnixMillis;
use router::event::Position;
use webhooks::delivery::DeliveryId;
use webhooks::hook::HookId;

use super::change::{Change, Place};
use super::delivery::{Reason, State};
use super::error::{DeliveriesError, Result};
use super::keys;
use super::reader::read_row;
use super::store::Deliveries;
use crate::config::Limit;

/// Deliveries that one call removes of each kind.
const REMOVED_MAX: usize = 1_024;
/// Deliveries that one call looks at for their age.
const LOOKED_AT_MAX: usize = 8_192;

/// What is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// How old an event may get that is not delivered, in milliseconds.
    pub pending_ms: u64,
    /// Bytes of events that may wait for one hook. The oldest make room.
    pub pending_bytes: Limit,
    /// How long deliveries are kept that are done with, in milliseconds.
    pub finished_ms: u64,
    /// Bytes of these. The oldest make room.
    pub finished_bytes: Limit,
}

/// What went.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tidied {
    /// Deliveries that are not to be made any more, for whoever would make them.
    pub dropped: Vec<(DeliveryId, State)>,
    /// There may be more that has to go.
    pub is_more: bool,
}

impl Deliveries {
    /// Removes what is too old or too much.
    ///
    /// # Errors
    /// The database failed.
    pub fn tidy(&mut self, now: UnixMillis, limits: &Limits) -> Result<Tidied> {
        let mut tidied = Tidied::default();
        self.expire(now, limits, &mut tidied)?;
        self.drop_overflow(now, limits, &mut tidied)?;
        self.trim(now, limits, &mut tidied)?;
        self.remove_some(&mut tidied)?;
        Ok(tidied)
    }

    /// Removes a hook and all its deliveries. Those that were to be made count as given up; they go in later calls of [`Deliveries::tidy`], and after a
    /// restart if need be.
    ///
    /// # Errors
    /// The database failed.
    pub fn remove_hook(&mut self, hook: HookId) -> Result<()> {
        let mut change = Change::new(self);
        change.batch.insert(&self.db().state, keys::removing(hook), []);
        change.batch.remove(&self.db().standings, hook.0);
        let changed = change.done();
        self.commit(changed)?;
        self.removing.insert(hook);
        self.cancel_jobs_of(hook)
    }

    fn expire(&mut self, now: UnixMillis, limits: &Limits, tidied: &mut Tidied) -> Result<()> {
        let keep_from = now.0.saturating_sub(limits.pending_ms);
        let (mut change, mut upto, mut looked_at) = (Change::new(self), self.expired_upto, 0);
        for row in self.db().holders.range(keys::number(upto.next().0)..) {
            let (key, value) = row.into_inner()?;
            let id = keys::read_holder(&key).ok_or(DeliveriesError::Damaged("a key"))?;
            let at = keys::read_number(&value).ok_or(DeliveriesError::Damaged("the time of an event"))?;
            // An event is looked at with all its deliveries or with none.
            if at >= keep_from || (looked_at >= LOOKED_AT_MAX && id.position > upto) {
                tidied.is_more |= at < keep_from;
                break;
            }
            (looked_at, upto) = (looked_at + 1, id.position);
            if let Some((place, delivery)) = change.find(id)? {
                change.finish(now, id, place, delivery, State::Expired);
                tidied.dropped.push((id, State::Expired));
            }
        }
        if upto == self.expired_upto {
            return Ok(());
        }
        change.batch.insert(&self.db().state, "expired_upto", keys::number(upto.0));
        let changed = change.done();
        self.commit(changed)?;
        self.expired_upto = upto;
        Ok(())
    }

    fn drop_overflow(&mut self, now: UnixMillis, limits: &Limits, tidied: &mut Tidied) -> Result<()> {
        let Limit::AtMost(most) = limits.pending_bytes else { return Ok(()) };
        let crowded: Vec<HookId> = self.hooks().filter(|(_, counters)| counters.pending_bytes > most).map(|(hook, _)| hook).collect();
        for hook in crowded {
            self.drop_oldest(now, hook, most, tidied)?;
        }
        Ok(())
    }

    fn drop_oldest(&mut self, now: UnixMillis, hook: HookId, most: u64, tidied: &mut Tidied) -> Result<()> {
        let (mut change, mut bytes) = (Change::new(self), self.counters(hook).pending_bytes);
        let places = [(Place::Waiting, &self.db().waiting), (Place::Pending, &self.db().pending)];
        let rows = places.into_iter().flat_map(|(place, keyspace)| keyspace.prefix(hook.0).map(move |row| (place, row)));
        for (place, row) in rows.take(REMOVED_MAX) {
            if bytes <= most {
                break;
            }
            let (id, delivery) = read_row(row)?;
            bytes = bytes.saturating_sub(delivery.bytes.into());
            let state = State::Rejected(Reason::Overflow);
            change.finish(now, id, place, delivery, state);
            tidied.dropped.push((id, state));
        }
        tidied.is_more |= bytes > most;
        let changed = change.done();
        self.commit(changed)
    }

    fn trim(&mut self, now: UnixMillis, limits: &Limits, tidied: &mut Tidied) -> Result<()> {
        let keep_from = UnixMillis(now.0.saturating_sub(limits.finished_ms));
        let (mut change, mut bytes) = (Change::new(self), self.finished_bytes);
        let (mut upto, mut removed) = (self.trimmed_upto.clone(), 0);
        let from = Bound::Excluded(self.trimmed_upto.clone());
        for row in self.db().by_finish.range((from, Bound::Unbounded)) {
            let (key, value) = row.into_inner()?;
            let (at, id) = keys::read_by_finish(&key).ok_or(DeliveriesError::Damaged("a key"))?;
            let is_too_much = matches!(limits.finished_bytes, Limit::AtMost(most) if bytes > most);
            if at >= keep_from && !is_too_much {
                break;
            }
            if removed == REMOVED_MAX {
                tidied.is_more = true;
                break;
            }
            removed += 1;
            bytes = bytes.saturating_sub(value[..].try_into().map_or(0, u32::from_be_bytes).into());
            let delivery = self.reader.finished(id)?.ok_or(DeliveriesError::Damaged("a finished delivery is missing"))?;
            change.forget(id, &delivery)?;
            upto = key.to_vec();
        }
        if removed > 0 {
            let changed = change.done();
            self.commit(changed)?;
            self.trimmed_upto = upto;
        }
        Ok(())
    }

    /// Removes some deliveries of hooks that were removed.
    fn remove_some(&mut self, tidied: &mut Tidied) -> Result<()> {
        let Some(hook) = self.removing.first().copied() else { return Ok(()) };
        let (mut change, mut left) = (Change::new(self), REMOVED_MAX);
        for (place, keyspace) in [(Place::Waiting, &self.db().waiting), (Place::Pending, &self.db().pending)] {
            for row in keyspace.prefix(hook.0).take(left) {
                let (id, delivery) = read_row(row)?;
                let state = State::Rejected(Reason::Removed);
                change.give_up(id, place, delivery, state)?;
                tidied.dropped.push((id, state));
                left -= 1;
            }
        }
        for row in self.db().finished.prefix(hook.0).take(left) {
            let (id, delivery) = read_row(row)?;
            change.forget(id, &delivery)?;
            left -= 1;
        }
        let is_done = left > 0;
        if is_done {
            change.forget_counters(hook);
            change.batch.remove(&self.db().state, keys::removing(hook));
        }
        let changed = change.done();
        self.commit(changed)?;
        if is_done {
            self.counters.remove(&hook);
            self.removing.remove(&hook);
        }
        tidied.is_more |= !self.removing.is_empty();
        Ok(())
    }

    /// The oldest event that is kept.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn oldest_event(&self) -> Result<Option<Position>> {
        let Some(row) = self.db().events.first_key_value() else { return Ok(None) };
        Ok(keys::read_number(&row.key()?).map(Position))
    }
}
