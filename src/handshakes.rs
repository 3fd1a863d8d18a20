//! The handshake thread: everything expensive that strangers can ask for happens here, so that sessions never wait for it.
//!
//! Hellos with a right cookie wait in a room until the thread has nothing better to do, which is to finish what was begun. A device takes the answer to
//! its hello at any time until it gives up, so that a fleet that comes back at once is served one after the other, and nobody has to come again.

mod waiting;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use firmware_protocol::crypto::{KeyPair, PublicKey};
use firmware_protocol::dtls::cid::ConnectionId;
use firmware_protocol::dtls::server::{Handshaker, Pending, ServerCertificate};
use firmware_protocol::error::KeyError;
use firmware_protocol::path::Path;
use firmware_protocol::time::{Millis, Now};

use crate::admission::{Admission, Place};
use crate::clock::Clock;
use crate::entropy::SystemEntropy;
use crate::mailbox::{Lane, Mailbox};
use crate::metrics::{HandshakeMetrics, RoomMetrics};
use crate::store::KeyRing;
use crate::strangers::Strangers;
use crate::terminators::{Holder, ToHandshakes, ToTerminator, owner_of};
use crate::waiting_room::WaitingRoom;

pub use self::waiting::WaitingHello;

/// Messages taken in one turn: a storm of hellos must not fill the lanes while handshakes are done.
const MESSAGES: usize = 256;
/// Operations after which terminators are woken: each is a good part of a millisecond, and its answer waits for that. Waking a terminator for each would
/// cost more than the wait.
const BATCH: usize = 8;
/// Hellos that wait at most: 16 MiB.
const WAITING_MAX: usize = 65_536;
/// A device gives up 45 s after its first hello; what is left then is for the rest of the handshake.
const PATIENCE: Duration = Duration::from_secs(40);
/// Between two looks whether addresses with too many handshakes under way have fewer.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

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
    room: WaitingRoom<WaitingHello>,
    /// Nobody who waits was let in: their addresses have too many handshakes under way.
    blocked: bool,
    admission: Arc<Admission>,
    /// How long one may stay half-open.
    life: Duration,
    mailbox: Mailbox<ToHandshakes>,
    terminators: Vec<Lane<ToTerminator>>,
    keys: Arc<KeyRing>,
    strangers: Arc<Strangers>,
    clock: Clock,
    metrics: Arc<HandshakeMetrics>,
    room_metrics: RoomMetrics,
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
            room: WaitingRoom::new(WAITING_MAX, PATIENCE),
            blocked: false,
            admission,
            life,
            mailbox,
            terminators,
            keys,
            strangers,
            clock,
            room_metrics: metrics.room("dtls"),
            metrics,
        })
    }

    /// Runs until `stop` is set.
    pub fn run(mut self, stop: &AtomicBool) {
        let mut messages = Vec::new();
        while !stop.load(Ordering::Acquire) {
            let pause = self.pause(self.clock.now().at);
            if !pause.is_zero() {
                self.mailbox.wait(pause);
            }
            let now = self.clock.now();
            self.expire(now.at);
            self.mailbox.drain(MESSAGES, |message| messages.push(message));
            for (index, message) in messages.drain(..).enumerate() {
                match message {
                    ToHandshakes::Hello(hello) => self.hello(now.at, *hello),
                    ToHandshakes::Flight { connection, path, datagram } => self.flight(now, connection, path, &datagram),
                }
                if index % BATCH == BATCH - 1 {
                    self.ring();
                }
            }
            self.admit(now.at);
            self.ring();
            self.metrics.pending.set(i64::try_from(self.half_open.len()).unwrap_or(i64::MAX));
            self.room_metrics.waiting(self.room.len());
        }
    }

    fn ring(&mut self) {
        self.terminators.iter_mut().for_each(Lane::ring);
    }

    /// For how long there is nothing to do but to take messages.
    fn pause(&self, now: Millis) -> Duration {
        match (self.room.is_empty(), self.blocked) {
            (true, _) => Duration::from_secs(1),
            (false, true) => LOOK_AGAIN,
            (false, false) => self.admission.pause_for_place(now),
        }
    }

    /// A hello whose cookie was right: repeats our flight of the handshake under way, or waits.
    fn hello(&mut self, now: Millis, hello: WaitingHello) {
        let peer = hello.path.peer;
        if let Some(half_open) = self.half_open.get_mut(&peer) {
            if half_open.pending.answers(hello.hello.random()) {
                return self.answer(peer, hello.path, hello.hello.record_sequence());
            }
            // The device has given that one up.
            self.forget(peer);
        }
        let entered = self.room.enter(now, hello);
        if let Err(refused) = self.room_metrics.entered(entered) {
            self.metrics.refused(refused);
        }
    }

    /// Lets some of those who wait begin.
    fn admit(&mut self, now: Millis) {
        self.blocked = false;
        for _ in 0..BATCH {
            if self.room.is_empty() || !self.admission.pause_for_place(now).is_zero() {
                return;
            }
            let admission = &self.admission;
            let Some((hello, waited, place)) = self.room.next(now, |hello| admission.enter(hello.path.peer.ip()).ok()) else {
                self.blocked = true;
                return;
            };
            self.admission.began(now);
            self.room_metrics.admitted(waited);
            self.begin(now, hello, place);
        }
    }

    fn begin(&mut self, now: Millis, waiting: WaitingHello, place: Place) {
        let WaitingHello { hello, path, connection, terminator } = waiting;
        if self.by_connection.contains_key(&connection) {
            // Drawn twice while both waited; the device repeats its hello.
            return self.metrics.refused("connection_taken");
        }
        let record_sequence = hello.record_sequence();
        let Ok(pending) = self.handshaker.begin(hello, Some(connection), &mut SystemEntropy) else {
            return self.metrics.refused("internal");
        };
        self.by_connection.insert(connection, path.peer);
        self.half_open.insert(path.peer, HalfOpen { pending, terminator, connection, since: now, _place: place });
        self.order.push_back((now, path.peer));
        self.answer(path.peer, path, record_sequence);
    }

    /// Sends our flight in answer to the hello with that record sequence.
    fn answer(&mut self, peer: SocketAddr, path: Path, record_sequence: u64) {
        let Some(half_open) = self.half_open.get_mut(&peer) else { return };
        let datagram = half_open.pending.flight(record_sequence);
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
                let settling = self.admission.settle();
                self.tell_terminator(owner, ToTerminator::Established { path, connection, established: Box::new(established), settling });
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
        while self.room.pop_expired(now).is_some() {
            self.metrics.refused("waiting_expired");
        }
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
