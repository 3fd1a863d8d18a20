//! Whether the numbers of deliveries say what is stored: those that are to be made are counted row by row and held against what became of all others.
//!
//! No term is made from the others. What was accepted, delivered, expired and given up is in the numbers; what is to be made is counted in its places,
//! whatever the numbers say of it. So a delivery that is in none of them is noticed, and one that is in two.

use std::thread;
use std::time::{Duration, Instant};

use fjall::{Guard, Readable};

use super::counters::Counters;
use super::error::{DeliveriesError, Result};
use super::reader::Reader;

/// Rows that are counted at a stretch.
const PART: usize = 4_096;
/// Longest pause after them.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// What was counted, and what the numbers say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Imbalance {
    /// The numbers of all hooks together.
    pub totals: Counters,
    /// Deliveries that were found in the places of those that are to be made.
    pub counted: u64,
}

impl Imbalance {
    /// How many are missing; negative if there are too many.
    pub fn missing(&self) -> i64 {
        let Counters { accepted, delivered, expired, rejected, .. } = self.totals;
        let known = [delivered, expired, rejected.total(), self.counted].into_iter().map(i128::from).sum::<i128>();
        i64::try_from(i128::from(accepted) - known).unwrap_or(i64::MAX)
    }
}

impl Reader {
    /// Counts all deliveries that are to be made, as they are at one moment. It takes as long as they are many, half of it in pauses, so it is for a thread
    /// that nobody waits for. `None` if it shall stop meanwhile.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn census(&self, stop: impl Fn() -> bool) -> Result<Option<Imbalance>> {
        let (db, snapshot) = (self.db(), self.db().snapshot());
        let totals = snapshot.get(&db.state, "totals")?.map_or(Some(Counters::default()), |value| Counters::read(&value));
        let totals = totals.ok_or(DeliveriesError::Damaged("counters"))?;
        let mut counted = 0;
        for place in [&db.pending, &db.waiting] {
            let mut rows = snapshot.iter(place);
            loop {
                if stop() {
                    return Ok(None);
                }
                let began = Instant::now();
                let part = count_some(&mut rows)?;
                counted += part as u64;
                if part < PART {
                    break;
                }
                thread::sleep(began.elapsed().min(PAUSE_MAX));
            }
        }
        Ok(Some(Imbalance { totals, counted }))
    }
}

/// Counts the next rows: fewer than [`PART`] if there are no more.
fn count_some(rows: &mut impl Iterator<Item = Guard>) -> Result<usize> {
    let mut counted = 0;
    for row in rows.take(PART) {
        row.key()?;
        counted += 1;
    }
    Ok(counted)
}

#[cfg(test)]
mod tests {
    use router::event::Position;

    use super::super::test_world::*;
    use super::super::{Deliveries, Limits, Reason, keys};
    use super::*;

    fn missing(store: &Deliveries) -> i64 {
        store.reader().census(|| false).unwrap().expect("it was not told to stop").missing()
    }

    /// A database in which deliveries are in every place and state.
    fn filled() -> (tempfile::TempDir, Deliveries) {
        let (directory, mut store) = store();
        let events: Vec<_> = (1..=30).map(|position| accepted(position, &[1, 2])).collect();
        store.accept(&events, Position(30)).unwrap();
        store.record(at(31), &[(id(1, 1), delivered(1)), (id(1, 2), rejected(1, Reason::Gone))]).unwrap();
        store.record(at(32), &[(id(2, 3), retried(1, at(90), true)), (id(2, 4), retried(1, at(91), false))]).unwrap();
        store.tidy(at(40), &Limits { pending_ms: 32_000, ..KEEP_ALL }).unwrap();
        (directory, store)
    }

    #[test]
    fn what_is_stored_adds_up_wherever_it_is() {
        let (_directory, store) = filled();
        let imbalance = store.reader().census(|| false).unwrap().unwrap();
        assert_eq!((imbalance.missing(), imbalance.counted), (0, store.totals().pending));
        assert!(imbalance.totals.expired > 0 && imbalance.counted > 40, "{imbalance:?}");
    }

    #[test]
    fn a_delivery_that_is_nowhere_or_twice_is_noticed() {
        let (_directory, store) = filled();
        let db = store.reader().db();
        db.pending.remove(keys::delivery(id(1, 20))).unwrap();
        assert_eq!(missing(&store), 1);
        db.waiting.insert(keys::delivery(id(1, 20)), [0]).unwrap();
        assert_eq!(missing(&store), 0, "what stands in a row is for others to read");
        db.waiting.insert(keys::delivery(id(1, 21)), [0]).unwrap();
        assert_eq!(missing(&store), -1);
    }

    #[test]
    fn an_empty_database_adds_up_and_nobody_waits_for_the_count() {
        let (_directory, store) = store();
        assert_eq!(missing(&store), 0);
        assert_eq!(store.reader().census(|| true).unwrap(), None);
    }

    #[test]
    fn more_rows_than_one_part_are_counted_to_the_end() {
        let (_directory, mut store) = store();
        let events: Vec<_> = (1..=3 * PART as u64).map(|position| accepted(position, &[1])).collect();
        store.accept(&events, Position(3 * PART as u64)).unwrap();
        assert_eq!(missing(&store), 0);
    }
}
