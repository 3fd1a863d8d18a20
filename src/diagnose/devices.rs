//! What devices do: come all at once, come with keys that nobody knows, send too much. And limits that were lowered, which looks like the last.

use std::time::Duration;

use super::evidence::Trend;
use super::samples::Measure;
use super::{Case, Cause, Kind, span};
use crate::changes::What;
use crate::terminators::Who;

/// So many waiting devices, or handshakes in a second, are a storm; less may be chance.
const STORM_WAITING: f64 = 100.0;
const SOME_WAITING: f64 = 10.0;
const STORM_PER_S: f64 = 20.0;
/// So many times more than before.
const SURGE: f64 = 5.0;
/// Handshakes of unknown keys in the last seconds that are more than a stray device.
const UNKNOWN_MIN: f64 = 2.0;
/// Refusals in the last seconds that are more than a burst.
const REFUSED_MIN: f64 = 10.0;
/// Datagrams of lost sessions in the last seconds, likewise.
const ORPHANED_MIN: f64 = 3.0;
/// Whoever has so much of all refusals is the one.
const LOUD: f64 = 0.6;
const TERMINATORS: &str = "the terminators";
const HANDSHAKES: &str = "the threads for handshakes";

pub(super) fn causes(case: &Case<'_>) -> Vec<Cause> {
    let mut causes: Vec<Cause> = [storm(case), keys(case), server_key(case), lost_sessions(case)].into_iter().flatten().collect();
    causes.extend(refusals(case));
    causes
}

fn storm(case: &Case<'_>) -> Option<Cause> {
    let evidence = case.evidence;
    let (waiting, begun, proved) = (evidence.gauge(Measure::Waiting), evidence.trend(Measure::Begun), evidence.trend(Measure::Proved));
    let in_vain = evidence.trend(Measure::WaitedInVain);
    let before = begun.before.unwrap_or(0.0);
    let score = match () {
        () if in_vain.rise >= UNKNOWN_MIN && waiting >= 1.0 => 90,
        () if waiting >= STORM_WAITING => 88,
        () if waiting >= SOME_WAITING => 72,
        () if begun.per_s() >= STORM_PER_S && begun.per_s() >= SURGE * before => 70,
        () => return None,
    };
    let lowered = lowered_before(case, "handshakes.per_second", begun.since);
    let against = match &lowered {
        Some((ago, words)) => format!("{words}, {} ago", span(*ago)),
        None if before >= STORM_PER_S => format!("{before:.0} a second began before, too"),
        None => "nothing: others are served before them".to_owned(),
    };
    Some(Cause {
        kind: Kind::Storm,
        score,
        since: evidence.gauge_since(|waiting| waiting >= SOME_WAITING, Measure::Waiting).or(begun.since),
        noticed_by: HANDSHAKES,
        sentence: format!(
            "Many devices come at once: {waiting:.0} wait for a handshake, {:.0} a second are served. Do not restart the server.",
            begun.per_s()
        ),
        because: format!(
            "{waiting:.0} wait, {:.1} handshakes a second begin and {:.1} are proved, {before:.1} began before; {:.0} waited in vain",
            begun.per_s(),
            proved.per_s(),
            in_vain.rise
        ),
        against,
    })
}

fn keys(case: &Case<'_>) -> Option<Cause> {
    let (unknown, proved) = (case.evidence.trend(Measure::UnknownKeys), case.evidence.trend(Measure::Proved));
    if unknown.rise < UNKNOWN_MIN {
        return None;
    }
    let share = unknown.rise / (unknown.rise + proved.rise).max(1.0);
    let change = case.before(unknown.since, What::is_about_keys);
    let mut score = if share >= 0.3 { 58 } else { 40 };
    if change.is_some() {
        score += 28;
    }
    // A fleet whose keys are wrong comes again and again.
    score += if unknown.per_s() >= 1.0 { 5 } else { 0 };
    let blamed =
        change.map_or_else(|| "nobody changed keys in the hour before".to_owned(), |(ago, what)| format!("{what}, {} ago", span(ago)));
    Some(Cause {
        kind: Kind::BadKeys,
        score,
        since: unknown.since,
        noticed_by: HANDSHAKES,
        sentence: match change {
            Some((ago, what)) => {
                format!("Devices are refused because their keys are not known, after a change: {what}, {} ago.", span(ago))
            }
            None => "Devices are refused because nobody registered their keys.".to_owned(),
        },
        because: format!("{:.0} handshakes with unknown keys in the last {}; {blamed}", unknown.rise, span(unknown.span)),
        against: if proved.rise >= 1.0 {
            format!("{:.0} handshakes with known keys were proved in that time", proved.rise)
        } else if change.is_none() {
            "they may be devices of somebody else".to_owned()
        } else {
            "nothing".to_owned()
        },
    })
}

/// Devices that know another key of the server do not finish their handshakes.
fn server_key(case: &Case<'_>) -> Option<Cause> {
    let (unfinished, proved) = (case.evidence.trend(Measure::Unfinished), case.evidence.trend(Measure::Proved));
    if unfinished.rise < UNKNOWN_MIN || unfinished.rise < proved.rise {
        return None;
    }
    let change = case.newest(|what| matches!(what, What::KeysMade | What::Restored { .. }));
    let blamed =
        change.map_or_else(|| "the server's keys were not changed in a day".to_owned(), |(ago, what)| format!("{what}, {} ago", span(ago)));
    Some(Cause {
        kind: Kind::BadKeys,
        score: if change.is_some() { 82 } else { 48 },
        since: unfinished.since,
        noticed_by: HANDSHAKES,
        sentence: "Devices begin handshakes and do not finish them: they may know another key of the server.".to_owned(),
        because: format!("{:.0} were not finished in the last {}; {blamed}", unfinished.rise, span(unfinished.span)),
        against: format!("{:.0} were proved in that time; a bad network looks the same", proved.rise),
    })
}

fn lost_sessions(case: &Case<'_>) -> Option<Cause> {
    let orphaned = case.evidence.trend(Measure::Orphaned);
    if orphaned.rise < ORPHANED_MIN {
        return None;
    }
    let change = case.newest(|what| matches!(what, What::Restored { .. } | What::DevicesRemoved { .. }));
    Some(Cause {
        kind: Kind::LostSessions,
        score: if change.is_some() { 84 } else { 60 },
        since: orphaned.since,
        noticed_by: TERMINATORS,
        sentence: "Devices talk with sessions that the server does not have; they need minutes to notice.".to_owned(),
        because: format!(
            "{:.0} of their datagrams in the last {}; {}",
            orphaned.rise,
            span(orphaned.span),
            change.map_or_else(|| "nothing was restored in a day".to_owned(), |(ago, what)| format!("{what}, {} ago", span(ago)))
        ),
        against: "others are served; `holdfast device orphans` says which they are".to_owned(),
    })
}

/// A limit that devices run against, and what is called so in the configuration.
struct Wall {
    key: &'static str,
    measure: Measure,
    what: &'static str,
}

const WALLS: [Wall; 3] = [
    Wall { key: "limits.device_events_per_s", measure: Measure::OverDevice, what: "events" },
    Wall { key: "limits.owner_events_per_s", measure: Measure::OverAccount, what: "events of an account" },
    Wall { key: "limits.device_records_per_s", measure: Measure::OverRecords, what: "records" },
];

fn refusals(case: &Case<'_>) -> Vec<Cause> {
    let walls = WALLS.iter().map(|wall| (wall, case.evidence.trend(wall.measure)));
    let walls = walls.filter(|(_, trend)| trend.rise >= REFUSED_MIN);
    let loudest = walls.max_by(|(_, one), (_, other)| one.rise.total_cmp(&other.rise));
    let mut causes: Vec<Cause> = loudest.map(|(wall, trend)| against_wall(case, wall, trend)).into_iter().flatten().collect();
    causes.extend(pace(case));
    causes
}

/// Somebody is refused: because that one sends too much, or because the limit was lowered.
fn against_wall(case: &Case<'_>, wall: &Wall, trend: Trend) -> Vec<Cause> {
    let noisy = &case.evidence.noisy;
    let all: u64 = noisy.iter().map(|line| line.count).sum();
    #[expect(clippy::cast_precision_loss, reason = "refusals of a minute")]
    let share = noisy.first().map_or(0.0, |first| first.count as f64 / all.max(1) as f64);
    let is_one = share >= LOUD;
    let lowered = lowered_before(case, wall.key, trend.since);
    // What the loudest was refused, it would have been refused before the change, too.
    let is_loud_anyway = is_one && lowered.is_some() && previous(case, wall.key).is_some_and(|limit| trend.per_s() > limit);
    let who = noisy.first().map_or_else(|| "nobody in particular".to_owned(), |first| name(first.who));
    let counted = format!("{:.0} {} a second are refused by {}", trend.per_s(), wall.what, wall.key);
    let percent = share * 100.0;
    let noise = Cause {
        kind: Kind::NoisyDevice,
        score: match () {
            () if is_loud_anyway => 91,
            () if is_one && lowered.is_none() => 87,
            () if is_one => 66,
            () => 54,
        },
        since: trend.since,
        noticed_by: TERMINATORS,
        sentence: if is_one {
            format!("{who} sends more than it may: {counted}.")
        } else {
            format!("Many devices send more than they may: {counted}.")
        },
        because: format!("{counted}; {percent:.0} % of that are of {who}"),
        against: match &lowered {
            Some((ago, words)) => format!("{words}, {} ago", span(*ago)),
            None if is_one => "nothing: its neighbours are not refused".to_owned(),
            None => "it is not one alone, so the limit may be too low for what they do".to_owned(),
        },
    };
    let change = lowered.map(|(ago, words)| Cause {
        kind: Kind::ConfigChange,
        score: if is_loud_anyway { 70 } else { 92 },
        since: trend.since,
        noticed_by: TERMINATORS,
        sentence: format!("A limit was lowered {} ago, and devices run against it: {words}.", span(ago)),
        because: format!("{counted}, since {}; {words}, {} ago", span(trend.since.unwrap_or_default()), span(ago)),
        against: if is_one {
            format!("{percent:.0} % of that are of {who} alone")
        } else {
            "nothing: it is not one device alone".to_owned()
        },
    });
    [Some(noise), change].into_iter().flatten().collect()
}

/// Handshakes wait because their pace was lowered.
fn pace(case: &Case<'_>) -> Option<Cause> {
    const KEY: &str = "handshakes.per_second";
    let evidence = case.evidence;
    let waiting = evidence.gauge(Measure::Waiting);
    let since = evidence.gauge_since(|waiting| waiting >= SOME_WAITING, Measure::Waiting);
    if waiting < SOME_WAITING {
        return None;
    }
    let (ago, words) = lowered_before(case, KEY, since)?;
    let begun = evidence.trend(Measure::Begun);
    Some(Cause {
        kind: Kind::ConfigChange,
        score: 91,
        since,
        noticed_by: HANDSHAKES,
        sentence: format!("Handshakes were made to wait {} ago, and devices do: {words}.", span(ago)),
        because: format!("{waiting:.0} devices wait while {:.1} handshakes a second begin; {words}", begun.per_s()),
        against: "a fleet that comes back at once waits as well".to_owned(),
    })
}

/// The change by which a limit was lowered, if that was before what began so long ago: how long ago it was, and in words.
fn lowered_before(case: &Case<'_>, key: &str, since: Option<Duration>) -> Option<(Duration, String)> {
    let lowered = |what: &What| match what {
        What::Setting { key: changed, from, to } => changed == key && is_lower(from.as_deref(), to.as_deref()),
        _ => false,
    };
    case.before(since, lowered).map(|(ago, what)| (ago, what.to_string()))
}

/// What a limit was before it was changed last, as a number.
fn previous(case: &Case<'_>, key: &str) -> Option<f64> {
    let (_, what) = case.newest(|what| matches!(what, What::Setting { key: changed, .. } if changed == key))?;
    if let What::Setting { from, .. } = what { from.as_deref()?.parse().ok() } else { None }
}

/// Whether a limit allows less than before.
fn is_lower(from: Option<&str>, to: Option<&str>) -> bool {
    let number = |value: Option<&str>| value.and_then(|value| value.parse::<u64>().ok());
    number(to).is_some_and(|to| number(from).is_none_or(|from| to < from))
}

/// What somebody is called.
pub(super) fn name(who: Who) -> String {
    match who {
        Who::Device(device) => format!("device {device}"),
        Who::Account(account) => format!("account {}", account.0),
    }
}
