//! How a running server is, as `holdfast status` tells it.

use firmware_protocol::time::{Now, UnixMillis};
use router::event::Position;
use router::verdict::{State, Verdict};
use serde::{Deserialize, Serialize};

use super::PairingLine;
use crate::about;
use crate::dates::Iso;
use crate::watchdog::Bulletin;

/// How it is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Which version runs.
    pub version: String,
    /// What it was built from.
    #[serde(default)]
    pub revision: String,
    /// The hash of its configuration.
    #[serde(default)]
    pub config: String,
    /// When it started.
    #[serde(default)]
    pub started_at: String,
    /// For how long, in milliseconds.
    pub up_ms: u64,
    /// How long ago the watchdog judged, in milliseconds. More than a second is bad: it does so ten times a second.
    pub judged_ms_ago: u64,
    /// Position of the next event.
    pub next_position: u64,
    /// The threads that are watched.
    pub parts: Vec<PartLine>,
    /// The pairing window, if it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pairing: Option<PairingLine>,
}

/// How one thread is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PartLine {
    /// Which.
    pub part: String,
    /// `healthy`, `blind`, `slow`, `gray` or `stalled`.
    pub state: String,
    /// Where it is late.
    pub stage: Option<String>,
    /// For how long it has been in that state, in milliseconds.
    pub for_ms: u64,
    /// If it is gray: who noticed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub observers: Vec<String>,
}

impl Status {
    /// Of a server that has been up until `now` with a configuration of this hash, by what its watchdog said last.
    pub fn new(now: Now, config: &str, bulletin: &Bulletin, next: Position) -> Self {
        let ms_since = |moment| u64::try_from(now.at.since(moment).as_millis()).unwrap_or(u64::MAX);
        let judgement = bulletin.judgement();
        let observers = |part| {
            let gray = judgement.gray.iter().find(|gray| gray.part == part);
            gray.map_or_else(Vec::new, |gray| gray.observers.iter().map(ToString::to_string).collect())
        };
        let line = |verdict: &Verdict| PartLine {
            part: verdict.part.to_string(),
            state: verdict.state.name().to_owned(),
            stage: verdict.stage.map(|stage| stage.name().to_owned()),
            for_ms: ms_since(verdict.since),
            observers: observers(verdict.part),
        };
        Self {
            version: about::VERSION.to_owned(),
            revision: about::REVISION.to_owned(),
            config: config.to_owned(),
            started_at: Iso(UnixMillis(now.unix.0.saturating_sub(now.at.0))).to_string(),
            up_ms: now.at.0,
            judged_ms_ago: ms_since(bulletin.judged_at()),
            next_position: next.0,
            parts: judgement.verdicts.iter().map(line).collect(),
            pairing: None,
        }
    }
}

impl PartLine {
    /// Whether there is nothing to be said of it.
    pub fn is_healthy(&self) -> bool {
        self.state == State::Healthy.name()
    }
}
