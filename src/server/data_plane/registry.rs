//! The registry is read once all sessions are served, and what had to wait for it comes after: a fleet's devices go on while that takes seconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use firmware_protocol::id::DeviceId;
use firmware_protocol::session::hello::Hello;
use prometheus::IntCounter;
use router::device::AwaitedDevice;
use router::shard::Input;
use tokio::sync::mpsc::Receiver;

use super::DataPlaneHandle;
use crate::errands::{self, Asked};
use crate::store::Registry;

/// How soon a registry that could not be read is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How soon a thread that waits for it looks again, and a shard whose lane is full is told again.
const PAUSE: Duration = Duration::from_millis(5);

/// Reads the registry, tells the shards of devices that their owners were told are online, and runs errands until the shards are gone.
pub(super) async fn serve(
    registry: Registry,
    plane: Arc<DataPlaneHandle>,
    awaited: Vec<(DeviceId, Option<Hello>)>,
    (errands, refused): (Receiver<Asked>, IntCounter),
) {
    while !registry.is_filled() {
        let Err(error) = registry.fill().await else { break };
        tracing::error!(%error, "the registry cannot be read; devices with sessions are served, and nobody else");
        tokio::time::sleep(AGAIN).await;
    }
    for (id, hello) in awaited {
        // A device of nobody has nobody to be told.
        let identity = registry.devices().find(id).and_then(|device| device.identity()).filter(|identity| identity.owner.is_some());
        let Some(identity) = identity else { continue };
        while !plane.tell(id, Input::Expect(AwaitedDevice { identity, hello })) {
            tokio::time::sleep(PAUSE).await;
        }
    }
    // From here on a device that comes back makes a new session.
    registry.set_filled();
    errands::run(registry, plane, errands, refused).await;
}

/// Keeps the calling thread until the registry has been read or the thread shall stop: without it every device would be a stranger.
pub(super) fn wait(registry: &Registry, stop: &AtomicBool) {
    while !registry.is_filled() && !stop.load(Ordering::Acquire) {
        thread::sleep(PAUSE);
    }
}
