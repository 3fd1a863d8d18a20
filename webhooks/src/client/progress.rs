//! How far an attempt has come, for whoever has to say so when its time is up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::delivery::Phase;

/// Something of the request was written.
const WROTE: u8 = 1;
/// The body was given to the connection.
const TAKEN: u8 = 2;
/// All of it was written.
const FLUSHED: u8 = 4;
/// Something of the answer was read.
const READ: u8 = 8;

/// What has passed over a connection since its last request began. It is told by the stream and by the body of the request, and asked between polls; all in one
/// task.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress(Arc<AtomicU8>);

/// Where an attempt is.
#[derive(Debug)]
pub(super) struct Stage(AtomicU8);

const PHASES: [Phase; 8] = [Phase::Render, Phase::Guard, Phase::Dns, Phase::Connect, Phase::Tls, Phase::Write, Phase::Wait, Phase::Body];

impl Progress {
    /// A request begins.
    pub(super) fn begin(&self, has_body: bool) {
        self.0.store(if has_body { 0 } else { TAKEN }, Ordering::Relaxed);
    }

    /// The body was given to the connection.
    pub(super) fn took_body(&self) {
        self.add(TAKEN);
    }

    /// Some bytes were written.
    pub(super) fn wrote(&self) {
        self.add(WROTE);
    }

    /// What was written has been passed on.
    pub(super) fn flushed(&self) {
        if self.has(WROTE | TAKEN) {
            self.add(FLUSHED);
        }
    }

    /// Some bytes were read.
    pub(super) fn read(&self) {
        self.add(READ);
    }

    /// Whether anything of the request was written.
    pub(super) fn has_written(&self) -> bool {
        self.has(WROTE)
    }

    /// Whether anything of an answer was read.
    pub(super) fn has_read(&self) -> bool {
        self.has(READ)
    }

    /// How far the request has come.
    pub(super) fn phase(&self) -> Phase {
        if self.has(READ) {
            Phase::Body
        } else if self.has(FLUSHED) {
            Phase::Wait
        } else {
            Phase::Write
        }
    }

    fn has(&self, bits: u8) -> bool {
        self.0.load(Ordering::Relaxed) & bits == bits
    }

    fn add(&self, bits: u8) {
        self.0.store(self.0.load(Ordering::Relaxed) | bits, Ordering::Relaxed);
    }
}

impl Stage {
    /// The attempt is here now.
    pub(super) fn set(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Relaxed);
    }

    /// Where it is.
    pub(super) fn phase(&self) -> Phase {
        let at = usize::from(self.0.load(Ordering::Relaxed));
        PHASES.into_iter().find(|phase| *phase as usize == at).unwrap_or(Phase::Render)
    }
}

impl Default for Stage {
    fn default() -> Self {
        Self(AtomicU8::new(Phase::Dns as u8))
    }
}
