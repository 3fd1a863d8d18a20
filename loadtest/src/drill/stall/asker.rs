//! A caller that pings devices and reads their variables, one after the other: neither needs the journal.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use firmware_protocol::id::DeviceId;

use crate::api::Api;
use crate::stats::Latencies;

/// From one question to the next.
const EVERY: Duration = Duration::from_millis(50);
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// A variable that every device of a fleet has.
const VARIABLE: &str = "temperature";

/// The caller. It rests until [`Asker::ask`].
#[derive(Debug)]
pub(super) struct Asker {
    post: Arc<Post>,
    thread: JoinHandle<()>,
}

/// What came of questions.
#[derive(Clone, Default, Debug)]
pub(super) struct Asked {
    /// How long answers took.
    pub(super) answered: Latencies,
    /// Questions that had no answer, or another than it should be.
    pub(super) failed: u64,
}

#[derive(Default, Debug)]
struct Post {
    asks: AtomicBool,
    stops: AtomicBool,
    asked: Mutex<Asked>,
}

impl Asker {
    /// Starts one that asks these devices in turn.
    pub(super) fn start(api: Api, devices: Vec<DeviceId>) -> Result<Self> {
        let post = Arc::new(Post::default());
        let own = Arc::clone(&post);
        let thread = thread::Builder::new().name("asker".into()).spawn(move || own.run(&api, &devices))?;
        Ok(Self { post, thread })
    }

    /// Begins to ask, or rests.
    pub(super) fn ask(&self, asks: bool) {
        self.post.asks.store(asks, Ordering::Release);
    }

    /// What came of the questions that ended since the start or since the last call.
    pub(super) fn take(&self) -> Asked {
        std::mem::take(&mut self.post.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends it.
    pub(super) fn stop(self) -> Result<()> {
        self.post.stops.store(true, Ordering::Release);
        self.thread.join().ok().context("the thread that asks devices panicked")
    }
}

impl Post {
    fn run(&self, api: &Api, devices: &[DeviceId]) {
        let mut turns = devices.iter().flat_map(|device| [(device, true), (device, false)]).cycle();
        while !self.stops.load(Ordering::Acquire) {
            thread::sleep(EVERY);
            if !self.asks.load(Ordering::Acquire) {
                continue;
            }
            let Some((device, ping)) = turns.next() else { return };
            let begun = Instant::now();
            let answered = if ping { api.ping(*device, PATIENCE) } else { api.read(*device, VARIABLE, PATIENCE) };
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            match answered {
                true => asked.answered.record(begun.elapsed()),
                false => asked.failed += 1,
            }
        }
    }
}
