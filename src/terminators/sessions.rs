//! The sessions of one terminator, and when each wants to be looked at.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use firmware_protocol::crypto::PublicKey;
use firmware_protocol::dtls::cid::ConnectionId;
use firmware_protocol::id::Identity;
use firmware_protocol::session::Session;
use firmware_protocol::time::Millis;
use router::table::{Keyed, Table};

use super::limits::Allowance;
use super::liveness::Liveness;
use super::timers::{Alarm, Timers};

/// How long a stranger may take to say Hello.
const STRANGER_LIFE: Duration = Duration::from_secs(60);

/// What a session is at the moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// Its record is on the way to the disk; the device, which this is, does not know yet that it has a session.
    Opening(Box<Identity>),
    /// In use.
    Live,
    /// Over on our side. Whoever still speaks with its keys is told to make a new one.
    Tombstone,
    /// A stranger's, until its Hello.
    Stranger(Box<PublicKey>),
}

/// A session and what its terminator keeps beside it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) session: Session,
    pub(super) standing: Standing,
    pub(super) allowance: Allowance,
    pub(super) liveness: Liveness,
    alarm: Alarm,
    /// Where the table of sessions without connection id on the wire says that it is, if it is in it.
    pub(super) places: Option<Box<Places>>,
}

impl Keyed for Entry {
    type Key = ConnectionId;

    fn key(&self) -> ConnectionId {
        self.session.connection()
    }
}

/// The addresses of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Places {
    pub(super) proved: SocketAddr,
    pub(super) claimed: Option<SocketAddr>,
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    entries: Table<Box<Entry>>,
    timers: Timers<ConnectionId>,
    strangers: VecDeque<(Millis, ConnectionId)>,
}

impl Sessions {
    pub(super) fn insert(&mut self, session: Session, standing: Standing, allowance: Allowance) {
        let connection = session.connection();
        let (liveness, alarm) = Default::default();
        let entry = Entry { session, standing, allowance, liveness, alarm, places: None };
        self.entries.insert(Box::new(entry));
        self.schedule(connection);
    }

    /// A session that ends by itself if its holder says no Hello.
    pub(super) fn insert_stranger(&mut self, now: Millis, session: Session, key: PublicKey) {
        self.strangers.push_back((now, session.connection()));
        self.insert(session, Standing::Stranger(Box::new(key)), Allowance::default());
    }

    /// The next stranger that said nothing for too long.
    pub(super) fn pop_silent_stranger(&mut self, now: Millis) -> Option<ConnectionId> {
        while let Some((_, connection)) = self.strangers.front().copied().filter(|(since, _)| now.since(*since) >= STRANGER_LIFE) {
            self.strangers.pop_front();
            if self.entries.get(&connection).is_some_and(|entry| matches!(entry.standing, Standing::Stranger(_))) {
                return Some(connection);
            }
        }
        None
    }

    pub(super) fn entry(&mut self, connection: ConnectionId) -> Option<&mut Entry> {
        self.entries.get_mut(&connection)
    }

    pub(super) fn contains(&self, connection: ConnectionId) -> bool {
        self.entries.contains(&connection)
    }

    pub(super) fn remove(&mut self, connection: ConnectionId) -> Option<Box<Entry>> {
        self.entries.remove(&connection)
    }

    /// Notes when the session wants to be looked at next. To be called after anything was done to it.
    pub(super) fn schedule(&mut self, connection: ConnectionId) {
        let Some(entry) = self.entries.get_mut(&connection) else { return };
        if let Some(at) = entry.session.timeout_at() {
            self.timers.set(connection, &mut entry.alarm, at);
        }
    }

    /// The next session whose time has come.
    pub(super) fn pop_due(&mut self, now: Millis) -> Option<ConnectionId> {
        while let Some((at, connection)) = self.timers.pop(now) {
            let Some(entry) = self.entries.get_mut(&connection) else { continue };
            if !entry.alarm.go_off(at) {
                continue;
            }
            if entry.session.timeout_at().is_some_and(|wanted| wanted <= now) {
                return Some(connection);
            }
            self.schedule(connection);
        }
        None
    }

    pub(super) fn timeout_at(&self) -> Option<Millis> {
        self.timers.timeout_at()
    }
}

impl Places {
    pub(super) fn of(session: &Session) -> Self {
        let (proved, answered) = (session.path().peer, session.answer_path().peer);
        Self { proved, claimed: Some(answered).filter(|answered| *answered != proved) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_takes_no_more_than_it_says_in_memory() {
        // The next size that an allocator has is 256: a million sessions are 32 MB.
        assert!(size_of::<Entry>() <= 224, "{}", size_of::<Entry>());
    }
}
