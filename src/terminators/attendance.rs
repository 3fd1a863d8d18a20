//! What a terminator has to do with watching: it passes heartbeats on, its own and those of shards, and looks after the watchdog.

use firmware_protocol::time::Millis;
use router::progress::{Board, Heartbeat, Part, Stage};

use crate::faults::Rule;
use crate::watchdog::{Sentinel, Watch, Watched};

/// One terminator's part in it.
#[derive(Debug)]
pub(super) struct Attendance {
    watched: Watched,
    board: Board,
    sentinel: Sentinel,
    /// Its own, until what came before it was passed on.
    heartbeat: Option<Heartbeat>,
}

impl Attendance {
    /// Of the terminator with this number.
    pub(super) fn new(number: u16, watch: &Watch) -> Self {
        Self {
            watched: watch.watched(Part::Terminator(number)),
            board: watch.board.clone(),
            sentinel: Sentinel::new(watch.bulletin.clone()),
            heartbeat: None,
        }
    }

    /// It begins to do this.
    pub(super) fn enter(&self, stage: Stage) -> Option<Rule> {
        self.watched.enter(stage)
    }

    /// What was due is done.
    pub(super) fn looked_after_timers(&self) {
        self.watched.pass(Stage::Timers, self.heartbeat);
    }

    /// A heartbeat came.
    pub(super) fn take(&mut self, of: Part, heartbeat: Heartbeat) {
        if of == self.watched.part() {
            self.watched.pass(Stage::Mailbox, heartbeat);
            self.heartbeat = Some(heartbeat);
        } else if let Some(row) = self.board.row(of) {
            row.pass(Stage::Output, heartbeat);
        }
    }

    /// A turn is over.
    pub(super) fn turned(&mut self, now: Millis) {
        self.watched.pass(Stage::Output, self.heartbeat.take());
        self.sentinel.look(now);
    }
}
