//! What observers noted, for Prometheus, and who is gray.

use std::collections::HashMap;
use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use router::evidence::{Page, Results, Table};
use router::progress::{Part, Stage};

use crate::watchdog::Bulletin;

const REQUESTS: &str = "holdfast_observed_shard_requests_total";
const GRAY: &str = "holdfast_shard_gray";
/// Most observers and shards, multiplied, that have series of their own. Beyond that all terminators are one.
const CELLS_MAX: usize = 1_024;

/// The series.
#[derive(Clone, Debug)]
pub struct EvidenceSeries {
    table: Table,
    bulletin: Bulletin,
    descriptions: Vec<Desc>,
}

impl EvidenceSeries {
    /// Of what is in the table and on the bulletin.
    pub fn new(table: &Table, bulletin: &Bulletin) -> Self {
        let description = |name: &str, help: &str, labels: &[&str]| {
            let labels = labels.iter().map(|label| (*label).to_owned()).collect();
            Desc::new(name.to_owned(), help.to_owned(), labels, HashMap::new()).expect("names and labels in this file are well-formed")
        };
        let descriptions = vec![
            description(
                REQUESTS,
                "Messages that others handed to a shard, and how these saw them answered.",
                &["observer", "shard", "result"],
            ),
            description(GRAY, "1 for a shard that passes heartbeats on while its users are not served.", &["shard", "stage"]),
        ];
        Self { table: table.clone(), bulletin: bulletin.clone(), descriptions }
    }

    /// By observer, or all terminators together if there are too many.
    fn results(&self) -> Vec<(String, usize, Results)> {
        let (pages, shards) = (self.table.pages(), 0..self.table.shards());
        if pages.len() * shards.len() <= CELLS_MAX {
            let of_page = |page: &Arc<Page>, shard| (page.observer().to_string(), shard, page.results(shard));
            return pages.iter().flat_map(|page| shards.clone().map(move |shard| of_page(page, shard))).collect();
        }
        let Some((api, terminators)) = pages.split_last() else { return Vec::new() };
        let of_terminators = |shard| terminators.iter().map(|page| page.results(shard)).fold(Results::default(), Results::plus);
        let terminators = shards.clone().map(|shard| ("terminators".to_owned(), shard, of_terminators(shard)));
        terminators.chain(shards.map(|shard| (api.observer().to_string(), shard, api.results(shard)))).collect()
    }
}

impl Collector for EvidenceSeries {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut requests = Vec::new();
        for (observer, shard, Results { ok, late, timeout }) in self.results() {
            for (result, count) in [("ok", ok), ("late", late), ("timeout", timeout)] {
                requests.push(counter(&[("observer", &observer), ("shard", &shard.to_string()), ("result", result)], count));
            }
        }
        let judgement = self.bulletin.judgement();
        let stage_of = |shard: usize| {
            let part = Part::Shard(u16::try_from(shard).unwrap_or(u16::MAX));
            judgement.gray.iter().find(|gray| gray.part == part).map(|gray| gray.stage.map_or("", Stage::name))
        };
        let gray = (0..self.table.shards()).map(|shard| {
            let stage = stage_of(shard);
            gauge(&[("shard", &shard.to_string()), ("stage", stage.unwrap_or_default())], stage.is_some())
        });
        let families = [(MetricType::COUNTER, requests), (MetricType::GAUGE, gray.collect())];
        self.descriptions.iter().zip(families).map(|(description, (kind, metrics))| family(description, kind, metrics)).collect()
    }
}

fn labelled(labels: &[(&str, &str)]) -> Metric {
    let mut metric = Metric::default();
    let labels = labels.iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    metric.set_label(labels.collect());
    metric
}

#[expect(clippy::cast_precision_loss, reason = "nobody counts to 2^52")]
fn counter(labels: &[(&str, &str)], value: u64) -> Metric {
    let (mut counter, mut metric) = (Counter::default(), labelled(labels));
    counter.set_value(value as f64);
    metric.set_counter(counter);
    metric
}

fn gauge(labels: &[(&str, &str)], is_so: bool) -> Metric {
    let (mut gauge, mut metric) = (Gauge::default(), labelled(labels));
    gauge.set_value(f64::from(u8::from(is_so)));
    metric.set_gauge(gauge);
    metric
}

fn family(description: &Desc, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(description.fq_name.clone());
    family.set_help(description.help.clone());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}
