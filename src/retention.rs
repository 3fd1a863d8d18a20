//! The thread that keeps the journal small: it packs sealed segments into snapshots, so that a start reads little, and removes segments whose
//! events are beyond retention. What a snapshot does not stand for is never removed.
//!
//! It decides nothing about single events, and reads none.

mod holding;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};
use std::{fs, slice};

use firmware_protocol::time::{Millis, Now, UnixMillis};
use nix::sys::statvfs::statvfs;
use router::event::Position;

use self::holding::{Holding, Measured};
use crate::allocator;
use crate::clock::Clock;
use crate::config;
use crate::cursors::Cursors;
use crate::journal::{self, CompactionError, CompactionOptions, Covered, SealedSegment, Segments};
use crate::metrics::RetentionMetrics;

/// How often the disk's room is measured.
const MEASURE_EVERY: Duration = Duration::from_secs(2);
/// How often it looks whether there is anything to do.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a retired session is remembered, for late comers.
const TOMBSTONE_LIFE: Duration = Duration::from_secs(60 * 24 * 3600);
/// After a compaction it rests this many times as long as that took: with a million sessions it is not cheap.
const REST_FACTOR: u32 = 4;
/// How long it rests after one that failed.
const REST_AFTER_FAILURE: Duration = Duration::from_secs(60);

/// Keeps one journal small.
#[derive(Debug)]
pub struct Retention {
    dir: PathBuf,
    segments: Segments,
    cursors: Cursors,
    limits: config::Journal,
    metrics: Arc<RetentionMetrics>,
    holding: Holding,
    /// What the newest snapshot stands for.
    covered: Option<Covered>,
    /// No compaction before this.
    rest_until: Millis,
    /// The disk's room is measured next.
    measure_at: Millis,
    /// A file could not be removed. Removing younger ones would leave a gap, with which no journal can be opened.
    stuck: bool,
}

impl Retention {
    /// For the journal in `dir`, of which `covered` is what its newest snapshot stands for.
    ///
    /// How old a segment is that an earlier process sealed is how long ago its file was last written: that survives a restart, and a copy of
    /// the directory only makes it younger. From then on the monotonic clock counts, so that a step of the wall clock removes nothing.
    pub fn new(
        (dir, segments): (PathBuf, Segments),
        covered: Option<Covered>,
        cursors: Cursors,
        limits: config::Journal,
        metrics: Arc<RetentionMetrics>,
    ) -> Self {
        let mut holding = Holding::default();
        holding.update(&segments.sealed(), Millis(0), |segment| {
            let file = fs::metadata(segment.path(&dir)).ok();
            let age = file.as_ref().and_then(|file| SystemTime::now().duration_since(file.modified().ok()?).ok());
            Measured { bytes: file.map_or(0, |file| file.len()), age: age.unwrap_or_default() }
        });
        Self { dir, segments, cursors, limits, metrics, holding, covered, rest_until: Millis(0), measure_at: Millis(0), stuck: false }
    }

    /// Runs until `stop` is set. If it panics, everything else goes on: the journal grows, and the next start takes longer.
    pub fn run(mut self, clock: Clock, stop: &AtomicBool) {
        let failures = self.metrics.failures.clone();
        let ended = catch_unwind(AssertUnwindSafe(|| {
            while !stop.load(Ordering::Acquire) {
                self.look(clock.now());
                thread::sleep(LOOK_EVERY);
            }
        }));
        if ended.is_err() {
            tracing::error!("the journal is neither packed nor shortened any more until the next start");
            failures.inc();
        }
    }

    /// Does what there is to do.
    fn look(&mut self, now: Now) {
        let sealed = self.segments.sealed();
        let dir = &self.dir;
        self.holding.update(&sealed, now.at, |segment| Measured {
            bytes: fs::metadata(segment.path(dir)).map_or(0, |file| file.len()),
            age: Duration::ZERO,
        });
        if self.is_behind() && now.at >= self.rest_until {
            self.pack(&sealed, now);
        }
        let current = fs::metadata(self.segments.current_path(&self.dir)).map_or(0, |file| file.len());
        let keep_from = self.holding.keep_from(current, self.limits, now.at);
        if let (Some(covered), Some(keep_from), false) = (self.covered, keep_from, self.stuck) {
            self.remove(&covered, keep_from);
        }
        if self.metrics.set.beat() {
            self.metrics.bytes.set(gauge(self.holding.bytes() + current));
            self.metrics.segments.set(gauge(self.holding.len() as u64 + 1));
            self.metrics.oldest.set(gauge(self.segments.oldest().0));
        }
        if now.at >= self.measure_at {
            self.measure_at = now.at + MEASURE_EVERY;
            self.measure_disk();
        }
    }

    /// A disk that does not say how much room it has keeps what it said last.
    fn measure_disk(&self) {
        let Ok(disk) = statvfs(&self.dir) else { return };
        self.metrics.disk_free.set(gauge(disk.blocks_available() * disk.fragment_size()));
        self.metrics.disk_size.set(gauge(disk.blocks() * disk.fragment_size()));
    }

    /// Whether a segment was sealed since the newest snapshot.
    fn is_behind(&self) -> bool {
        let covered = self.covered.map_or(0, |covered| covered.segment());
        self.segments.last_sealed().is_some_and(|last| last.number() > covered)
    }

    fn pack(&mut self, sealed: &[SealedSegment], now: Now) {
        let began = Instant::now();
        let life = u64::try_from(TOMBSTONE_LIFE.as_millis()).unwrap_or(u64::MAX);
        let options = CompactionOptions { forget_retired_before: UnixMillis(now.unix.0.saturating_sub(life)) };
        let compacted = journal::compact(&self.dir, sealed, options);
        // It held all that is known of every device.
        allocator::give_back();
        match compacted {
            Ok(covered) => {
                self.covered = covered.or(self.covered);
                self.metrics.compactions.inc();
                self.rest_until = now.at + began.elapsed() * (REST_FACTOR + 1);
            }
            Err(error) => {
                self.failed(&error, "the journal could not be packed");
                self.rest_until = now.at + REST_AFTER_FAILURE;
            }
        }
    }

    fn remove(&mut self, covered: &Covered, keep_from: Position) {
        let released = self.segments.release(covered, keep_from);
        let (Some(first), Some(last)) = (released.first(), released.last()) else { return };
        let (first, next) = (first.positions().0, last.positions().1);
        tracing::info!(from = %first, before = %next, segments = released.len(), "events expired");
        if let Some((sink, position)) = self.cursors.slowest()
            && position.next() < next
        {
            let unread = next.0 - position.next().max(first).0;
            tracing::warn!(sink, at = %position, unread, "events expired that a sink had not come to");
            self.metrics.unread.inc_by(unread);
        }
        for segment in &released {
            if let Err(error) = journal::remove_segments(&self.dir, slice::from_ref(segment)) {
                self.failed(&error, "no segment is removed any more until the next start");
                self.stuck = true;
                break;
            }
            self.metrics.expired.inc_by(segment.positions().1.0 - segment.positions().0.0);
        }
        self.holding.forget_before(next);
    }

    fn failed(&self, error: &CompactionError, what: &str) {
        tracing::warn!(%error, "{what}");
        self.metrics.failures.inc();
    }
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
