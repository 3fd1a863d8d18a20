//! What is kept: the disk, and the registry's database.

use std::time::Duration;

use router::verdict::State;

use super::samples::Measure;
use super::threads::waits_for_disk;
use super::{Case, Cause, Kind, span};
use crate::store::registry::Trouble;

/// A commit that takes longer than this on average is a slow one, and one that takes this long a very slow one.
const SLOW_COMMIT_S: f64 = 0.1;
const VERY_SLOW_COMMIT_S: f64 = 0.5;
/// A disk with less room than this, in bytes, has hardly any, whatever its size.
const NO_ROOM: u64 = 256 << 20;
const WRITER: &str = "the journal's thread";

pub(super) fn causes(case: &Case<'_>) -> Vec<Cause> {
    [full(case), slow(case), registry(case)].into_iter().flatten().collect()
}

fn full(case: &Case<'_>) -> Option<Cause> {
    let evidence = case.evidence;
    let is_full = evidence.gauge(Measure::Degraded) > 0.5;
    let room = evidence.disk.map_or_else(
        || "it is not known how much room there is".to_owned(),
        |room| format!("{} MiB of {} MiB are free", room.free >> 20, room.total >> 20),
    );
    let hardly = evidence.disk.is_some_and(|room| room.free < NO_ROOM);
    if is_full {
        let refused = evidence.trend(Measure::JournalRefused);
        return Some(Cause {
            kind: Kind::FullDisk,
            score: 97,
            since: evidence.gauge_since(|degraded| degraded > 0.5, Measure::Degraded).or(refused.since),
            noticed_by: WRITER,
            sentence: "The disk is full: events are refused, sessions are served.".to_owned(),
            because: format!(
                "the journal found no room and refused {:.0} records in the last {}; {room}",
                refused.rise,
                span(refused.span)
            ),
            against: if hardly || evidence.disk.is_none() { "nothing".to_owned() } else { format!("{room}: a quota, perhaps") },
        });
    }
    hardly.then(|| Cause {
        kind: Kind::FullDisk,
        score: 65,
        since: None,
        noticed_by: "the file system",
        sentence: "The disk is nearly full: soon events will be refused.".to_owned(),
        because: room,
        against: "the journal still finds room".to_owned(),
    })
}

fn slow(case: &Case<'_>) -> Option<Cause> {
    let evidence = case.evidence;
    let waiting = evidence.parts.iter().filter(|part| part.state > State::Blind && waits_for_disk(part)).max_by_key(|part| part.state);
    let (mean, before) = evidence.commit_s();
    let took = |mean: Option<f64>| mean.map_or_else(|| "no commit ended".to_owned(), |mean| format!("commits took {:.0} ms", mean * 1e3));
    let unkept = evidence.trend(Measure::Unkept);
    let others = format!(
        "{} lately and {} before",
        took(mean),
        before.map_or_else(|| "nothing is known of".to_owned(), |before| format!("{:.0} ms", before * 1e3))
    );
    if let Some(part) = waiting {
        let is_stalled = part.state == State::Stalled;
        let stage = part.stage.map_or("commit", |stage| stage.name());
        return Some(Cause {
            kind: Kind::SlowStore,
            score: if is_stalled { 96 } else { 88 },
            since: Some(part.progress.iter().filter_map(|(_, ago)| *ago).max().unwrap_or_default().max(part.lasts)),
            noticed_by: "the watchdog",
            sentence: if is_stalled {
                "The disk does not answer: nothing can be accepted until it does.".to_owned()
            } else {
                "The disk is slow: what devices publish waits for it.".to_owned()
            },
            because: format!("{} is {} in {stage}; {others}; {:.0} messages were answered 5.03", part.part, part.state.name(), unkept.rise),
            against: if is_stalled {
                "if a probe of the disk were answered, the process would have ended by itself".to_owned()
            } else {
                "the thread itself may be what is slow; a disk that answers ends the process if it goes on".to_owned()
            },
        });
    }
    let mean = mean.filter(|mean| *mean >= SLOW_COMMIT_S)?;
    Some(Cause {
        kind: Kind::SlowStore,
        score: if mean >= VERY_SLOW_COMMIT_S { 87 } else { 68 },
        since: evidence.commits_slow_since(SLOW_COMMIT_S),
        noticed_by: WRITER,
        sentence: format!("The disk is slow: a commit takes {:.0} ms, and every publish waits for one.", mean * 1e3),
        because: others,
        against: if before.is_some_and(|before| before >= SLOW_COMMIT_S) {
            "it was no faster ten minutes ago".to_owned()
        } else {
            "the journal makes progress".to_owned()
        },
    })
}

fn registry(case: &Case<'_>) -> Option<Cause> {
    let evidence = case.evidence;
    let is_down = evidence.registry.is_some() || !evidence.samples.is_empty() && evidence.gauge(Measure::RegistryUp) < 0.5;
    let errors = evidence.trend(Measure::RegistryErrors);
    is_down.then(|| Cause {
        kind: Kind::RegistryGone,
        score: 95,
        since: evidence.gauge_since(|up| up < 0.5, Measure::RegistryUp).or(errors.since).or(Some(Duration::ZERO)),
        noticed_by: "the registry",
        sentence: format!(
            "The registry's database cannot be used ({}): devices are served, changes are refused.",
            in_words(evidence.registry)
        ),
        because: format!("the last attempt to change something failed, {:.0} did in the last {}", errors.rise, span(errors.span)),
        against: "devices and callers that are known do not notice".to_owned(),
    })
}

fn in_words(trouble: Option<Trouble>) -> &'static str {
    match trouble {
        Some(Trouble::Locked) => "another process has it locked",
        Some(Trouble::Full) => "the disk is full",
        Some(Trouble::ReadOnly) => "it may not be written",
        Some(Trouble::Gone) => "its file was removed or replaced",
        Some(Trouble::Corrupt) => "it is damaged",
        Some(Trouble::Disk) => "the disk failed",
        Some(Trouble::Slow) => "it gives no answer in time",
        Some(Trouble::Other) | None => "the log says why",
    }
}
