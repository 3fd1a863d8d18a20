//! The data plane's threads: how they begin, how another comes in the place of one, and how they end in order.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crate::mailbox::{Bell, MailboxBuilder};
use crate::watchdog::last_words;

/// All threads, in the order they began.
#[derive(Default)]
pub(super) struct Threads {
    running: Vec<Place>,
}

/// The place of one thread among all.
#[derive(Clone, Default)]
pub(super) struct Place(Arc<Mutex<Option<Running>>>);

struct Running {
    thread: JoinHandle<()>,
    stop: Arc<AtomicBool>,
    /// Wakes the thread, so that it sees that it shall stop.
    bell: Arc<Bell>,
}

impl Threads {
    /// Begins a thread that sleeps on `bell`. One that panics takes the process with it: it cannot serve its sessions any more, and a restart
    /// serves them all within seconds.
    pub(super) fn spawn(&mut self, name: &str, bell: Arc<Bell>, body: impl FnOnce(&AtomicBool) + Send + 'static) -> io::Result<Place> {
        let place = Place::default();
        place.spawn(name, bell, body)?;
        self.running.push(place.clone());
        Ok(place)
    }

    /// Begins a thread that looks by itself now and then whether it shall stop.
    pub(super) fn spawn_plain(&mut self, name: &str, body: impl FnOnce(&AtomicBool) + Send + 'static) -> io::Result<()> {
        let bell = MailboxBuilder::<()>::new()?.build()?.bell();
        self.spawn(name, bell, body).map(drop)
    }

    pub(super) fn len(&self) -> usize {
        self.running.len()
    }

    /// Ends all, the last one first.
    pub(super) fn stop(self) {
        for Running { thread, stop, bell } in self.running.into_iter().rev().filter_map(|place| place.leave()) {
            stop.store(true, Ordering::Release);
            bell.ring();
            if thread.join().is_err() {
                tracing::error!("a thread panicked");
            }
        }
    }
}

impl Place {
    /// Begins a thread in this place. Nobody asks any more for one that was in it.
    pub(super) fn spawn(&self, name: &str, bell: Arc<Bell>, body: impl FnOnce(&AtomicBool) + Send + 'static) -> io::Result<()> {
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, whose) = (Arc::clone(&stop), name.to_owned());
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let ended = catch_unwind(AssertUnwindSafe(|| body(&seen)));
            if ended.is_err() {
                last_words::leave(format_args!("holdfast: {whose} panicked"));
                std::process::abort();
            }
        })?;
        *self.running() = Some(Running { thread, stop, bell });
        Ok(())
    }

    /// Nobody waits any more for the thread in this place: it may never end.
    pub(super) fn clear(&self) {
        drop(self.leave());
    }

    fn leave(&self) -> Option<Running> {
        self.running().take()
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
