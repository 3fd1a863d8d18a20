//! The end of one watched thread: notes what it does, and lets faults in that tests inject.

use std::sync::Arc;

use router::progress::{Heartbeat, Part, Row, Stage};

use crate::faults::{Gate, Rule};

/// What a watched thread holds.
#[derive(Clone, Debug)]
pub struct Watched {
    row: Arc<Row>,
    gate: Arc<Gate>,
}

impl Watched {
    /// The end of whoever notes in `row`. Faults come through `gate`.
    pub fn new(row: Arc<Row>, gate: Arc<Gate>) -> Self {
        Self { row, gate }
    }

    /// Which it is.
    pub fn part(&self) -> Part {
        self.row.part()
    }

    /// It begins to do this. What befalls its messages there, if a fault was injected.
    pub fn enter(&self, stage: Stage) -> Option<Rule> {
        self.row.enter(stage);
        self.gate.pass(stage)
    }

    /// It has passed this heartbeat on, if one came, and everything before it.
    pub fn pass(&self, stage: Stage, heartbeat: impl Into<Option<Heartbeat>>) {
        if let Some(heartbeat) = heartbeat.into() {
            self.row.pass(stage, heartbeat);
        }
    }
}
