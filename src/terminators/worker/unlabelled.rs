//! What a worker does for sessions whose devices put no connection id into their records (firmware before 3.1).

use firmware_protocol::dtls::cid::ConnectionId;
use firmware_protocol::dtls::demux::{Datagram, demux};
use firmware_protocol::path::Path;

use super::Worker;
use crate::orphans::Trace;
use crate::terminators::sessions::{Places, Standing};
use crate::terminators::{Candidates, ToHandshakes, ToTerminator, owner_of};

impl Worker {
    /// A datagram without connection id: for the first of `candidates` that can open it, wherever that is. A flight that none can open ends a
    /// new handshake, if one is `awaited`.
    pub(super) fn handle_unlabelled(&mut self, mut candidates: Candidates, awaited: bool, datagram: &[u8], path: Path) {
        let mut reason = None;
        loop {
            let before = candidates;
            let Some(connection) = candidates.next() else { break };
            if !self.owns(connection) {
                let message = ToTerminator::Unlabelled { path, bytes: datagram.to_vec(), candidates: before, awaited };
                if self.lanes.workers[owner_of(connection, self.workers)].push(message).is_err() {
                    self.shared.metrics.dropped("worker_full");
                }
                return;
            }
            if !self.sessions.contains(connection) {
                continue;
            }
            match self.open_with(connection, datagram, path) {
                Ok(()) => return self.heard(connection),
                Err(dropped) => reason = Some(dropped),
            }
        }
        match (demux(datagram), reason) {
            (Datagram::Flight { connection }, _) if awaited => {
                self.pass_to_handshakes(ToHandshakes::Flight { connection, path, datagram: datagram.to_vec() });
            }
            (_, Some(dropped)) => self.shared.metrics.session_drop(dropped),
            (Datagram::Resumed { device }, None) => {
                self.shared.orphans.heard(Trace::Device(device), path.peer, self.now.unix);
                self.shared.metrics.dropped("unknown_device");
            }
            (_, None) => self.shared.metrics.dropped("unknown_address"),
        }
    }

    /// Lets a session be found whose device puts no connection id into its records.
    pub(super) fn enter(&mut self, connection: ConnectionId) {
        let Some(entry) = self.sessions.entry(connection).filter(|entry| !entry.session.id_on_wire()) else { return };
        let places = Places::of(&entry.session);
        self.unlabelled.prove(places.proved, connection);
        if entry.standing != Standing::Stranger {
            self.unlabelled.hold(entry.session.device(), connection);
        }
        self.sessions.places.insert(connection, Places { claimed: None, ..places });
    }

    /// Keeps the table of such sessions true of one to which something was done.
    pub(super) fn follow(&mut self, connection: ConnectionId) {
        let Some(entry) = self.sessions.entry(connection).filter(|entry| !entry.session.id_on_wire()) else { return };
        let new = Places::of(&entry.session);
        let Some(places) = self.sessions.places.get_mut(&connection) else { return };
        let old = std::mem::replace(places, new);
        if old.proved != new.proved {
            self.unlabelled.leave(old.proved, connection);
            self.unlabelled.prove(new.proved, connection);
        }
        if let Some(gone) = old.claimed.filter(|gone| new.claimed != Some(*gone) && new.proved != *gone) {
            self.unlabelled.leave(gone, connection);
        }
        if let Some(came) = new.claimed.filter(|came| old.claimed != Some(*came)) {
            self.unlabelled.claim(came, connection);
        }
    }

    /// A session is gone.
    pub(super) fn remove(&mut self, connection: ConnectionId) {
        let Some(entry) = self.sessions.remove(connection) else { return };
        let Some(places) = self.sessions.places.remove(&connection) else { return };
        [Some(places.proved), places.claimed].into_iter().flatten().for_each(|peer| self.unlabelled.leave(peer, connection));
        self.unlabelled.release(entry.session.device(), connection);
    }
}
