//! Which devices talk with keys we no longer hold: told by the id that some send, else by the address from which they were last heard.

use std::collections::HashMap;
use std::net::IpAddr;

use firmware_protocol::id::DeviceId;
use firmware_protocol::time::UnixMillis;

use super::{Operations, OrphanLine};
use crate::dates::Iso;
use crate::orphans::{Orphan, Trace};
use crate::store::Registry;

/// Most devices that are named for one address. Where more share it, it tells nothing.
const NAMED_MAX: usize = 3;

/// A device that was last heard from some address.
struct Candidate {
    device: DeviceId,
    last_heard: Option<UnixMillis>,
}

/// The list.
pub(super) async fn list(registry: &Registry, operations: &dyn Operations) -> Vec<OrphanLine> {
    let orphans = operations.orphans();
    if orphans.is_empty() {
        return Vec::new();
    }
    let devices = registry.devices().all().iter().map(|device| device.id()).collect();
    let mut at: HashMap<IpAddr, Vec<Candidate>> = HashMap::new();
    for (device, view) in operations.views(devices).await.unwrap_or_default() {
        if let Some(ip) = view.last_ip {
            at.entry(ip).or_default().push(Candidate { device, last_heard: view.last_heard });
        }
    }
    orphans.iter().map(|orphan| line(orphan, registry, &at)).collect()
}

fn line(orphan: &Orphan, registry: &Registry, at: &HashMap<IpAddr, Vec<Candidate>>) -> OrphanLine {
    // One that has been heard since has a session that we know.
    let silent = |candidate: &&Candidate| candidate.last_heard.is_none_or(|at| at < orphan.first);
    let (session, mut devices): (_, Vec<_>) = match orphan.trace {
        // Anybody may write an id.
        Trace::Device(device) => (None, registry.devices().find(device).map(|_| device).into_iter().collect()),
        Trace::Session(connection) => {
            let candidates = at.get(&orphan.peer.ip()).into_iter().flatten();
            (Some(connection), candidates.filter(silent).map(|candidate| candidate.device).collect())
        }
    };
    devices.sort_unstable();
    if devices.len() > NAMED_MAX {
        devices.clear();
    }
    OrphanLine {
        devices: devices.iter().map(DeviceId::to_string).collect(),
        session: session.map(|session| session.to_string()),
        address: orphan.peer.to_string(),
        datagrams: orphan.datagrams,
        first_heard: Iso(orphan.first).to_string(),
        last_heard: Iso(orphan.last).to_string(),
    }
}
