//! What is known when somebody asks what is wrong, gathered by `witness`, judged by [`super::diagnose`]; and how it is asked for rates and beginnings.

use std::time::Duration;

use firmware_protocol::time::{Millis, Now};
use router::progress::{Part, Stage};
use router::verdict::State;

use super::samples::{Measure, Sample};
use crate::changes::{Change, What};
use crate::store::registry::Trouble;
use crate::terminators::Refusals;

/// What counts as now: the last seconds.
const RECENT: Duration = Duration::from_secs(20);
/// A pause of this many samples does not end what began before.
const QUIET_SAMPLES_MAX: usize = 3;
/// What rises by less than this part of what it rises by now had not begun.
const ONSET: f64 = 0.2;
/// Changes older than this are no suspects.
pub const CHANGES_WITHIN: Duration = Duration::from_secs(24 * 3600);

/// What is known.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Evidence {
    /// How each watched thread is.
    pub parts: Vec<PartEvidence>,
    /// So many shards seem stalled that it must be something that they share.
    pub is_shared: bool,
    /// How long ago the watchdog judged.
    pub judged_ago: Duration,
    /// What was counted, the oldest first, the last one now.
    pub samples: Vec<Sample>,
    /// What is wrong with the registry.
    pub registry: Option<Trouble>,
    /// Room on the disk.
    pub disk: Option<Room>,
    /// For how much of the last ten seconds something waited for a processor, in percent, over the whole machine.
    pub processor_pressure: Option<f64>,
    /// Who is refused most, the loudest first.
    pub noisy: Vec<Refusals>,
    /// What changed, the oldest first.
    pub changes: Vec<Change>,
}

/// How a thread is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartEvidence {
    /// Which.
    pub part: Part,
    /// The watchdog's word.
    pub state: State,
    /// Where it is late.
    pub stage: Option<Stage>,
    /// For how long it has been in that state.
    pub lasts: Duration,
    /// How long ago each stage passed a heartbeat on.
    pub progress: Vec<(Stage, Option<Duration>)>,
}

/// Room on the disk, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// What is free for us.
    pub free: u64,
    /// All there is.
    pub total: u64,
}

/// What a counter did lately.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Trend {
    /// By how much it rose in the last seconds.
    pub rise: f64,
    /// In how long.
    pub span: Duration,
    /// What it rose by in a second before that, if anything is known of before.
    pub before: Option<f64>,
    /// How long ago it began to rise as it does.
    pub since: Option<Duration>,
}

impl Trend {
    /// By how much it rises in a second.
    pub fn per_s(&self) -> f64 {
        if self.span.is_zero() { 0.0 } else { self.rise / self.span.as_secs_f64() }
    }
}

impl Evidence {
    /// The newest sample.
    fn last(&self) -> Option<&Sample> {
        self.samples.last()
    }

    /// What a gauge shows.
    pub fn gauge(&self, measure: Measure) -> f64 {
        self.last().map_or(0.0, |sample| sample.value(measure))
    }

    /// What a counter does. It began when it rose for the first time without a longer pause.
    pub fn trend(&self, measure: Measure) -> Trend {
        let Some(last) = self.last() else { return Trend::default() };
        let edge = self.edge(last);
        let from = &self.samples[edge];
        let first = &self.samples[0];
        let before_s = from.at.since(first.at).as_secs_f64();
        let trend = Trend {
            rise: last.value(measure) - from.value(measure),
            span: last.at.since(from.at),
            before: (before_s > 0.0).then(|| (from.value(measure) - first.value(measure)) / before_s),
            since: None,
        };
        let enough = trend.per_s() * ONSET;
        let rises = |earlier: &Sample, later: &Sample| {
            later.value(measure) - earlier.value(measure) > enough * later.at.since(earlier.at).as_secs_f64()
        };
        Trend { since: self.began(rises).filter(|_| trend.rise > 0.0), ..trend }
    }

    /// How long ago a gauge began to be as it is.
    pub fn gauge_since(&self, is_so: impl Fn(f64) -> bool, measure: Measure) -> Option<Duration> {
        self.began(|_, later| is_so(later.value(measure)))
    }

    /// The mean time of a commit lately and before, in seconds.
    pub fn commit_s(&self) -> (Option<f64>, Option<f64>) {
        let Some(last) = self.last() else { return (None, None) };
        let edge = self.edge(last);
        let mean = |from: &Sample, to: &Sample| {
            let of = |measure| to.value(measure) - from.value(measure);
            (of(Measure::Commits) > 0.5).then(|| of(Measure::CommitSeconds) / of(Measure::Commits))
        };
        (mean(&self.samples[edge], last), mean(&self.samples[0], &self.samples[edge]))
    }

    /// How long ago commits began to take longer than this.
    pub fn commits_slow_since(&self, limit_s: f64) -> Option<Duration> {
        self.began(|earlier, later| {
            let of = |measure| later.value(measure) - earlier.value(measure);
            of(Measure::Commits) > 0.5 && of(Measure::CommitSeconds) / of(Measure::Commits) > limit_s
        })
    }

    /// By how much whoever takes samples was late lately, at most.
    pub fn late(&self) -> Duration {
        let Some(last) = self.last() else { return Duration::ZERO };
        self.samples[self.edge(last)..].iter().map(|sample| sample.late).max().unwrap_or_default()
    }

    /// The sample with which the last seconds begin.
    fn edge(&self, last: &Sample) -> usize {
        self.samples.iter().rposition(|sample| last.at.since(sample.at) >= RECENT).unwrap_or(0)
    }

    /// How long ago began what is so between samples, without a longer pause, until now.
    fn began(&self, is_so: impl Fn(&Sample, &Sample) -> bool) -> Option<Duration> {
        let last = self.last()?;
        let mut began: Option<Millis> = None;
        let mut quiet = 0;
        for pair in self.samples.windows(2).rev() {
            if is_so(&pair[0], &pair[1]) {
                (began, quiet) = (Some(pair[0].at), 0);
            } else {
                quiet += 1;
                if quiet > QUIET_SAMPLES_MAX {
                    break;
                }
            }
        }
        Some(last.at.since(began?))
    }

    /// Changes of the last day with how long ago they were, the newest first. The clock may have been set since: what came before a step is counted by the
    /// clock as it was.
    pub fn recent(&self, now: Now) -> Vec<(Duration, &What)> {
        let mut set_by_ms = 0_i64;
        let mut recent = Vec::new();
        for change in self.changes.iter().rev() {
            let at_ms = i64::try_from(change.at_ms).unwrap_or(i64::MAX).saturating_add(set_by_ms);
            let ago = i64::try_from(now.unix.0).unwrap_or(i64::MAX).saturating_sub(at_ms).max(0);
            let ago = Duration::from_millis(ago.unsigned_abs());
            if ago <= CHANGES_WITHIN {
                recent.push((ago, &change.what));
            }
            if let What::ClockStepped { by_ms } = change.what {
                set_by_ms = set_by_ms.saturating_add(by_ms);
            }
        }
        recent
    }
}

#[cfg(test)]
mod tests {
    use firmware_protocol::time::UnixMillis;

    use super::*;

    /// A sample every five seconds, until `end_s`, of a counter that rises from `from_s` on by `per_s`.
    fn evidence(end_s: u32, from_s: u32, per_s: f64) -> Evidence {
        let sample = |at_s: u32| {
            let rises = f64::from(at_s.saturating_sub(from_s)) * per_s;
            Sample::empty(Millis(u64::from(at_s) * 1000)).with(Measure::UnknownKeys, rises)
        };
        Evidence { samples: (0..=end_s).step_by(5).map(sample).collect(), ..Evidence::default() }
    }

    #[test]
    fn a_rise_has_a_rate_and_a_beginning() {
        let trend = evidence(600, 560, 3.0).trend(Measure::UnknownKeys);
        assert!((trend.per_s() - 3.0).abs() < 0.01 && trend.since == Some(Duration::from_secs(40)), "{trend:?}");
        assert!(trend.before.is_some_and(|before| before < 0.2), "{trend:?}");
        let trend = evidence(600, 600, 3.0).trend(Measure::UnknownKeys);
        assert!(trend.rise.abs() < 0.01 && trend.since.is_none(), "{trend:?}");
        let trend = evidence(10, 0, 1.0).trend(Measure::UnknownKeys);
        assert!(trend.before.is_none() && (trend.per_s() - 1.0).abs() < 0.01, "a process that is young: {trend:?}");
        assert_eq!(Evidence::default().trend(Measure::UnknownKeys), Trend::default());
    }

    #[test]
    fn what_was_before_the_clock_was_set_is_as_old_as_it_is() {
        let change = |at_ms, what| Change { at_ms, what };
        let hour = 3_600_000;
        let changes = vec![
            change(1_000, What::KeysMade),
            change(2_000 + hour, What::ClockStepped { by_ms: 3_600_000 }),
            change(hour + 3_000, What::Stopped),
        ];
        let evidence = Evidence { changes, ..Evidence::default() };
        let now = Now { at: Millis(4_000), unix: UnixMillis(hour + 4_000) };
        let ago: Vec<u64> = evidence.recent(now).iter().map(|(ago, _)| ago.as_secs()).collect();
        assert_eq!(ago, [1, 2, 3]);
    }
}
