//! What is looked after beside the work: whether deliveries add up, counted row by row on a thread that gives way to all others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::desk::Shelf;
use crate::metrics::WebhookMetrics;
use crate::priority::Priority;

/// When it is counted first: a start has better things to do.
const FIRST_AFTER: Duration = Duration::from_secs(5);
/// How often it is counted.
const EVERY: Duration = Duration::from_secs(60);
/// How often it looks whether it shall stop.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Who counts.
pub(super) struct Accountant {
    shelf: Shelf,
    stop: Arc<AtomicBool>,
    metrics: WebhookMetrics,
    /// The last imbalance that was said.
    said: i64,
}

impl Accountant {
    /// Begins to count what is on the shelf, until `stop` is set.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(super) fn start(shelf: Shelf, stop: Arc<AtomicBool>, metrics: WebhookMetrics) -> std::io::Result<JoinHandle<()>> {
        let accountant = Self { shelf, stop, metrics, said: 0 };
        thread::Builder::new().name("hooks-census".into()).spawn(move || {
            Priority::Chores.take();
            accountant.run();
        })
    }

    fn run(mut self) {
        let mut due = Instant::now() + FIRST_AFTER;
        while !self.stop.load(Ordering::Acquire) {
            thread::sleep(LOOK_EVERY);
            if Instant::now() >= due && self.count() {
                due = Instant::now() + EVERY;
            }
        }
    }

    /// Counts once. `false` if there is no database to count in.
    fn count(&mut self) -> bool {
        let Some(reader) = self.shelf.get() else { return false };
        // Whoever holds a reader keeps the database open: one that is taken off the shelf is let go at once.
        let stop = || self.stop.load(Ordering::Acquire) || self.shelf.get().is_none();
        match reader.census(stop) {
            Ok(Some(imbalance)) => {
                let missing = imbalance.missing();
                self.metrics.imbalance(missing);
                if missing != 0 && missing != self.said {
                    tracing::error!(
                        missing,
                        counted = imbalance.counted,
                        "deliveries were accepted that are neither done with nor to be made"
                    );
                }
                self.said = missing;
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "deliveries could not be counted"),
        }
        true
    }
}
