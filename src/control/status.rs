//! How a running server is, as `holdfast status` tells it.

use serde::{Deserialize, Serialize};

use firmware_protocol::time::Millis;
use router::progress::Stage;
use router::verdict::{Judgement, State};

/// How it is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Which version runs.
    pub version: String,
    /// For how long, in milliseconds.
    pub up_ms: u64,
    /// How long ago the watchdog judged, in milliseconds. More than a second is bad: it does so ten times a second.
    pub judged_ms_ago: u64,
    /// Position of the next event.
    pub next_position: u64,
    /// The threads that are watched.
    pub parts: Vec<PartLine>,
}

/// How one thread is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PartLine {
    /// Which.
    pub part: String,
    /// `healthy`, `blind`, `slow` or `stalled`.
    pub state: String,
    /// Where it is late.
    pub stage: Option<String>,
    /// For how long it has been in that state, in milliseconds.
    pub for_ms: u64,
}

impl PartLine {
    /// Whether there is nothing to be said of it.
    pub fn is_healthy(&self) -> bool {
        self.state == State::Healthy.name()
    }
}

/// The threads, by what was said of them last.
pub fn parts(now: Millis, judgement: &Judgement) -> Vec<PartLine> {
    let ms = |since: Millis| u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX);
    let line = |verdict: &router::verdict::Verdict| PartLine {
        part: verdict.part.to_string(),
        state: verdict.state.name().to_owned(),
        stage: verdict.stage.map(Stage::name).map(str::to_owned),
        for_ms: ms(verdict.since),
    };
    judgement.verdicts.iter().map(line).collect()
}
