//! The sessions of one terminator, and when each wants to be looked at.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use firmware_protocol::crypto::PublicKey;
use firmware_protocol::dtls::cid::ConnectionId;
use firmware_protocol::id::{DeviceId, Identity};
use firmware_protocol::session::Session;
use firmware_protocol::time::Millis;
use router::table::{Keyed, Table};

use crate::admission::Settling;
use crate::former::{Former, REPEATED};
use crate::takeover::{Held, HeldStanding};

use super::limits::Allowance;
use super::liveness::Liveness;
use super::timers::{Alarm, Timers};

/// How long a stranger may take to say Hello.
const STRANGER_LIFE: Duration = Duration::from_secs(60);

/// What a session is at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// Its record is on the way to the disk; the device does not know yet that it has a session.
    Opening,
    /// In use.
    Live,
    /// Over on our side. Whoever still speaks with its keys is told to make a new one.
    Tombstone,
    /// A stranger's, until its Hello.
    Stranger,
}

/// A session and what its terminator keeps beside it. What few have is kept elsewhere: there is one of these for each device of a fleet.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) session: Session,
    pub(super) allowance: Allowance,
    alarm: Alarm,
    pub(super) liveness: Liveness,
    pub(super) standing: Standing,
    /// It was taken over, and has to be told what its device said shortly before.
    has_past: bool,
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
    entries: Table<Entry>,
    timers: Timers<ConnectionId>,
    /// Who holds the sessions that are being opened, each with what counts it among them.
    opening: HashMap<ConnectionId, (Identity, Settling)>,
    strangers: HashMap<ConnectionId, PublicKey>,
    /// Strangers in the order in which they came.
    came: VecDeque<(Millis, ConnectionId)>,
    /// What devices said shortly before the last process ended. Nothing of that is made for a device that says nothing.
    former: Option<Arc<Former>>,
    former_since: Millis,
    /// Where the table of sessions without connection id on the wire says that they are.
    pub(super) places: HashMap<ConnectionId, Places>,
}

impl Sessions {
    /// Makes room for that many more, of whose devices `former` knows what they said before `since`.
    pub(super) fn follow(&mut self, former: &Arc<Former>, since: Millis, more: usize) {
        self.entries.reserve(more);
        (self.former, self.former_since) = (Some(Arc::clone(former)), since);
    }

    /// What a session's device said to the former process may come again.
    pub(super) fn remember(&mut self, connection: ConnectionId) {
        if let Some(entry) = self.entries.get_mut(&connection) {
            entry.has_past = true;
        }
    }

    /// Forgets what no device repeats any more.
    pub(super) fn forget_former(&mut self, now: Millis) {
        if self.former.is_some() && now.since(self.former_since) >= REPEATED {
            self.former = None;
        }
    }

    pub(super) fn insert(&mut self, session: Session, standing: Standing, allowance: Allowance) {
        let connection = session.connection();
        let (liveness, alarm) = Default::default();
        self.entries.insert(Entry { session, allowance, alarm, liveness, standing, has_past: false });
        self.schedule(connection);
    }

    /// A session that `holder` learns of when its record is durable.
    pub(super) fn insert_opening(&mut self, session: Session, holder: Identity, allowance: Allowance, settling: Settling) {
        self.opening.insert(session.connection(), (holder, settling));
        self.insert(session, Standing::Opening, allowance);
    }

    /// Its record is durable: who holds it.
    pub(super) fn opened(&mut self, connection: ConnectionId) -> Option<Identity> {
        let entry = self.entries.get_mut(&connection).filter(|entry| entry.standing == Standing::Opening)?;
        entry.standing = Standing::Live;
        self.opening.remove(&connection).map(|(holder, _)| holder)
    }

    /// A session that ends by itself if its holder says no Hello.
    pub(super) fn insert_stranger(&mut self, now: Millis, session: Session, key: PublicKey) {
        let connection = session.connection();
        self.came.push_back((now, connection));
        self.strangers.insert(connection, key);
        self.insert(session, Standing::Stranger, Allowance::default());
    }

    /// The key of the stranger who holds this session.
    pub(super) fn stranger(&self, connection: ConnectionId) -> Option<&PublicKey> {
        self.strangers.get(&connection)
    }

    /// The next stranger that said nothing for too long.
    pub(super) fn pop_silent_stranger(&mut self, now: Millis) -> Option<ConnectionId> {
        while let Some((_, connection)) = self.came.front().copied().filter(|(since, _)| now.since(*since) >= STRANGER_LIFE) {
            self.came.pop_front();
            if self.strangers.contains_key(&connection) {
                return Some(connection);
            }
        }
        None
    }

    pub(super) fn entry(&mut self, connection: ConnectionId) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(&connection)?;
        if std::mem::take(&mut entry.has_past)
            && let Some(former) = &self.former
        {
            entry.session.remember(self.former_since, former.recent(connection));
        }
        Some(entry)
    }

    pub(super) fn contains(&self, connection: ConnectionId) -> bool {
        self.entries.contains(&connection)
    }

    /// Takes a session out, but not its places.
    pub(super) fn remove(&mut self, connection: ConnectionId) -> Option<Entry> {
        self.opening.remove(&connection);
        self.strangers.remove(&connection);
        self.entries.remove(&connection)
    }

    /// All sessions in use, or about to be, of some devices; and those of them in which something is open.
    pub(super) fn held(&self, is_wanted: impl Fn(DeviceId) -> bool) -> (Vec<Held>, Vec<ConnectionId>) {
        let (mut held, mut busy) = (Vec::new(), Vec::new());
        for Entry { session, standing, .. } in self.entries.iter().filter(|entry| is_wanted(entry.session.device())) {
            let standing = match standing {
                Standing::Opening => HeldStanding::Opening,
                Standing::Live => HeldStanding::Live,
                Standing::Tombstone | Standing::Stranger => continue,
            };
            let (device, connection, ip) = (session.device(), session.connection(), session.path().peer.ip());
            held.push(Held { device, connection, ip, standing });
            busy.extend((!session.is_idle()).then_some(connection));
        }
        (held, busy)
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
        // There is one for each device of a fleet: eight bytes more are eight megabytes for a million.
        assert!(size_of::<Option<Entry>>() <= 176, "{}", size_of::<Option<Entry>>());
    }
}
