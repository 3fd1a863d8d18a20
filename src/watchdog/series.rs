//! What Prometheus is told of progress: moments, not ages, so that they stand still when whoever makes them does. They are read from the board when they
//! are asked for, and so are there even if the watchdog is not.

use std::collections::HashMap;

use firmware_protocol::time::{Millis, Now};
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Gauge, LabelPair, Metric, MetricFamily, MetricType};
use router::verdict::State;

use super::Watch;
use crate::clock::Clock;

const PROGRESS: &str = "holdfast_stage_last_progress_timestamp_seconds";
const EXPECTED: &str = "holdfast_part_expected";
const STATE: &str = "holdfast_part_state";
const JUDGED: &str = "holdfast_watchdog_evaluation_timestamp_seconds";
const CLOCK: &str = "holdfast_clock_timestamp_seconds";

/// The series.
#[derive(Clone, Debug)]
pub struct ProgressSeries {
    watch: Watch,
    clock: Clock,
    descriptions: Vec<Desc>,
}

impl ProgressSeries {
    /// Of what is on the board and the bulletin.
    pub fn new(watch: &Watch, clock: Clock) -> Self {
        let description = |name: &str, help: &str, labels: &[&str]| {
            let labels = labels.iter().map(|label| (*label).to_owned()).collect();
            Desc::new(name.to_owned(), help.to_owned(), labels, HashMap::new()).expect("names and labels in this file are well-formed")
        };
        let descriptions = vec![
            description(PROGRESS, "When the newest heartbeat was sent that a stage of a thread has passed on.", &["part", "stage"]),
            description(EXPECTED, "1 for each thread that there must be.", &["part"]),
            description(STATE, "1 for the state that a thread is in.", &["part", "state"]),
            description(JUDGED, "When the watchdog judged all threads last.", &[]),
            description(
                CLOCK,
                "What the server's wall clock says: these moments are as old as they are before it, however wrong it is.",
                &[],
            ),
        ];
        Self { watch: watch.clone(), clock, descriptions }
    }
}

impl Collector for ProgressSeries {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let now = self.clock.now();
        let (mut progress, mut expected) = (Vec::new(), Vec::new());
        for reading in self.watch.board.rows().iter().map(|row| row.read()) {
            expected.push(gauge(&[("part", reading.part.to_string())], 1.0));
            for (stage, passed) in reading.passed {
                let Some(heartbeat) = passed else { continue };
                let labels = [("part", reading.part.to_string()), ("stage", stage.name().to_owned())];
                progress.push(gauge(&labels, unix_seconds(now, heartbeat.0)));
            }
        }
        let judgement = self.watch.bulletin.judgement();
        let states = judgement.verdicts.iter().flat_map(|verdict| {
            State::ALL.map(|state| {
                let labels = [("part", verdict.part.to_string()), ("state", state.name().to_owned())];
                gauge(&labels, f64::from(u8::from(state == verdict.state)))
            })
        });
        let judged = gauge(&[], unix_seconds(now, self.watch.bulletin.judged_at()));
        let clock = gauge(&[], unix_seconds(now, now.at));
        let families = [progress, expected, states.collect(), vec![judged], vec![clock]];
        let families = self.descriptions.iter().zip(families).map(|(description, metrics)| family(description, metrics));
        // A family without series is no family.
        families.filter(|family| !family.get_metric().is_empty()).collect()
    }
}

/// A moment of the monotonic clock, in seconds since 1970 as the other clock counts now.
#[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 have 41 bits")]
fn unix_seconds(now: Now, moment: Millis) -> f64 {
    let ago = now.at.0.saturating_sub(moment.0);
    now.unix.0.saturating_sub(ago) as f64 / 1e3
}

fn gauge(labels: &[(&str, String)], value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = Metric::default();
    let labels = labels.iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value(value.clone());
        pair
    });
    metric.set_label(labels.collect());
    metric.set_gauge(gauge);
    metric
}

fn family(description: &Desc, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(description.fq_name.clone());
    family.set_help(description.help.clone());
    family.set_field_type(MetricType::GAUGE);
    family.set_metric(metrics);
    family
}
