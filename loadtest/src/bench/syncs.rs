//! What it costs this machine to write something to a file and have it on disk: the limit of anything that acknowledges only then.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::thread_cpu;

const WINDOW: Duration = Duration::from_secs(1);
/// The file has its length already, as a segment of the journal has.
const FILE_BYTES: u64 = 32 << 20;
const BYTES_MAX: u64 = 1 << 20;

/// Writes of a size, each synced before the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Syncs {
    /// Bytes of each.
    pub(super) bytes: u64,
    /// How many a second.
    pub(super) per_s: f64,
    /// Processor time of each.
    pub(super) cpu: Duration,
}

/// Writes so many bytes at a time for a while, to a file in `dir`, one behind the other.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below a MiB")]
pub(super) fn measure(dir: &Path, bytes: f64) -> Result<Syncs> {
    let bytes = (bytes.max(1.0) as u64).min(BYTES_MAX);
    let (path, data) = (dir.join("syncs"), vec![0x5a; bytes as usize]);
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path)?;
    file.write_all_at(&vec![0; FILE_BYTES as usize], 0)?;
    file.sync_all()?;
    let (begun, cpu, mut count, mut offset) = (Instant::now(), thread_cpu()?, 0, 0);
    while begun.elapsed() < WINDOW {
        file.write_all_at(&data, offset)?;
        file.sync_data()?;
        offset = (offset + bytes) % (FILE_BYTES - BYTES_MAX);
        count += 1;
    }
    let (took, cpu) = (begun.elapsed(), thread_cpu()? - cpu);
    std::fs::remove_file(path)?;
    ensure!(count > 0, "nothing was written");
    Ok(Syncs { bytes, per_s: f64::from(count) / took.as_secs_f64(), cpu: cpu / count })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_has_a_cost() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let syncs = measure(dir.path(), 5_000.4)?;
        assert!(syncs.bytes == 5_000 && syncs.per_s > 0.0 && !syncs.cpu.is_zero());
        assert!(std::fs::read_dir(dir.path())?.next().is_none());
        Ok(())
    }
}
