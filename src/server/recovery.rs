//! From what the journal remembers to live sessions and devices.

use std::cmp::Reverse;

use firmware_protocol::id::{DeviceId, Identity, KeyHash};
use firmware_protocol::session::describe::DescribeKind;
use firmware_protocol::session::goodbye::Goodbye;
use firmware_protocol::session::hello::Hello;
use firmware_protocol::time::UnixMillis;
use router::device::{Left, Link, RestoredDevice};

use crate::journal::{self, State};
use crate::store::KeyRing;
use crate::terminators::{FormerSession, owner_of};

/// What one process hands to the next.
#[derive(Debug, Default)]
pub(super) struct Restored {
    /// Sessions.
    pub(super) sessions: Vec<FormerSession>,
    /// Devices with a session.
    pub(super) devices: Vec<RestoredDevice>,
}

/// Takes the state apart. The registry has the last word on who may still have a session, and whose a device is.
pub(super) fn restore(state: State, keys: &KeyRing, workers: usize) -> Restored {
    let State { sessions, retired, devices } = state;
    let mut restored =
        Restored { sessions: Vec::with_capacity(sessions.len() + retired.len()), devices: Vec::with_capacity(sessions.len()) };
    let mut entries: Vec<_> = sessions.into_entries().into_iter().map(Some).collect();
    // By device, as the devices are, and each device's newest first.
    let mut order: Vec<_> = entries.iter().enumerate().filter_map(|(at, entry)| Some((age(entry.as_ref()?), at))).collect();
    order.sort_unstable();
    let (mut devices, mut last) = (devices.into_iter().peekable(), None);
    for ((id, _), at) in order {
        let Some(journal::Session { mut stored, highest, recent }) = entries[at].take() else { continue };
        let current = registered(keys, &stored.identity.key, id);
        let retired = current.is_none() || last.replace(id) == Some(id);
        stored.identity = current.unwrap_or(stored.identity);
        while devices.next_if(|(other, _)| *other < id).is_some() {}
        let known = devices.peek().filter(|(other, _)| *other == id).map(|(_, known)| known);
        let hello = known.and_then(|known| known.hello.as_ref()).and_then(|hello| Hello::parse(&hello.payload));
        let message_max = hello.as_ref().map(Hello::message_cap);
        if !retired {
            let terminator = u16::try_from(owner_of(stored.connection, workers)).unwrap_or_default();
            let describe = |kind| known.and_then(|known| known.describe(kind)).map(|describe| describe.payload.clone());
            restored.devices.push(RestoredDevice {
                identity: stored.identity,
                link: Link { terminator, connection: stored.connection },
                established_at: stored.established_at,
                ip: stored.path.peer.ip(),
                hello,
                application: describe(DescribeKind::Application),
                system: describe(DescribeKind::System),
                left: known.and_then(|known| left(known, stored.established_at)),
                subscriptions: known.map(|known| known.subscriptions.clone()).unwrap_or_default(),
            });
        }
        restored.sessions.push(FormerSession { stored, highest, recent, message_max, retired });
    }
    restored.sessions.extend(retired.into_values().map(|retired| {
        let journal::Retired { stored, highest, .. } = retired;
        FormerSession { stored, highest, recent: Vec::new(), message_max: None, retired: true }
    }));
    restored
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

/// What the registry says of the holder of a key, if it is still that device.
fn registered(keys: &KeyRing, key: &KeyHash, device: DeviceId) -> Option<Identity> {
    keys.identity(key).filter(|identity| identity.device == device)
}
