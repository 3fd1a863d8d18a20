//! From what the journal remembers to live sessions and devices.

use std::collections::{BTreeMap, HashSet};

use firmware_protocol::dtls::cid::ConnectionId;
use firmware_protocol::id::{DeviceId, Identity, KeyHash};
use firmware_protocol::session::Session;
use firmware_protocol::session::describe::DescribeKind;
use firmware_protocol::session::goodbye::Goodbye;
use firmware_protocol::session::hello::Hello;
use firmware_protocol::session::stored::Generation;
use firmware_protocol::time::{Now, UnixMillis};
use router::device::{AwaitedDevice, Left, Link, RestoredDevice};

use crate::journal::{self, State};
use crate::store::{DeviceBook, KeyRing, Registry};
use crate::terminators::owner_of;

/// What one process hands to the next.
#[derive(Debug, Default)]
pub(super) struct Restored {
    /// Sessions, and whether they are over on our side.
    pub(super) sessions: Vec<(Session, bool)>,
    /// Devices with a session.
    pub(super) devices: Vec<RestoredDevice>,
    /// Devices that were online without a session that outlived the process.
    pub(super) awaited: Vec<AwaitedDevice>,
}

/// Takes the state apart. The registry has the last word on who may still have a session, and whose a device is.
pub(super) fn restore(state: State, registry: &Registry, generation: Generation, workers: usize, now: Now) -> Restored {
    let keys = registry.keys();
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
                left: known.and_then(|known| left(known, stored.established_at)),
                subscriptions: known.map(|known| known.subscriptions.iter().cloned().collect()).unwrap_or_default(),
                online: known.and_then(|known| known.online).unwrap_or(true),
            });
        }
        restored.sessions.push((session, !live));
    }
    for retired in retired.into_values() {
        let session = Session::restored(&retired.stored, retired.highest, &[], None, generation, now);
        restored.sessions.extend(session.map(|session| (session, true)));
    }
    restored.awaited = awaited(&devices, &restored.devices, registry.devices());
    restored
}

/// Devices whose owners were told last that they are online, and that are not `live`. A device of nobody has nobody to be told.
fn awaited(known: &BTreeMap<DeviceId, journal::Device>, live: &[RestoredDevice], book: &DeviceBook) -> Vec<AwaitedDevice> {
    let live: HashSet<DeviceId> = live.iter().map(|device| device.identity.device).collect();
    let online = known.iter().filter(|(id, device)| device.online == Some(true) && !live.contains(id));
    let awaited = online.filter_map(|(id, device)| {
        let identity = book.find(*id)?.identity().filter(|identity| identity.owner.is_some())?;
        Some(AwaitedDevice { identity, hello: device.hello.as_ref().map(|hello| hello.payload.clone()) })
    });
    awaited.collect()
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
