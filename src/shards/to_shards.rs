//! The lanes from a terminator to all shards, and what it notes of how shards answer.

use std::sync::Arc;

use firmware_protocol::id::DeviceId;
use firmware_protocol::session::Receipt;
use firmware_protocol::time::Millis;
use prometheus::IntCounter;
use router::shard::Input;

use super::{Reply, shard_of};
use crate::evidence::Notes;
use crate::mailbox::Lane;

/// Lanes to all shards.
#[derive(Debug)]
pub struct ToShards {
    lanes: Vec<Lane<Input<Reply>>>,
    /// What each was told, and how much of that is not counted yet.
    told: Vec<(IntCounter, u64)>,
    full: IntCounter,
    notes: Arc<Notes>,
}

impl ToShards {
    /// One lane for each shard, and what counts what it is `told`. `full` counts what finds no room; of what finds some, `notes` are taken.
    pub fn new(lanes: Vec<Lane<Input<Reply>>>, told: &[IntCounter], full: IntCounter, notes: Arc<Notes>) -> Self {
        Self { lanes, told: told.iter().map(|counter| (counter.clone(), 0)).collect(), full, notes }
    }

    /// Tells the shard of `device` something. `false` if its lane is full. [`ToShards::ring`] must follow the last of a batch.
    pub fn tell(&mut self, device: DeviceId, mut input: Input<Reply>) -> bool {
        let shard = shard_of(device, self.lanes.len());
        let mut came = None;
        if let Input::Received { receipt, .. } = &mut input {
            *receipt = receipt.marked(u16::try_from(shard).unwrap_or(u16::MAX));
            came = receipt.waits_since();
        }
        let taken = self.lanes[shard].push(input).is_ok();
        match taken {
            true => self.told[shard].1 += 1,
            false => self.full.inc(),
        }
        // The answer comes to this thread, and so not before.
        came.filter(|_| taken).into_iter().for_each(|came| self.notes.handed(shard, came));
        taken
    }

    /// From now on `shard` is another thread, at the end of `lane`.
    pub fn replace(&mut self, shard: usize, lane: Lane<Input<Reply>>) {
        if let Some(place) = self.lanes.get_mut(shard) {
            *place = lane;
        }
    }

    /// Number of shards.
    pub fn count(&self) -> usize {
        self.lanes.len()
    }

    /// A message that was told to a shard is answered.
    pub fn answered(&self, receipt: Receipt, now: Millis) {
        if let Some(came) = receipt.waits_since() {
            self.notes.answered(receipt.mark().into(), came, now);
        }
    }

    /// Notes are taken, or not: a fault that tests inject.
    pub fn note_evidence(&self, notes: bool) {
        self.notes.take(notes);
    }

    /// Wakes the shards that were told something.
    pub fn ring(&mut self) {
        self.lanes.iter_mut().for_each(Lane::ring);
        for (counter, told) in self.told.iter_mut().filter(|(_, told)| *told > 0) {
            counter.inc_by(std::mem::take(told));
        }
    }
}
