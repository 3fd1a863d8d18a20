//! Asks the disk whether it answers at all, beside a journal that waits for it: a small file is written and synced, on a thread that may hang as long as the
//! disk does.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use firmware_protocol::time::Millis;

use crate::data_dir::PROBE_FILE;
use crate::mailbox::{Bell, Lane, Mailbox, MailboxBuilder};

/// Who asks.
#[derive(Debug)]
pub struct DiskProbe {
    questions: Lane<u64>,
    /// Number of the last that the disk answered.
    answered: Arc<AtomicU64>,
    /// Number of the last question.
    last: u64,
    /// Whether it is of now.
    is_open: bool,
    /// When it was seen that it was answered.
    answered_at: Option<Millis>,
}

/// Who waits for the disk.
#[derive(Debug)]
pub struct Prober {
    file: File,
    questions: Mailbox<u64>,
    answered: Arc<AtomicU64>,
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
        let (mut mailbox, answered) = (MailboxBuilder::new()?, Arc::<AtomicU64>::default());
        let probe = Self { questions: mailbox.lane(1), answered: Arc::clone(&answered), last: 0, is_open: false, answered_at: None };
        Ok((probe, Prober { file, questions: mailbox.build()?, answered }))
    }

    /// Whether the disk answers, and has done so for `patience`, in which whoever waited for it can go on. Asks it if it was not asked yet.
    pub fn answers(&mut self, now: Millis, patience: Duration) -> bool {
        if !self.is_open {
            // If the last question is not even taken yet, this one is asked later.
            self.is_open = self.questions.send(self.last + 1).is_ok();
            self.last += u64::from(self.is_open);
        }
        if !self.is_open || self.answered.load(Ordering::Acquire) < self.last {
            return false;
        }
        now.since(*self.answered_at.get_or_insert(now)) >= patience
    }

    /// Nothing is to be known: the next question is a new one.
    pub fn rest(&mut self) {
        (self.is_open, self.answered_at) = (false, None);
    }
}

impl Prober {
    /// What wakes it.
    pub fn bell(&self) -> Arc<Bell> {
        self.questions.bell()
    }

    /// Puts questions to the disk until `stop` is set.
    pub fn run(mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Acquire) {
            self.questions.wait(Duration::from_secs(1));
            let mut asked = None;
            self.questions.drain(1, |number| asked = Some(number));
            if let Some(number) = asked {
                let answered = self.file.write_all_at(&number.to_be_bytes(), 0).and_then(|()| self.file.sync_data());
                if let Err(error) = answered {
                    tracing::warn!(%error, "the disk answers a probe with an error");
                }
                self.answered.store(number, Ordering::Release);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(1_500);

    #[test]
    fn a_disk_that_answers_is_known_to_after_a_while() {
        let directory = tempfile::tempdir().unwrap();
        let (mut probe, prober) = DiskProbe::new(directory.path()).unwrap();
        assert!(!probe.answers(Millis(0), PATIENCE) && !probe.answers(Millis(60_000), PATIENCE), "nobody has asked the disk");
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let bell = prober.bell();
            let running = scope.spawn(|| prober.run(&stop));
            while probe.answered.load(Ordering::Acquire) == 0 {
                thread::yield_now();
            }
            stop.store(true, Ordering::Release);
            bell.ring();
            running.join().unwrap();
        });
        assert!(!probe.answers(Millis(70_000), PATIENCE) && !probe.answers(Millis(71_499), PATIENCE));
        assert!(probe.answers(Millis(71_500), PATIENCE));
        probe.rest();
        assert!(!probe.answers(Millis(80_000), PATIENCE), "a new question has no answer");
        assert_eq!(std::fs::read(directory.path().join(PROBE_FILE)).unwrap(), 1u64.to_be_bytes());
    }
}
