//! How deliveries of one destination come from the store into memory: a few at a time, one load after another.
//!
//! Of the queue, everything up to the cursor is in memory, or was left behind by its lane, or is over. Of the retries, everything up to the edge is.

use std::collections::{BTreeSet, VecDeque};

use firmware_protocol::time::{Millis, UnixMillis};
use router::event::Position;

use super::lane::{BEHIND_MAX, WAITING_MAX};
use super::messages::{Entry, JobId, Lane, Source};
use super::queue::{Of, Queue};

/// Deliveries of one destination in memory.
pub const WINDOW_MAX: usize = 256;
/// Retries of one destination in memory that wait for their time.
pub const RETRIES_MAX: usize = 64;
/// Deliveries of replays of one destination in memory.
pub const REPLAYS_MAX: usize = 32;
/// Replays of one destination that wait for their turn.
pub const JOBS_MAX: usize = 16;
/// How long nothing is loaded after a load that failed, in milliseconds.
pub const LOAD_PAUSE_MS: u64 = 1_000;

/// A replay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Job {
    id: JobId,
    after: Position,
    more: bool,
}

/// A load that is not answered yet.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Loading {
    source: Source,
    max: usize,
    /// Its answer has no meaning any more.
    is_void: bool,
    /// What was forgotten since: the answer may still have it.
    removed: BTreeSet<Position>,
    /// Something came into the store that the answer may not have.
    missed: bool,
}

/// How far the store was read.
#[derive(Debug)]
pub(super) struct Window {
    cursor: Position,
    /// There is something in the store behind the cursor.
    more: bool,
    /// The newest that ever arrived.
    newest: Position,
    edge: (UnixMillis, Position),
    more_retries: bool,
    jobs: VecDeque<Job>,
    loading: Option<Loading>,
    /// Which kind of load comes next.
    turn: u8,
    paused_until: Millis,
}

impl Window {
    pub(super) fn new(has_pending: bool) -> Self {
        Self {
            cursor: Position(0),
            more: has_pending,
            newest: Position(0),
            edge: (UnixMillis(0), Position(0)),
            more_retries: has_pending,
            jobs: VecDeque::new(),
            loading: None,
            turn: 0,
            paused_until: Millis(0),
        }
    }

    /// The answer to the load under way may have it, and it is over with it.
    pub(super) fn is_stale(&self, position: Position) -> bool {
        self.loading.as_ref().is_some_and(|loading| loading.removed.contains(&position))
    }

    pub(super) fn note_removed(&mut self, position: Position) {
        self.loading.iter_mut().for_each(|loading| _ = loading.removed.insert(position));
    }

    /// Whether a retry that is due then belongs into memory. While something is loaded, nobody knows how far that goes.
    pub(super) fn keeps(&self, due: UnixMillis, position: Position) -> bool {
        let is_loading = self.loading.as_ref().is_some_and(|loading| !loading.is_void);
        !self.more_retries || (due, position) <= self.edge || is_loading
    }

    /// The store has to be read again for this one. Whatever is being loaded is void.
    pub(super) fn rewind(&mut self, of: Of, position: Position) {
        let before = Position(position.0.saturating_sub(1));
        match of {
            Of::Queue => (self.cursor, self.more) = (self.cursor.min(before), true),
            Of::Retries => (self.edge, self.more_retries) = ((UnixMillis(0), Position(0)), true),
            Of::Replay(job) => {
                let job = self.jobs.iter_mut().find(|other| other.id == job);
                job.into_iter().for_each(|job| (job.after, job.more) = (job.after.min(before), true));
            }
        }
        self.void();
    }

    /// Whatever is loaded is not to be taken.
    pub(super) fn void(&mut self) {
        self.loading.iter_mut().for_each(|loading| loading.is_void = true);
    }

    /// Another replay waits for its turn. `false` if there are too many.
    pub(super) fn add(&mut self, job: JobId) -> bool {
        if self.has_job(job) {
            return true;
        }
        let has_place = self.jobs.len() < JOBS_MAX;
        if has_place {
            self.jobs.push_back(Job { id: job, after: Position(0), more: true });
        }
        has_place
    }

    pub(super) fn cancel(&mut self, job: JobId) {
        self.jobs.retain(|other| other.id != job);
    }

    pub(super) fn has_job(&self, job: JobId) -> bool {
        self.jobs.iter().any(|other| other.id == job)
    }

    /// When loads go on after one that failed.
    pub(super) fn wake_at(&self, now: Millis) -> Option<Millis> {
        Some(self.paused_until).filter(|until| *until > now)
    }

    /// Deliveries that the load under way may bring.
    pub(super) fn promised(&self) -> usize {
        self.loading.as_ref().map_or(0, |loading| loading.max)
    }

    fn is_loading_queue(&self) -> bool {
        self.loading.as_ref().is_some_and(|loading| matches!(loading.source, Source::Queue { .. }))
    }
}

impl Queue {
    /// New deliveries were stored. Those for which there is no place stay there, as all do that follow one that does. How many had arrived before.
    pub(super) fn arrived(&mut self, now: UnixMillis, entries: &[Entry], place: usize) -> usize {
        let mut repeated = 0;
        for entry in entries {
            if entry.position <= self.window.newest {
                repeated += 1;
                continue;
            }
            self.window.newest = entry.position;
            self.window.loading.iter_mut().for_each(|loading| loading.missed = true);
            let can_stay = self.window.more || self.window.is_loading_queue() || self.items.len() >= place;
            if can_stay || !self.hold(now, entry, Of::Queue) {
                self.window.more = true;
            } else {
                self.window.cursor = entry.position;
            }
        }
        repeated
    }

    /// What to load next, if there is anything and there is place.
    pub(super) fn next_load(&mut self, now: Millis, place: usize) -> Option<(Source, usize)> {
        if self.window.loading.is_some() || now < self.window.paused_until {
            return None;
        }
        let (source, max) = (0..4).find_map(|_| {
            self.window.turn = (self.window.turn + 1) % 4;
            self.load_of(self.window.turn, place)
        })?;
        let removed = BTreeSet::new();
        self.window.loading = Some(Loading { source, max, is_void: false, removed, missed: false });
        Some((source, max))
    }

    fn load_of(&mut self, kind: u8, place: usize) -> Option<(Source, usize)> {
        let free = place.saturating_sub(self.items.len());
        let [queue, retries, replays] = self.held;
        let is_low = |held: usize, max: usize| held <= max.min(place) / 2;
        match kind {
            0 if self.window.more && is_low(queue, WINDOW_MAX) && self.lanes.behind() < BEHIND_MAX => {
                let source = Source::Queue { after: self.window.cursor };
                Some((source, free)).filter(|_| free > 0)
            }
            1 if free > 0 => {
                let (lane, first) = self.lanes.next_hungry()?;
                let after = Position(first.0.saturating_sub(1));
                Some((Source::Lane { lane, after, through: self.window.cursor }, WAITING_MAX))
            }
            2 if self.window.more_retries && is_low(retries, RETRIES_MAX) => {
                Some((Source::Retries { after: self.window.edge }, RETRIES_MAX.min(place)))
            }
            3 if is_low(replays, REPLAYS_MAX) => {
                let job = self.window.jobs.front().filter(|job| job.more)?;
                Some((Source::Replay { job: job.id, after: job.after }, REPLAYS_MAX.min(place)))
            }
            _ => None,
        }
    }

    /// The load under way failed.
    pub(super) fn load_failed(&mut self, now: Millis) {
        if let Some(Loading { source: Source::Lane { lane, .. }, .. }) = self.window.loading.take() {
            self.lanes.feed(lane);
        }
        self.window.paused_until = Millis(now.0.saturating_add(LOAD_PAUSE_MS));
    }

    /// The answer to a load. `false` if nobody asked for it. Replays of what is pending anyway are told to `passed`.
    pub(super) fn loaded(
        &mut self,
        now: UnixMillis,
        source: Source,
        entries: &[Entry],
        more: bool,
        mut passed: impl FnMut(JobId, Position),
    ) -> bool {
        let Some(loading) = self.window.loading.clone().filter(|loading| loading.source == source) else { return false };
        let entries = &entries[..entries.len().min(loading.max)];
        if !loading.is_void {
            match source {
                Source::Queue { after } => self.loaded_queue(now, after, entries, more, &loading),
                Source::Lane { lane, after, through } => self.loaded_lane(now, lane, (after, through), entries, more),
                Source::Retries { .. } => self.loaded_retries(now, entries, more),
                Source::Replay { job, after } => self.loaded_replay(now, job, after, entries, more, &mut passed),
            }
        }
        self.window.loading = None;
        self.trim_retries();
        true
    }

    fn loaded_queue(&mut self, now: UnixMillis, after: Position, entries: &[Entry], more: bool, loading: &Loading) {
        let mut cursor = after;
        let mut is_full = false;
        for entry in entries.iter().filter(|entry| entry.position > after) {
            is_full = !self.hold(now, entry, Of::Queue);
            if is_full {
                break;
            }
            cursor = entry.position;
        }
        self.window.cursor = cursor;
        self.window.more = more || is_full || loading.missed;
    }

    fn loaded_lane(&mut self, now: UnixMillis, lane: Lane, (after, through): (Position, Position), entries: &[Entry], more: bool) {
        let of_lane = entries.iter().filter(|entry| entry.lane == Some(lane) && entry.position > after);
        of_lane.for_each(|entry| self.hold_behind(now, lane, entry));
        let last = if more { entries.last().map_or(after, |last| last.position) } else { through };
        // What arrived since was left behind too.
        let has_more = more || self.window.cursor > through;
        self.lanes.set_behind(lane, has_more.then(|| last.next()));
        self.lanes.feed(lane);
    }

    fn loaded_retries(&mut self, now: UnixMillis, entries: &[Entry], more: bool) {
        entries.iter().for_each(|entry| _ = self.hold(now, entry, Of::Retries));
        self.window.more_retries = more;
        if let Some(last) = entries.last() {
            self.window.edge = self.window.edge.max((last.due, last.position));
        }
    }

    fn loaded_replay(
        &mut self,
        now: UnixMillis,
        job: JobId,
        after: Position,
        entries: &[Entry],
        more: bool,
        passed: &mut impl FnMut(JobId, Position),
    ) {
        if self.window.jobs.front().is_none_or(|front| front.id != job) {
            return;
        }
        for entry in entries {
            let known = self.items.get(&entry.position).map(|item| item.of);
            if known.is_some_and(|of| of != Of::Replay(job)) {
                passed(job, entry.position);
            }
            self.hold(now, entry, Of::Replay(job));
        }
        if let Some(front) = self.window.jobs.front_mut() {
            (front.after, front.more) = (entries.last().map_or(after, |last| last.position), more);
        }
    }

    /// Leaves to the store what is due last, if there is more than has place.
    pub(super) fn trim_retries(&mut self) {
        while self.apart.len() > RETRIES_MAX && self.window.loading.is_none() {
            let Some((_, position)) = self.apart.pop_last() else { return };
            self.drop_item(position);
            let last = self.apart.last().copied().unwrap_or_default();
            self.window.edge = if self.window.more_retries { self.window.edge.min(last) } else { last };
            self.window.more_retries = true;
        }
    }

    /// A replay of which everything was sent.
    pub(super) fn job_done(&mut self) -> Option<JobId> {
        let is_loading = self.window.loading.as_ref().is_some_and(|loading| matches!(loading.source, Source::Replay { .. }));
        let front = self.window.jobs.front().filter(|job| !job.more && !is_loading && self.held[2] == 0)?.id;
        self.window.jobs.pop_front();
        Some(front)
    }
}

#[cfg(test)]
mod tests {
    use firmware_protocol::id::DeviceId;

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_000_000);

    fn entry(position: u64, due: u64) -> Entry {
        let lane = Some(Lane::of(DeviceId([1; 12])));
        Entry { position: Position(position), lane, bytes: 1, accepted: NOW, attempts: 0, due: UnixMillis(due) }
    }

    fn answer(queue: &mut Queue, source: Source, entries: &[Entry], more: bool) {
        assert!(queue.loaded(NOW, source, entries, more, |_, _| {}));
    }

    /// Sends what is ready, so many times.
    fn send(queue: &mut Queue, count: usize) -> Vec<u64> {
        let send_one = |queue: &mut Queue| {
            let (position, _) = queue.take(true, 0)?;
            queue.finish(NOW, position);
            Some(position.0)
        };
        (0..count).map_while(|_| send_one(queue)).collect()
    }

    #[test]
    fn while_retries_are_loaded_all_that_come_are_kept() {
        let mut queue = Queue::new(true, true);
        let (source, _) = queue.next_load(Millis(0), WINDOW_MAX).unwrap();
        assert_eq!(source, Source::Retries { after: Default::default() });
        assert!(queue.window.keeps(UnixMillis(9_000_000), Position(7)), "nobody knows yet how far the load goes");
        answer(&mut queue, source, &[entry(3, 2_000_000)], true);
        assert!(queue.window.keeps(UnixMillis(1_999_999), Position(7)));
        assert!(!queue.window.keeps(UnixMillis(2_000_001), Position(7)));
    }

    #[test]
    fn too_many_retries_go_back_to_the_store_and_come_again() {
        let mut queue = Queue::new(true, false);
        let entries: Vec<_> = (1..=70).map(|position| Entry { lane: None, ..entry(position, 0) }).collect();
        assert_eq!(queue.arrived(NOW, &entries, WINDOW_MAX), 0);
        for _ in 1..=70 {
            let (position, _) = queue.take(true, 0).unwrap();
            queue.set_apart(NOW, position, UnixMillis(2_000_000 + position.0), 3);
        }
        assert_eq!((queue.apart.len(), queue.next_load(Millis(0), WINDOW_MAX)), (RETRIES_MAX, None));
        queue.promote(UnixMillis(2_000_064));
        assert_eq!(send(&mut queue, 100).len(), 64);
        let (source, _) = queue.next_load(Millis(0), WINDOW_MAX).unwrap();
        assert_eq!(source, Source::Retries { after: (UnixMillis(2_000_064), Position(64)) });
    }

    #[test]
    fn what_arrives_while_a_lane_is_loaded_is_not_forgotten() {
        let mut queue = Queue::new(true, false);
        let entries: Vec<_> = (1..=18).map(|position| entry(position, 0)).collect();
        queue.arrived(NOW, &entries, WINDOW_MAX);
        assert_eq!(send(&mut queue, 13), (1..=13).collect::<Vec<_>>());
        let (source, max) = queue.next_load(Millis(0), WINDOW_MAX).unwrap();
        assert!(matches!(source, Source::Lane { after: Position(17), through: Position(18), .. }) && max == WAITING_MAX);
        queue.arrived(NOW, &[entry(19, 0)], WINDOW_MAX);
        answer(&mut queue, source, &[entry(18, 0)], false);
        assert_eq!(send(&mut queue, 9), [14, 15, 16, 17, 18]);
        let (source, _) = queue.next_load(Millis(0), WINDOW_MAX).unwrap();
        assert!(matches!(source, Source::Lane { after: Position(18), through: Position(19), .. }));
        answer(&mut queue, source, &[entry(19, 0)], false);
        assert_eq!((send(&mut queue, 9), queue.lanes.behind()), (vec![19], 0));
    }

    #[test]
    fn what_arrives_while_the_queue_is_loaded_is_not_forgotten() {
        let mut queue = Queue::new(true, true);
        let (retries, _) = queue.next_load(Millis(0), WINDOW_MAX).unwrap();
        answer(&mut queue, retries, &[], false);
        let (source, _) = queue.next_load(Millis(0), WINDOW_MAX).unwrap();
        assert_eq!(source, Source::Queue { after: Position(0) });
        queue.arrived(NOW, &[entry(5, 0)], WINDOW_MAX);
        answer(&mut queue, source, &[], false);
        assert_eq!(queue.next_load(Millis(0), WINDOW_MAX).map(|(source, _)| source), Some(source));
        answer(&mut queue, source, &[entry(5, 0)], false);
        assert_eq!((send(&mut queue, 9), queue.next_load(Millis(0), WINDOW_MAX)), (vec![5], None));
    }

    #[test]
    fn one_that_waited_for_its_lane_and_is_withdrawn_lets_the_next_go() {
        let mut queue = Queue::new(true, false);
        for position in 1..=3 {
            assert!(queue.hold(NOW, &entry(position, 0), Of::Retries));
        }
        let (first, _) = queue.take(true, 0).unwrap();
        assert_eq!(queue.take(true, 0), None, "the others are parked");
        queue.finish(NOW, first);
        queue.withdraw(NOW, Position(2));
        assert_eq!(send(&mut queue, 9), [3]);
    }

    #[test]
    fn a_load_that_failed_is_asked_for_again_after_a_while() {
        let mut queue = Queue::new(true, true);
        let first = queue.next_load(Millis(0), WINDOW_MAX);
        assert!(first.is_some() && queue.next_load(Millis(0), WINDOW_MAX).is_none());
        queue.load_failed(Millis(5));
        assert_eq!(queue.next_load(Millis(1_004), WINDOW_MAX), None);
        assert!(queue.next_load(Millis(1_005), WINDOW_MAX).is_some());
    }
}
