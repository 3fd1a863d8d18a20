//! What changed: the clock, which is found out by itself, and everything that is suspect only because it was just before.

use std::time::Duration;

use super::{Case, Cause, Kind, SUSPECT_WITHIN, WRONG, samples, span};
use crate::changes::{Before, What};

/// A clock that was set so long ago may be why something is odd now.
const CLOCK_WITHIN: Duration = Duration::from_secs(900);
/// What began so soon after a start may come from it.
const ONSET_WITHIN: Duration = Duration::from_secs(60);
/// What is suspect by time alone never comes near to what was measured.
const SUSPECT_MAX: u8 = WRONG - 5;

pub(super) fn causes(case: &Case<'_>) -> Vec<Cause> {
    clock(case).into_iter().collect()
}

fn clock(case: &Case<'_>) -> Option<Cause> {
    let (ago, what) = case.newest(|what| matches!(what, What::ClockStepped { .. }))?;
    let What::ClockStepped { by_ms } = what else { return None };
    let seconds = by_ms.unsigned_abs() / 1000;
    let score = match seconds {
        _ if ago > CLOCK_WITHIN => 20,
        60.. => 78,
        5.. => 60,
        _ => 40,
    };
    Some(Cause {
        kind: Kind::ClockStep,
        score,
        since: Some(ago),
        noticed_by: "the clocks, one beside the other",
        sentence: format!("Something set the clock {} ago: {what}.", span(ago)),
        because: format!(
            "the wall clock went {:.1} s further than the monotonic one; a machine that slept looks the same",
            seconds_of(*by_ms)
        ),
        against: "deadlines, sessions and the watchdog do not go by it; times of events, and when tokens end, do".to_owned(),
    })
}

fn seconds_of(by_ms: i64) -> f64 {
    Duration::from_millis(by_ms.unsigned_abs()).as_secs_f64() * if by_ms < 0 { -1.0 } else { 1.0 }
}

/// Suspects by time alone, beside the `causes` that were found.
pub(super) fn bystanders(case: &Case<'_>, causes: &[Cause]) -> Vec<Cause> {
    let worst = causes.iter().filter(|cause| cause.score >= WRONG).max_by_key(|cause| cause.score);
    [restart(case, worst), settings(case, worst)].into_iter().flatten().collect()
}

fn restart(case: &Case<'_>, worst: Option<&Cause>) -> Option<Cause> {
    let (ago, what) = case.newest(|what| matches!(what, What::Started { .. }))?;
    let What::Started { before, .. } = what else { return None };
    let onset = worst.and_then(|worst| worst.since);
    let (score, because, against) = match onset {
        Some(onset) if onset > ago + 2 * samples::EVERY => {
            (5, "a server was started".to_owned(), "what is wrong began before it".to_owned())
        }
        Some(onset) => {
            let after = ago.saturating_sub(onset);
            let on_it = after <= ONSET_WITHIN;
            let explained = worst.map_or("", |worst| worst.kind.name());
            (
                if on_it { 40 } else { 12 },
                format!("what is wrong began {} after the start", span(after)),
                if on_it {
                    format!("{explained} explains more: it was measured")
                } else {
                    "that is long after; a start shows at once".to_owned()
                },
            )
        }
        None if *before == Before::Killed && ago <= SUSPECT_WITHIN => {
            (SUSPECT_MAX, "the process before left no word and did not stop in order".to_owned(), "what runs now is well".to_owned())
        }
        None => (8, "a server was started".to_owned(), "nothing is wrong since".to_owned()),
    };
    Some(Cause {
        kind: Kind::Restart,
        score,
        since: Some(ago),
        noticed_by: "the register of changes",
        sentence: format!("The server was started {} ago, {before}.", span(ago)),
        because,
        against,
    })
}

/// Settings that nothing measured points to.
fn settings(case: &Case<'_>, worst: Option<&Cause>) -> Option<Cause> {
    if worst.is_some_and(|worst| worst.kind == Kind::ConfigChange) {
        return None;
    }
    let changed = case.recent.iter().filter(|(_, what)| matches!(what, What::Setting { .. }));
    let (ago, _) = changed.clone().next()?;
    let words: Vec<String> = changed.filter(|(other, _)| other == ago).map(|(_, what)| what.to_string()).collect();
    let onset = worst.and_then(|worst| worst.since);
    let is_before = onset.is_none_or(|onset| onset <= *ago + 2 * samples::EVERY);
    let near = onset.is_some_and(|onset| is_before && ago.saturating_sub(onset) <= ONSET_WITHIN);
    Some(Cause {
        kind: Kind::ConfigChange,
        score: match (near, is_before) {
            (true, _) => 30,
            (_, true) => 10,
            _ => 3,
        },
        since: Some(*ago),
        noticed_by: "the register of changes",
        sentence: format!("The configuration was changed {} ago: {}.", span(*ago), words.join(", ")),
        because: if near { "what is wrong began right after it".to_owned() } else { "it was changed in the last day".to_owned() },
        against: if is_before { "nothing that was measured points to it".to_owned() } else { "what is wrong began before it".to_owned() },
    })
}
