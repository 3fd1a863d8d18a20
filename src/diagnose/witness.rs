//! Gathers what is known of a running server: the only part of the diagnosis that reads clocks, metrics and files.
//!
//! It takes no lock that a thread of the data plane holds, and asks the registry and the journal nothing: whoever is asked may be what is wrong.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use firmware_protocol::time::{Millis, Now};
use nix::sys::statvfs::statvfs;
use router::progress::{Board, Reading, Stage};
use router::verdict::Verdict;

use super::clocks::Clocks;
use super::evidence::{Evidence, PartEvidence, Room};
use super::samples::{EVERY, Sample, Samples};
use crate::changes::Register;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::store::registry::Trouble;
use crate::terminators::Noisy;
use crate::watchdog::{Bulletin, Watch};

/// From one look at the clocks to the next.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What Linux says of how long something waited for a processor.
const PRESSURE_FILE: &str = "/proc/pressure/cpu";

/// Who can say how a running server is.
#[derive(Clone, Debug)]
pub struct Witness {
    board: Board,
    bulletin: Bulletin,
    metrics: Metrics,
    samples: Samples,
    noisy: Arc<Noisy>,
    changes: Register,
    config_hash: String,
    data_dir: PathBuf,
    clock: Clock,
}

/// Takes samples and looks at the clocks, on a thread of its own.
#[derive(Debug)]
pub struct Sampler {
    metrics: Metrics,
    samples: Samples,
    changes: Register,
    clock: Clock,
}

impl Witness {
    /// One of all that is watched, counted and refused in the data directory at `data_dir`, and who takes samples for it.
    pub fn new(
        watch: &Watch,
        metrics: &Metrics,
        noisy: Arc<Noisy>,
        changes: &Register,
        config_hash: &str,
        data_dir: PathBuf,
        clock: Clock,
    ) -> (Self, Sampler) {
        let samples = Samples::default();
        let sampler = Sampler { metrics: metrics.clone(), samples: samples.clone(), changes: changes.clone(), clock };
        let (board, bulletin) = (watch.board.clone(), watch.bulletin.clone());
        let (metrics, changes, config_hash) = (metrics.clone(), changes.clone(), config_hash.to_owned());
        (Self { board, bulletin, metrics, samples, noisy, changes, config_hash, data_dir, clock }, sampler)
    }

    /// The hash of the configuration.
    pub fn config_hash(&self) -> &str {
        &self.config_hash
    }

    /// The register of changes.
    pub fn changes(&self) -> &Register {
        &self.changes
    }

    /// What is known now, if this is the trouble with the registry.
    pub fn evidence(&self, registry: Option<Trouble>) -> (Now, Evidence) {
        let (now, judgement) = (self.clock.now(), self.bulletin.judgement());
        let readings: Vec<Reading> = self.board.rows().iter().map(|row| row.read()).collect();
        let part = |verdict: &Verdict| PartEvidence {
            part: verdict.part,
            state: verdict.state,
            stage: verdict.stage,
            lasts: now.at.since(verdict.since),
            progress: readings
                .iter()
                .find(|reading| reading.part == verdict.part)
                .map(|reading| progress(now.at, reading))
                .unwrap_or_default(),
        };
        let mut samples = self.samples.list();
        let late = samples.last().map_or(Duration::ZERO, |last| now.at.since(last.at).saturating_sub(EVERY));
        samples.push(Sample::of(now.at, late, &self.metrics.gather()));
        let evidence = Evidence {
            parts: judgement.verdicts.iter().map(part).collect(),
            is_shared: judgement.is_shared,
            judged_ago: now.at.since(self.bulletin.judged_at()),
            samples,
            registry,
            disk: room(&self.data_dir),
            processor_pressure: fs::read_to_string(PRESSURE_FILE).ok().and_then(|text| pressure(&text)),
            noisy: self.noisy.loudest(now.at),
            changes: self.changes.list(),
        };
        (now, evidence)
    }
}

impl Sampler {
    /// Runs until `stop` is set. A defect in here costs samples and nothing else.
    pub fn run(self, stop: &AtomicBool) {
        if catch_unwind(AssertUnwindSafe(|| self.sample(stop))).is_err() {
            tracing::error!("no samples are taken any more, and the clocks are not looked at; everything else goes on");
        }
    }

    fn sample(&self, stop: &AtomicBool) {
        let mut clocks = Clocks::new(self.clock.now());
        let mut sample_at = Millis(0);
        while !stop.load(Ordering::Acquire) {
            let now = self.clock.now();
            for what in clocks.look(now, LOOK_EVERY) {
                tracing::warn!(%what, "the clocks do not go as they should");
                self.changes.note(now.unix, what);
            }
            if now.at >= sample_at {
                sample_at = now.at + EVERY;
                self.samples.keep(Sample::of(now.at, clocks.take_late(), &self.metrics.gather()));
            }
            thread::sleep(LOOK_EVERY);
        }
    }
}

fn progress(now: Millis, reading: &Reading) -> Vec<(Stage, Option<Duration>)> {
    reading.passed.iter().map(|(stage, passed)| (*stage, passed.map(|heartbeat| now.since(heartbeat.0)))).collect()
}

/// Room on the disk with this directory.
fn room(directory: &Path) -> Option<Room> {
    let found = statvfs(directory).ok()?;
    let unit = found.fragment_size();
    Some(Room { free: found.blocks_available().saturating_mul(unit), total: found.blocks().saturating_mul(unit) })
}

/// The percentage of the last ten seconds in `some avg10=12.34 avg60=… avg300=… total=…`.
fn pressure(text: &str) -> Option<f64> {
    let some = text.lines().find(|line| line.starts_with("some "))?;
    some.split_whitespace().find_map(|word| word.strip_prefix("avg10="))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_read_where_linux_tells_it() {
        assert_eq!(pressure("some avg10=12.50 avg60=0.00 avg300=0.00 total=1\nfull avg10=0.00 avg60=0.00\n"), Some(12.5));
        assert_eq!(pressure("full avg10=1.00\n"), None);
        assert_eq!(pressure(""), None);
    }

    #[test]
    fn there_is_room_where_there_is_a_directory() {
        let directory = tempfile::tempdir().unwrap();
        assert!(room(directory.path()).is_some_and(|room| room.total > 0 && room.free <= room.total));
        assert_eq!(room(&directory.path().join("nowhere")), None);
    }
}
