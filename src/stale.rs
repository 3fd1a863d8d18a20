//! Looks for numbers that stand still while what they follow moves. A gauge that nobody sets any more looks like one that is well.
//!
//! Whoever tells a number says what moves it, and how long it may take (`metrics.rs`). What is not moved in time is reported by name. The detector is a
//! thread of its own and knows nothing of heartbeats; the watchdog looks whether it still looks, and it looks after the watchdog like after anything else.

mod pulse;
mod suspect;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use firmware_protocol::time::{Millis, Now};
use prometheus::{IntCounter, IntGauge, IntGaugeVec};

use crate::clock::Clock;

pub use self::pulse::Pulse;

use self::suspect::{Sample, Suspect};

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Where a number comes from.
#[derive(Clone)]
pub enum Source {
    /// Time: it moves always.
    Time,
    /// A counter.
    Counter(IntCounter),
    /// Whoever sets a gauge.
    Pulse(Pulse),
    /// Anything else that can be read.
    Read(Arc<dyn Fn() -> u64 + Send + Sync>),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Time => "Time",
            Self::Counter(_) => "Counter",
            Self::Pulse(_) => "Pulse",
            Self::Read(_) => "Read",
        })
    }
}

/// A number that should move.
#[derive(Clone, Debug)]
pub struct Series {
    /// What it is called.
    pub name: String,
    /// How long it may stand still after its input has moved.
    pub patience: Duration,
    /// The number itself.
    pub output: Source,
    /// What it follows.
    pub input: Source,
    /// How far the input has to move until the output must.
    pub least: u64,
}

/// All that should move. Whatever is told is entered before anything runs.
#[derive(Clone, Default, Debug)]
pub struct Roll(Arc<Mutex<Vec<Series>>>);

impl Roll {
    /// Enters one more.
    pub fn enter(&self, series: Series) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(series);
    }

    fn all(&self) -> Vec<Series> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets a gauge stand still from now on, or move again: a fault that tests inject.
    ///
    /// # Errors
    /// There is none of that name that is set by somebody.
    pub fn stick(&self, name: &str, sticks: bool) -> Result<(), String> {
        let found = self.all().into_iter().find(|series| series.name == name);
        match found.map(|series| series.output) {
            Some(Source::Pulse(pulse)) => {
                pulse.stick(sticks);
                Ok(())
            }
            Some(_) => Err(format!("{name} is counted and not set")),
            None => Err(format!("no series is called {name}")),
        }
    }
}

/// What the detector tells.
#[derive(Clone, Debug)]
pub struct StaleMetrics {
    /// 1 for a number that stands still while its input moves.
    pub stale: IntGaugeVec,
    /// When it looked last, in seconds since 1970.
    pub evaluated_at: IntGauge,
}

/// The detector, on its thread.
#[derive(Debug)]
pub struct Detector {
    watched: Vec<(Series, Suspect)>,
    metrics: StaleMetrics,
    /// When it looked last, for the watchdog.
    looked_at: Arc<AtomicU64>,
}

impl Detector {
    /// Of all that is on the roll by now. Notes in `looked_at` when it looked, in milliseconds of the clock.
    pub fn new(roll: &Roll, metrics: StaleMetrics, looked_at: Arc<AtomicU64>, now: Millis) -> Self {
        let watched: Vec<_> = roll.all().into_iter().map(|series| (series, Suspect::new(now))).collect();
        watched.iter().for_each(|(series, _)| metrics.stale.with_label_values(&[&series.name]).set(0));
        Self { watched, metrics, looked_at }
    }

    /// Runs until `stop` is set.
    pub fn run(mut self, clock: Clock, stop: &AtomicBool) {
        while !stop.load(Ordering::Acquire) {
            self.look(clock.now());
            thread::sleep(LOOK_EVERY);
        }
    }

    fn look(&mut self, now: Now) {
        for (series, suspect) in &mut self.watched {
            let sample = Sample { output: read(&series.output, now), input: read(&series.input, now) };
            let was_stale = suspect.is_stale();
            let is_stale = suspect.look(now.at, sample, series.patience, series.least);
            if is_stale == was_stale {
                continue;
            }
            self.metrics.stale.with_label_values(&[&series.name]).set(is_stale.into());
            match is_stale {
                true => tracing::warn!(series = series.name, "stands still while what it follows moves"),
                false => tracing::info!(series = series.name, "moves again"),
            }
        }
        self.metrics.evaluated_at.set(i64::from(now.unix.seconds()));
        self.looked_at.store(now.at.0, Ordering::Relaxed);
    }
}

fn read(source: &Source, now: Now) -> u64 {
    match source {
        Source::Time => now.at.0,
        Source::Counter(counter) => counter.get(),
        Source::Pulse(pulse) => pulse.beats(),
        Source::Read(read) => read(),
    }
}

#[cfg(test)]
mod tests {
    use firmware_protocol::time::UnixMillis;

    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn a_gauge_that_sticks_is_named_and_one_without_input_is_not() {
        let (roll, metrics, input) = (Roll::default(), Metrics::new(), Pulse::default());
        let (stuck, idle) = (Pulse::default(), Pulse::default());
        for (name, pulse, input) in [("stuck", &stuck, Source::Time), ("idle", &idle, Source::Pulse(input))] {
            let output = Source::Pulse(pulse.clone());
            roll.enter(Series { name: name.into(), patience: Duration::from_secs(5), output, input, least: 1 });
        }
        let looked_at = Arc::<AtomicU64>::default();
        let mut detector = Detector::new(&roll, metrics.stale(), Arc::clone(&looked_at), Millis(0));
        let is_stale = |name: &str| metrics.render().contains(&format!("holdfast_stale_series{{series=\"{name}\"}} 1"));
        // It has moved once, and no more.
        for at in (0..=12_000).step_by(250) {
            detector.look(Now { at: Millis(at), unix: UnixMillis(at) });
            stuck.beat();
            roll.stick("stuck", true).unwrap();
            assert_eq!((is_stale("stuck"), is_stale("idle")), (at >= 5_500, false), "{at}");
        }
        assert_eq!(looked_at.load(Ordering::Relaxed), 12_000);
        roll.stick("stuck", false).unwrap();
        stuck.beat();
        detector.look(Now { at: Millis(12_250), unix: UnixMillis(0) });
        assert!(!is_stale("stuck"));
        assert!(roll.stick("nothing", true).is_err());
    }
}
