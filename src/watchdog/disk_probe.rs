//! Asks the disk whether it answers at all, beside a journal that waits for it: a small file is written and synced, on a thread that may hang as long as the
//! disk does.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use firmware_protocol::time::Millis;

use crate::data_dir::PROBE_FILE;

/// How often the thread looks whether it is asked.
const LOOK_EVERY: Duration = Duration::from_millis(50);

#[derive(Debug, Default)]
struct Shared {
    /// Number of the last question.
    asked: AtomicU64,
    /// Number of the last that the disk answered.
    answered: AtomicU64,
}

/// Who asks.
#[derive(Debug)]
pub struct DiskProbe {
    shared: Arc<Shared>,
    /// Number of the question that is open or was answered.
    question: Option<u64>,
    /// When it was seen that it was.
    answered_at: Option<Millis>,
}

/// Who waits for the disk.
#[derive(Debug)]
pub struct Prober {
    file: File,
    shared: Arc<Shared>,
}

impl DiskProbe {
    /// Of the disk with this directory, and what is to run on a thread of its own.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn new(directory: &Path) -> io::Result<(Self, Prober)> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(directory.join(PROBE_FILE))?;
        // Its room, so that a full disk has it too.
        file.write_all_at(&[0; 8], 0)?;
        let shared = Arc::<Shared>::default();
        Ok((Self { shared: Arc::clone(&shared), question: None, answered_at: None }, Prober { file, shared }))
    }

    /// Whether the disk answers, and has done so for `patience`, in which whoever waited for it can go on. Asks it if it was not asked yet.
    pub fn answers(&mut self, now: Millis, patience: Duration) -> bool {
        let asked = match self.question {
            Some(number) => number,
            None => self.ask(),
        };
        if self.shared.answered.load(Ordering::Acquire) < asked {
            return false;
        }
        now.since(*self.answered_at.get_or_insert(now)) >= patience
    }

    /// Nothing is to be known: the next question is a new one.
    pub fn rest(&mut self) {
        (self.question, self.answered_at) = (None, None);
    }

    fn ask(&mut self) -> u64 {
        let number = self.shared.asked.fetch_add(1, Ordering::Release) + 1;
        self.question = Some(number);
        number
    }
}

impl Prober {
    /// Puts questions to the disk until `stop` is set.
    pub fn run(self, stop: &AtomicBool) {
        while !stop.load(Ordering::Acquire) {
            let asked = self.shared.asked.load(Ordering::Acquire);
            if asked != self.shared.answered.load(Ordering::Relaxed) {
                let answered = self.file.write_all_at(&asked.to_be_bytes(), 0).and_then(|()| self.file.sync_data());
                if let Err(error) = answered {
                    tracing::warn!(%error, "the disk answers a probe with an error");
                }
                self.shared.answered.store(asked, Ordering::Release);
            }
            thread::sleep(LOOK_EVERY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(1_500);

    #[test]
    fn a_disk_that_answers_is_known_to_after_a_while() {
        let directory = tempfile::tempdir().unwrap();
        let (mut probe, prober) = DiskProbe::new(directory.path()).unwrap();
        assert!(!probe.answers(Millis(0), PATIENCE) && !probe.answers(Millis(60_000), PATIENCE), "nobody has asked the disk");
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let running = scope.spawn(|| prober.run(&stop));
            while probe.shared.answered.load(Ordering::Acquire) == 0 {
                thread::yield_now();
            }
            stop.store(true, Ordering::Release);
            running.join().unwrap();
        });
        assert!(!probe.answers(Millis(70_000), PATIENCE) && !probe.answers(Millis(71_499), PATIENCE));
        assert!(probe.answers(Millis(71_500), PATIENCE));
        probe.rest();
        assert!(!probe.answers(Millis(80_000), PATIENCE), "a new question has no answer");
        assert_eq!(std::fs::read(directory.path().join(PROBE_FILE)).unwrap(), 1u64.to_be_bytes());
    }
}
