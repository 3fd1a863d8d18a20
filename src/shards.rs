//! One thread per shard: it waits for its mailbox, lets the shard decide, and passes on what comes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use firmware_protocol::coap::Code;
use firmware_protocol::id::{DeviceId, OwnerId};
use prometheus::IntCounter;
use router::ask::{Answer, AskError};
use router::device::{DeviceView, Link};
use router::errand::Errand;
use router::event::Position;
use router::journal::RetireReason;
use router::shard::{Input, Output, Shard, Then};
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::mailbox::{Lane, Mailbox};
use crate::metrics::ShardMetrics;
use crate::terminators::ToTerminator;
use crate::writer::{After, Append};

/// Inputs taken in one turn.
const INPUTS: usize = 512;

/// How a caller of the API is answered.
#[derive(Debug)]
pub enum Reply {
    /// It asked something of a device.
    Answer(oneshot::Sender<Result<Answer, AskError>>),
    /// It wanted to see devices.
    Views(oneshot::Sender<Vec<DeviceView>>),
    /// It published.
    Published(oneshot::Sender<Position>),
}

impl Reply {
    /// A caller that has gone away is no error.
    fn answer(self, answer: Result<Answer, AskError>) {
        if let Self::Answer(sender) = self {
            let _ = sender.send(answer);
        }
    }

    fn views(self, views: Vec<DeviceView>) {
        if let Self::Views(sender) = self {
            let _ = sender.send(views);
        }
    }

    /// The event is durable.
    pub fn published(self, position: Position) {
        if let Self::Published(sender) = self {
            let _ = sender.send(position);
        }
    }
}

/// Which shard a device belongs to.
pub fn shard_of(device: DeviceId, shards: usize) -> usize {
    // FNV-1a: devices of a batch differ in few bytes, in no pattern that matters.
    let hash = device.0.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    // The upper half depends on the first bytes most and the lower half on the last: together on all.
    usize::try_from((hash ^ hash >> 32) & u64::from(u32::MAX)).unwrap_or_default() % shards.max(1)
}

/// Lanes to all shards.
#[derive(Debug)]
pub struct ToShards {
    lanes: Vec<Lane<Input<Reply>>>,
    full: IntCounter,
}

impl ToShards {
    /// One lane for each shard. `full` counts what finds no room.
    pub fn new(lanes: Vec<Lane<Input<Reply>>>, full: IntCounter) -> Self {
        Self { lanes, full }
    }

    /// Tells the shard of `device` something. `false` if its lane is full. [`ToShards::ring`] must follow the last of a batch.
    pub fn tell(&mut self, device: DeviceId, input: Input<Reply>) -> bool {
        let shard = shard_of(device, self.lanes.len());
        let taken = self.lanes[shard].push(input).is_ok();
        if !taken {
            self.full.inc();
        }
        taken
    }

    /// Wakes the shards that were told something.
    pub fn ring(&mut self) {
        self.lanes.iter_mut().for_each(Lane::ring);
    }
}

/// Where a shard's outputs go.
#[derive(Debug)]
pub struct ShardLanes {
    /// To the terminators.
    pub terminators: Vec<Lane<ToTerminator>>,
    /// To the journal.
    pub writer: Lane<Append>,
    /// To whoever runs errands.
    pub errands: Sender<Errand>,
}

/// A shard on its thread.
#[derive(Debug)]
pub struct ShardThread {
    shard: Shard<Reply>,
    mailbox: Mailbox<Input<Reply>>,
    lanes: ShardLanes,
    clock: Clock,
    metrics: Arc<ShardMetrics>,
    subscribed: Arc<SubscribedOwners>,
    /// Retirements that found a full lane.
    retirements: Vec<(Link, RetireReason)>,
    /// Errands that nobody took.
    failed: Vec<Errand>,
}

/// Whose events a shard wants to see: those of owners with a subscribed device in it. Written by the shard, read by the journal's writer, which
/// then wakes only shards that have something to deliver. A set bit may stand for several owners and is never cleared: it errs towards waking.
#[derive(Debug, Default)]
pub struct SubscribedOwners {
    bits: [AtomicU64; 16],
}

impl SubscribedOwners {
    fn place(owner: OwnerId) -> (usize, u64) {
        let mixed = owner.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54;
        (usize::try_from(mixed / 64).unwrap_or_default(), 1 << (mixed % 64))
    }

    fn add(&self, owner: OwnerId) {
        let (word, bit) = Self::place(owner);
        self.bits[word].fetch_or(bit, Ordering::Release);
    }

    /// Whether the shard may have a subscribed device of `owner`.
    pub fn may_contain(&self, owner: OwnerId) -> bool {
        let (word, bit) = Self::place(owner);
        self.bits[word].load(Ordering::Acquire) & bit != 0
    }
}

impl ShardThread {
    /// A thread's worth of shard.
    pub fn new(
        shard: Shard<Reply>,
        mailbox: Mailbox<Input<Reply>>,
        lanes: ShardLanes,
        clock: Clock,
        metrics: Arc<ShardMetrics>,
        subscribed: Arc<SubscribedOwners>,
    ) -> Self {
        Self { shard, mailbox, lanes, clock, metrics, subscribed, retirements: Vec::new(), failed: Vec::new() }
    }

    /// Runs until `stop` is set.
    pub fn run(mut self, stop: &AtomicBool) {
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        self.shard.take_new_subscribers().into_iter().for_each(|owner| self.subscribed.add(owner));
        while !stop.load(Ordering::Acquire) {
            let now = self.clock.now();
            let deadline = self.shard.timeout_at().map_or(Duration::from_secs(1), |at| at.since(now.at));
            self.mailbox.wait(deadline.min(Duration::from_secs(1)));
            let now = self.clock.now();
            self.mailbox.drain(INPUTS, |input| inputs.push(input));
            self.metrics.inputs.inc_by(inputs.len() as u64);
            for input in inputs.drain(..) {
                self.shard.apply(now, input, &mut outputs);
            }
            for Errand { device, link, task, .. } in std::mem::take(&mut self.failed) {
                self.shard.apply(now, Input::ErrandDone { device, link, outcome: task.failed() }, &mut outputs);
            }
            self.shard.handle_timeout(now, &mut outputs);
            for (link, reason) in std::mem::take(&mut self.retirements) {
                self.retire(link, reason);
            }
            // Before any subscription goes to the journal, so that no event committed after it is missed.
            self.shard.take_new_subscribers().into_iter().for_each(|owner| self.subscribed.add(owner));
            for output in outputs.drain(..) {
                self.pass_on(output);
            }
            self.lanes.writer.ring();
            self.lanes.terminators.iter_mut().for_each(Lane::ring);
        }
    }

    fn pass_on(&mut self, output: Output<Reply>) {
        match output {
            Output::Append { record, then } => self.append(record, then),
            Output::Request { link, id, request, deadline } => {
                self.tell_terminator(link.terminator, ToTerminator::Request { connection: link.connection, id, request, deadline });
            }
            Output::Acknowledge { link, receipt, code } => {
                self.tell_terminator(link.terminator, ToTerminator::Acknowledge { connection: link.connection, receipt, code });
            }
            Output::Retire { link, reason } => self.retire(link, reason),
            Output::Identify { link, identity } => {
                self.tell_terminator(link.terminator, ToTerminator::Identify { connection: link.connection, identity });
            }
            Output::Errand(errand) => self.send(errand),
            Output::Answer { reply, answer } => reply.answer(answer),
            Output::Views { reply, views } => reply.views(views),
        }
    }

    fn append(&mut self, record: router::journal::Record, then: Then<Reply>) {
        let after = match then {
            Then::Nothing => After::Nothing,
            Then::Acknowledge { link, receipt } => After::Acknowledge { link, receipt },
            Then::Tell(reply) => After::Tell(reply),
        };
        if let Err(refused) = self.lanes.writer.push(Append { record, after }) {
            self.metrics.lane_full.with_label_values(&["writer"]).inc();
            // Not accepted: the device is told so, and a caller sees its reply dropped.
            if let After::Acknowledge { link, receipt } = refused.after {
                let (connection, code) = (link.connection, Code::UNAVAILABLE);
                self.tell_terminator(link.terminator, ToTerminator::Acknowledge { connection, receipt, code });
            }
        }
    }

    /// A session that is over must end where it lives: what finds a full lane is tried again before anything else is done.
    fn retire(&mut self, link: Link, reason: RetireReason) {
        let Some(lane) = self.lanes.terminators.get_mut(usize::from(link.terminator)) else { return };
        if lane.push(ToTerminator::Retire { connection: link.connection, reason }).is_err() {
            self.retirements.push((link, reason));
        }
    }

    /// An errand that nobody takes has failed, which the shard hears in its next turn.
    fn send(&mut self, errand: Errand) {
        if let Err(TrySendError::Full(errand) | TrySendError::Closed(errand)) = self.lanes.errands.try_send(errand) {
            self.metrics.lane_full.with_label_values(&["errands"]).inc();
            self.failed.push(errand);
        }
    }

    fn tell_terminator(&mut self, terminator: u16, message: ToTerminator) {
        let taken = self.lanes.terminators.get_mut(usize::from(terminator)).is_some_and(|lane| lane.push(message).is_ok());
        if !taken {
            self.metrics.lane_full.with_label_values(&["terminator"]).inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_of_a_batch_spread_over_the_shards() {
        let mut counts = [0; 16];
        for n in 0..16_000u32 {
            let mut id = [0xe0; 12];
            id[8..].copy_from_slice(&n.to_be_bytes());
            counts[shard_of(DeviceId(id), 16)] += 1;
        }
        assert!(counts.iter().all(|count| (700..1300).contains(count)), "{counts:?}");
    }
}
