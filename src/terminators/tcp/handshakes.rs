//! The thread that does handshakes of devices on TCP: two operations with an RSA key each, far from anybody's session.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use firmware_protocol::crypto::{DevicePublicKey, ServerKeyPair};
use firmware_protocol::id::DeviceId;
use firmware_protocol::tcp::handshake::{Answer, Established, Handshaker, Refusal};
use firmware_protocol::time::{Millis, Now};

use crate::admission::Admission;
use crate::clock::Clock;
use crate::entropy::SystemEntropy;
use crate::mailbox::{Lane, Mailbox};
use crate::metrics::{HandshakeMetrics, RoomMetrics};
use crate::store::Registry;
use crate::strangers::Strangers;
use crate::terminators::{Holder, ToTerminator};
use crate::waiting_room::{Guest, WaitingRoom};

/// Messages taken in one turn.
const MESSAGES: usize = 256;
/// Handshakes done in one turn: each is half a millisecond, and its reply waits for the end of the turn.
const BATCH: usize = 4;
/// Answers that wait at most: as many as there may be connections by default, and more.
const WAITING_MAX: usize = 16_384;
/// A device gives up 20 s after its answer.
const PATIENCE: Duration = Duration::from_secs(18);

/// What a proved answer leaves.
pub type Proved = Established<Holder>;

/// A device's answer to its greeting.
#[derive(Debug)]
pub struct ToRsaHandshakes {
    /// Which terminator wants to know.
    pub terminator: u16,
    /// What the connection is called there.
    pub serial: u64,
    /// The other end of it.
    pub peer: SocketAddr,
    /// The answer.
    pub answer: Box<Answer>,
}

impl Guest for ToRsaHandshakes {
    fn peer(&self) -> SocketAddr {
        self.peer
    }

    fn repeats(&self, waiting: &Self) -> bool {
        (self.terminator, self.serial) == (waiting.terminator, waiting.serial)
    }
}

/// The thread's state.
pub struct RsaHandshakes {
    handshaker: Handshaker,
    room: WaitingRoom<ToRsaHandshakes>,
    admission: Arc<Admission>,
    mailbox: Mailbox<ToRsaHandshakes>,
    /// To all terminators, by index.
    terminators: Vec<Lane<ToTerminator>>,
    registry: Arc<Registry>,
    strangers: Arc<Strangers>,
    clock: Clock,
    metrics: Arc<HandshakeMetrics>,
    room_metrics: RoomMetrics,
}

impl fmt::Debug for RsaHandshakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RsaHandshakes").field("handshaker", &self.handshaker).finish_non_exhaustive()
    }
}

impl RsaHandshakes {
    /// With the server's key.
    pub fn new(
        key: ServerKeyPair,
        admission: Arc<Admission>,
        mailbox: Mailbox<ToRsaHandshakes>,
        terminators: Vec<Lane<ToTerminator>>,
        registry: Arc<Registry>,
        strangers: Arc<Strangers>,
        clock: Clock,
        metrics: Arc<HandshakeMetrics>,
    ) -> Self {
        let (room, room_metrics) = (WaitingRoom::new(WAITING_MAX, PATIENCE), metrics.room("tcp"));
        Self { handshaker: Handshaker::new(key), room, admission, mailbox, terminators, registry, strangers, clock, metrics, room_metrics }
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
            while let Some(late) = self.room.pop_expired(now.at) {
                self.refuse(&late, "tcp_waiting_expired");
            }
            self.mailbox.drain(MESSAGES, |message| messages.push(message));
            messages.drain(..).for_each(|message| self.enter(now.at, message));
            self.admit(now);
            self.terminators.iter_mut().for_each(Lane::ring);
            self.room_metrics.waiting(self.room.len());
        }
    }

    /// For how long there is nothing to do but to take messages.
    fn pause(&self, now: Millis) -> Duration {
        if self.room.is_empty() { Duration::from_secs(1) } else { self.admission.pause(now) }
    }

    fn enter(&mut self, now: Millis, message: ToRsaHandshakes) {
        let (terminator, serial) = (message.terminator, message.serial);
        let entered = self.room.enter(now, message);
        if let Err(refused) = self.room_metrics.entered(entered) {
            self.metrics.refused(&format!("tcp_{refused}"));
            self.tell(terminator, ToTerminator::Unproved { serial });
        }
    }

    /// Does some of the handshakes that wait.
    fn admit(&mut self, now: Now) {
        for _ in 0..BATCH {
            if !self.admission.pause(now.at).is_zero() {
                return;
            }
            let Some((message, waited, ())) = self.room.next(now.at, |_| Some(())) else { return };
            self.admission.began(now.at);
            self.room_metrics.admitted(waited);
            match self.judge(now, &message.answer) {
                Ok(established) => {
                    self.tell(message.terminator, ToTerminator::Proved { serial: message.serial, established: Box::new(established) });
                }
                Err(refusal) => {
                    self.metrics.tcp_refusal(refusal);
                    self.tell(message.terminator, ToTerminator::Unproved { serial: message.serial });
                }
            }
        }
    }

    fn refuse(&mut self, message: &ToRsaHandshakes, reason: &str) {
        self.metrics.refused(reason);
        self.tell(message.terminator, ToTerminator::Unproved { serial: message.serial });
    }

    fn tell(&mut self, terminator: u16, news: ToTerminator) {
        let told = self.terminators.get_mut(usize::from(terminator)).is_some_and(|lane| lane.push(news).is_ok());
        if !told {
            // The connection ends by its own time-out.
            self.metrics.refused("terminator_full");
        }
    }

    fn judge(&self, now: Now, answer: &Answer) -> Result<Proved, Refusal> {
        self.handshaker.finish(answer, &mut SystemEntropy, |device, shown| self.holder(now, device, shown))
    }

    /// Who says so, and under which key: the one shown if it is registered for this device, or, for firmware that shows none, the registered one.
    fn holder(&self, now: Now, device: DeviceId, shown: Option<&DevicePublicKey>) -> Option<(Holder, DevicePublicKey)> {
        let Some(shown) = shown else {
            let registered = self.registry.devices().find(device)?;
            return Some((Holder::Known(registered.identity()?), *registered.rsa_key()?));
        };
        match self.registry.keys().identity(&shown.hash()).filter(|identity| identity.device == device) {
            Some(identity) => Some((Holder::Known(identity), *shown)),
            None => self.strangers.admit(now.unix).then_some((Holder::Stranger, *shown)),
        }
    }
}
