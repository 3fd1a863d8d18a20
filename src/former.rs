//! What the last process left of its sessions and devices: read by all threads that take something over, and copied by none.

use std::sync::Arc;
use std::time::Duration;

use firmware_protocol::dtls::cid::ConnectionId;
use firmware_protocol::id::DeviceId;
use firmware_protocol::session::describe::DescribeKind;
use firmware_protocol::session::goodbye::Goodbye;
use firmware_protocol::session::hello::Hello;
use firmware_protocol::session::stored::StoredSession;
use firmware_protocol::time::UnixMillis;
use router::device::{Left, Link, RestoredDevice};

use crate::journal::{Device, RetiredSessions, Session, Settled, State};

/// For how long a device may repeat what it said to the last process.
pub const REPEATED: Duration = Duration::from_secs(90);

/// What the last process left.
#[derive(Debug)]
pub struct Former {
    /// Its sessions.
    pub(crate) sessions: Settled<ConnectionId, Session>,
    /// Those that were over.
    pub(crate) retired: RetiredSessions,
    /// What it knew of devices.
    pub(crate) devices: Settled<DeviceId, Device>,
}

/// A session to take over, by its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FormerSession {
    pub(crate) session: u32,
    /// Longest message its device takes, if that said so.
    pub(crate) message_max: Option<u16>,
    /// Its device has a newer one: only a tombstone is left.
    pub(crate) replaced: bool,
}

/// A device to take over, by the number of its session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FormerDevice {
    pub(crate) session: u32,
    /// What is known of it, if anything is.
    pub(crate) device: Option<u32>,
    /// The terminator that takes its session over.
    pub(crate) terminator: u16,
}

impl Former {
    /// What this state says.
    pub(crate) fn new(State { sessions, retired, devices }: State) -> Arc<Self> {
        Arc::new(Self { sessions: sessions.settle(), retired, devices: devices.settle() })
    }

    /// The session to take over.
    pub(crate) fn session(&self, former: FormerSession) -> Option<&Session> {
        self.sessions.at(usize::try_from(former.session).ok()?).map(|(_, session)| session)
    }

    /// Sessions that were over already, each with the highest sequence number known to have been accepted.
    pub(crate) fn retired(&self) -> impl Iterator<Item = (&StoredSession, Option<u64>)> {
        self.retired.values().map(|retired| (&retired.stored, retired.highest))
    }

    /// Id and digest of messages of a session that were acted upon lately.
    pub(crate) fn recent(&self, connection: ConnectionId) -> &[(u16, u64)] {
        self.sessions.get(&connection).map(|session| &session.recent[..]).unwrap_or_default()
    }

    /// A device as a shard takes it over.
    pub(crate) fn restored(&self, former: FormerDevice) -> Option<RestoredDevice<'_>> {
        let (connection, Session { stored, .. }) = self.sessions.at(usize::try_from(former.session).ok()?)?;
        let known = former.device.and_then(|number| self.devices.at(usize::try_from(number).ok()?)).map(|(_, device)| device);
        let describe = |kind| known.and_then(|known| known.describe(kind)).map(|describe| &describe.payload);
        Some(RestoredDevice {
            identity: stored.identity,
            link: Link { terminator: former.terminator, connection: *connection },
            established_at: stored.established_at,
            ip: stored.path.peer.ip(),
            hello: known.and_then(hello),
            application: describe(DescribeKind::Application),
            system: describe(DescribeKind::System),
            left: known.and_then(|known| left(known, stored.established_at)),
            subscriptions: known.map(|known| &known.subscriptions),
            online: known.and_then(|known| known.online).unwrap_or(true),
        })
    }
}

/// A device's last Hello.
pub(crate) fn hello(known: &Device) -> Option<Hello> {
    known.hello.as_ref().and_then(|hello| Hello::parse(&hello.payload))
}

/// The device's goodbye, unless a session or a Hello came after it. Whether it woke and resumed its session without a word is not known here.
pub(crate) fn left(known: &Device, established_at: UnixMillis) -> Option<Left> {
    let kept = known.goodbye.as_ref()?;
    let began = known.hello.as_ref().map_or(established_at, |hello| hello.at.max(established_at));
    Some(Left { at: kept.at, goodbye: Goodbye::parse(&kept.payload)? }).filter(|left| left.at >= began)
}
