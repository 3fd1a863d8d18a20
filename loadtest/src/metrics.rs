//! What a server says of itself at `/metrics`.

use std::collections::BTreeMap;
use std::str::FromStr;

/// All its counts at one moment, as text.
#[derive(Clone, Debug)]
pub(crate) struct Metrics(String);

impl Metrics {
    /// From the text that the server tells.
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    /// The sum over all series of `metric` that have `label`, such as `reason="forged"`; or over all there are. What never happened is not there.
    pub(crate) fn sum(&self, metric: &str, label: Option<&str>) -> u64 {
        self.series::<u64>(metric, label).map(|(_, count)| count).sum()
    }

    /// The same of seconds.
    pub(crate) fn seconds(&self, metric: &str, label: Option<&str>) -> f64 {
        self.series::<f64>(metric, label).map(|(_, seconds)| seconds).sum()
    }

    /// Each series of `metric`, by the value of its only label.
    pub(crate) fn by_label(&self, metric: &str) -> BTreeMap<String, u64> {
        self.series(metric, None).filter_map(|(labels, count)| Some((labels.split('"').nth(1)?.to_owned(), count))).collect()
    }

    /// The labels of each series of `metric` that is 1.
    pub(crate) fn ones(&self, metric: &str) -> Vec<String> {
        self.series::<f64>(metric, None).filter(|(_, value)| (value - 1.0).abs() < 1e-9).map(|(labels, _)| labels.to_owned()).collect()
    }

    fn series<'a, N: FromStr>(&'a self, metric: &'a str, label: Option<&'a str>) -> impl Iterator<Item = (&'a str, N)> {
        let series = self.0.lines().filter_map(move |line| line.strip_prefix(metric)?.rsplit_once(' '));
        let named = series.filter(|(labels, _)| labels.is_empty() || labels.starts_with('{'));
        let wanted = named.filter(move |(labels, _)| label.is_none_or(|label| labels.contains(label)));
        wanted.filter_map(|(labels, value)| Some((labels, value.parse().ok()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_of_one_metric_add_up() {
        let text = "# HELP drops Things dropped.\n# TYPE drops counter\ndrops{reason=\"forged\"} 5\ndrops{reason=\"late\"} 2\ndrops_more 9\nplain 3\n";
        let metrics = Metrics::new(text.to_owned());
        assert_eq!((metrics.sum("drops", None), metrics.sum("drops", Some("reason=\"late\""))), (7, 2));
        assert_eq!((metrics.sum("plain", None), metrics.sum("drops", Some("reason=\"never\"")), metrics.sum("absent", None)), (3, 0, 0));
        assert_eq!(Metrics::new("is{a=\"x\"} 1\nis{a=\"y\"} 0\n".into()).ones("is"), ["{a=\"x\"}"]);
        assert_eq!(metrics.by_label("drops"), BTreeMap::from([("forged".to_owned(), 5), ("late".to_owned(), 2)]));
    }
}
