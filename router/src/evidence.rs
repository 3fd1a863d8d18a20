//! What the users of shards note of them: how many messages they handed over, and which of these were answered, in time or not.
//!
//! A shard may pass every heartbeat on and still serve nobody. Whoever hands messages to shards notices, and notes it here: terminators for the messages of
//! devices, the API for its questions. A shard notes how far it has brought what it took, which tells where messages stay.
//!
//! The table is an array of numbers, like the board (`progress.rs`). What waits is counted by when it was handed over, in slots of an eighth of a second,
//! so that nothing is kept for a single message and how old the oldest is can still be told. Each message costs one addition when it is handed over, and
//! two when it is answered.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use firmware_protocol::time::Millis;

use crate::progress::Part;

/// What is answered later than this is late.
pub const LATE_AFTER: Duration = Duration::from_secs(2);
/// What is not answered by then counts as timed out, whatever comes of it.
pub const TIMED_OUT_AFTER: Duration = Duration::from_secs(10);
/// Time that has one slot, in milliseconds.
pub(crate) const SLOT_MS: u64 = 125;
/// Slots: enough for what has timed out, and two seconds more until that is counted.
const SLOTS: usize = 96;
/// When a slot is counted and emptied, in slots: whoever answers by a clock that it read a while ago must not come too late.
const SWEPT_AFTER: u64 = 88;

/// Who hands messages to shards.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Observer {
    /// A terminator, by number.
    Terminator(u16),
    /// What serves callers of the API.
    Api,
}

impl Observer {
    /// The part that it is on the board.
    pub fn part(self) -> Part {
        match self {
            Self::Terminator(number) => Part::Terminator(number),
            Self::Api => Part::Api,
        }
    }
}

impl fmt::Display for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.part().fmt(f)
    }
}

/// What became of messages that were handed over.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Results {
    /// Answered in time.
    pub ok: u64,
    /// Answered late.
    pub late: u64,
    /// Not answered within [`TIMED_OUT_AFTER`].
    pub timeout: u64,
}

impl Results {
    /// Adds those of another.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { ok: self.ok + other.ok, late: self.late + other.late, timeout: self.timeout + other.timeout }
    }
}

#[derive(Debug, Default)]
struct Slot {
    handed: AtomicU32,
    answered: AtomicU32,
}

/// What one observer notes of one shard.
#[derive(Debug)]
struct Cell {
    slots: [Slot; SLOTS],
    handed: AtomicU64,
    ok: AtomicU64,
    late: AtomicU64,
    timeout: AtomicU64,
}

/// What one observer notes.
#[derive(Debug)]
pub struct Page {
    observer: Observer,
    cells: Box<[Cell]>,
}

/// How far a shard has brought the messages that it was handed: how many it took from its mailbox, decided on and passed on.
#[derive(Debug, Default)]
pub struct Passage {
    taken: AtomicU64,
    decided: AtomicU64,
    passed: AtomicU64,
}

/// What all note.
#[derive(Clone, Debug)]
pub struct Table {
    pages: Arc<[Arc<Page>]>,
    passages: Arc<[Arc<Passage>]>,
}

/// Which slot a moment belongs to, counted from the clock's origin.
pub(crate) fn slot_of(at: Millis) -> u64 {
    at.0 / SLOT_MS
}

impl Default for Cell {
    fn default() -> Self {
        let (handed, ok, late, timeout) = Default::default();
        Self { slots: std::array::from_fn(|_| Slot::default()), handed, ok, late, timeout }
    }
}

impl Cell {
    fn forget(&self) {
        for slot in &self.slots {
            slot.handed.store(0, Ordering::Relaxed);
            slot.answered.store(0, Ordering::Relaxed);
        }
    }

    fn slot(&self, number: u64) -> &Slot {
        // The remainder is smaller than the array is long.
        &self.slots[usize::try_from(number % SLOTS as u64).unwrap_or_default()]
    }
}

impl Page {
    fn new(observer: Observer, shards: usize) -> Self {
        Self { observer, cells: (0..shards).map(|_| Cell::default()).collect() }
    }

    /// Whose it is.
    pub fn observer(&self) -> Observer {
        self.observer
    }

    /// A message that came at `came` was handed to a shard.
    pub fn handed(&self, shard: usize, came: Millis) {
        let Some(cell) = self.cells.get(shard) else { return };
        cell.handed.fetch_add(1, Ordering::Relaxed);
        cell.slot(slot_of(came)).handed.fetch_add(1, Ordering::Relaxed);
    }

    /// A message that came at `came` is answered: acknowledged or refused.
    pub fn answered(&self, shard: usize, came: Millis, now: Millis) {
        let (Some(cell), took) = (self.cells.get(shard), now.since(came)) else { return };
        // It was counted as timed out, or is about to be.
        if took >= TIMED_OUT_AFTER {
            return;
        }
        cell.slot(slot_of(came)).answered.fetch_add(1, Ordering::Relaxed);
        let result = if took >= LATE_AFTER { &cell.late } else { &cell.ok };
        result.fetch_add(1, Ordering::Relaxed);
    }

    /// What became of messages to a shard.
    pub fn results(&self, shard: usize) -> Results {
        let Some(cell) = self.cells.get(shard) else { return Results::default() };
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Results { ok: read(&cell.ok), late: read(&cell.late), timeout: read(&cell.timeout) }
    }

    /// How many messages a shard was handed that came in this slot, and how many of them have no answer.
    pub(crate) fn slot(&self, shard: usize, number: u64) -> (u32, u32) {
        let Some(cell) = self.cells.get(shard) else { return (0, 0) };
        let slot = cell.slot(number);
        let handed = slot.handed.load(Ordering::Relaxed);
        (handed, handed.saturating_sub(slot.answered.load(Ordering::Relaxed)))
    }

    fn handed_to(&self, shard: usize) -> u64 {
        self.cells.get(shard).map_or(0, |cell| cell.handed.load(Ordering::Relaxed))
    }

    /// Empties all slots.
    fn forget(&self) {
        self.cells.iter().for_each(Cell::forget);
    }

    /// Empties a slot of all shards. What was in it has timed out.
    fn sweep(&self, number: u64) {
        for cell in &self.cells {
            let slot = cell.slot(number);
            let (handed, answered) = (slot.handed.swap(0, Ordering::Relaxed), slot.answered.swap(0, Ordering::Relaxed));
            cell.timeout.fetch_add(handed.saturating_sub(answered).into(), Ordering::Relaxed);
        }
    }
}

impl Passage {
    /// So many more messages were taken from the mailbox.
    pub fn taken(&self, count: u64) {
        add(&self.taken, count);
    }

    /// So many more were decided on.
    pub fn decided(&self, count: u64) {
        add(&self.decided, count);
    }

    /// So many more were passed on, or answered.
    pub fn passed(&self, count: u64) {
        add(&self.passed, count);
    }
}

fn add(to: &AtomicU64, count: u64) {
    if count > 0 {
        to.fetch_add(count, Ordering::Relaxed);
    }
}

impl Table {
    /// With a page for each of so many terminators and one for the API.
    pub fn new(terminators: usize, shards: usize) -> Self {
        let observers = (0..).take(terminators).map(Observer::Terminator).chain([Observer::Api]);
        let pages = observers.map(|observer| Arc::new(Page::new(observer, shards))).collect();
        Self { pages, passages: (0..shards).map(|_| Arc::default()).collect() }
    }

    /// The page of an observer; one that nobody reads, if it is none of these.
    pub fn page(&self, observer: Observer) -> Arc<Page> {
        let page = self.pages.iter().find(|page| page.observer == observer);
        page.map_or_else(|| Arc::new(Page::new(observer, self.shards())), Arc::clone)
    }

    /// Where a shard notes how far it is.
    pub fn passage(&self, shard: usize) -> Arc<Passage> {
        self.passages.get(shard).map(Arc::clone).unwrap_or_default()
    }

    /// Another thread has a shard: what the one before it left unanswered is not held against it.
    pub fn begin_again(&self, shard: usize) {
        self.pages.iter().filter_map(|page| page.cells.get(shard)).for_each(Cell::forget);
    }

    /// All pages, the API's last.
    pub fn pages(&self) -> &[Arc<Page>] {
        &self.pages
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.passages.len()
    }

    /// How many messages of a shard stay before its mailbox is read, before they are decided on, and before they are passed on. What was not handed over
    /// by an observer makes it less, so that only changes say something.
    pub(crate) fn staying(&self, shard: usize) -> [i64; 3] {
        let Some(passage) = self.passages.get(shard) else { return [0; 3] };
        // Backwards: what goes on meanwhile must not look as if it were ahead of itself.
        let passed = passage.passed.load(Ordering::Relaxed);
        let decided = passage.decided.load(Ordering::Relaxed);
        let taken = passage.taken.load(Ordering::Relaxed);
        let handed: u64 = self.pages.iter().map(|page| page.handed_to(shard)).sum();
        let less = |from: u64, what: u64| from.wrapping_sub(what).cast_signed();
        [less(handed, taken), less(taken, decided), less(decided, passed)]
    }

    /// Counts what has timed out by `now`, and empties its slots. `swept` is the last that was, and is moved. If nobody did so for too long, what is old
    /// and what is new can no longer be told apart, and all of it is forgotten.
    pub(crate) fn sweep(&self, now: Millis, swept: &mut u64) {
        let upto = slot_of(now).saturating_sub(SWEPT_AFTER);
        match upto.saturating_sub(*swept) < SLOTS as u64 - SWEPT_AFTER {
            true => (swept.saturating_add(1)..=upto).for_each(|number| self.pages.iter().for_each(|page| page.sweep(number))),
            false => self.pages.iter().for_each(|page| page.forget()),
        }
        *swept = upto.max(*swept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_is_answered_in_time_or_late_or_not_at_all() {
        let table = Table::new(1, 2);
        let (page, mut swept) = (table.page(Observer::Terminator(0)), 0);
        for came in [1_000, 1_010, 1_020, 1_300] {
            page.handed(1, Millis(came));
        }
        page.answered(1, Millis(1_000), Millis(1_005));
        page.answered(1, Millis(1_010), Millis(3_010));
        assert_eq!((page.slot(1, 8), page.slot(1, 10), page.slot(0, 8)), ((3, 1), (1, 1), (0, 0)));
        (11..120).for_each(|tenth| table.sweep(Millis(tenth * 100), &mut swept));
        assert_eq!(page.results(1), Results { ok: 1, late: 1, timeout: 0 });
        (120..126).for_each(|tenth| table.sweep(Millis(tenth * 100), &mut swept));
        page.answered(1, Millis(1_300), Millis(12_500));
        assert_eq!(
            (page.results(1), page.slot(1, 8)),
            (Results { ok: 1, late: 1, timeout: 2 }, (0, 0)),
            "what comes later is not counted twice"
        );
    }

    #[test]
    fn what_a_thread_left_unanswered_is_not_held_against_the_next() {
        let table = Table::new(1, 2);
        let page = table.page(Observer::Terminator(0));
        [0, 1].iter().for_each(|shard| page.handed(*shard, Millis(1_000)));
        table.begin_again(1);
        page.answered(1, Millis(1_000), Millis(1_500));
        page.handed(1, Millis(2_000));
        assert_eq!((page.slot(0, 8), page.slot(1, 8), page.slot(1, 16)), ((1, 1), (0, 0), (1, 1)));
    }

    #[test]
    fn what_nobody_swept_in_time_is_forgotten() {
        let table = Table::new(0, 1);
        let (page, mut swept) = (table.page(Observer::Api), 0);
        page.handed(0, Millis(5_000));
        table.sweep(Millis(86_400_000), &mut swept);
        assert_eq!((page.slot(0, 40), page.results(0)), ((0, 0), Results::default()));
    }

    #[test]
    fn where_messages_stay_shows_in_how_far_their_shard_has_brought_them() {
        let table = Table::new(1, 1);
        let (page, passage) = (table.page(Observer::Terminator(0)), table.passage(0));
        (0..9).for_each(|came| page.handed(0, Millis(came)));
        passage.taken(7);
        passage.decided(4);
        passage.passed(4);
        assert_eq!(table.staying(0), [2, 3, 0]);
        assert_eq!(table.staying(7), [0; 3], "nobody has this number");
    }
}
