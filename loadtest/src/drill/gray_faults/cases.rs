//! What can go wrong in a part of the server, what is to be noticed of it, and how soon.

use std::time::Duration;

/// A thread that stops is named within this time.
const STOPS: Duration = Duration::from_secs(3);
/// One that fails in part.
const PARTLY: Duration = Duration::from_secs(10);
/// One through which nothing comes for five seconds is as good as stopped.
const HOPELESS: Duration = Duration::from_secs(10);
/// After this time nothing will be noticed any more.
const NEVER: Duration = Duration::from_secs(15);

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What it is called.
    pub name: &'static str,
    /// What is done.
    pub(super) fault: Fault,
    /// What makes it well again, if the server goes on.
    pub(super) cure: &'static str,
    /// What is to be noticed.
    pub(super) sign: Sign,
    /// Within which time.
    pub(super) within: Duration,
}

/// What is done.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// The server is told so.
    Line(&'static str),
    /// The disk does not answer for so long.
    DiskHangs(Duration),
    /// The disk is full.
    DiskIsFull,
}

/// What is to be noticed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sign {
    /// A part is said to have stalled in this stage.
    Stalled(&'static str, &'static str),
    /// A shard is said to be gray at this stage.
    Gray(&'static str, &'static str),
    /// A series is said to stand still.
    Stale(&'static str),
    /// The log has these words.
    Words(&'static str),
    /// The disk is said to be full.
    Degraded,
    /// Nothing.
    Nothing,
}

impl Sign {
    /// What may be named, and nothing else.
    pub(super) fn name(self) -> Option<String> {
        match self {
            Self::Stalled(part, _) => Some(part.to_owned()),
            Self::Gray(shard, _) => Some(format!("shard-{shard}")),
            Self::Stale(series) => Some(series.to_owned()),
            Self::Words(_) | Self::Degraded | Self::Nothing => None,
        }
    }
}

const fn stalls(name: &'static str, line: &'static str, part: &'static str, stage: &'static str) -> Case {
    Case { name, fault: Fault::Line(line), cure: "", sign: Sign::Stalled(part, stage), within: STOPS }
}

const fn gray(
    name: &'static str,
    line: &'static str,
    cure: &'static str,
    (shard, stage): (&'static str, &'static str),
    within: Duration,
) -> Case {
    Case { name, fault: Fault::Line(line), cure, sign: Sign::Gray(shard, stage), within }
}

/// All there are.
pub const CASES: [Case; 25] = [
    stalls("mailbox", "freeze shard-3 mailbox", "shard-3", "mailbox"),
    stalls("apply", "freeze shard-7 apply", "shard-7", "apply"),
    stalls("journal", "freeze journal commit", "journal", "commit"),
    stalls("output", "freeze shard-0 output", "shard-0", "output"),
    gray("delayed", "delay shard-5 apply 20 10000", "thaw shard-5", ("5", "apply"), PARTLY),
    gray("dropped", "drop shard-4 mailbox 5", "thaw shard-4", ("4", "mailbox"), PARTLY),
    gray("dropped-at-output", "drop shard-6 output 5", "thaw shard-6", ("6", "output"), PARTLY),
    gray("heartbeats-only", "hold shard-8 apply all", "thaw shard-8", ("8", "apply"), STOPS),
    gray("one-kind", "hold shard-9 apply call", "thaw shard-9", ("9", "apply"), PARTLY),
    gray("half", "hold shard-10 apply half", "thaw shard-10", ("10", "apply"), PARTLY),
    gray("mailbox-full", "full shard-11 mailbox", "thaw shard-11", ("11", "mailbox"), STOPS),
    Case {
        name: "nothing-comes-through",
        fault: Fault::Line("hold shard-12 apply all"),
        cure: "",
        sign: Sign::Stalled("shard-12", "apply"),
        within: HOPELESS,
    },
    stalls("busy-loop", "spin shard-13 apply", "shard-13", "apply"),
    Case { name: "panic", fault: Fault::Line("panic shard-14 apply"), cure: "", sign: Sign::Words("thread 'shard-14'"), within: STOPS },
    Case {
        name: "panic-with-store",
        fault: Fault::Line("panic registry"),
        cure: "",
        sign: Sign::Words("in the middle of a change of the registry"),
        within: STOPS,
    },
    stalls("timers", "stop shard-15 timers", "shard-15", "timers"),
    stalls("fan-out", "freeze fan-out read", "fan-out", "read"),
    Case {
        name: "disk-hangs",
        fault: Fault::DiskHangs(Duration::from_secs(3)),
        cure: "",
        sign: Sign::Stalled("journal", "commit"),
        within: STOPS,
    },
    Case { name: "disk-full", fault: Fault::DiskIsFull, cure: "", sign: Sign::Degraded, within: STOPS },
    stalls("terminator", "freeze terminator-0 receive", "terminator-0", "receive"),
    Case {
        name: "evidence",
        fault: Fault::Line("stick terminator-0 evidence"),
        cure: "thaw terminator-0",
        sign: Sign::Stale("evidence_terminator_0"),
        within: PARTLY,
    },
    Case {
        name: "gauge",
        fault: Fault::Line("stick fan_out_waiting"),
        cure: "unstick fan_out_waiting",
        sign: Sign::Stale("fan_out_waiting"),
        within: Duration::from_secs(15),
    },
    Case {
        name: "watchdog",
        fault: Fault::Line("freeze watchdog apply"),
        cure: "",
        sign: Sign::Words("the watchdog has stalled"),
        within: STOPS,
    },
    Case { name: "clock-ahead", fault: Fault::Line("clock 3600"), cure: "clock 0", sign: Sign::Nothing, within: NEVER },
    Case { name: "clock-behind", fault: Fault::Line("clock -3600"), cure: "clock 0", sign: Sign::Nothing, within: NEVER },
];
