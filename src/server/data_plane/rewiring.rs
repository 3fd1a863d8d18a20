//! Another mailbox for a shard, and all lanes to it and from it once more: what its next thread gets, and what everybody around it exchanges for that.

use std::io;
use std::sync::Arc;

use router::shard::Input;
use tokio::sync::mpsc::Sender;

use super::wiring::{API_LANE, LANE};
use crate::errands::Asked;
use crate::fan_out::{ToFanOut, UNTAKEN_MAX};
use crate::mailbox::{Bell, Lane, LanePlace, Mailbox, MailboxBuilder};
use crate::metrics::TakeoverMetrics;
use crate::shards::{Reply, ShardLanes};
use crate::takeover::{Answer, FanOutHandover, Handover, Order, TakenOver, WriterHandover};
use crate::terminators::ToTerminator;
use crate::watchdog::WATCHDOG_LANE;
use crate::writer::ToWriter;

/// What is known of the first wiring.
pub(super) struct Rewiring {
    /// What the watchdog wants.
    pub(super) orders: Mailbox<Order>,
    /// To the journal.
    pub(super) writer: Lane<ToWriter>,
    /// To the fan-out.
    pub(super) fan_out: Lane<ToFanOut>,
    /// To the watchdog.
    pub(super) watchdog: Lane<TakenOver>,
    /// To whoever runs errands.
    pub(super) errands: Sender<Asked>,
    /// What wakes those to whom shards send.
    pub(super) bells: Bells,
    /// Where the lanes of each shard are.
    pub(super) places: Vec<ShardPlaces>,
}

/// What wakes those to whom shards send.
pub(super) struct Bells {
    pub(super) terminators: Vec<Arc<Bell>>,
    pub(super) writer: Arc<Bell>,
    pub(super) fan_out: Arc<Bell>,
}

/// Where the lanes of one shard are in the mailboxes at their ends.
pub(super) struct ShardPlaces {
    pub(super) terminators: Vec<LanePlace>,
    pub(super) writer: LanePlace,
    pub(super) fan_out: LanePlace,
}

/// The ends of one shard's new lanes.
pub(super) struct Rewired {
    /// Of the shard itself.
    pub(super) shard: (Mailbox<Input<Reply>>, ShardLanes),
    /// To it, for callers.
    pub(super) api: Lane<Input<Reply>>,
    /// To it, for the watchdog.
    pub(super) watchdog: Lane<Input<Reply>>,
    /// What the writer is told, which tells the terminators.
    pub(super) writer: WriterHandover,
    /// What the fan-out is told.
    pub(super) fan_out: FanOutHandover,
    /// What all these answer.
    pub(super) answers: Mailbox<Answer>,
}

impl Rewiring {
    /// Makes new lanes for a shard.
    ///
    /// # Errors
    /// The system has no more files.
    pub(super) fn anew(&self, shard: usize, metrics: &TakeoverMetrics) -> io::Result<Rewired> {
        let (places, bells) = (&self.places[shard], &self.bells);
        let (mut own, mut answers) = (MailboxBuilder::new()?, MailboxBuilder::new()?);
        let refused = metrics.fenced("terminator");
        let ends = places.terminators.iter().zip(&bells.terminators).map(|(place, bell)| {
            let (lane, from_shard) = Lane::<ToTerminator>::instead_of(*place, bell, LANE, refused.clone());
            (lane, Handover { shard, from_shard, to_shard: own.lane(LANE), answer: answers.lane(1) })
        });
        let (to_terminators, terminators) = ends.unzip();
        let (to_writer, from_shard) = Lane::instead_of(places.writer, &bells.writer, LANE, metrics.fenced("journal"));
        let writer = WriterHandover { from_shard, terminators, answer: answers.lane(1) };
        let (to_fan_out, from_shard) = Lane::instead_of(places.fan_out, &bells.fan_out, LANE, metrics.fenced("fan_out"));
        let fan_out = Handover { shard, from_shard, to_shard: own.lane(UNTAKEN_MAX), answer: answers.lane(1) };
        let (api, watchdog) = (own.lane(API_LANE), own.lane(WATCHDOG_LANE));
        let lanes = ShardLanes { terminators: to_terminators, writer: to_writer, errands: self.errands.clone(), fan_out: to_fan_out };
        Ok(Rewired { shard: (own.build()?, lanes), api, watchdog, writer, fan_out, answers: answers.build()? })
    }

    /// Number of terminators on UDP: that of TCP is the last of all.
    pub(super) fn workers(&self) -> usize {
        self.bells.terminators.len().saturating_sub(1)
    }
}
