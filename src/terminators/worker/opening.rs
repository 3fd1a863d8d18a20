//! How a session begins: from a hello, over the handshake thread and the journal, until the device is told that it has one.

use firmware_protocol::dtls::cid::ConnectionId;
use firmware_protocol::dtls::hello::ClientHello;
use firmware_protocol::dtls::server::Established;
use firmware_protocol::entropy::Entropy;
use firmware_protocol::id::{DeviceId, Identity, KeyHash};
use firmware_protocol::path::Path;
use firmware_protocol::session::Session;
use firmware_protocol::session::stored::StoredSession;
use router::journal::Record;
use router::shard::Input;

use super::Worker;
use crate::admission::Settling;
use crate::entropy::SystemEntropy;
use crate::handshakes::WaitingHello;
use crate::terminators::{Holder, ToHandshakes};
use crate::writer::After;

/// How often a random connection id is drawn that no session has.
const DRAWS: usize = 16;

impl Worker {
    pub(super) fn handle_hello(&mut self, hello: &ClientHello<'_>, path: Path) {
        if !self.cookies.proves(path.peer, hello) {
            let challenge = self.cookies.challenge(path.peer, hello);
            self.shared.metrics.cookies_sent.inc();
            return self.transmit(path, &challenge);
        }
        let Some(connection) = self.draw_connection() else { return self.shared.metrics.dropped("no_free_connection_id") };
        if !hello.offers_connection_id {
            self.awaited.expect(self.now.at, path.peer);
        }
        let waiting = WaitingHello { hello: hello.into(), path, connection, terminator: self.index };
        self.pass_to_handshakes(ToHandshakes::Hello(Box::new(waiting)));
    }

    /// An id of one of this worker's buckets that no session has, and none that is about to be.
    fn draw_connection(&mut self) -> Option<ConnectionId> {
        let buckets = (usize::from(u8::MAX) + 1 - usize::from(self.index)).div_ceil(self.workers);
        let [random] = SystemEntropy.array::<1>();
        let bucket = usize::from(self.index) + usize::from(random) % buckets * self.workers;
        let bucket = u8::try_from(bucket).ok()?;
        let mut draws = (0..DRAWS).map(|_| self.shared.ids.allocate(bucket, &mut SystemEntropy));
        draws.find(|id| !self.sessions.contains(*id) && self.reserved.reserve(self.now.at, *id))
    }

    pub(super) fn pass_to_handshakes(&mut self, message: ToHandshakes) {
        // The device repeats its flight.
        if self.lanes.handshakes.push(message).is_err() {
            self.shared.metrics.dropped("handshakes_full");
        }
    }

    pub(super) fn established(&mut self, path: Path, connection: ConnectionId, established: Established<Holder>, settling: Settling) {
        if self.sessions.contains(connection) {
            return self.shared.metrics.dropped("connection_taken");
        }
        let identity = match established.holder {
            Holder::Known(identity) => identity,
            // Never written down, never routed: the id is filled in by its Hello for the operator's list only.
            Holder::Stranger => Identity { device: DeviceId([0; 12]), key: KeyHash([0; 32]), owner: None, product: None },
        };
        let generation = self.shared.generations.current();
        let stored = StoredSession {
            connection,
            id_on_wire: established.connection.is_some(),
            identity,
            keys: established.keys,
            birth: generation,
            established_at: self.now.unix,
            path,
            final_flight: established.final_flight,
        };
        let Some(session) = Session::established(&stored, established.finished_sequence, generation) else { return };
        self.shared.metrics.handshakes.inc();
        match established.holder {
            Holder::Known(_) => {
                // A full journal lane leaves the device without an answer; it gives up after 45 seconds and begins anew.
                if self.append(Record::SessionOpened(stored), After::Opened { terminator: self.index, connection }) {
                    self.shared.metrics.session_began();
                    let allowance = self.shared.limits.resume(self.now.at, identity.device);
                    self.sessions.insert_opening(session, identity, allowance, settling);
                }
            }
            Holder::Stranger => {
                self.shared.metrics.no_session();
                self.sessions.insert_stranger(self.now.at, session, established.public_key);
                self.enter(connection);
                self.with_session(connection, Session::confirm);
            }
        }
    }

    pub(super) fn opened(&mut self, connection: ConnectionId) {
        let Some(identity) = self.sessions.opened(connection) else { return };
        let Some(entry) = self.sessions.entry(connection) else { return };
        let ip = entry.session.path().peer.ip();
        tracing::debug!(device = %identity.device, session = %connection, peer = %entry.session.path().peer, "session established");
        // The shard must know the session before its first message; a full lane means that it is not told, and the device starts over.
        if self.lanes.shards.tell(identity.device, Input::Opened { link: self.link(connection), identity, ip }) {
            self.enter(connection);
            self.with_session(connection, Session::confirm);
        } else {
            self.remove(connection);
            self.shared.metrics.session_ended();
        }
    }

    /// The device gets no answer, gives its handshake up after 45 seconds and begins anew.
    pub(super) fn not_opened(&mut self, connection: ConnectionId) {
        if self.sessions.opened(connection).is_some() {
            self.remove(connection);
            self.shared.metrics.session_ended();
        }
    }
}
