//! How far each stage of each watched thread has come.
//!
//! Heartbeats are messages: every thread that is watched gets one now and then in its mailbox and passes it on through all of its stages, behind the work
//! that came before it and by the same ways. Each stage notes the newest that it passed on. A heartbeat carries when it was sent, so that what a stage
//! noted stands still when the stage does, whatever else goes on; and a stage without work passes heartbeats on, so that idle is not stale.
//!
//! The board is an array of numbers. Whoever notes or reads something waits for nobody, so that no thread that is frozen can hold up who watches it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use firmware_protocol::time::Millis;

/// A thread that is watched.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Part {
    /// The journal's writer.
    Journal,
    /// A terminator, by number; the one of TCP is the last.
    Terminator(u16),
    /// A shard, by number.
    Shard(u16),
    /// What brings events to subscribed devices.
    FanOut,
    /// What callers of the API are served by.
    Api,
}

/// What a thread does at the moment, and what heartbeats pass.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Stage {
    /// Sleeps until there is something to do.
    Wait,
    /// Takes messages from its mailbox.
    Mailbox,
    /// Reads its sockets.
    Receive,
    /// Decides what follows from a message.
    Apply,
    /// Looks after what is due.
    Timers,
    /// Reads the journal.
    Read,
    /// Waits for the disk to have what it wrote.
    Commit,
    /// Has what it passed to the journal committed: passed by the journal for a shard.
    Journal,
    /// Passes on what comes of it.
    Output,
}

impl Stage {
    const ALL: [Self; 9] =
        [Self::Wait, Self::Mailbox, Self::Receive, Self::Apply, Self::Timers, Self::Read, Self::Commit, Self::Journal, Self::Output];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Mailbox => "mailbox",
            Self::Receive => "receive",
            Self::Apply => "apply",
            Self::Timers => "timers",
            Self::Read => "read",
            Self::Commit => "commit",
            Self::Journal => "journal",
            Self::Output => "output",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.name() == name)
    }
}

impl Part {
    /// The stages that its heartbeats pass, in this order.
    pub fn stages(self) -> &'static [Stage] {
        match self {
            Self::Shard(_) => &[Stage::Mailbox, Stage::Apply, Stage::Timers, Stage::Journal, Stage::Output],
            Self::Terminator(_) => &[Stage::Mailbox, Stage::Timers, Stage::Output],
            Self::Journal => &[Stage::Mailbox, Stage::Commit, Stage::Output],
            Self::FanOut => &[Stage::Mailbox, Stage::Read],
            Self::Api => &[Stage::Mailbox],
        }
    }

    /// The one that is called this.
    pub fn named(name: &str) -> Option<Self> {
        match name.rsplit_once('-') {
            Some(("shard", number)) => Some(Self::Shard(number.parse().ok()?)),
            Some(("terminator", number)) => Some(Self::Terminator(number.parse().ok()?)),
            _ => [Self::Journal, Self::FanOut, Self::Api].into_iter().find(|part| part.to_string() == name),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Journal => f.write_str("journal"),
            Self::Terminator(number) => write!(f, "terminator-{number}"),
            Self::Shard(number) => write!(f, "shard-{number}"),
            Self::FanOut => f.write_str("fan-out"),
            Self::Api => f.write_str("api"),
        }
    }
}

/// A heartbeat: when it was sent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Heartbeat(pub Millis);

/// What one part notes.
#[derive(Debug)]
pub struct Row {
    part: Part,
    doing: AtomicU8,
    /// The newest heartbeat that each stage has passed on, in milliseconds; 0 before the first.
    passed: [AtomicU64; Stage::ALL.len()],
}

/// What all parts note.
#[derive(Clone, Debug)]
pub struct Board(Arc<[Arc<Row>]>);

/// What a row says at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reading {
    /// Of whom.
    pub part: Part,
    /// What it is doing.
    pub doing: Stage,
    /// The newest heartbeat that each of its stages has passed on, in their order; `None` before the first.
    pub passed: Vec<(Stage, Option<Heartbeat>)>,
}

impl Row {
    /// One on which nothing was noted.
    pub fn new(part: Part) -> Self {
        Self { part, doing: AtomicU8::new(Stage::Wait as u8), passed: std::array::from_fn(|_| AtomicU64::new(0)) }
    }

    /// Whose it is.
    pub fn part(&self) -> Part {
        self.part
    }

    /// The part begins to do this.
    pub fn enter(&self, stage: Stage) {
        self.doing.store(stage as u8, Ordering::Relaxed);
    }

    /// A stage has passed on this heartbeat, and everything before it.
    pub fn pass(&self, stage: Stage, heartbeat: Heartbeat) {
        // One sent in the first millisecond of the clock would look like none.
        self.passed[stage as usize].fetch_max(heartbeat.0.0.max(1), Ordering::Relaxed);
    }

    /// What it says now.
    pub fn read(&self) -> Reading {
        let doing = Stage::ALL[usize::from(self.doing.load(Ordering::Relaxed)).min(Stage::ALL.len() - 1)];
        let newest = |stage: Stage| Some(self.passed[stage as usize].load(Ordering::Relaxed)).filter(|at| *at > 0);
        let passed = self.part.stages().iter().map(|stage| (*stage, newest(*stage).map(|at| Heartbeat(Millis(at))))).collect();
        Reading { part: self.part, doing, passed }
    }
}

impl Board {
    /// With a row for each of these parts.
    pub fn new(parts: impl IntoIterator<Item = Part>) -> Self {
        Self(parts.into_iter().map(|part| Arc::new(Row::new(part))).collect())
    }

    /// The row of a part.
    pub fn row(&self, part: Part) -> Option<&Arc<Row>> {
        self.0.iter().find(|row| row.part == part)
    }

    /// All rows.
    pub fn rows(&self) -> &[Arc<Row>] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_what_they_name() {
        for part in [Part::Journal, Part::Terminator(2), Part::Shard(15), Part::FanOut, Part::Api] {
            assert_eq!(Part::named(&part.to_string()), Some(part));
        }
        assert!(["shard", "shard-", "shard-x", "shard--1", "journal-1", ""].iter().all(|name| Part::named(name).is_none()));
        for (number, stage) in Stage::ALL.into_iter().enumerate() {
            assert_eq!((Stage::named(stage.name()), stage as usize), (Some(stage), number));
        }
    }

    #[test]
    fn a_row_says_what_its_part_does_and_how_far_each_stage_is() {
        let board = Board::new([Part::Journal, Part::Shard(0)]);
        let row = board.row(Part::Shard(0)).unwrap();
        assert!(board.row(Part::Shard(1)).is_none());
        row.enter(Stage::Apply);
        row.pass(Stage::Mailbox, Heartbeat(Millis(500)));
        row.pass(Stage::Mailbox, Heartbeat(Millis(250)));
        let reading = row.read();
        assert_eq!((reading.part, reading.doing), (Part::Shard(0), Stage::Apply));
        let newest = Some(Heartbeat(Millis(500)));
        assert_eq!(reading.passed[..2], [(Stage::Mailbox, newest), (Stage::Apply, None)], "an older one changes nothing");
    }
}
