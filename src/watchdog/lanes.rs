//! The watchdog's lane to each part.

use router::progress::{Heartbeat, Part};
use router::shard::Input;
use tokio::sync::mpsc;

use crate::fan_out::ToFanOut;
use crate::mailbox::Lane;
use crate::shards::Reply;
use crate::takeover::Order;
use crate::terminators::ToTerminator;
use crate::writer::ToWriter;

/// Room in each: heartbeats that nobody takes need no more.
pub const LANE: usize = 16;

/// The lanes.
#[derive(Debug)]
pub struct WatchdogLanes {
    /// To the terminators, the one of TCP last.
    pub terminators: Vec<Lane<ToTerminator>>,
    /// To the shards.
    pub shards: Vec<Lane<Input<Reply>>>,
    /// To the journal.
    pub writer: Lane<ToWriter>,
    /// To the fan-out.
    pub fan_out: Lane<ToFanOut>,
    /// To those who serve the API.
    pub api: mpsc::Sender<Heartbeat>,
    /// To the thread that gives shards to other threads.
    pub takeover: Lane<Order>,
}

impl WatchdogLanes {
    /// From now on this shard is another thread, at the end of `lane`.
    pub(super) fn replace(&mut self, shard: u16, lane: Lane<Input<Reply>>) {
        if let Some(place) = self.shards.get_mut(usize::from(shard)) {
            *place = lane;
        }
    }

    /// Sends a heartbeat to everybody. Whoever has no room for it takes none, which shows.
    pub(super) fn beat(&mut self, heartbeat: Heartbeat) {
        for (part, lane) in (0..).map(Part::Terminator).zip(&mut self.terminators) {
            let _ = lane.send(ToTerminator::Heartbeat { of: part, heartbeat });
        }
        for lane in &mut self.shards {
            let _ = lane.send(Input::Heartbeat(heartbeat));
        }
        let _ = self.writer.send(ToWriter::Heartbeat { of: Part::Journal, heartbeat });
        let _ = self.fan_out.send(ToFanOut::Heartbeat(heartbeat));
        let _ = self.api.try_send(heartbeat);
    }
}
