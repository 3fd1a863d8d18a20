//! From what the journal remembers to live sessions and devices.

use std::collections::BTreeMap;

use firmware_protocol::dtls::cid::ConnectionId;
use firmware_protocol::id::{DeviceId, Identity, KeyHash};
use firmware_protocol::session::Session;
use firmware_protocol::session::describe::DescribeKind;
use firmware_protocol::session::hello::Hello;
use firmware_protocol::session::stored::Generation;
use firmware_protocol::time::Now;
use router::device::{Link, RestoredDevice};

use crate::journal::{self, State};
use crate::store::KeyRing;
use crate::terminators::owner_of;

/// What one process hands to the next.
#[derive(Debug, Default)]
pub(super) struct Restored {
    /// Sessions, and whether they are over on our side.
    pub(super) sessions: Vec<(Session, bool)>,
    /// Devices with a session.
    pub(super) devices: Vec<RestoredDevice>,
}

/// Takes the state apart. The registry has the last word on who may still have a session, and whose a device is.
pub(super) fn restore(state: State, keys: &KeyRing, generation: Generation, workers: usize, now: Now) -> Restored {
    let State { sessions, retired, devices } = state;
    let mut restored = Restored::default();
    let mut newest: BTreeMap<DeviceId, (u64, ConnectionId)> = BTreeMap::new();
    let entries = sessions.into_entries();
    for journal::Session { stored, .. } in &entries {
        let candidate = (stored.established_at.0, stored.connection);
        let own = newest.entry(stored.identity.device).or_insert(candidate);
        *own = candidate.max(*own);
    }
    for journal::Session { mut stored, highest, recent } in entries {
        let device = stored.identity.device;
        let current = registered(keys, &stored.identity.key, device);
        let live = current.is_some() && newest.get(&device).is_some_and(|(_, connection)| *connection == stored.connection);
        stored.identity = current.unwrap_or(stored.identity);
        let known = devices.get(&device);
        let hello = known.and_then(|known| known.hello.as_ref()).and_then(|hello| Hello::parse(&hello.payload));
        let Some(session) = Session::restored(&stored, highest, &recent, hello.as_ref(), generation, now) else { continue };
        if live {
            let terminator = u16::try_from(owner_of(stored.connection, workers)).unwrap_or_default();
            restored.devices.push(RestoredDevice {
                identity: stored.identity,
                link: Link { terminator, connection: stored.connection },
                established_at: stored.established_at,
                ip: stored.path.peer.ip(),
                hello: known.and_then(|known| known.hello.as_ref()).map(|hello| hello.payload.clone()),
                application: known.and_then(|known| known.describe(DescribeKind::Application)).map(|describe| describe.payload.clone()),
                system: known.and_then(|known| known.describe(DescribeKind::System)).map(|describe| describe.payload.clone()),
                subscriptions: known.map(|known| known.subscriptions.iter().cloned().collect()).unwrap_or_default(),
            });
        }
        restored.sessions.push((session, !live));
    }
    for retired in retired.into_values() {
        let session = Session::restored(&retired.stored, retired.highest, &[], None, generation, now);
        restored.sessions.extend(session.map(|session| (session, true)));
    }
    restored
}

/// What the registry says of the holder of a key, if it is still that device.
fn registered(keys: &KeyRing, key: &KeyHash, device: DeviceId) -> Option<Identity> {
    keys.identity(key).filter(|identity| identity.device == device)
}
