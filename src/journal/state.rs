//! The reduction of all records: what a restarted server has to know.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use firmware_protocol::dtls::cid::ConnectionId;
use firmware_protocol::id::DeviceId;
use firmware_protocol::session::stored::{Floor, StoredSession};
use firmware_protocol::time::UnixMillis;
use router::journal::{DescribeKind, Record, RetireReason, Subscription};
use router::presence::announced;

use super::alike::Alike;
use super::ordered::Ordered;

/// How many messages are remembered per session.
pub const RECENT_LEN_MAX: usize = 64;

/// Sessions that may be used.
pub type Sessions = Ordered<ConnectionId, Session>;
/// Tombstones of sessions that may not.
pub type RetiredSessions = BTreeMap<ConnectionId, Retired>;
/// What devices told about themselves.
pub type Devices = Ordered<DeviceId, Device>;

/// What all records together say. Two journals with the same records have equal states.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct State {
    /// Sessions that may be used.
    pub sessions: Sessions,
    /// Tombstones of sessions that may not.
    pub retired: RetiredSessions,
    /// What devices told about themselves.
    pub devices: Devices,
}

/// A session and how far it had come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    /// The session.
    pub stored: StoredSession,
    /// The highest sequence number of an accepted record: the receive floor. `None` before the first.
    pub highest: Option<u64>,
    /// Id and digest, as in [`Floor`], of the newest messages that were acted upon, oldest first, at most [`RECENT_LEN_MAX`]. The same
    /// pair again is a repeat.
    pub recent: Vec<(u16, u64)>,
}

/// A session that is over. Its keys are kept for the encrypted close_notify that a late comer gets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Retired {
    /// The session.
    pub stored: StoredSession,
    /// The highest sequence number of an accepted record, as in [`Session`].
    pub highest: Option<u64>,
    /// Why it is over.
    pub reason: RetireReason,
    /// Since when.
    pub at: UnixMillis,
}

/// What a device told about itself since its last Hello, and what was told of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Device {
    /// Its last Hello.
    pub hello: Option<Kept>,
    /// System describe.
    pub system: Option<Kept>,
    /// Application describe.
    pub application: Option<Kept>,
    /// Metrics describe.
    pub metrics: Option<Kept>,
    /// What it subscribes to. Devices of the same firmware may hold one set together, as they may payloads.
    pub subscriptions: Arc<BTreeSet<Subscription>>,
    /// Its last goodbye, which may be older than its last Hello.
    pub goodbye: Option<Kept>,
    /// Whether it was online as far as its owner was told last; `None` if he never was.
    pub online: Option<bool>,
}

/// A payload as it came, and when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    /// The bytes.
    pub payload: Arc<[u8]>,
    /// When they were accepted.
    pub at: UnixMillis,
}

impl State {
    /// Takes one more record into account. Records must come in the order in which they were committed.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::SessionOpened(stored) => {
                self.retired.remove(&stored.connection);
                let session = Session { stored: stored.clone(), highest: None, recent: Vec::new() };
                self.sessions.insert(stored.connection, session);
            }
            Record::SessionRetired { connection, reason, at, .. } => self.retire(*connection, *reason, *at),
            Record::SessionMoved { connection, path } => {
                if let Some(session) = self.sessions.get_mut(connection) {
                    session.stored.path = *path;
                }
            }
            Record::Hello { floor, device, payload, at } => {
                self.raise(floor);
                let device = self.devices.get_or_default(*device);
                // Forget all (docs/protocol.md): what still holds is sent again after the Hello.
                let (goodbye, online) = (device.goodbye.take(), device.online);
                *device = Device { hello: Kept::some(payload, *at), goodbye, online, ..Device::default() };
            }
            Record::Describe { floor, device, kind, payload, at } => {
                floor.iter().for_each(|floor| self.raise(floor));
                *self.devices.get_or_default(*device).describe_mut(*kind) = Kept::some(payload, *at);
            }
            Record::Subscribed { floor, device, subscription } => {
                self.raise(floor);
                self.devices.get_or_default(*device).subscribe(subscription.clone());
            }
            Record::Goodbye { floor, device, payload, at } => {
                self.raise(floor);
                self.devices.get_or_default(*device).goodbye = Kept::some(payload, *at);
            }
            Record::Event { floor, event } => {
                floor.iter().for_each(|floor| self.raise(floor));
                if let Some((device, online)) = announced(event) {
                    self.devices.get_or_default(device).online = Some(online);
                }
            }
            Record::Seen { floor } => self.raise(floor),
        }
    }

    /// Lets the device that a record is of hold what it says like others.
    pub(super) fn share(&mut self, record: &Record, alike: &mut Alike) {
        match record {
            Record::Describe { device, kind: kind @ (DescribeKind::System | DescribeKind::Application), .. } => {
                let kept = self.devices.get_mut(device).and_then(|device| device.describe_mut(*kind).as_mut());
                kept.into_iter().for_each(|kept| alike.share(kept));
            }
            Record::Subscribed { device, .. } => {
                let device = self.devices.get_mut(device);
                device.into_iter().for_each(|device| alike.share_subscriptions(&mut device.subscriptions));
            }
            _ => {}
        }
    }

    /// Forgets sessions that were retired before `time`.
    pub fn forget_retired_before(&mut self, time: UnixMillis) {
        self.retired.retain(|_, retired| retired.at >= time);
    }

    /// A floor of a session that is not known is that of a TCP connection, which ends with its process.
    fn raise(&mut self, floor: &Floor) {
        if let Some(session) = self.sessions.get_mut(&floor.connection) {
            session.highest = session.highest.max(Some(floor.sequence));
            session.remember((floor.message_id, floor.digest));
        } else if let Some(retired) = self.retired.get_mut(&floor.connection) {
            retired.highest = retired.highest.max(Some(floor.sequence));
        }
    }

    fn retire(&mut self, connection: ConnectionId, reason: RetireReason, at: UnixMillis) {
        if let Some(Session { stored, highest, .. }) = self.sessions.remove(&connection) {
            self.retired.insert(connection, Retired { stored, highest, reason, at });
        }
    }
}

impl Session {
    fn remember(&mut self, message: (u16, u64)) {
        if self.recent.contains(&message) {
            return;
        }
        if self.recent.len() == RECENT_LEN_MAX {
            self.recent.remove(0);
        }
        self.recent.push(message);
    }
}

impl Device {
    /// The describe of this kind.
    pub fn describe(&self, kind: DescribeKind) -> Option<&Kept> {
        match kind {
            DescribeKind::System => self.system.as_ref(),
            DescribeKind::Application => self.application.as_ref(),
            DescribeKind::Metrics => self.metrics.as_ref(),
        }
    }

    pub(super) fn subscribe(&mut self, subscription: Subscription) {
        Arc::make_mut(&mut self.subscriptions).insert(subscription);
    }

    fn describe_mut(&mut self, kind: DescribeKind) -> &mut Option<Kept> {
        match kind {
            DescribeKind::System => &mut self.system,
            DescribeKind::Application => &mut self.application,
            DescribeKind::Metrics => &mut self.metrics,
        }
    }
}

impl Kept {
    fn some(payload: &[u8], at: UnixMillis) -> Option<Kept> {
        Some(Kept { payload: payload.into(), at })
    }
}

#[cfg(test)]
mod tests {
    use router::journal::HandlerKind;

    use super::*;
    use crate::journal::test_records::{event, floor, session, status};

    const AT: UnixMillis = UnixMillis(5_000);

    fn state_of(records: &[Record]) -> State {
        let mut state = State::default();
        records.iter().for_each(|record| state.apply(record));
        state
    }

    #[test]
    fn floors_rise_and_never_fall_whatever_carries_them() {
        let opened = session(1);
        let connection = opened.connection;
        let mut state = state_of(&[Record::SessionOpened(opened)]);
        assert_eq!(state.sessions.get(&connection).unwrap().highest, None);
        for (sequence, highest) in [(5, 5), (9, 9), (7, 9)] {
            state.apply(&Record::Event { floor: Some(floor(1, sequence)), event: event(1) });
            assert_eq!(state.sessions.get(&connection).unwrap().highest, Some(highest));
        }
        state.apply(&Record::Seen { floor: floor(1, 12) });
        assert_eq!(state.sessions.get(&connection).unwrap().highest, Some(12));
        state.apply(&Record::Seen { floor: floor(2, 99) });
        assert_eq!(state.sessions.len(), 1, "a floor alone makes no session");
    }

    #[test]
    fn the_newest_messages_are_remembered() {
        let mut state = state_of(&[Record::SessionOpened(session(1))]);
        for sequence in 0..200 {
            state.apply(&Record::Seen { floor: floor(1, sequence) });
            state.apply(&Record::Seen { floor: floor(1, sequence) });
        }
        let recent = &state.sessions.get(&session(1).connection).unwrap().recent;
        assert_eq!(recent.len(), RECENT_LEN_MAX);
        assert_eq!(recent[0].0, floor(1, 200 - 64).message_id);
        assert_eq!(recent[63].0, floor(1, 199).message_id);
    }

    #[test]
    fn a_retired_session_stays_as_a_tombstone_until_it_is_forgotten() {
        let (old, new) = (session(1), session(2));
        let retire = |reason, at| Record::SessionRetired { connection: old.connection, device: old.identity.device, reason, at };
        let mut state = state_of(&[Record::SessionOpened(old.clone()), Record::SessionOpened(new.clone())]);
        assert_eq!(state.sessions.len(), 2, "a newer session retires nobody by itself");
        state.apply(&retire(RetireReason::Replaced, AT));
        state.apply(&retire(RetireReason::Revoked, UnixMillis(9_000)));
        state.apply(&Record::Seen { floor: floor(1, 3) });
        assert_eq!(state.sessions.values().map(|session| &session.stored).collect::<Vec<_>>(), [&new]);
        let tombstone = Retired { stored: old.clone(), highest: Some(3), reason: RetireReason::Replaced, at: AT };
        assert_eq!(state.retired[&old.connection], tombstone);
        state.forget_retired_before(AT);
        assert_eq!(state.retired.len(), 1);
        state.forget_retired_before(UnixMillis(AT.0 + 1));
        assert!(state.retired.is_empty());
    }

    #[test]
    fn a_hello_forgets_describes_and_subscriptions_but_not_the_goodbye() {
        let device = session(1).identity.device;
        let floor = floor(1, 1);
        let subscription = Subscription::new("a", HandlerKind::Text);
        let mut state = state_of(&[
            Record::Describe { floor: Some(floor), device, kind: DescribeKind::Application, payload: vec![1], at: AT },
            Record::Subscribed { floor, device, subscription: subscription.clone() },
            Record::Subscribed { floor, device, subscription: subscription.clone() },
            Record::Goodbye { floor, device, payload: vec![2], at: AT },
        ]);
        let told = &state.devices[&device];
        assert_eq!(told.describe(DescribeKind::Application), Some(&Kept { payload: [1].into(), at: AT }));
        assert_eq!(*told.subscriptions, BTreeSet::from([subscription]));

        state.apply(&Record::Hello { floor, device, payload: vec![3], at: AT });
        let expected = Device {
            hello: Some(Kept { payload: [3].into(), at: AT }),
            goodbye: Some(Kept { payload: [2].into(), at: AT }),
            ..Device::default()
        };
        assert_eq!(state.devices[&device], expected);
    }

    #[test]
    fn what_an_owner_was_told_last_outlives_a_hello() {
        let device = session(1).identity.device;
        let mut state = State::default();
        for (text, online) in [("online", Some(true)), ("offline", Some(false)), ("something else", Some(false))] {
            state.apply(&Record::Event { floor: None, event: status(device, text) });
            assert_eq!(state.devices[&device].online, online);
        }
        state.apply(&Record::Hello { floor: floor(1, 1), device, payload: vec![3], at: AT });
        assert_eq!(state.devices[&device].online, Some(false));
    }

    #[test]
    fn a_session_moves_and_shows_no_key() {
        let (first, elsewhere) = (session(1), session(5).path);
        let mut state = state_of(&[Record::SessionOpened(first.clone())]);
        state.apply(&Record::SessionMoved { connection: first.connection, path: elsewhere });
        assert_eq!(state.sessions.get(&first.connection).unwrap().stored.path, elsewhere);
        let shown = format!("{state:?}");
        assert!(shown.contains("KeyBlock(..)"));
        assert!(!shown.contains(&format!("{:?}", &first.keys.0[..4]).replace(['[', ']'], "")));
    }
}
