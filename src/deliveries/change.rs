//! A change that is being put together: one batch, and what memory has to say after it.
//!
//! No key is written twice in a batch: the database gives all of it one number, and could not tell which came last.

use std::collections::{BTreeMap, HashSet};

use firmware_protocol::time::UnixMillis;
use fjall::OwnedWriteBatch;
use webhooks::delivery::DeliveryId;
use webhooks::hook::HookId;

use super::attempt::{ATTEMPTS_KEPT_MAX, Attempt};
use super::counters::Counters;
use super::database::Database;
use super::delivery::{Delivery, State};
use super::error::{DeliveriesError, Result};
use super::keys;
use super::store::Deliveries;

/// Where a delivery is that is to be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    Pending,
    Waiting,
}

/// A change that is not written yet.
pub(super) struct Change<'a> {
    store: &'a Deliveries,
    pub(super) batch: OwnedWriteBatch,
    counters: BTreeMap<HookId, Counters>,
    totals: Counters,
    finished_bytes: u64,
    last_finish: UnixMillis,
    /// Deliveries that this change has to do with.
    changed: HashSet<DeliveryId>,
    /// Deliveries that this change removes altogether.
    removed: HashSet<DeliveryId>,
}

/// What is to be written, and what memory has to say then.
pub(super) struct Changed {
    pub(super) batch: OwnedWriteBatch,
    pub(super) counters: BTreeMap<HookId, Counters>,
    pub(super) totals: Counters,
    pub(super) finished_bytes: u64,
    pub(super) last_finish: UnixMillis,
}

impl<'a> Change<'a> {
    pub(super) fn new(store: &'a Deliveries) -> Self {
        Self {
            store,
            batch: store.db().batch(),
            counters: BTreeMap::new(),
            totals: store.totals,
            finished_bytes: store.finished_bytes,
            last_finish: store.last_finish,
            changed: HashSet::new(),
            removed: HashSet::new(),
        }
    }

    pub(super) fn db(&self) -> &'a Database {
        self.store.db()
    }

    pub(super) fn done(mut self) -> Changed {
        let db = self.db();
        for (hook, counters) in &self.counters {
            self.batch.insert(&db.counters, hook.0, counters.to_bytes());
        }
        if self.totals != self.store.totals {
            self.batch.insert(&db.state, "totals", self.totals.to_bytes());
        }
        if self.finished_bytes != self.store.finished_bytes {
            self.batch.insert(&db.state, "finished_bytes", keys::number(self.finished_bytes));
        }
        let Self { batch, counters, totals, finished_bytes, last_finish, .. } = self;
        Changed { batch, counters, totals, finished_bytes, last_finish }
    }

    /// Counts in the numbers of the hook and in those of all.
    pub(super) fn count(&mut self, hook: HookId, count: impl Fn(&mut Counters)) {
        count(self.counters.entry(hook).or_insert_with(|| self.store.counters(hook)));
        count(&mut self.totals);
    }

    pub(super) fn accept(&mut self, id: DeliveryId, delivery: &Delivery) {
        let db = self.db();
        self.batch.insert(&db.pending, keys::delivery(id), delivery.to_bytes());
        self.batch.insert(&db.holders, keys::holder(id), keys::number(delivery.published_at.0));
        self.count(id.hook, |counters| counters.accept(delivery));
    }

    /// Whether it has changed this delivery already, which it may do once.
    pub(super) fn has(&self, id: DeliveryId) -> bool {
        self.changed.contains(&id)
    }

    /// A delivery that is to be made, as it is before this change.
    pub(super) fn find(&self, id: DeliveryId) -> Result<Option<(Place, Delivery)>> {
        let (db, key) = (self.db(), keys::delivery(id));
        let (place, value) = match db.pending.get(key)? {
            Some(value) => (Place::Pending, value),
            None => match db.waiting.get(key)? {
                Some(value) => (Place::Waiting, value),
                None => return Ok(None),
            },
        };
        let delivery = Delivery::read(&value).ok_or(DeliveriesError::Damaged("a delivery"))?;
        Ok(Some((place, delivery)))
    }

    /// Keeps an attempt, for its delivery.
    pub(super) fn keep(&mut self, id: DeliveryId, delivery: &mut Delivery, attempt: &Attempt) {
        let (db, bytes) = (self.db(), attempt.to_bytes());
        let number = if attempt.number == 0 { delivery.attempts.saturating_add(1) } else { attempt.number };
        delivery.attempts = delivery.attempts.max(number);
        delivery.attempts_bytes = delivery.attempts_bytes.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        delivery.last = Some(attempt.outcome.clone());
        self.batch.insert(&db.attempts, keys::attempt(id, number), bytes);
        if let Some(oldest) = number.checked_sub(ATTEMPTS_KEPT_MAX).filter(|oldest| *oldest > 0) {
            self.batch.remove(&db.attempts, keys::attempt(id, oldest));
        }
        self.count(id.hook, |counters| counters.attempts += 1);
    }

    /// Puts a delivery back that is to be made later.
    pub(super) fn put_back(&mut self, id: DeliveryId, (place, due): (Place, UnixMillis), delivery: &Delivery) {
        let (db, key) = (self.db(), keys::delivery(id));
        self.changed.insert(id);
        if !delivery.out_of_order {
            return self.batch.insert(&db.pending, key, delivery.to_bytes());
        }
        match place {
            Place::Pending => self.batch.remove(&db.pending, key),
            Place::Waiting if due != delivery.due => self.batch.remove(&db.retries, keys::retry(id, due)),
            Place::Waiting => {}
        }
        self.batch.insert(&db.waiting, key, delivery.to_bytes());
        self.batch.insert(&db.retries, keys::retry(id, delivery.due), []);
    }

    /// A delivery is done with.
    pub(super) fn finish(&mut self, now: UnixMillis, id: DeliveryId, from: Place, mut delivery: Delivery, state: State) {
        let db = self.db();
        self.take_out(id, (from, delivery.due));
        self.last_finish = self.last_finish.max(now);
        (delivery.state, delivery.due, delivery.finished_at) = (state, UnixMillis(0), self.last_finish);
        self.batch.insert(&db.finished, keys::delivery(id), delivery.to_bytes());
        self.batch.insert(&db.by_finish, keys::by_finish(delivery.finished_at, id), delivery.kept_bytes().to_be_bytes());
        self.finished_bytes += u64::from(delivery.kept_bytes());
        let is_dead = state != State::Delivered;
        if is_dead {
            self.batch.insert(&db.dead, keys::delivery(id), keys::number(delivery.finished_at.0));
        }
        self.count(id.hook, |counters| {
            counters.finish(&delivery);
            counters.dead_letters += u64::from(is_dead);
        });
        self.changed.insert(id);
    }

    /// A finished delivery says something else now.
    pub(super) fn rewrite(&mut self, id: DeliveryId, before: &Delivery, after: &Delivery) {
        let db = self.db();
        self.changed.insert(id);
        self.batch.insert(&db.finished, keys::delivery(id), after.to_bytes());
        self.batch.insert(&db.by_finish, keys::by_finish(after.finished_at, id), after.kept_bytes().to_be_bytes());
        self.finished_bytes = self.finished_bytes.saturating_sub(before.kept_bytes().into()) + u64::from(after.kept_bytes());
        if is_dead_letter(before) && !is_dead_letter(after) {
            self.batch.remove(&db.dead, keys::delivery(id));
            self.count(id.hook, |counters| counters.dead_letters = counters.dead_letters.saturating_sub(1));
        }
    }

    /// Removes a delivery that is to be made, which counts as given up, with all that is kept of it.
    pub(super) fn give_up(&mut self, id: DeliveryId, from: Place, mut delivery: Delivery, state: State) -> Result<()> {
        self.take_out(id, (from, delivery.due));
        delivery.state = state;
        self.count(id.hook, |counters| counters.finish(&delivery));
        self.changed.insert(id);
        self.let_go(id, &delivery)
    }

    /// Removes a finished delivery, with all that is kept of it. It stays counted.
    pub(super) fn forget(&mut self, id: DeliveryId, delivery: &Delivery) -> Result<()> {
        let db = self.db();
        self.batch.remove(&db.finished, keys::delivery(id));
        self.batch.remove(&db.by_finish, keys::by_finish(delivery.finished_at, id));
        self.finished_bytes = self.finished_bytes.saturating_sub(delivery.kept_bytes().into());
        if is_dead_letter(delivery) {
            self.batch.remove(&db.dead, keys::delivery(id));
            self.count(id.hook, |counters| counters.dead_letters = counters.dead_letters.saturating_sub(1));
        }
        self.let_go(id, delivery)
    }

    /// The numbers of a hook are not needed any more. Those of all stay.
    pub(super) fn forget_counters(&mut self, hook: HookId) {
        self.counters.remove(&hook);
        self.batch.remove(&self.db().counters, hook.0);
    }

    fn take_out(&mut self, id: DeliveryId, (place, due): (Place, UnixMillis)) {
        let db = self.db();
        match place {
            Place::Pending => self.batch.remove(&db.pending, keys::delivery(id)),
            Place::Waiting => {
                self.batch.remove(&db.waiting, keys::delivery(id));
                self.batch.remove(&db.retries, keys::retry(id, due));
            }
        }
    }

    /// Removes what a delivery has elsewhere: its attempts, and the event if no other delivery is of it.
    fn let_go(&mut self, id: DeliveryId, delivery: &Delivery) -> Result<()> {
        let db = self.db();
        for number in (1..=delivery.attempts).rev().take(ATTEMPTS_KEPT_MAX.into()) {
            self.batch.remove(&db.attempts, keys::attempt(id, number));
        }
        self.batch.remove(&db.holders, keys::holder(id));
        self.removed.insert(id);
        for entry in db.holders.prefix(keys::number(id.position.0)) {
            let other = keys::read_holder(&entry.key()?).ok_or(DeliveriesError::Damaged("a key"))?;
            if !self.removed.contains(&other) {
                return Ok(());
            }
        }
        self.batch.remove(&db.events, keys::number(id.position.0));
        Ok(())
    }
}

fn is_dead_letter(delivery: &Delivery) -> bool {
    matches!(delivery.state, State::Expired | State::Rejected(_)) && !delivery.replayed
}
