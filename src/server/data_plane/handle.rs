//! What the control plane holds of the data plane: a way to ask shards, and what is read beside them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use firmware_protocol::id::{DeviceId, Identity};
use router::device::DeviceView;
use router::epoch::Epoch;
use router::shard::Input;
use tokio::sync::oneshot;

use super::door::{Door, Pass};
use crate::clock::Clock;
use crate::diagnose::Witness;
use crate::evidence::{Notes, Question};
use crate::history;
use crate::journal::LatestMark;
use crate::mailbox::Lane;
use crate::orphans::Orphans;
use crate::shards::{Reply, shard_of};
use crate::store::{DeviceBook, KeyChange};
use crate::strangers::Strangers;
use crate::streams::Streams;
use crate::watchdog::Bulletin;

/// What the control plane holds of the data plane.
pub struct DataPlaneHandle {
    pub(super) shards: Vec<Door>,
    /// Event streams.
    pub streams: Arc<Streams>,
    /// Unknown devices.
    pub strangers: Arc<Strangers>,
    /// Devices that talk with keys we no longer hold.
    pub orphans: Arc<Orphans>,
    /// What devices said over time, once it is open.
    pub history: history::Shelf,
    /// Up to where the journal is durable.
    pub mark: LatestMark,
    /// What the watchdog said.
    pub bulletin: Bulletin,
    /// What the API notes of shards.
    pub notes: Arc<Notes>,
    /// Who can say what is wrong.
    pub witness: Witness,
    /// The clocks all deadlines are on.
    pub clock: Clock,
}

impl fmt::Debug for DataPlaneHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataPlaneHandle").field("shards", &self.shards.len()).finish_non_exhaustive()
    }
}

impl DataPlaneHandle {
    /// Tells the shard of `device` something. `false` if there is no room: whoever waits for an answer sees that none will come.
    pub fn tell(&self, device: DeviceId, input: Input<Reply>) -> bool {
        self.tell_shard(shard_of(device, self.shards.len()), input)
    }

    /// Tells a shard something, likewise.
    pub fn tell_shard(&self, shard: usize, input: Input<Reply>) -> bool {
        self.ask_shard(shard, input).is_some()
    }

    /// Tells a shard something that has an answer. `None` if there is no room.
    pub fn ask_shard(&self, shard: usize, input: Input<Reply>) -> Option<Pass> {
        self.shards[shard].enter(input)
    }

    /// Another thread takes `shard` over, at the end of `lane`.
    pub(super) fn take_over(&self, shard: usize, lane: Lane<Input<Reply>>, epoch: Epoch) {
        if let Some(door) = self.shards.get(shard) {
            door.lead_to(lane, epoch);
        }
    }

    /// Notes that a shard is asked something.
    pub fn question(&self, shard: usize) -> Question {
        Question::open(&self.notes, shard, self.clock)
    }

    /// Number of shards.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Tells shards what the registry says now. A lane that is full is tried again: a revocation must not be lost.
    pub(super) fn registry_changed(&self, book: &DeviceBook, change: KeyChange) {
        let input = |device| match book.find(device).and_then(|device| device.identity()) {
            Some(identity) => Input::IdentityChanged(identity),
            None => Input::Revoked(device),
        };
        match change {
            KeyChange::Added(device) | KeyChange::Changed(device) | KeyChange::Removed(device) => {
                self.insist(shard_of(device, self.shards.len()), || input(device));
            }
            KeyChange::Missed => {
                let all = book.all().iter().filter_map(|device| device.identity()).map(|identity| (identity.device, identity)).collect();
                let all: Arc<HashMap<DeviceId, Identity>> = Arc::new(all);
                (0..self.shards.len()).for_each(|shard| self.insist(shard, || Input::Registered(Arc::clone(&all))));
            }
        }
    }

    fn insist(&self, shard: usize, input: impl Fn() -> Input<Reply>) {
        while !self.tell_shard(shard, input()) {
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// What shards know of devices now. Those of which nothing is known, and those whose shard is too busy to say or stalls meanwhile, are
    /// left out.
    pub async fn views(&self, devices: &[DeviceId]) -> HashMap<DeviceId, DeviceView> {
        let mut waiting = Vec::new();
        for (shard, devices) in self.by_shard(devices.iter().copied()) {
            let ((sender, receiver), question) = (oneshot::channel(), self.question(shard));
            if let Some(pass) = self.ask_shard(shard, Input::View { devices, reply: Reply::Views(sender, question) }) {
                waiting.push((pass, receiver));
            }
        }
        let mut known = HashMap::new();
        for (pass, receiver) in waiting {
            known.extend(pass.answer(receiver).await.unwrap_or_default().into_iter().map(|view| (view.device, view)));
        }
        known
    }

    /// Groups devices by the shard they belong to.
    pub fn by_shard(&self, devices: impl IntoIterator<Item = DeviceId>) -> HashMap<usize, Vec<DeviceId>> {
        let mut groups: HashMap<usize, Vec<DeviceId>> = HashMap::new();
        for device in devices {
            groups.entry(shard_of(device, self.shards.len())).or_default().push(device);
        }
        groups
    }
}
