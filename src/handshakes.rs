//! The handshake thread: everything expensive that strangers can ask for happens here, so that sessions never wait for it.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use firmware_protocol::crypto::{KeyPair, PublicKey};
use firmware_protocol::dtls::cid::ConnectionId;
use firmware_protocol::dtls::demux::{Datagram, demux};
use firmware_protocol::dtls::server::{Handshaker, Pending, ServerCertificate};
use firmware_protocol::error::KeyError;
use firmware_protocol::path::Path;
use firmware_protocol::time::{Millis, Now};

use crate::admission::{Admission, Place};
use crate::clock::Clock;
use crate::entropy::SystemEntropy;
use crate::mailbox::{Lane, Mailbox};
use crate::metrics::HandshakeMetrics;
use crate::store::KeyRing;
use crate::strangers::Strangers;
use crate::terminators::{Holder, ToHandshakes, ToTerminator, owner_of};

/// Messages taken in one turn: a handshake is a good part of a millisecond, and its answer waits for the end of the turn. Waking a terminator for
/// each would cost more than the wait.
const MESSAGES: usize = 8;

struct HalfOpen {
    pending: Pending,
    terminator: u16,
    connection: ConnectionId,
    since: Millis,
    /// Held for what its end frees.
    _place: Place,
}

/// The thread's state.
pub struct Handshakes {
    handshaker: Handshaker,
    half_open: HashMap<SocketAddr, HalfOpen>,
    /// Where the hello came from for which an id was given out: a device's address may change before its second flight.
    by_connection: HashMap<ConnectionId, SocketAddr>,
    /// Half-open handshakes in the order they began; entries of those that ended are skipped.
    order: VecDeque<(Millis, SocketAddr)>,
    admission: Arc<Admission>,
    /// How long one may stay half-open.
    life: Duration,
    mailbox: Mailbox<ToHandshakes>,
    terminators: Vec<Lane<ToTerminator>>,
    keys: Arc<KeyRing>,
    strangers: Arc<Strangers>,
    clock: Clock,
    metrics: Arc<HandshakeMetrics>,
}

impl std::fmt::Debug for Handshakes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handshakes").field("half_open", &self.half_open.len()).finish_non_exhaustive()
    }
}

impl Handshakes {
    /// With the server's key.
    #[expect(clippy::too_many_arguments, reason = "wiring: each part comes from another place")]
    pub fn new(
        key: KeyPair,
        admission: Arc<Admission>,
        life: Duration,
        mailbox: Mailbox<ToHandshakes>,
        terminators: Vec<Lane<ToTerminator>>,
        keys: Arc<KeyRing>,
        strangers: Arc<Strangers>,
        clock: Clock,
        metrics: Arc<HandshakeMetrics>,
    ) -> Result<Self, KeyError> {
        Ok(Self {
            handshaker: Handshaker::new(key, ServerCertificate::Omitted)?,
            half_open: HashMap::new(),
            by_connection: HashMap::new(),
            order: VecDeque::new(),
            admission,
            life,
            mailbox,
            terminators,
            keys,
            strangers,
            clock,
            metrics,
        })
    }

    /// Runs until `stop` is set.
    pub fn run(mut self, stop: &AtomicBool) {
        let mut messages = Vec::new();
        while !stop.load(Ordering::Acquire) {
            self.mailbox.wait(Duration::from_secs(1));
            let now = self.clock.now();
            self.expire(now.at);
            self.mailbox.drain(MESSAGES, |message| messages.push(message));
            for message in messages.drain(..) {
                match message {
                    ToHandshakes::Hello { terminator, path, datagram, connection } => {
                        self.hello(now, terminator, path, &datagram, connection);
                    }
                    ToHandshakes::Flight { connection, path, datagram } => self.flight(now, connection, path, &datagram),
                }
            }
            self.terminators.iter_mut().for_each(Lane::ring);
            self.metrics.pending.set(i64::try_from(self.half_open.len()).unwrap_or(i64::MAX));
        }
    }

    /// A hello whose cookie was right: begins a handshake, or repeats our flight of the one under way.
    fn hello(&mut self, now: Now, terminator: u16, path: Path, datagram: &[u8], connection: ConnectionId) {
        let Datagram::Hello(hello) = demux(datagram) else { return };
        let repeated = self.half_open.get(&path.peer).is_some_and(|half_open| half_open.pending.answers(&hello));
        if !repeated {
            self.forget(path.peer);
            let place = match self.admission.enter(path.peer.ip()) {
                Ok(place) => place,
                Err(full) => return self.metrics.refused(full.name()),
            };
            let Ok(pending) = self.handshaker.begin(&hello, Some(connection), &mut SystemEntropy) else {
                return self.metrics.refused("internal");
            };
            self.by_connection.insert(connection, path.peer);
            self.half_open.insert(path.peer, HalfOpen { pending, terminator, connection, since: now.at, _place: place });
            self.order.push_back((now.at, path.peer));
        }
        let Some(half_open) = self.half_open.get_mut(&path.peer) else { return };
        let datagram = half_open.pending.flight(hello.record_sequence);
        let terminator = usize::from(half_open.terminator);
        self.tell_terminator(terminator, ToTerminator::Flight { path, datagram });
    }

    fn flight(&mut self, now: Now, connection: Option<ConnectionId>, path: Path, datagram: &[u8]) {
        let peer = connection.and_then(|connection| self.by_connection.get(&connection).copied()).unwrap_or(path.peer);
        let Some(half_open) = self.half_open.get(&peer) else { return self.metrics.refused("no_handshake") };
        let (keys, strangers) = (&self.keys, &self.strangers);
        let lookup = |key: &PublicKey| match keys.identity(&key.hash()) {
            Some(identity) => Some(Holder::Known(identity)),
            None => strangers.admit(now.unix).then_some(Holder::Stranger),
        };
        match self.handshaker.finish(&half_open.pending, datagram, lookup) {
            Ok(established) => {
                let connection = half_open.connection;
                self.forget(peer);
                let owner = owner_of(connection, self.terminators.len());
                self.tell_terminator(owner, ToTerminator::Established { path, connection, established: Box::new(established) });
            }
            Err(refusal) => self.metrics.refusal(refusal),
        }
    }

    fn tell_terminator(&mut self, terminator: usize, message: ToTerminator) {
        if self.terminators[terminator].push(message).is_err() {
            self.metrics.refused("terminator_full");
        }
    }

    fn expire(&mut self, now: Millis) {
        while let Some((since, peer)) = self.order.front().copied() {
            let current = self.half_open.get(&peer).is_some_and(|half_open| half_open.since == since);
            if current && now.since(since) < self.life {
                break;
            }
            self.order.pop_front();
            if current {
                self.metrics.refused("expired");
                self.forget(peer);
            }
        }
    }

    fn forget(&mut self, peer: SocketAddr) {
        if let Some(ended) = self.half_open.remove(&peer) {
            self.by_connection.remove(&ended.connection);
        }
    }
}
