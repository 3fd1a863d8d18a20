//! Stops one thread of a process, wherever it is just then, with the kernel's freezer: between two instructions, in a system call, with a lock in its hand.
//!
//! It takes a control group of version 1 (the kernel's documentation, cgroup-v1/freezer-subsystem), and the rights to make one.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Where the groups are.
const GROUPS: &str = "/sys/fs/cgroup/freezer";
/// Longest time until a thread that waits for a disk stands still.
const LIMIT: Duration = Duration::from_secs(5);

/// A group of its own.
#[derive(Debug)]
pub(crate) struct Freezer {
    group: PathBuf,
}

/// A thread that stands still until this is dropped.
#[derive(Debug)]
pub(crate) struct Frozen<'a> {
    group: &'a Path,
    thread: u32,
}

impl Freezer {
    /// Makes the group.
    pub(crate) fn new() -> Result<Self> {
        let group = Path::new(GROUPS).join(format!("holdfast-load-{}", std::process::id()));
        fs::create_dir(&group).with_context(|| format!("the kernel's freezer cannot be used: {}", group.display()))?;
        Ok(Self { group })
    }

    /// Stops a thread, and returns when it stands.
    pub(crate) fn freeze(&self, thread: u32) -> Result<Frozen<'_>> {
        fs::write(self.group.join("tasks"), thread.to_string()).context("there is no such thread any more")?;
        let frozen = Frozen { group: &self.group, thread };
        frozen.set("FROZEN")?;
        let begun = Instant::now();
        while fs::read_to_string(self.group.join("freezer.state"))?.trim_end() != "FROZEN" {
            if begun.elapsed() >= LIMIT {
                bail!("thread {thread} did not stop within {LIMIT:?}");
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(frozen)
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        // A group that is left behind holds nobody.
        let _ = fs::remove_dir(&self.group);
    }
}

impl Frozen<'_> {
    fn set(&self, state: &str) -> Result<()> {
        fs::write(self.group.join("freezer.state"), state).with_context(|| format!("the freezer did not take {state}"))
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        // A thread that is gone needs neither.
        let _ = self.set("THAWED");
        let _ = fs::write(Path::new(GROUPS).join("tasks"), self.thread.to_string());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use super::*;
    use crate::threads;

    #[test]
    fn one_thread_stands_still_and_goes_on() -> Result<()> {
        let Ok(freezer) = Freezer::new() else { return Ok(()) };
        let (count, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, stopped) = (Arc::clone(&count), Arc::clone(&stop));
        let counting = thread::Builder::new().name("to-be-frozen".into()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                counted.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(1));
            }
        })?;
        while count.load(Ordering::Relaxed) == 0 {
            thread::yield_now();
        }
        let thread = threads::named(std::process::id(), "to-be-frozen")?[0];
        let frozen = freezer.freeze(thread)?;
        let before = count.load(Ordering::Relaxed);
        thread::sleep(Duration::from_millis(50));
        assert_eq!(count.load(Ordering::Relaxed), before);
        drop(frozen);
        while count.load(Ordering::Relaxed) == before {
            thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
        counting.join().expect("it only counts");
        Ok(())
    }
}
