//! What survives the server's process, and what is on its way there: one journal, in order, on a disk that may be slow, full, or fail.

use std::collections::VecDeque;
use std::time::Duration;

use firmware_protocol::session::stored::{Floor, StoredSession};
use firmware_protocol::session::{Receipt, Session, Uplink};
use firmware_protocol::time::Millis;

/// Something to write, and what waits for it.
pub(crate) enum Commit {
    Opened(Box<Session>, Box<StoredSession>),
    Uplink(Receipt, Floor, Uplink),
}

impl Commit {
    /// Whether it is written even if the disk is full: what makes a session, and what a device says once in it.
    fn is_essential(&self) -> bool {
        !matches!(self, Self::Uplink(_, _, Uplink::Publish(_) | Uplink::Goodbye { .. }))
    }
}

/// What became of a commit.
pub(crate) enum Written {
    /// It is durable.
    Kept(Commit),
    /// There was no room.
    Refused(Commit),
    /// The sync failed: the process must end, and its successor finds the first so many commits that were under way.
    Failed(usize),
}

/// The disk of one server.
#[derive(Default)]
pub(crate) struct Disk {
    pub(crate) session: Option<StoredSession>,
    pub(crate) floor: Option<u64>,
    pub(crate) seen: Vec<(u16, u64)>,
    accepted: Vec<String>,
    /// With the moment at which each is durable.
    committing: VecDeque<(Millis, Commit)>,
    stalled_until: Millis,
    is_full: bool,
    sync_fails: Option<usize>,
}

impl Disk {
    /// Begins to write, which takes so long, and no less than what was begun before.
    pub(crate) fn write(&mut self, now: Millis, takes: Duration, commit: Commit) {
        let before = self.committing.back().map_or(now, |(at, _)| *at);
        self.committing.push_back((before.max(now + takes), commit));
    }

    /// When the next commit ends.
    pub(crate) fn due(&self) -> Option<Millis> {
        self.committing.front().map(|(at, _)| (*at).max(self.stalled_until))
    }

    /// The next commit that has ended.
    pub(crate) fn pop(&mut self, now: Millis) -> Option<Written> {
        self.due().filter(|at| *at <= now)?;
        if let Some(kept) = self.sync_fails.take() {
            return Some(Written::Failed(kept));
        }
        let (_, commit) = self.committing.pop_front()?;
        if self.is_full && !commit.is_essential() {
            return Some(Written::Refused(commit));
        }
        self.keep(&commit);
        Some(Written::Kept(commit))
    }

    /// Whether a message belongs to the session that is kept.
    pub(crate) fn is_of_session(&self, floor: &Floor) -> bool {
        self.session.as_ref().is_some_and(|session| session.connection == floor.connection)
    }

    fn keep(&mut self, commit: &Commit) {
        match commit {
            Commit::Opened(_, stored) => {
                self.session = Some((**stored).clone());
                (self.floor, self.seen) = (None, Vec::new());
            }
            Commit::Uplink(_, floor, uplink) if self.is_of_session(floor) => {
                self.floor = self.floor.max(Some(floor.sequence));
                self.seen.push((floor.message_id, floor.digest));
                if let Uplink::Publish(publish) = uplink {
                    self.accepted.push(publish.name.clone());
                }
            }
            Commit::Uplink(..) => {}
        }
    }

    /// The process has ended. Of what was under way the first `kept` are durable, though nobody was told, and the rest is gone.
    pub(crate) fn crash(&mut self, kept: usize) {
        for (nth, (_, commit)) in std::mem::take(&mut self.committing).into_iter().enumerate() {
            if nth < kept && (!self.is_full || commit.is_essential()) {
                self.keep(&commit);
            }
        }
    }

    /// How often an event of this name was accepted.
    pub(crate) fn accepted(&self, name: &str) -> usize {
        self.accepted.iter().filter(|own| *own == name).count()
    }

    /// Nothing is written before `until`.
    pub(crate) fn stall(&mut self, until: Millis) {
        self.stalled_until = self.stalled_until.max(until);
    }

    /// Whether it ever stalled.
    pub(crate) fn has_stalled(&self) -> bool {
        self.stalled_until > Millis(0)
    }

    pub(crate) fn set_full(&mut self, is_full: bool) {
        self.is_full = is_full;
    }

    /// The next sync fails, though of what was under way the first `kept` are there.
    pub(crate) fn fail_sync(&mut self, kept: usize) {
        self.sync_fails = Some(kept);
    }
}
