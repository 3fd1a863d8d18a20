//! The thread that does handshakes of devices on TCP: two operations with an RSA key each, far from anybody's session.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use firmware_protocol::crypto::{DevicePublicKey, ServerKeyPair};
use firmware_protocol::id::DeviceId;
use firmware_protocol::tcp::handshake::{Answer, Established, Handshaker, Refusal};
use firmware_protocol::time::Now;

use crate::clock::Clock;
use crate::entropy::SystemEntropy;
use crate::mailbox::{Lane, Mailbox};
use crate::metrics::HandshakeMetrics;
use crate::store::Registry;
use crate::strangers::Strangers;
use crate::terminators::{Holder, ToTerminator};

/// Messages taken in one turn: a handshake is half a millisecond, and its reply waits for the end of the turn.
const MESSAGES: usize = 4;

/// What a proved answer leaves.
pub type Proved = Established<Holder>;

/// A device's answer to its greeting.
#[derive(Debug)]
pub struct ToRsaHandshakes {
    /// Which terminator wants to know.
    pub terminator: u16,
    /// What the connection is called there.
    pub serial: u64,
    /// The answer.
    pub answer: Box<Answer>,
}

/// The thread's state.
pub struct RsaHandshakes {
    handshaker: Handshaker,
    mailbox: Mailbox<ToRsaHandshakes>,
    /// To all terminators, by index.
    terminators: Vec<Lane<ToTerminator>>,
    registry: Arc<Registry>,
    strangers: Arc<Strangers>,
    clock: Clock,
    metrics: Arc<HandshakeMetrics>,
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
        mailbox: Mailbox<ToRsaHandshakes>,
        terminators: Vec<Lane<ToTerminator>>,
        registry: Arc<Registry>,
        strangers: Arc<Strangers>,
        clock: Clock,
        metrics: Arc<HandshakeMetrics>,
    ) -> Self {
        Self { handshaker: Handshaker::new(key), mailbox, terminators, registry, strangers, clock, metrics }
    }

    /// Runs until `stop` is set.
    pub fn run(mut self, stop: &AtomicBool) {
        let mut messages = Vec::new();
        while !stop.load(Ordering::Acquire) {
            self.mailbox.wait(Duration::from_secs(1));
            let now = self.clock.now();
            self.mailbox.drain(MESSAGES, |message| messages.push(message));
            for ToRsaHandshakes { terminator, serial, answer } in messages.drain(..) {
                let news = match self.judge(now, &answer) {
                    Ok(established) => ToTerminator::Proved { serial, established: Box::new(established) },
                    Err(refusal) => {
                        self.metrics.tcp_refusal(refusal);
                        ToTerminator::Unproved { serial }
                    }
                };
                let told = self.terminators.get_mut(usize::from(terminator)).is_some_and(|lane| lane.push(news).is_ok());
                if !told {
                    // The connection ends by its own time-out.
                    self.metrics.refused("terminator_full");
                }
            }
            self.terminators.iter_mut().for_each(Lane::ring);
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
