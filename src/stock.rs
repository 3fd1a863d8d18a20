//! Keeps the books of all sinks: makes durable how far they have come, and takes stock. For each sink, what was accepted must be what was delivered, is
//! pending, has expired or was rejected.
//!
//! No term is made from the others. Accepted are the positions that the journal gave out since the sink's cursor was made; delivered, expired and
//! rejected stand in the ledger in the cursor's file; what is pending is counted in the journal's files, record by record. So an event that is in none
//! of them is noticed. It happens on a thread of its own, at a lower priority: nobody waits for the syncs of cursors.

mod bookmark;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use firmware_protocol::time::{Millis, Now};
use router::event::Position;

pub use self::bookmark::Bookmark;

use crate::clock::Clock;
use crate::cursors::{Cursors, Ledger, Standing};
use crate::journal::{Census, Events, EventsError};
use crate::metrics::StockMetrics;

/// How often it looks whether there is anything to do.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often the cursors of sinks that passed something on are made durable: what was passed on since may be passed on again after a crash.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// When it is taken first: a start has better things to do.
const TAKE_FIRST_AFTER: Duration = Duration::from_secs(5);
/// How often stock is taken. Then all cursors are made durable.
const TAKE_EVERY: Duration = Duration::from_secs(10);
/// Bytes of the journal counted before it looks after the cursors again.
const COUNT_BYTES: u64 = 64 << 20;

/// What was counted of a sink.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Balance {
    /// Events accepted since the sink's cursor was made.
    pub accepted: u64,
    /// What became of those up to the cursor.
    pub ledger: Ledger,
    /// Those after the cursor that are no longer kept.
    pub expired_unread: u64,
    /// Those after the cursor that are in the journal.
    pub pending: u64,
}

/// Who takes stock.
#[derive(Debug)]
pub struct StockTaking {
    events: Events,
    cursors: Cursors,
    bookmarks: Vec<Bookmark>,
    census: Census,
    metrics: StockMetrics,
    commit_at: Millis,
    take_at: Millis,
    round: Option<Round>,
    /// The last imbalance that was said.
    said: i64,
}

/// Stock that is being taken: what all cursors said, and the newest durable event after that.
#[derive(Debug)]
struct Round {
    sinks: Vec<(String, Standing)>,
    upto: Position,
}

impl Balance {
    /// What is missing; negative if there is too much.
    pub fn imbalance(&self) -> i64 {
        let Self { accepted, ledger, expired_unread, pending } = self;
        let known = ledger.delivered + ledger.expired + ledger.rejected.values().sum::<u64>() + expired_unread + pending;
        i64::try_from(i128::from(*accepted) - i128::from(known)).unwrap_or(i64::MAX)
    }
}

impl StockTaking {
    /// Of all `cursors` of the journal with these `events`; those in `bookmarks` it moves itself.
    pub fn new(events: Events, cursors: Cursors, bookmarks: Vec<Bookmark>, metrics: StockMetrics) -> Self {
        let census = Census::new(events.clone());
        Self { events, cursors, bookmarks, census, metrics, commit_at: Millis(0), take_at: Millis(0), round: None, said: 0 }
    }

    /// Runs until `stop` is set, and then makes all cursors durable. If it panics, everything else goes on: sinks repeat what they did since.
    pub fn run(mut self, clock: Clock, stop: &AtomicBool) {
        let failures = self.metrics.failures.clone();
        self.take_at = clock.now().at + TAKE_FIRST_AFTER;
        let ended = catch_unwind(AssertUnwindSafe(|| {
            while !stop.load(Ordering::Acquire) {
                if !self.look(clock.now()) {
                    thread::sleep(LOOK_EVERY);
                }
            }
            self.commit(true);
        }));
        if ended.is_err() {
            tracing::error!("no stock is taken and no cursor moved any more until the next start");
            failures.inc();
        }
    }

    /// Does what is due. `true` if there is more to do at once.
    fn look(&mut self, now: Now) -> bool {
        if now.at >= self.commit_at {
            self.commit_at = now.at + COMMIT_EVERY;
            self.commit(false);
        }
        if self.round.is_none() && now.at < self.take_at {
            return false;
        }
        match self.count() {
            Ok(None) => true,
            Ok(Some(balances)) => {
                self.take_at = now.at + TAKE_EVERY;
                self.close(now, &balances);
                false
            }
            Err(error) => {
                // What is read may have been dropped meanwhile: the next round begins anew.
                tracing::warn!(%error, "stock could not be taken");
                self.metrics.failures.inc();
                (self.round, self.take_at) = (None, now.at + TAKE_EVERY);
                false
            }
        }
    }

    /// Makes cursors durable: those whose sinks have passed something on, or `all`.
    fn commit(&mut self, all: bool) {
        self.metrics.moved.beat();
        for bookmark in &mut self.bookmarks {
            if let Err(error) = bookmark.commit(all) {
                tracing::error!(%error, "a cursor cannot be moved; its sink goes on, and repeats after the next start what it did since");
                self.metrics.failures.inc();
            }
        }
    }

    /// Counts on. The balances of all sinks once everything was counted.
    fn count(&mut self) -> Result<Option<Vec<(String, Balance)>>, StockError> {
        if self.round.is_none() {
            self.commit(true);
            let names = self.cursors.names();
            let standing = |name: String| self.cursors.standing(&name).map(|standing| (name, standing));
            let sinks = names.into_iter().map(standing).collect::<Result<Vec<_>, _>>()?;
            // After the cursors were read, so that none is ahead of it.
            self.round = Some(Round { sinks, upto: self.events.last() });
        }
        let Some(round) = &self.round else { return Ok(None) };
        let slowest = round.sinks.iter().map(|(_, standing)| standing.mark.position).min().unwrap_or(round.upto);
        if !self.census.count(slowest.next(), round.upto, COUNT_BYTES)? {
            return Ok(None);
        }
        let Some(Round { sinks, upto }) = self.round.take() else { return Ok(None) };
        let balance = |(name, standing): (String, Standing)| Ok((name, self.balance(standing, upto)?));
        sinks.into_iter().map(balance).collect::<Result<_, _>>().map(Some)
    }

    fn balance(&self, standing: Standing, upto: Position) -> Result<Balance, StockError> {
        let position = standing.mark.position;
        let kept_after = Position(self.events.oldest().0.saturating_sub(1));
        let expired_unread = kept_after.min(upto).0.saturating_sub(position.0);
        let pending = self.census.found_after(position.max(kept_after))?;
        Ok(Balance { accepted: standing.accepted(upto), ledger: standing.mark.ledger, expired_unread, pending })
    }

    /// Says what was counted, and counts some of the older events, which no sink waits for.
    fn close(&mut self, now: Now, balances: &[(String, Balance)]) {
        balances.iter().for_each(|(sink, balance)| self.metrics.took(sink, balance));
        if let Err(error) = self.census.reach_back(COUNT_BYTES) {
            tracing::debug!(%error, "older events could not be counted");
        }
        let missing = i64::try_from(self.census.missing()).unwrap_or(i64::MAX);
        self.metrics.missing.set(missing);
        if self.metrics.taken.beat() {
            self.metrics.taken_at.set(i64::try_from(now.unix.0 / 1_000).unwrap_or(i64::MAX));
        }
        let imbalance = balances.iter().map(|(_, balance)| balance.imbalance().abs()).max().unwrap_or(0);
        if imbalance != 0 && imbalance != self.said {
            tracing::error!(imbalance, missing, "events were accepted that are neither in a sink's ledger nor in the journal");
        }
        self.said = imbalance;
    }
}

/// Why stock could not be taken.
#[derive(Debug, thiserror::Error)]
enum StockError {
    #[error(transparent)]
    Cursor(#[from] crate::cursors::CursorError),
    #[error(transparent)]
    Events(#[from] EventsError),
}

#[cfg(test)]
mod tests;
