//! What the threads around a shard are told when another thread takes it over, and what they answer. Each gives up its lane from the old thread for one
//! from the new: from then on nothing counts that the old one still says, whatever it does. The order of these steps, and what the new thread is left,
//! are in `src/server/data_plane/takeover.rs`.
//!
//! The writer comes first. What it had taken is committed, and the terminators are told by it, behind all acknowledgements that follow from that.

use std::net::IpAddr;

use firmware_protocol::dtls::cid::ConnectionId;
use firmware_protocol::id::DeviceId;
use firmware_protocol::time::{Millis, UnixMillis};
use router::epoch::Epoch;
use router::progress::Stage;
use router::shard::Input;

use crate::fan_out::ToFanOut;
use crate::journal::Mark;
use crate::mailbox::{Exchange, Lane};
use crate::shards::Reply;
use crate::terminators::ToTerminator;
use crate::writer::ToWriter;

/// The watchdog wants a shard to be taken over.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// Which.
    pub shard: u16,
    /// The epoch that begins with it.
    pub epoch: Epoch,
    /// Where the old thread stands.
    pub stage: Option<Stage>,
    /// Since when it is known to.
    pub since: Millis,
}

/// A shard was taken over: the watchdog's lane to its thread.
#[derive(Debug)]
pub struct TakenOver {
    /// Which shard.
    pub shard: u16,
    /// To its new thread.
    pub lane: Lane<Input<Reply>>,
}

/// What a thread does for a takeover that the shard sends to and that sends to the shard.
#[derive(Debug)]
pub struct Handover<T> {
    /// Which shard.
    pub shard: usize,
    /// What comes from it.
    pub from_shard: Exchange<T>,
    /// To its new thread.
    pub to_shard: Lane<Input<Reply>>,
    /// Who waits for it.
    pub answer: Lane<Answer>,
}

/// What the writer does for a takeover.
#[derive(Debug)]
pub struct WriterHandover {
    /// What comes from the shard.
    pub from_shard: Exchange<ToWriter>,
    /// What it tells the terminators, by their number, when everything is committed that came from the old thread.
    pub terminators: Vec<Handover<ToTerminator>>,
    /// Who waits for it.
    pub answer: Lane<Answer>,
}

/// What the fan-out does for a takeover.
pub type FanOutHandover = Handover<ToFanOut>;

/// What is answered.
#[derive(Debug)]
pub enum Answer {
    /// By the writer: the journal has everything of the old thread that it will ever have, up to here.
    Written(Mark),
    /// By a terminator: these are the sessions of the shard's devices that it has.
    Sessions {
        /// Its number.
        terminator: u16,
        /// The sessions.
        held: Vec<Held>,
    },
    /// By the fan-out: it goes on with the new thread.
    FanOut,
}

/// A session that a terminator has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    /// Whose.
    pub device: DeviceId,
    /// Which.
    pub connection: ConnectionId,
    /// Where the device is.
    pub ip: IpAddr,
    /// How far it has come.
    pub standing: HeldStanding,
}

/// How far a session has come that a terminator has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeldStanding {
    /// The shard hears of it when it is durable.
    Opening,
    /// In use; the journal has it.
    Live,
    /// In use over TCP since this moment; the journal knows nothing of it.
    LiveOnTcp(UnixMillis),
}
