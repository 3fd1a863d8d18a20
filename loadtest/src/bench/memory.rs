//! Memory of the server for each session that is idle.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use firmware_protocol::session::Session;

use super::SEED;
use super::packed::pack;
use crate::report::Measure;
use crate::server::Server;

/// Sessions of the server that has some.
const SESSIONS: u32 = 100_000;
/// What a session would take if it were packed without holes, and what its device said kept on disk.
const PACKED_BYTES: f64 = 200.0;
/// A restored session remembers the newest messages of its device for a while, and after two minutes the server gives back what its start took.
const SETTLE_MIN: Duration = Duration::from_secs(135);
/// Longest time until the memory rests.
const SETTLE_LIMIT: Duration = Duration::from_secs(240);
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Memory rests when it has changed by less than this between two looks, in KiB.
const REST_KIB: u64 = 64;

pub(super) fn measure(holdfast: Option<&Path>) -> Result<Measure> {
    let (mut full, mut empty) = (Server::prepare(holdfast)?, Server::prepare(holdfast)?);
    full.cli().seed(SESSIONS, SEED)?;
    pack(&mut full)?;
    let started = full.start()?;
    empty.start()?;
    let at_first = full.pss_kib()?;
    settle(&mut full)?;
    let (with, without, rss) = (full.pss_kib()?, empty.pss_kib()?, full.rss_kib()?);
    full.stop()?;
    empty.stop()?;
    let value = with.saturating_sub(without) as f64 * 1024.0 / f64::from(SESSIONS);
    let note = format!(
        "{SESSIONS} sessions of seeded devices with describes, 4 functions, 4 variables, 3 subscriptions and the system's 2; none has spoken \
         since the restart, which took {:.1} s. Proportional memory {with} KiB (resident {rss}, {at_first} right after the start) against \
         {without} KiB of the same server without any. It holds the registry's page about the device and the entry of its key, the session ({} \
         bytes in memory of its own), and what its shard knows. Limit: {PACKED_BYTES:.0} bytes, what a session is if nothing is lost between its parts.",
        started.as_secs_f64(),
        size_of::<Session>()
    );
    Ok(Measure { value, unit: "bytes/session", limit: Some(PACKED_BYTES), ratio: Some(PACKED_BYTES / value), note })
}

/// Waits until the server's memory rests.
pub(super) fn settle(server: &mut Server) -> Result<()> {
    let (begun, mut last) = (Instant::now(), server.pss_kib()?);
    while begun.elapsed() < SETTLE_LIMIT {
        thread::sleep(LOOK_EVERY);
        server.check_alive()?;
        let now = server.pss_kib()?;
        if begun.elapsed() >= SETTLE_MIN && now.abs_diff(last) < REST_KIB {
            break;
        }
        last = now;
    }
    Ok(())
}
