//! What a client may do, and what it has done.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// How long things may take, and how many of them there may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// For looking up a name.
    pub lookup: Duration,
    /// For a connection, over all addresses that a name has.
    pub connect: Duration,
    /// For agreeing on TLS.
    pub tls: Duration,
    /// How long a connection is kept that nobody uses.
    pub idle: Duration,
    /// Connections at once, used and kept. It must not be less than the requests that are sent at once, or some wait for others.
    pub connections_max: usize,
    /// Connections that are kept.
    pub idle_max: usize,
}

/// What a client is made of, beside its guard and its resolver.
#[derive(Clone, Debug, Default)]
pub struct ClientConfig {
    /// Its limits.
    pub limits: Limits,
    /// Certificates that are trusted beside those of the system: a file of them in PEM.
    pub roots_pem: Option<Vec<u8>>,
}

/// What a client has done since it was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Connections that were made.
    pub opened: u64,
    /// Requests that went over a kept connection.
    pub reused: u64,
    /// Requests that went out once more, because a kept connection was closed.
    pub repeated: u64,
    /// Attempts that the guard refused.
    pub refused: u64,
    /// Kept connections that had to make room.
    pub evicted: u64,
    /// Connections that are kept now.
    pub idle: u64,
    /// Connections that there are now, used and kept.
    pub connections: u64,
}

/// The same, while it is counted.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) opened: AtomicU64,
    pub(super) reused: AtomicU64,
    pub(super) repeated: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) evicted: AtomicU64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            lookup: Duration::from_secs(5),
            connect: Duration::from_secs(5),
            tls: Duration::from_secs(5),
            idle: Duration::from_secs(30),
            connections_max: 2048,
            idle_max: 1024,
        }
    }
}
