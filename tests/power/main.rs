//! Power cuts: processes are killed at random moments on a disk that forgets what was not synced, and go on with what is left. Nothing that was
//! acknowledged may be missing.
//!
//! `shim.c` keeps beside the directory a process works in what a power cut would leave of it, and `disk.rs` puts that in the directory's place. Some kills
//! are of the process alone, because what a process before wrote and did not sync is no safer for having been read.
//!
//! * `journal.rs`: the journal by itself, with tiny segments, headroom, snapshots and retention, and a cursor.
//! * `server.rs`: a server with its registry, keys and generation, devices that publish to it over UDP, and a reader of the event stream that continues
//!   where it was.
//!
//! Each test kills 20 times; `HOLDFAST_POWER_KILLS=200` is for releases. `HOLDFAST_POWER_SEED` repeats the plan of a run that failed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod child;
mod disk;
mod fleet;
mod journal;
mod server;

use std::time::{SystemTime, UNIX_EPOCH};

const KILLS: &str = "HOLDFAST_POWER_KILLS";
const SEED: &str = "HOLDFAST_POWER_SEED";

/// How often a test kills.
fn kills() -> u64 {
    std::env::var(KILLS).map_or(20, |kills| kills.parse().unwrap())
}

/// The seed of this run.
fn seeded() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    std::env::var(SEED).map_or(now.as_secs(), |seed| seed.parse().unwrap())
}
