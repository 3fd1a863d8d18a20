//! All processors are busy, and there are pauses of a second and a half: of the whole process, and of single threads. None of that is a fault.

use std::hint;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;

/// How long a pause is.
pub(super) const PAUSE: Duration = Duration::from_millis(1_500);
/// From one pause to the next.
pub(super) const PAUSE_EVERY: Duration = Duration::from_secs(8);
/// Threads that pause in turn, each where it does something.
pub(super) const PAUSED: [&str; 6] =
    ["shard-3 apply", "journal mailbox", "shard-11 mailbox", "terminator-0 receive", "fan-out read", "shard-6 output"];

/// Threads that turn in a circle until this is dropped, as many as there are processors.
#[derive(Debug)]
pub(super) struct Busy {
    stops: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Busy {
    /// Starts them.
    pub(super) fn start() -> Result<Self> {
        let stops = Arc::<AtomicBool>::default();
        let count = thread::available_parallelism().map_or(1, usize::from);
        let spawn = |number| {
            let stops = Arc::clone(&stops);
            thread::Builder::new().name(format!("busy-{number}")).spawn(move || {
                while !stops.load(Ordering::Relaxed) {
                    (0..10_000).for_each(|_| hint::spin_loop());
                }
            })
        };
        let threads = (0..count).map(spawn).collect::<Result<_, _>>()?;
        Ok(Self { stops, threads })
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stops.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // It has nothing that could panic.
            let _ = thread.join();
        }
    }
}

/// The moments of pauses: whether the process pauses as a whole, and else which thread.
#[derive(Debug)]
pub(super) struct Pauses {
    begun: Instant,
    count: u32,
}

impl Pauses {
    pub(super) fn new() -> Self {
        Self { begun: Instant::now(), count: 0 }
    }

    /// The next, if it is time: `None` inside is the whole process.
    pub(super) fn next(&mut self) -> Option<Option<&'static str>> {
        if self.begun.elapsed() < PAUSE_EVERY * (self.count + 1) {
            return None;
        }
        let number = usize::try_from(self.count).unwrap_or_default();
        self.count += 1;
        Some((number % 2 == 1).then(|| PAUSED[number / 2 % PAUSED.len()]))
    }

    /// How many there were.
    pub(super) fn count(&self) -> u32 {
        self.count
    }
}
