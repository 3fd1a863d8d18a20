//! How many had come by when, and how fast that went in the middle.

use std::time::Duration;

/// Counts by time, both rising.
#[derive(Clone, Default, Debug)]
pub(super) struct Curve {
    points: Vec<(Duration, u64)>,
}

impl Curve {
    /// So many by then. What changes nothing is left out.
    pub(super) fn note(&mut self, at: Duration, count: u64) {
        if self.points.last().is_none_or(|(_, last)| count > *last) {
            self.points.push((at, count));
        }
    }

    /// How many came in a second, from the first tenth of those who came in the end to the last: how it begins and ends is not its speed.
    pub(super) fn rate_per_s(&self) -> f64 {
        let all = self.points.last().map_or(0, |(_, count)| *count);
        let reached = |share: u64| self.points.iter().find(|(_, count)| count * 10 >= all * share);
        let (Some((from, first)), Some((to, last))) = (reached(1), reached(9)) else { return 0.0 };
        let seconds = to.saturating_sub(*from).as_secs_f64();
        if seconds > 0.0 { (last - first) as f64 / seconds } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_middle() {
        let mut curve = Curve::default();
        assert_eq!(curve.rate_per_s(), 0.0);
        for (second, count) in [(5, 0), (10, 100), (11, 500), (12, 900), (12, 900), (99, 1_000)] {
            curve.note(Duration::from_secs(second), count);
        }
        assert_eq!(curve.rate_per_s(), 400.0);
        assert_eq!(curve.points.len(), 5);
    }
}
