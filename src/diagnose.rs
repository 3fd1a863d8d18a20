//! What is wrong, and why: `holdfast diagnose`.
//!
//! [`diagnose`] weighs what is known and returns causes, the likeliest first, each with what speaks for it and what against. It reads no clock and no file;
//! [`Witness`] gathers the evidence from a running server, and [`Diagnosis`] is what is told of it. A recent change, a restart above all, is a
//! suspect and never the first cause by itself: something measured has to point to it.

mod clocks;
mod devices;
mod evidence;
mod report;
mod samples;
mod store;
mod suspects;
mod threads;
mod witness;

use std::time::Duration;

use firmware_protocol::time::Now;

use crate::changes::What;

pub use self::evidence::{CHANGES_WITHIN, Evidence, PartEvidence, Room, Trend};
pub use self::report::{CauseLine, ChangeLine, Diagnosis, NoisyLine, NoticedLine, ProgressLine, RateLine};
pub use self::samples::{Measure, Sample, Samples};
pub use self::witness::{Sampler, Witness};

/// From this score on, a cause says that something is wrong. What is below is a suspect.
pub const WRONG: u8 = 50;
/// Causes that are told, at most.
const CAUSES_MAX: usize = 12;

/// What may be the matter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// Devices and server disagree about keys.
    BadKeys,
    /// Devices talk with sessions that the server does not have.
    LostSessions,
    /// A shard makes no progress.
    FrozenShard,
    /// A shard makes progress, and who depends on it sees none.
    GrayShard,
    /// A terminator makes no progress.
    StuckTerminator,
    /// Another thread makes no progress.
    StuckThread,
    /// The disk is slow, or does not answer.
    SlowStore,
    /// The disk is full.
    FullDisk,
    /// Many devices come at once.
    Storm,
    /// A device, or an account, sends more than it may.
    NoisyDevice,
    /// The wall clock was set.
    ClockStep,
    /// The registry's database cannot be used.
    RegistryGone,
    /// A setting was changed.
    ConfigChange,
    /// The server was started.
    Restart,
    /// The machine does not give the process its time.
    Machine,
    /// No server answers.
    NoServer,
    /// Nothing is wrong.
    Nothing,
}

impl Kind {
    /// All there are.
    pub const ALL: [Self; 17] = [
        Self::BadKeys,
        Self::LostSessions,
        Self::FrozenShard,
        Self::GrayShard,
        Self::StuckTerminator,
        Self::StuckThread,
        Self::SlowStore,
        Self::FullDisk,
        Self::Storm,
        Self::NoisyDevice,
        Self::ClockStep,
        Self::RegistryGone,
        Self::ConfigChange,
        Self::Restart,
        Self::Machine,
        Self::NoServer,
        Self::Nothing,
    ];

    /// In a word or two.
    pub fn name(self) -> &'static str {
        match self {
            Self::BadKeys => "keys",
            Self::LostSessions => "lost sessions",
            Self::FrozenShard => "frozen shard",
            Self::GrayShard => "gray shard",
            Self::StuckTerminator => "stuck terminator",
            Self::StuckThread => "stuck thread",
            Self::SlowStore => "slow store",
            Self::FullDisk => "full disk",
            Self::Storm => "storm",
            Self::NoisyDevice => "noisy device",
            Self::ClockStep => "clock step",
            Self::RegistryGone => "registry",
            Self::ConfigChange => "configuration",
            Self::Restart => "restart",
            Self::Machine => "machine",
            Self::NoServer => "no server",
            Self::Nothing => "nothing",
        }
    }

    /// The page that says what to do.
    pub fn runbook(self) -> &'static str {
        match self {
            Self::BadKeys => "docs/runbooks/HoldfastReconnectRateHigh.md",
            Self::LostSessions => "docs/runbooks/HoldfastOrphanSessions.md",
            Self::FrozenShard | Self::GrayShard | Self::StuckTerminator | Self::StuckThread => "docs/runbooks/HoldfastPartStalled.md",
            Self::SlowStore => "docs/runbooks/HoldfastJournalSlow.md",
            Self::FullDisk => "docs/runbooks/HoldfastDiskFull.md",
            Self::Storm => "docs/runbooks/HoldfastAdmissionWaiting.md",
            Self::NoisyDevice => "docs/runbooks/HoldfastMessagesRefused.md",
            Self::ClockStep => "docs/runbooks/HoldfastClockInFuture.md",
            Self::RegistryGone => "docs/runbooks/HoldfastRegistryDown.md",
            Self::ConfigChange | Self::Nothing => "docs/operations.md",
            Self::Restart | Self::NoServer => "docs/runbooks/HoldfastDown.md",
            Self::Machine => "docs/runbooks/HoldfastHeartbeatStale.md",
        }
    }
}

/// One thing that may be the cause, and how much speaks for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cause {
    /// What.
    pub kind: Kind,
    /// How much speaks for it, from 0 to 100. Scores of different causes can be compared and are no probabilities.
    pub score: u8,
    /// How long ago it began, if that can be told.
    pub since: Option<Duration>,
    /// Who noticed it.
    pub noticed_by: &'static str,
    /// For a person.
    pub sentence: String,
    /// What speaks for it.
    pub because: String,
    /// What speaks against it.
    pub against: String,
}

/// What those who weigh look at.
struct Case<'a> {
    evidence: &'a Evidence,
    /// The changes of the last day, the newest first.
    recent: Vec<(Duration, &'a What)>,
}

impl<'a> Case<'a> {
    /// The newest change that `is_meant` and how long ago it was.
    fn newest(&self, is_meant: impl Fn(&What) -> bool) -> Option<(Duration, &'a What)> {
        self.recent.iter().copied().find(|(_, what)| is_meant(what))
    }

    /// The newest change that `is_meant`, of those up to an hour before something that began so long ago.
    fn before(&self, since: Option<Duration>, is_meant: impl Fn(&What) -> bool) -> Option<(Duration, &'a What)> {
        // Samples are five seconds apart, so that what follows may seem to have come first.
        let began = since.unwrap_or_default();
        let near = |ago: Duration| ago + 2 * samples::EVERY >= began && ago <= began + SUSPECT_WITHIN;
        self.recent.iter().copied().find(|(ago, what)| near(*ago) && is_meant(what))
    }
}

/// A change is a suspect for what begins within so long after it.
const SUSPECT_WITHIN: Duration = Duration::from_secs(3600);

/// The causes that may be behind what is known, the likeliest first; the first says that nothing is wrong if none says otherwise.
pub fn diagnose(now: Now, evidence: &Evidence) -> Vec<Cause> {
    let case = Case { evidence, recent: evidence.recent(now) };
    let mut causes: Vec<Cause> = [threads::causes(&case), store::causes(&case), devices::causes(&case), suspects::causes(&case)].concat();
    excuse(&mut causes);
    causes.extend(suspects::bystanders(&case, &causes));
    causes.sort_by_key(|cause| (std::cmp::Reverse(cause.score), cause.kind));
    if causes.first().is_none_or(|first| first.score < WRONG) {
        causes.insert(0, nothing(&case, &causes));
    }
    causes.truncate(CAUSES_MAX);
    causes
}

/// What follows from something else that is surely wrong is less likely a cause of its own.
fn excuse(causes: &mut [Cause]) {
    let surely = |kind: Kind, causes: &[Cause]| causes.iter().any(|cause| cause.kind == kind && cause.score >= 85);
    let consequences: [(Kind, &[Kind], &str); 5] = [
        (Kind::FullDisk, &[Kind::RegistryGone, Kind::SlowStore], "the disk is full"),
        (Kind::SlowStore, &[Kind::RegistryGone, Kind::StuckThread], "the disk is slow"),
        (Kind::Machine, &[Kind::FrozenShard, Kind::StuckTerminator, Kind::StuckThread, Kind::SlowStore], "the whole machine is late"),
        (Kind::BadKeys, &[Kind::Storm], "those who come are refused for their keys"),
        (Kind::ConfigChange, &[Kind::NoisyDevice, Kind::Storm], "a limit was lowered just before"),
    ];
    for (cause, follow, words) in consequences {
        if surely(cause, causes) {
            for other in causes.iter_mut().filter(|other| follow.contains(&other.kind)) {
                other.score = other.score.min(WRONG + 10);
                other.against = format!("{words}, which explains it; {}", other.against);
            }
        }
    }
}

fn nothing(case: &Case<'_>, suspects: &[Cause]) -> Cause {
    let parts = case.evidence.parts.len();
    let against = suspects.first().map_or_else(|| "nothing".to_owned(), |first| format!("a suspect: {}", first.sentence));
    Cause {
        kind: Kind::Nothing,
        score: 100 - suspects.first().map_or(0, |first| first.score),
        since: None,
        noticed_by: "nobody",
        sentence: "Nothing is wrong, as far as can be told from inside.".to_owned(),
        because: format!("all {parts} threads that are watched make progress; disk, registry and limits raise nothing"),
        against,
    }
}

/// A span for people.
pub fn span(span: Duration) -> String {
    match span.as_secs() {
        0..10 => format!("{:.1} s", span.as_secs_f64()),
        seconds @ 10..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3_600),
    }
}

#[cfg(test)]
mod tests;
