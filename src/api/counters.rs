//! What the API refused or cut off, counted. Whoever exports metrics reads it.

use std::sync::atomic::{AtomicU64, Ordering};

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
}

/// Counts one.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
