//! What Prometheus is told of the API: read from its counters when it is asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, IntCounterVec, IntGaugeVec, Opts};

use super::{Class, ClassCounters, Counters};

/// Answers by the first digit of their status.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The series.
#[derive(Clone, Debug)]
pub struct ApiSeries {
    counters: Arc<Counters>,
    answers: IntCounterVec,
    answering: Counter,
    refused: IntCounterVec,
    mails: IntCounterVec,
    classes: ClassSeries,
}

/// What there is of each class of requests.
#[derive(Clone, Debug)]
struct ClassSeries {
    limit: IntGaugeVec,
    at_work: IntGaugeVec,
    waiting: IntGaugeVec,
    refused: IntCounterVec,
    late: IntCounterVec,
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
            mails: vector("holdfast_mails_total", "Mails to people, by what the mail server made of them.", "outcome")?,
            classes: ClassSeries::new()?,
        })
    }

    fn read(&self) {
        let Counters {
            refused_connections,
            refused_streams,
            throttled_logins,
            failed_logins,
            throttled_probes,
            mails_sent,
            mails_failed,
            classes,
            answers,
            answering_us,
        } = &*self.counters;
        self.classes.read(classes);
        for (class, count) in CLASSES.iter().zip(answers) {
            raise(&self.answers, class, count);
        }
        raise(&self.refused, "connections", refused_connections);
        raise(&self.refused, "streams", refused_streams);
        raise(&self.refused, "logins_throttled", throttled_logins);
        raise(&self.refused, "logins_failed", failed_logins);
        raise(&self.refused, "probes_throttled", throttled_probes);
        raise(&self.mails, "sent", mails_sent);
        raise(&self.mails, "failed", mails_failed);
        let answering_s = std::time::Duration::from_micros(answering_us.load(Ordering::Relaxed)).as_secs_f64();
        self.answering.inc_by((answering_s - self.answering.get()).max(0.0));
    }
}

impl ClassSeries {
    fn new() -> Result<Self, prometheus::Error> {
        let gauges = |name: &str, help: &str| IntGaugeVec::new(Opts::new(name, help), &["class"]);
        let counters = |name: &str, help: &str| IntCounterVec::new(Opts::new(name, help), &["class"]);
        Ok(Self {
            limit: gauges("holdfast_api_class_limit", "Requests of a class that may be at work; those of reads and writes adapt.")?,
            at_work: gauges("holdfast_api_class_at_work", "Requests of a class that are at work.")?,
            waiting: gauges("holdfast_api_class_waiting", "Requests of a class that wait for a place.")?,
            refused: counters("holdfast_api_class_refused_total", "Requests of a class that found no place.")?,
            late: counters("holdfast_api_class_late_total", "Requests of a class whose time was over before they began.")?,
        })
    }

    fn read(&self, classes: &[ClassCounters; Class::COUNT]) {
        for (class, counters) in Class::ALL.iter().zip(classes) {
            let label = class.label();
            for (gauges, value) in [(&self.limit, &counters.limit), (&self.at_work, &counters.at_work), (&self.waiting, &counters.waiting)]
            {
                gauges.with_label_values(&[label]).set(i64::try_from(value.load(Ordering::Relaxed)).unwrap_or(i64::MAX));
            }
            raise(&self.refused, label, &counters.refused);
            raise(&self.late, label, &counters.late);
        }
    }

    fn desc(&self) -> Vec<&Desc> {
        let gauges = [&self.limit, &self.at_work, &self.waiting].into_iter().flat_map(Collector::desc);
        gauges.chain([&self.refused, &self.late].into_iter().flat_map(Collector::desc)).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let gauges = [&self.limit, &self.at_work, &self.waiting].into_iter().flat_map(Collector::collect);
        gauges.chain([&self.refused, &self.late].into_iter().flat_map(Collector::collect)).collect()
    }
}

/// A counter that follows another.
fn raise(counters: &IntCounterVec, label: &str, to: &AtomicU64) {
    let counter = counters.with_label_values(&[label]);
    counter.inc_by(to.load(Ordering::Relaxed).saturating_sub(counter.get()));
}

impl Collector for ApiSeries {
    fn desc(&self) -> Vec<&Desc> {
        [self.answers.desc(), self.answering.desc(), self.refused.desc(), self.mails.desc(), self.classes.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.read();
        [self.answers.collect(), self.answering.collect(), self.refused.collect(), self.mails.collect(), self.classes.collect()].concat()
    }
}
