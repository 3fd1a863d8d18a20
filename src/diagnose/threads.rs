//! Threads that make no progress, and machines that do not let them.

use std::time::Duration;

use router::progress::{Part, Stage};
use router::verdict::State;

use super::evidence::PartEvidence;
use super::samples::Measure;
use super::{Case, Cause, Kind, span};
use crate::changes::{Before, What};

/// A process that ended so long ago says what is wrong now.
const JUST: Duration = Duration::from_secs(120);
/// One that ended so long ago is at least worth a word.
const LATELY: Duration = Duration::from_secs(900);
/// Whoever takes samples runs below the rest, and may be a little late.
const LATE: Duration = Duration::from_secs(1);
/// The watchdog judges ten times a second.
const JUDGED_WITHIN: Duration = Duration::from_secs(2);
/// Percent of the time for which something waits for a processor.
const PRESSED: f64 = 80.0;
const WATCHDOG: &str = "the watchdog";

pub(super) fn causes(case: &Case<'_>) -> Vec<Cause> {
    let late: Vec<&PartEvidence> = case.evidence.parts.iter().filter(|part| matches!(part.state, State::Slow | State::Stalled)).collect();
    let mut causes: Vec<Cause> = late.iter().filter(|part| !waits_for_disk(part)).map(|part| stuck(case, part, late.len())).collect();
    causes.extend(died(case));
    causes.extend(taken_over(case));
    causes.extend(gray(case));
    causes.extend(machine(case, &late));
    causes
}

/// A thread in the middle of something that only the disk can end.
pub(super) fn waits_for_disk(part: &PartEvidence) -> bool {
    matches!(part.part, Part::Journal | Part::FanOut) && matches!(part.stage, Some(Stage::Commit | Stage::Read))
}

fn kind_of(part: Part) -> Kind {
    match part {
        Part::Shard(_) => Kind::FrozenShard,
        Part::Terminator(_) => Kind::StuckTerminator,
        _ => Kind::StuckThread,
    }
}

fn stuck(case: &Case<'_>, part: &PartEvidence, late: usize) -> Cause {
    let stage = part.stage.map_or("start", Stage::name);
    let all = case.evidence.parts.len();
    let is_stalled = part.state == State::Stalled;
    // What the watchdog says is of the newest heartbeat that was missed: it began before.
    let since = oldest(part).max(part.lasts);
    let verb = if is_stalled { "makes no progress" } else { "is slow" };
    Cause {
        kind: kind_of(part.part),
        score: if is_stalled { 92 } else { 76 },
        since: Some(since),
        noticed_by: WATCHDOG,
        sentence: format!("{} {verb} in {stage}: what it serves waits.", part.part),
        because: format!("{} is {} in {stage}, which passed its last heartbeat on {} ago", part.part, part.state.name(), span(since)),
        against: match late {
            1 => format!("nothing: the other {} threads are well", all - 1),
            late => format!("{late} of {all} threads are late, so it may be something that they share"),
        },
    }
}

/// How long ago the stage that is latest passed a heartbeat on.
fn oldest(part: &PartEvidence) -> Duration {
    part.progress.iter().filter_map(|(_, ago)| *ago).max().unwrap_or_default()
}

/// What the process before said at its end: the cure of a thread that stops is a restart, so that whoever asks mostly comes after it.
fn died(case: &Case<'_>) -> Option<Cause> {
    let of_start = |what: &What| matches!(what, What::Started { before: Before::Died { .. }, .. });
    let (ago, words) = match case.newest(|what| matches!(what, What::Started { .. }))? {
        (ago, What::Started { before: Before::Died { words, .. }, .. }) => (ago, words),
        _ => return None,
    };
    let part = words.strip_prefix("holdfast: ").and_then(|rest| rest.split(' ').next()).and_then(Part::named);
    let times = case.recent.iter().filter(|(_, what)| of_start(what)).count();
    let score = match ago {
        _ if ago <= JUST => 86,
        _ if ago <= LATELY => 60,
        _ => 25,
    };
    let again = if times > 1 { format!(", {times} times in a day") } else { String::new() };
    Some(Cause {
        kind: part.map_or(Kind::StuckThread, kind_of),
        score,
        since: Some(ago),
        noticed_by: "the process before, in its last words",
        sentence: format!("The process ended and was started again {} ago{again}: {}.", span(ago), words.trim_start_matches("holdfast: ")),
        because: format!("the process before said so at its end{again}"),
        against: "the one that runs now makes progress; sessions go on by themselves".to_owned(),
    })
}

fn taken_over(case: &Case<'_>) -> Option<Cause> {
    let noted = case.newest(|what| matches!(what, What::TakenOver { .. }));
    let counted = case.evidence.trend(Measure::TakenOver);
    let (since, words) = match noted {
        Some((ago, what)) => (ago, what.to_string()),
        None => (counted.since?, "a shard had stalled and was taken over".to_owned()),
    };
    Some(Cause {
        kind: Kind::FrozenShard,
        score: if since <= JUST { 84 } else { 30 },
        since: Some(since),
        noticed_by: WATCHDOG,
        sentence: format!("{} ago, {words}.", span(since)),
        because: words,
        against: "it is served again".to_owned(),
    })
}

fn gray(case: &Case<'_>) -> Option<Cause> {
    let shards = case.evidence.gauge(Measure::GrayShards);
    (shards >= 1.0).then(|| Cause {
        kind: Kind::GrayShard,
        score: 88,
        since: case.evidence.gauge_since(|shards| shards >= 1.0, Measure::GrayShards),
        noticed_by: "those who use it",
        sentence: format!("{shards:.0} shards pass heartbeats on, and who depends on them gets no answers in time."),
        because: "terminators or the API see what the watchdog's heartbeats do not".to_owned(),
        against: "heartbeats pass".to_owned(),
    })
}

/// The machine, or something else that all threads share.
fn machine(case: &Case<'_>, late: &[&PartEvidence]) -> Option<Cause> {
    let evidence = case.evidence;
    let blind = evidence.parts.iter().filter(|part| part.state == State::Blind).count();
    let paused = case.newest(|what| matches!(what, What::Paused { .. })).filter(|(ago, _)| *ago <= JUST);
    let pressure = evidence.processor_pressure.unwrap_or(0.0);
    let many = late.len() >= 3
        && late.len() * 2 > evidence.parts.len()
        && !late.iter().any(|part| part.part == Part::Journal && waits_for_disk(part));
    let lanes = evidence.trend(Measure::LanesFull);
    let mut because = Vec::new();
    let mut score = 0;
    let mut say = |points: u8, words: String| {
        score = score.max(points);
        because.push(words);
    };
    if many || evidence.is_shared {
        say(90, format!("{} of {} threads are late at once", late.len(), evidence.parts.len()));
    }
    if let Some((ago, what)) = paused {
        say(75, format!("{what}, {} ago", span(ago)));
    }
    if blind > 0 || evidence.judged_ago >= JUDGED_WITHIN {
        say(75, format!("the watchdog itself did not run; it judged {} ago", span(evidence.judged_ago)));
    }
    if evidence.late() >= LATE {
        say(70, format!("a thread that sleeps a tenth of a second slept {} longer", span(evidence.late())));
    }
    if lanes.per_s() >= 1.0 {
        say(55, format!("{:.0} messages a second between threads find no room", lanes.per_s()));
    }
    if pressure >= PRESSED {
        say(if lanes.per_s() >= 1.0 { 65 } else { 35 }, format!("something waits for a processor {pressure:.0} % of the time"));
    }
    let since = paused.map(|(ago, _)| ago).or(lanes.since).or_else(|| late.iter().map(|part| part.lasts).max());
    (score > 0).then(|| Cause {
        kind: Kind::Machine,
        score,
        since,
        noticed_by: WATCHDOG,
        sentence: "The machine does not give the server its time: it is overloaded, or was paused.".to_owned(),
        because: because.join("; "),
        against: if pressure < PRESSED {
            format!("something waits for a processor only {pressure:.0} % of the time")
        } else {
            "nothing".to_owned()
        },
    })
}
