//! What Prometheus is told of the API: read from its counters when it is asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, IntCounterVec, Opts};

use super::Counters;

/// Answers by the first digit of their status.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The series.
#[derive(Clone, Debug)]
pub struct ApiSeries {
    counters: Arc<Counters>,
    answers: IntCounterVec,
    answering: Counter,
    refused: IntCounterVec,
}

impl ApiSeries {
    /// Of what these count.
    ///
    /// # Errors
    /// A name or label is not well-formed.
    pub fn new(counters: &Arc<Counters>) -> Result<Self, prometheus::Error> {
        let vector = |name: &str, help: &str, label: &str| IntCounterVec::new(Opts::new(name, help), &[label]);
        Ok(Self {
            counters: Arc::clone(counters),
            answers: vector("holdfast_api_answers_total", "Requests that were answered, by the class of their status.", "class")?,
            answering: Counter::new("holdfast_api_answering_seconds_total", "Seconds until answers were there, added up.")?,
            refused: vector("holdfast_api_refused_total", "What the API refused before it looked at it.", "reason")?,
        })
    }

    fn read(&self) {
        let Counters { refused_connections, refused_streams, throttled_logins, failed_logins, throttled_probes, answers, answering_us } =
            &*self.counters;
        for (class, count) in CLASSES.iter().zip(answers) {
            raise(&self.answers, class, count);
        }
        raise(&self.refused, "connections", refused_connections);
        raise(&self.refused, "streams", refused_streams);
        raise(&self.refused, "logins_throttled", throttled_logins);
        raise(&self.refused, "logins_failed", failed_logins);
        raise(&self.refused, "probes_throttled", throttled_probes);
        let answering_s = std::time::Duration::from_micros(answering_us.load(Ordering::Relaxed)).as_secs_f64();
        self.answering.inc_by((answering_s - self.answering.get()).max(0.0));
    }
}

/// A counter that follows another.
fn raise(counters: &IntCounterVec, label: &str, to: &AtomicU64) {
    let counter = counters.with_label_values(&[label]);
    counter.inc_by(to.load(Ordering::Relaxed).saturating_sub(counter.get()));
}

impl Collector for ApiSeries {
    fn desc(&self) -> Vec<&Desc> {
        [self.answers.desc(), self.answering.desc(), self.refused.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.read();
        [self.answers.collect(), self.answering.collect(), self.refused.collect()].concat()
    }
}
