//! What the API answered, and what it refused or cut off, counted. Whoever exports metrics reads it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::http::StatusCode;

use super::bulkhead::Class;
use crate::config::Limit;

/// One number per kind of refusal.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections refused because too many were open.
    pub refused_connections: AtomicU64,
    /// Event streams refused because too many were open.
    pub refused_streams: AtomicU64,
    /// Logins refused because too many from their address had failed.
    pub throttled_logins: AtomicU64,
    /// Logins with a wrong address or password.
    pub failed_logins: AtomicU64,
    /// Mails that the mail server took.
    pub mails_sent: AtomicU64,
    /// Mails that were not sent.
    pub mails_failed: AtomicU64,
    /// Claims and keys refused because too many devices had been asked for in vain.
    pub throttled_probes: AtomicU64,
    /// What there is of each class of requests.
    pub classes: [ClassCounters; Class::COUNT],
    /// Answers by the first digit of their status, less one.
    pub answers: [AtomicU64; 5],
    /// Microseconds until they were there; of streams, until they began.
    pub answering_us: AtomicU64,
}

/// Of one class of requests.
#[derive(Debug, Default)]
pub struct ClassCounters {
    /// How many may be at work; without a limit, the largest number.
    pub limit: AtomicU64,
    /// How many are.
    pub at_work: AtomicU64,
    /// How many wait.
    pub waiting: AtomicU64,
    /// How many were refused because there was no room.
    pub refused: AtomicU64,
    /// How many were not begun because their time was over.
    pub late: AtomicU64,
}

impl ClassCounters {
    pub(super) fn note(&self, limit: Limit, at_work: u64, waiting: u64) {
        let limit = match limit {
            Limit::Unlimited => u64::MAX,
            Limit::AtMost(most) => most,
        };
        for (number, value) in [(&self.limit, limit), (&self.at_work, at_work), (&self.waiting, waiting)] {
            number.store(value, Ordering::Relaxed);
        }
    }
}

impl Counters {
    /// A request was answered so after so long.
    pub(super) fn answered(&self, status: StatusCode, after: Duration) {
        if let Some(class) = self.answers.get(usize::from(status.as_u16() / 100).wrapping_sub(1)) {
            count(class);
        }
        self.answering_us.fetch_add(u64::try_from(after.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// Counts one.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
