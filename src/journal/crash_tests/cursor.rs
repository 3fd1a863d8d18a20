//! A sink's cursor beside the journal: after any crash it is where it was committed, or where it was before if it was just moving.

use std::fs;
use std::path::{Path, PathBuf};

use router::event::Position;

use crate::cursors::{Cursor, Cursors, Ledger, Mark};
use crate::journal::Events;

const NAME: &str = "sink";

/// A sink, and where its cursor has to be.
pub(super) struct Sink {
    dir: PathBuf,
    events: Events,
    cursor: Option<Cursor>,
    at: Mark,
}

impl Sink {
    pub(super) fn new(dir: &Path, events: Events) -> Sink {
        let cursor = Cursors::open(dir, events.clone()).unwrap().take(NAME, Position(0)).unwrap();
        Sink { dir: dir.to_path_buf(), events, at: cursor.mark().clone(), cursor: Some(cursor) }
    }

    /// Moves to a share of all durable events, in 255ths, unless that is back.
    pub(super) fn go_to(&mut self, share: u8) {
        self.at = self.mark(share);
        self.cursor.as_mut().unwrap().commit(self.at.clone()).unwrap();
    }

    fn mark(&self, share: u8) -> Mark {
        let position = Position(self.events.last().0 * u64::from(share) / 255).max(self.at.position);
        Mark { position, ledger: Ledger { delivered: position.0, ..Ledger::default() } }
    }

    /// The process ends, and the next one has a journal with these `events`.
    pub(super) fn restart(&mut self, events: Events) {
        self.cursor = None;
        self.events = events;
        let cursor = Cursors::open(&self.dir, self.events.clone()).unwrap().take(NAME, Position(0)).unwrap();
        assert_eq!(cursor.mark(), &self.at);
        assert!(cursor.mark().position <= self.events.last());
        self.cursor = Some(cursor);
    }

    /// Power is lost while the cursor moves: each 512-byte block of its file is as before, or `new`.
    pub(super) fn crash(&mut self, share: u8, new: &[bool]) {
        let path = self.dir.join(format!("{NAME}.cursor"));
        let (before, old) = (fs::read(&path).unwrap(), self.at.clone());
        self.go_to(share);
        let mut left = fs::read(&path).unwrap();
        for (index, block) in left.chunks_mut(512).enumerate() {
            if !new[index % new.len()] {
                block.copy_from_slice(&before[index * 512..][..block.len()]);
            }
        }
        fs::write(&path, left).unwrap();
        self.cursor = None;
        let found = Cursors::open(&self.dir, self.events.clone()).unwrap().take(NAME, Position(0)).unwrap().mark().clone();
        assert!(found == self.at || found == old, "{found:?}");
        self.at = found;
        self.restart(self.events.clone());
    }
}
