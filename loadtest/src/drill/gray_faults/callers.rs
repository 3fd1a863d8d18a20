//! Callers of the API that ping devices, each again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Result;
use firmware_protocol::id::DeviceId;

use crate::api::Api;

/// How many there are.
const CALLERS: usize = 4;
/// From one ping of a caller to the next.
const EVERY: Duration = Duration::from_millis(100);
/// A caller waits no longer.
const PATIENCE: Duration = Duration::from_millis(500);

/// They at work, until this is dropped.
#[derive(Debug)]
pub(super) struct Callers {
    stops: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Callers {
    /// Starts them.
    pub(super) fn start(api: &Api, devices: &[DeviceId]) -> Result<Self> {
        let (stops, mut threads) = (Arc::<AtomicBool>::default(), Vec::new());
        for number in 0..CALLERS {
            let (api, stops, devices) = (api.clone(), Arc::clone(&stops), devices.to_vec());
            let mut own = (0..).map(move |turn| devices[(turn * CALLERS + number) % devices.len()]);
            threads.push(thread::Builder::new().name(format!("caller-{number}")).spawn(move || {
                while !stops.load(Ordering::Acquire) {
                    if let Some(device) = own.next() {
                        // Some do not answer, which is what it is about.
                        let _ = api.ping(device, PATIENCE);
                    }
                    thread::sleep(EVERY);
                }
            })?);
        }
        Ok(Self { stops, threads })
    }
}

impl Drop for Callers {
    fn drop(&mut self) {
        self.stops.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            // One that panicked has stopped, too.
            let _ = thread.join();
        }
    }
}
