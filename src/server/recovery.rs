//! From what the journal remembers to live sessions and devices.

use std::cmp::Reverse;

use firmware_protocol::id::DeviceId;
use firmware_protocol::session::describe::DescribeKind;
use firmware_protocol::session::goodbye::Goodbye;
use firmware_protocol::session::hello::Hello;
use firmware_protocol::time::UnixMillis;
use router::device::{Left, Link, RestoredDevice};

use crate::journal::{self, State};
use crate::shards::shard_of;
use crate::terminators::{FormerSession, owner_of};

/// What one process hands to the next.
#[derive(Debug)]
pub(super) struct Restored {
    /// The sessions of each worker.
    pub(super) sessions: Vec<Vec<FormerSession>>,
    /// Devices with a session, of each shard.
    pub(super) devices: Vec<Vec<RestoredDevice>>,
    /// Devices whose owners were told last that they are online, and that have no session that outlived the process; with their last Hello.
    pub(super) awaited: Vec<(DeviceId, Option<Hello>)>,
}

/// Takes the state apart. Whose a device is, and whether its session may go on, is what was written down with the session: the registry's word comes as
/// soon as that has been read.
pub(super) fn restore(state: State, workers: usize, shards: usize) -> Restored {
    let State { sessions, retired, devices } = state;
    let sessions = sessions.into_entries();
    let mut restored = Restored {
        sessions: shares(sessions.len() + retired.len(), workers),
        devices: shares(sessions.len(), shards),
        awaited: Vec::new(),
    };
    // By device, as the devices are, and each device's newest first.
    let mut order: Vec<_> = sessions.iter().enumerate().map(|(at, session)| (age(session), at)).collect();
    order.sort_unstable();
    let (mut sessions, mut devices) = (sessions.into_iter().map(Some).collect::<Vec<_>>(), devices.into_iter().peekable());
    for own in order.chunk_by(|((one, _), _), ((next, _), _)| one == next) {
        let ((id, _), _) = own[0];
        while let Some((other, known)) = devices.next_if(|(other, _)| *other < id) {
            restored.expect(other, &known);
        }
        let known = devices.next_if(|(other, _)| *other == id).map(|(_, known)| known);
        let own = own.iter().filter_map(|(_, at)| sessions[*at].take());
        let lives = restored.take_sessions(own, known.as_ref());
        known.iter().filter(|_| !lives).for_each(|known| restored.expect(id, known));
    }
    devices.for_each(|(id, known)| restored.expect(id, &known));
    for journal::Retired { stored, highest, .. } in retired.into_values() {
        restored.put(FormerSession { stored, highest, recent: Vec::new(), message_max: None, retired: true });
    }
    restored
}

/// Room for so many in all. What is chosen by a hash is hardly ever more than a little beyond an even share.
fn shares<T>(all: usize, shares: usize) -> Vec<Vec<T>> {
    let room = all / shares + all / shares / 16;
    (0..shares).map(|_| Vec::with_capacity(room)).collect()
}

impl Restored {
    /// The sessions of one device, of which only the first may live. `true` if it does.
    fn take_sessions(&mut self, sessions: impl Iterator<Item = journal::Session>, known: Option<&journal::Device>) -> bool {
        let hello = known.and_then(|known| known.hello.as_ref()).and_then(|hello| Hello::parse(&hello.payload));
        let message_max = hello.as_ref().map(Hello::message_cap);
        let mut lives = false;
        for (nth, journal::Session { stored, highest, recent }) in sessions.enumerate() {
            if nth == 0 {
                lives = true;
                let terminator = u16::try_from(owner_of(stored.connection, self.sessions.len())).unwrap_or_default();
                let describe = |kind| known.and_then(|known| known.describe(kind)).map(|describe| describe.payload.clone());
                let shard = shard_of(stored.identity.device, self.devices.len());
                self.devices[shard].push(RestoredDevice {
                    identity: stored.identity,
                    link: Link { terminator, connection: stored.connection },
                    established_at: stored.established_at,
                    ip: stored.path.peer.ip(),
                    hello,
                    application: describe(DescribeKind::Application),
                    system: describe(DescribeKind::System),
                    left: known.and_then(|known| left(known, stored.established_at)),
                    subscriptions: known.map(|known| known.subscriptions.clone()).unwrap_or_default(),
                    online: known.and_then(|known| known.online).unwrap_or(true),
                });
            }
            self.put(FormerSession { stored, highest, recent, message_max, retired: nth > 0 });
        }
        lives
    }

    fn put(&mut self, session: FormerSession) {
        let worker = owner_of(session.stored.connection, self.sessions.len());
        self.sessions[worker].push(session);
    }

    /// A device without a session, whose owner may have been told last that it is online.
    fn expect(&mut self, id: DeviceId, known: &journal::Device) {
        if known.online == Some(true) {
            self.awaited.push((id, known.hello.as_ref().and_then(|hello| Hello::parse(&hello.payload))));
        }
    }
}

/// What orders sessions by device, and then from the newest to the oldest.
fn age(entry: &journal::Session) -> (DeviceId, Reverse<(UnixMillis, [u8; 8])>) {
    (entry.stored.identity.device, Reverse((entry.stored.established_at, entry.stored.connection.0)))
}

/// The device's goodbye, unless a session or a Hello came after it. Whether it woke and resumed its session without a word is not known here.
fn left(known: &journal::Device, established_at: UnixMillis) -> Option<Left> {
    let kept = known.goodbye.as_ref()?;
    let began = known.hello.as_ref().map_or(established_at, |hello| hello.at.max(established_at));
    Some(Left { at: kept.at, goodbye: Goodbye::parse(&kept.payload)? }).filter(|left| left.at >= began)
}
