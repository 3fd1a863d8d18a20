//! The process itself, what watches its threads, its API and its registry.

use std::sync::Arc;
use std::time::Duration;

use firmware_protocol::time::UnixMillis;
use prometheus::{Gauge, IntCounterVec, IntGauge, IntGaugeVec, Opts};

use super::{Metrics, label};
use crate::about;
use crate::api::{ApiSeries, Counters};
use crate::clock::Clock;
use crate::evidence::EvidenceSeries;
use crate::stale::{Pulse, Source, StaleMetrics};
use crate::watchdog::{ProgressSeries, Watch};

/// What the registry counts.
#[derive(Clone, Debug)]
pub struct RegistryMetrics {
    /// Whether its database can be changed.
    pub up: IntGauge,
    /// Whenever that was tried.
    pub tried: Pulse,
    errors: IntCounterVec,
}

impl Metrics {
    /// Says which build runs with which configuration.
    pub fn identity(&self, config: &str) {
        let build = Opts::new("holdfast_build_info", "1 for the build that runs.");
        let build = self.add(IntGaugeVec::new(build, &["version", "revision"]));
        build.with_label_values(&[about::VERSION, about::REVISION]).set(1);
        self.gauges("holdfast_config_info", "1 for the hash of the configuration in effect.", "hash").with_label_values(&[config]).set(1);
    }

    /// When this process began, and whether the one before it ended without being told to.
    pub fn process(&self, began: UnixMillis, after_crash: bool) {
        let start = self.add(Gauge::new("holdfast_process_start_time_seconds", "When the server was started."));
        start.set(Duration::from_millis(began.0).as_secs_f64());
        let help = "1 if the server before this one ended without being told to.";
        self.gauge("holdfast_started_after_crash", help).set(i64::from(after_crash));
    }

    /// Metrics of the detector of what stands still.
    pub fn stale(&self) -> StaleMetrics {
        StaleMetrics {
            stale: self.gauges("holdfast_stale_series", "1 for a number that stands still while what it follows moves.", "series"),
            evaluated_at: self
                .gauge("holdfast_stale_detector_evaluation_timestamp_seconds", "When it was looked last for numbers that stand still."),
        }
    }

    /// What is told of the progress of threads.
    pub fn watchdog(&self, watch: &Watch, clock: Clock) {
        self.add(Ok(ProgressSeries::new(watch, clock)));
        self.add(Ok(EvidenceSeries::new(&watch.evidence, &watch.bulletin)));
        let bulletin = watch.bulletin.clone();
        self.follow("watchdog", 3, Source::Read(Arc::new(move || bulletin.judged_at().0)), (Source::Time, 1));
        let all = watch.notes().to_vec();
        let handed = Source::Read(Arc::new(move || all.iter().map(|notes| notes.counts().0).sum()));
        self.follow("journal_commits", 5, Source::Pulse(self.settled.clone()), (handed, 10));
        for notes in watch.notes() {
            let (seen, noted) = (Arc::clone(notes), Arc::clone(notes));
            let name = format!("evidence_{}", label(&notes.observer().to_string()));
            let output = Source::Read(Arc::new(move || noted.counts().1));
            self.follow(&name, 5, output, (Source::Read(Arc::new(move || seen.counts().0)), 5));
        }
    }

    /// What the API counts.
    pub fn api(&self, counters: &Arc<Counters>) {
        self.add(ApiSeries::new(counters));
    }

    /// Metrics of the registry.
    pub fn registry(&self) -> RegistryMetrics {
        RegistryMetrics {
            tried: self.pulse("registry_up", 30),
            up: self.gauge("holdfast_registry_up", "1 if the database of users and devices can be changed."),
            errors: self.counters_of(
                "holdfast_registry_errors_total",
                "Changes and questions that failed because of the database.",
                "kind",
                &["locked", "full", "disk", "read_only", "gone", "corrupt", "slow"],
            ),
        }
    }
}

impl RegistryMetrics {
    /// Something failed because of trouble of this `kind`.
    pub fn failed(&self, kind: &str) {
        self.errors.with_label_values(&[kind]).inc();
    }
}
