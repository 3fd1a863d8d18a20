//! What those who hand messages to shards note of them, and what Prometheus is told of it. What follows from it is decided elsewhere: `router/src/gray.rs`.

mod series;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use firmware_protocol::time::Millis;
use router::evidence::{Observer, Page};

use crate::clock::Clock;

pub use self::series::EvidenceSeries;

/// The notes of one observer.
#[derive(Debug)]
pub struct Notes {
    page: Arc<Page>,
    /// Not while a test wants it so.
    are_taken: AtomicBool,
    /// Messages handed over, whether that was noted or not.
    seen: AtomicU64,
    /// Those that were noted.
    noted: AtomicU64,
}

/// A question of the API that is open until this is dropped. One that its caller gives up is no longer a question.
#[derive(Debug)]
pub struct Question {
    notes: Arc<Notes>,
    shard: usize,
    came: Millis,
    clock: Clock,
}

impl Notes {
    /// On this page.
    pub fn new(page: Arc<Page>) -> Arc<Self> {
        Arc::new(Self { page, are_taken: AtomicBool::new(true), seen: AtomicU64::new(0), noted: AtomicU64::new(0) })
    }

    /// A message that came at `came` was handed to a shard.
    pub fn handed(&self, shard: usize, came: Millis) {
        self.seen.fetch_add(1, Ordering::Relaxed);
        if self.are_taken.load(Ordering::Relaxed) {
            self.noted.fetch_add(1, Ordering::Relaxed);
            self.page.handed(shard, came);
        }
    }

    /// It is answered.
    pub fn answered(&self, shard: usize, came: Millis, now: Millis) {
        if self.are_taken.load(Ordering::Relaxed) {
            self.page.answered(shard, came, now);
        }
    }

    /// Notes are taken from now on, or not.
    pub fn take(&self, taken: bool) {
        if self.are_taken.load(Ordering::Relaxed) != taken {
            self.are_taken.store(taken, Ordering::Relaxed);
        }
    }

    /// Whose they are.
    pub fn observer(&self) -> Observer {
        self.page.observer()
    }

    /// How many messages were handed over, and how many of them were noted.
    pub fn counts(&self) -> (u64, u64) {
        (self.seen.load(Ordering::Relaxed), self.noted.load(Ordering::Relaxed))
    }
}

impl Question {
    /// One that a shard is asked now.
    pub fn open(notes: &Arc<Notes>, shard: usize, clock: Clock) -> Self {
        let came = clock.now().at;
        notes.handed(shard, came);
        Self { notes: Arc::clone(notes), shard, came, clock }
    }
}

#[cfg(test)]
impl Question {
    /// One that nobody notes.
    pub(crate) fn of_nobody() -> Self {
        let page = router::evidence::Table::new(0, 0).page(Observer::Api);
        Self::open(&Notes::new(page), 0, Clock::start())
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.notes.answered(self.shard, self.came, self.clock.now().at);
    }
}
