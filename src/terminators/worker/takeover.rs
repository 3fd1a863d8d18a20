//! What a worker does when another thread takes a shard over.

use firmware_protocol::session::Session;

use super::Worker;
use crate::shards::shard_of;
use crate::takeover::{Answer, Handover};
use crate::terminators::ToTerminator;

impl Worker {
    /// From here on the shard is its new thread. What the old one was told and has not acknowledged is lost: it is new when its device repeats it, and
    /// devices do within seconds. What it had accepted is acknowledged by now, because this comes behind all acknowledgements.
    pub(super) fn take_over(&mut self, Handover { shard, from_shard, to_shard, mut answer }: Handover<ToTerminator>) {
        self.mailbox.exchange(from_shard);
        self.lanes.shards.replace(shard, to_shard);
        let shards = self.lanes.shards.count();
        let (held, busy) = self.sessions.held(|device| shard_of(device, shards) == shard);
        for connection in busy {
            self.with_session(connection, Session::disown);
        }
        // Whoever waits has made room for it.
        let _ = answer.send(Answer::Sessions { terminator: self.index, held });
    }
}
