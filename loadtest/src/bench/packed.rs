//! A seeded data directory as a server leaves it that has run for a while: its journal is packed, and its history knows all events.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::server::Server;

/// How long the first start may take to pack what was seeded.
const PACK_LIMIT: Duration = Duration::from_secs(300);
/// Between two looks whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Lets a server pack what was seeded, and stops it.
pub(super) fn pack(server: &mut Server) -> Result<()> {
    server.start()?;
    let begun = Instant::now();
    while snapshot(server)?.is_none() {
        ensure!(begun.elapsed() < PACK_LIMIT, "the journal was not packed within {PACK_LIMIT:?}");
        server.check_alive()?;
        thread::sleep(LOOK_EVERY);
    }
    server.stop()
}

/// The newest snapshot of its journal.
pub(super) fn snapshot(server: &Server) -> Result<Option<PathBuf>> {
    let mut snapshots = Vec::new();
    for entry in std::fs::read_dir(server.dir().join("data").join("journal"))? {
        let path = entry?.path();
        snapshots.extend(Some(path).filter(|path| path.extension().is_some_and(|extension| extension == "snapshot")));
    }
    Ok(snapshots.into_iter().max())
}
