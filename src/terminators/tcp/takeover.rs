//! What the terminator of TCP does when another thread takes a shard over.

use firmware_protocol::tcp::session::TcpSession;

use super::TcpWorker;
use super::connection::Standing;
use crate::shards::shard_of;
use crate::takeover::{Answer, Handover, Held, HeldStanding};
use crate::terminators::ToTerminator;

impl TcpWorker {
    /// From here on the shard is its new thread. Connections with a message that the old one may have lost are closed: a device on TCP repeats nothing, and
    /// waits for nothing but an acknowledgement. The others go on.
    pub(super) fn take_over(&mut self, Handover { shard, from_shard, to_shard, mut answer }: Handover<ToTerminator>) {
        self.mailbox.exchange(from_shard);
        self.lanes.shards.replace(shard, to_shard);
        let shards = self.lanes.shards.count();
        let mut held = Vec::new();
        for serial in self.connections.keys().copied().collect::<Vec<_>>() {
            let own = |held: &Held| shard_of(held.device, shards) == shard;
            if self.held(serial).as_ref().is_some_and(own) {
                self.with_session(serial, TcpSession::disown);
                held.extend(self.held(serial));
            }
        }
        // Whoever waits has made room for it.
        let _ = answer.send(Answer::Sessions { terminator: self.index, held });
    }

    /// The session of a connection, if its shard knows it.
    fn held(&mut self, serial: u64) -> Option<Held> {
        let connection = self.connections.get_mut(&serial)?;
        let ip = connection.peer().ip().to_canonical();
        let live = connection.live().filter(|live| live.standing == Standing::Known)?;
        let (device, connection) = (live.session.device(), live.session.connection());
        Some(Held { device, connection, ip, standing: HeldStanding::LiveOnTcp(live.since) })
    }
}
