//! Replays: finished deliveries that are made again, under their own ids. A replay is a job whose progress is stored, so that it goes on after a restart and
//! can be ended at any time. It fills a queue of its own bit by bit, as that is emptied. What comes of it changes no number but its own and that of dead
//! letters.

use firmware_protocol::time::UnixMillis;
use router::event::Position;
use serde::{Deserialize, Serialize};
use webhooks::delivery::DeliveryId;
use webhooks::dispatcher::JobId;
use webhooks::hook::HookId;

use super::bytes::Take;
use super::change::{Change, Changed};
use super::delivery::Entry;
use super::error::{DeliveriesError, Result};
use super::keys;
use super::record::{Recorded, Then};
use super::selection::{POSITIONS_MAX, Selection};
use super::store::Deliveries;

/// Jobs that are not done, of all hooks together.
pub const JOBS_MAX: usize = 64;
/// Deliveries in the queue of a job.
pub const QUEUE_MAX: usize = 1_024;
/// Jobs that are remembered.
const REMEMBERED_MAX: usize = 1_000;

/// How far a replay has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Not all deliveries have been found yet.
    Finding,
    /// All have been found, and some are to be made.
    Running,
    /// All were made, or failed again.
    Done,
    /// Somebody ended it.
    Cancelled,
}

/// A replay.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Job {
    /// Its number.
    pub id: JobId,
    #[serde(with = "hook_text")]
    /// Whose deliveries are made again.
    pub hook: HookId,
    /// Which of them.
    pub selection: Selection,
    /// How far it has come.
    pub state: JobState,
    /// When it was asked for, in milliseconds since 1970.
    pub created_at_ms: u64,
    /// Deliveries up to this position were looked at.
    pub looked_upto: u64,
    /// Deliveries that were found.
    pub found: u64,
    /// Of these, those that were made.
    pub delivered: u64,
    /// Those that failed again, or were no longer kept when their turn came.
    pub failed: u64,
}

impl Job {
    /// Whether there is something left to do.
    pub fn is_open(&self) -> bool {
        matches!(self.state, JobState::Finding | JobState::Running)
    }

    /// Deliveries in its queue.
    pub fn queued(&self) -> u64 {
        if self.is_open() { self.found.saturating_sub(self.delivered + self.failed) } else { 0 }
    }

    pub(super) fn read(value: &[u8]) -> Result<Self> {
        serde_json::from_slice(value).map_err(|_| DeliveriesError::Damaged("a replay"))
    }

    fn settle(&mut self) {
        if self.state == JobState::Running && self.queued() == 0 {
            self.state = JobState::Done;
        }
    }
}

/// What is kept of a delivery in the queue of a job.
#[derive(Clone, Copy)]
struct Tries {
    attempts: u16,
    due: UnixMillis,
}

impl Tries {
    fn to_bytes(self) -> Vec<u8> {
        [&self.attempts.to_be_bytes()[..], &self.due.0.to_be_bytes()].concat()
    }

    fn read(value: &[u8]) -> Result<Self> {
        let mut take = Take(value);
        let tries = take.u16().zip(take.u64()).and_then(|tries| take.end(tries));
        tries.map(|(attempts, due)| Self { attempts, due: UnixMillis(due) }).ok_or(DeliveriesError::Damaged("a delivery in a replay"))
    }
}

impl Deliveries {
    /// Begins a replay.
    ///
    /// # Errors
    /// There are too many that are not done, or too many deliveries are named, or the database failed.
    pub fn begin_replay(&mut self, now: UnixMillis, hook: HookId, selection: Selection) -> Result<Job> {
        if matches!(&selection, Selection::Positions(positions) if positions.len() > POSITIONS_MAX) {
            return Err(DeliveriesError::TooMany("deliveries in one replay"));
        }
        if self.jobs.values().filter(|job| job.is_open()).count() >= JOBS_MAX {
            return Err(DeliveriesError::TooMany("replays that are not done"));
        }
        let (id, state) = (JobId(self.last_job + 1), JobState::Finding);
        let job = Job { id, hook, selection, state, created_at_ms: now.0, looked_upto: 0, found: 0, delivered: 0, failed: 0 };
        let forgotten = self.jobs.values().find(|job| !job.is_open()).filter(|_| self.jobs.len() >= REMEMBERED_MAX).map(|job| job.id);
        let mut change = Change::new(self);
        change.batch.insert(&self.db().state, "last_job", keys::number(id.0));
        if let Some(JobId(forgotten)) = forgotten {
            change.batch.remove(&self.db().jobs, keys::number(forgotten));
        }
        let changed = change.done_with(&job)?;
        self.commit_job(changed, job.clone())?;
        self.last_job = id.0;
        self.jobs.retain(|id, _| Some(*id) != forgotten);
        Ok(job)
    }

    /// All replays that are remembered, the oldest first.
    pub fn jobs(&self) -> impl DoubleEndedIterator<Item = &Job> {
        self.jobs.values()
    }

    /// A replay.
    pub fn job(&self, id: JobId) -> Option<&Job> {
        self.jobs.get(&id)
    }

    /// Finds more deliveries of a replay, as far as there is room in its queue. Returns how the job is then.
    ///
    /// # Errors
    /// There is no such replay, or the database failed.
    pub fn fill_replay(&mut self, id: JobId) -> Result<Job> {
        let mut job = self.known_job(id)?;
        let room = QUEUE_MAX.saturating_sub(usize::try_from(job.queued()).unwrap_or(QUEUE_MAX));
        if job.state != JobState::Finding || room == 0 {
            return Ok(job);
        }
        let found = self.reader.find(job.hook, &job.selection, Position(job.looked_upto), room)?;
        let mut change = Change::new(self);
        for (delivery, _) in &found.deliveries {
            let tries = Tries { attempts: 0, due: UnixMillis(0) };
            change.batch.insert(&self.db().replays, keys::replay(id.0, delivery.position), tries.to_bytes());
        }
        job.found += found.deliveries.len() as u64;
        job.looked_upto = found.upto.0;
        if found.is_all {
            job.state = JobState::Running;
            job.settle();
        }
        let changed = change.done_with(&job)?;
        self.commit_job(changed, job.clone())?;
        Ok(job)
    }

    /// Deliveries in the queue of a replay, after a position and at most `len_max`, each with how often it was tried in this replay; and whether there are
    /// more. Those that are no longer kept count as failed.
    ///
    /// # Errors
    /// There is no such replay, or the database failed.
    pub fn load_replay(&mut self, id: JobId, after: Position, len_max: usize) -> Result<(Vec<(Entry, u16)>, bool)> {
        let mut job = self.known_job(id)?;
        let (mut entries, mut gone, mut is_more) = (Vec::new(), Vec::new(), false);
        for row in self.db().replays.range(keys::replay(id.0, after.next())..=keys::replay(id.0, Position(u64::MAX))) {
            if entries.len() == len_max {
                is_more = true;
                break;
            }
            let (key, value) = row.into_inner()?;
            let (_, position) = keys::read_replay(&key).ok_or(DeliveriesError::Damaged("a key"))?;
            let (delivery, tries) = (DeliveryId { hook: job.hook, position }, Tries::read(&value)?);
            match self.reader.finished(delivery)? {
                Some(kept) => entries.push((Entry { due: tries.due, ..kept.entry(delivery) }, tries.attempts)),
                None => gone.push(key),
            }
        }
        if !gone.is_empty() {
            job.failed += gone.len() as u64;
            job.settle();
            let mut change = Change::new(self);
            gone.into_iter().for_each(|key| change.batch.remove(&self.db().replays, key));
            let changed = change.done_with(&job)?;
            self.commit_job(changed, job)?;
        }
        Ok((entries, is_more))
    }

    /// Writes down how attempts of a replay ended. What is said of a delivery that is not in its queue changes nothing. Returns how the job is then.
    ///
    /// # Errors
    /// There is no such replay, or the database failed.
    pub fn record_replay(&mut self, id: JobId, records: &[(Position, Recorded)]) -> Result<Job> {
        for (position, recorded) in records {
            self.record_one_of_replay(id, *position, recorded)?;
        }
        self.known_job(id)
    }

    fn record_one_of_replay(&mut self, job: JobId, position: Position, recorded: &Recorded) -> Result<()> {
        let mut job = self.known_job(job)?;
        let (key, id) = (keys::replay(job.id.0, position), DeliveryId { hook: job.hook, position });
        let Some(tries) = self.db().replays.get(key)? else { return Ok(()) };
        let (tries, before) = (Tries::read(&tries)?, self.reader.finished(id)?);
        let Some(before) = before else { return Ok(()) };
        let (mut change, mut after) = (Change::new(self), before.clone());
        if let Some(attempt) = &recorded.attempt {
            if (1..=before.attempts).contains(&attempt.number) {
                return Ok(());
            }
            change.keep(id, &mut after, attempt);
        }
        match recorded.then {
            Then::Retry { at, .. } => {
                let tries = Tries { attempts: tries.attempts.saturating_add(1), due: at };
                change.batch.insert(&self.db().replays, key, tries.to_bytes());
            }
            Then::Delivered => {
                (after.replayed, job.delivered) = (true, job.delivered + 1);
                change.count(id.hook, |counters| counters.replayed += 1);
                change.batch.remove(&self.db().replays, key);
            }
            Then::Expired | Then::Rejected(_) => {
                job.failed += 1;
                change.batch.remove(&self.db().replays, key);
            }
        }
        change.rewrite(id, &before, &after);
        job.settle();
        let changed = change.done_with(&job)?;
        self.commit_job(changed, job)
    }

    /// Ends a replay. Attempts that are under way are not called back.
    ///
    /// # Errors
    /// There is no such replay, or the database failed.
    pub fn cancel_replay(&mut self, id: JobId) -> Result<Job> {
        let mut job = self.known_job(id)?;
        if job.is_open() {
            let mut change = Change::new(self);
            for row in self.db().replays.prefix(keys::number(id.0)) {
                change.batch.remove(&self.db().replays, row.key()?);
            }
            job.state = JobState::Cancelled;
            let changed = change.done_with(&job)?;
            self.commit_job(changed, job.clone())?;
        }
        Ok(job)
    }

    pub(super) fn cancel_jobs_of(&mut self, hook: HookId) -> Result<()> {
        let open: Vec<JobId> = self.jobs.values().filter(|job| job.hook == hook && job.is_open()).map(|job| job.id).collect();
        open.into_iter().try_for_each(|id| self.cancel_replay(id).map(drop))
    }

    fn known_job(&self, id: JobId) -> Result<Job> {
        self.jobs.get(&id).cloned().ok_or(DeliveriesError::NoSuch("replay"))
    }

    fn commit_job(&mut self, changed: Changed, job: Job) -> Result<()> {
        self.commit(changed)?;
        self.jobs.insert(job.id, job);
        Ok(())
    }
}

impl Change<'_> {
    /// The whole change, with what the job says after it.
    fn done_with(mut self, job: &Job) -> Result<Changed> {
        let value = serde_json::to_vec(job).map_err(|_| DeliveriesError::Damaged("a replay"))?;
        self.batch.insert(&self.db().jobs, keys::number(job.id.0), value);
        Ok(self.done())
    }
}

/// The id of a hook as text.
mod hook_text {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};
    use webhooks::hook::HookId;

    pub(super) fn serialize<S: Serializer>(hook: &HookId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(hook)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HookId, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(|()| D::Error::custom("not the id of a hook"))
    }
}
