//! What is told of a diagnosis: to people as text, to programs as JSON.

use std::time::Duration;

use firmware_protocol::time::{Now, UnixMillis};
use serde::{Deserialize, Serialize};

use super::evidence::Evidence;
use super::samples::Measure;
use super::{Cause, Kind, WRONG, devices};
use crate::changes::{Change, What};
use crate::control::Status;
use crate::dates::Iso;

/// Changes that are told, at most.
const CHANGES_TOLD_MAX: usize = 50;
/// Devices and accounts that are told, at most.
const NOISY_TOLD_MAX: usize = 5;

/// What is wrong, and why.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Diagnosis {
    /// When it was asked.
    pub asked_at: String,
    /// Whether something is wrong.
    pub wrong: bool,
    /// The causes, the likeliest first; there is always one.
    pub causes: Vec<CauseLine>,
    /// Who noticed first that something is wrong.
    pub noticed: Option<NoticedLine>,
    /// How the server is; nothing if none answers.
    pub status: Option<Status>,
    /// How far each stage of each thread is.
    pub progress: Vec<ProgressLine>,
    /// What is counted, lately and before.
    pub rates: Vec<RateLine>,
    /// Who is refused most.
    pub noisy: Vec<NoisyLine>,
    /// What changed in the last day, the newest first.
    pub changes: Vec<ChangeLine>,
}

/// One cause.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CauseLine {
    /// Which kind.
    pub cause: String,
    /// How much speaks for it, from 0 to 100.
    pub score: u8,
    /// In a sentence.
    pub sentence: String,
    /// How long ago it began, in milliseconds, if that can be told.
    pub since_ms: Option<u64>,
    /// Who noticed it.
    pub noticed_by: String,
    /// What speaks for it.
    #[serde(rename = "for")]
    pub because: String,
    /// What speaks against it.
    pub against: String,
    /// The page that says what to do.
    pub runbook: String,
}

/// Who noticed first.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NoticedLine {
    /// Who.
    pub by: String,
    /// What: a kind of cause.
    pub cause: String,
    /// How long ago that began, in milliseconds.
    pub since_ms: u64,
}

/// How far a stage is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProgressLine {
    /// Of which thread.
    pub part: String,
    /// Which.
    pub stage: String,
    /// How long ago the newest heartbeat was sent that it passed on, in milliseconds.
    pub ago_ms: Option<u64>,
}

/// What something counted does.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RateLine {
    /// What.
    pub what: String,
    /// By how much it rose in a minute, over the last seconds; what it is, if it is no counter.
    pub now: u64,
    /// The same before, if anything is known of before.
    pub before: Option<u64>,
}

/// Who is refused.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NoisyLine {
    /// A device or an account.
    pub who: String,
    /// How often in the last minute.
    pub refused: u64,
}

/// A change.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChangeLine {
    /// When.
    pub at: String,
    /// How long ago, in milliseconds.
    pub ago_ms: u64,
    /// How long before what is wrong began, in milliseconds; negative is after.
    pub before_onset_ms: Option<i64>,
    /// What.
    pub what: String,
}

impl Diagnosis {
    /// What a running server tells.
    pub fn new(now: Now, status: Status, evidence: &Evidence) -> Self {
        let causes = super::diagnose(now, evidence);
        let ms = |span: &Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let progress = evidence.parts.iter().flat_map(|part| {
            part.progress.iter().map(move |(stage, ago)| ProgressLine {
                part: part.part.to_string(),
                stage: stage.name().to_owned(),
                ago_ms: ago.as_ref().map(ms),
            })
        });
        let noisy = evidence.noisy.iter().take(NOISY_TOLD_MAX);
        Self {
            progress: progress.collect(),
            rates: Measure::ALL.iter().filter_map(|measure| rate(evidence, *measure)).collect(),
            noisy: noisy.map(|line| NoisyLine { who: devices::name(line.who), refused: line.count }).collect(),
            status: Some(status),
            ..Self::of(now, &causes, evidence)
        }
    }

    /// What can be told if no server answers: what changed, and what the last one said, which is `words`.
    pub fn offline(now: Now, words: String, because: String, changes: Vec<Change>) -> Self {
        let stopped = changes.iter().rev().find(|change| matches!(change.what, What::Started { .. } | What::Stopped));
        let since = stopped
            .filter(|change| change.what == What::Stopped)
            .map(|change| Duration::from_millis(now.unix.0.saturating_sub(change.at_ms)));
        let cause = Cause {
            kind: Kind::NoServer,
            score: 99,
            since,
            noticed_by: "whoever asks",
            sentence: words,
            because,
            against: "nothing".to_owned(),
        };
        Self::of(now, &[cause], &Evidence { changes, ..Evidence::default() })
    }

    fn of(now: Now, causes: &[Cause], evidence: &Evidence) -> Self {
        let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let wrong = causes.iter().filter(|cause| cause.score >= WRONG && cause.kind != Kind::Nothing);
        let first = wrong.clone().filter_map(|cause| Some((cause.since?, cause))).max_by_key(|(since, _)| *since);
        let onset = causes.first().and_then(|cause| cause.since);
        let change = |(ago, what): (Duration, &What)| ChangeLine {
            at: Iso(UnixMillis(now.unix.0.saturating_sub(ms(ago)))).to_string(),
            ago_ms: ms(ago),
            before_onset_ms: onset.map(|onset| i64::try_from(ms(ago)).unwrap_or(i64::MAX).saturating_sub_unsigned(ms(onset))),
            what: what.to_string(),
        };
        Self {
            asked_at: Iso(now.unix).to_string(),
            wrong: wrong.count() > 0,
            causes: causes.iter().map(CauseLine::from).collect(),
            noticed: first.map(|(since, cause)| NoticedLine {
                by: cause.noticed_by.to_owned(),
                cause: cause.kind.name().to_owned(),
                since_ms: ms(since),
            }),
            status: None,
            progress: Vec::new(),
            rates: Vec::new(),
            noisy: Vec::new(),
            changes: evidence.recent(now).into_iter().take(CHANGES_TOLD_MAX).map(change).collect(),
        }
    }
}

impl From<&Cause> for CauseLine {
    fn from(cause: &Cause) -> Self {
        Self {
            cause: cause.kind.name().to_owned(),
            score: cause.score,
            sentence: cause.sentence.clone(),
            since_ms: cause.since.map(|since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
            noticed_by: cause.noticed_by.to_owned(),
            because: cause.because.clone(),
            against: cause.against.clone(),
            runbook: cause.kind.runbook().to_owned(),
        }
    }
}

/// What moved; what stands still at nothing is left out.
fn rate(evidence: &Evidence, measure: Measure) -> Option<RateLine> {
    if matches!(measure, Measure::Degraded | Measure::RegistryUp) {
        // Yes or no, and told as a cause.
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of a minute; what is negative becomes 0")]
    let whole = |value: f64| value.round() as u64;
    let trend = evidence.trend(measure);
    let (now, before) = match measure.is_counter() {
        true => (whole(trend.per_s() * 60.0), trend.before.map(|before| whole(before * 60.0))),
        false => (whole(evidence.gauge(measure)), evidence.samples.first().map(|first| whole(first.value(measure)))),
    };
    (now > 0 || before.is_some_and(|before| before > 0)).then(|| RateLine { what: measure.name().to_owned(), now, before })
}
