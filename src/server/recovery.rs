//! From what the journal remembers to live sessions and devices: who takes over which.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use firmware_protocol::dtls::cid::ConnectionId;
use firmware_protocol::id::DeviceId;
use firmware_protocol::session::hello::Hello;
use firmware_protocol::time::UnixMillis;

use crate::allocator;
use crate::former::{self, Former, FormerDevice, FormerSession};
use crate::journal::{self, State};
use crate::shards::shard_of;
use crate::terminators::owner_of;

/// For threads that let go of it by themselves.
const LEEWAY: Duration = Duration::from_secs(10);

/// What orders sessions by device, and then from the newest to the oldest.
type Age = (DeviceId, Reverse<(UnixMillis, [u8; ConnectionId::LEN])>);

/// What one process hands to the next.
#[derive(Debug)]
pub(super) struct Restored {
    pub(super) former: Arc<Former>,
    /// The sessions of each worker.
    pub(super) sessions: Vec<Vec<FormerSession>>,
    /// Devices with a session, of each shard.
    pub(super) devices: Vec<Vec<FormerDevice>>,
    /// Devices whose owners were told last that they are online, and that have no session that outlived the process; with their last Hello.
    pub(super) awaited: Vec<(DeviceId, Option<Hello>)>,
}

/// Takes the state apart. Whose a device is, and whether its session may go on, is what was written down with the session: the registry's word comes as
/// soon as that has been read.
pub(super) fn restore(state: State, workers: usize, shards: usize) -> Restored {
    let former = Former::new(state);
    let (mut devices, mut awaited) = (shares(former.sessions.numbers(), shards), Vec::new());
    let mut takes_over = vec![None; former.sessions.numbers()];
    let mut known = former.devices.iter().peekable();
    let mut expect = |(_, id, device): (usize, &DeviceId, &journal::Device)| {
        // A device without a session, whose owner may have been told last that it is online.
        if device.online == Some(true) {
            awaited.push((*id, former::hello(device)));
        }
    };
    for own in by_device(&former).chunk_by(|((one, _), _), ((next, _), _)| one == next) {
        let ((id, Reverse((_, newest))), session) = own[0];
        while let Some(other) = known.next_if(|(_, other, _)| **other < id) {
            expect(other);
        }
        let device = known.next_if(|(_, other, _)| **other == id);
        let message_max = device.and_then(|(_, _, device)| former::hello(device)).as_ref().map(Hello::message_cap);
        let terminator = u16::try_from(owner_of(ConnectionId(newest), workers)).unwrap_or_default();
        devices[shard_of(id, shards)].push(FormerDevice { session, device: device.map(|(at, ..)| number(at)), terminator });
        for (nth, (_, session)) in own.iter().enumerate() {
            // Only the newest may live.
            takes_over[*session as usize] = Some(FormerSession { session: *session, message_max, replaced: nth > 0 });
        }
    }
    known.for_each(expect);
    // In the order in which they lie in memory.
    let mut sessions = shares(former.sessions.numbers(), workers);
    for own in takes_over.into_iter().flatten() {
        if let Some(session) = former.session(own) {
            sessions[owner_of(session.stored.connection, workers)].push(own);
        }
    }
    Restored { former, sessions, devices, awaited }
}

/// All sessions by device, and each device's newest first.
fn by_device(former: &Former) -> Vec<(Age, u32)> {
    let age = |entry: &journal::Session| (entry.stored.identity.device, Reverse((entry.stored.established_at, entry.stored.connection.0)));
    let mut order: Vec<_> = former.sessions.iter().map(|(at, _, session)| (age(session), number(at))).collect();
    order.sort_unstable();
    order
}

/// Lets go of what the last process left when nobody needs it any more, on a thread that nothing waits for: it is as much as a fleet.
pub(super) async fn forget(former: Arc<Former>) {
    tokio::time::sleep(former::REPEATED + LEEWAY).await;
    let forgotten = tokio::task::spawn_blocking(move || {
        drop(former);
        allocator::give_back();
    });
    // Cut short only by the end of the process.
    let _ = forgotten.await;
}

/// Room for so many in all. What is chosen by a hash is hardly ever more than a little beyond an even share.
fn shares<T>(all: usize, shares: usize) -> Vec<Vec<T>> {
    let room = all / shares + all / shares / 16;
    (0..shares).map(|_| Vec::with_capacity(room)).collect()
}

/// No journal has so many.
fn number(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
