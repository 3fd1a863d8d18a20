//! The generation of this process, shared by the terminators, and fresh ones for sessions that have sent eight million records in it.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;

use firmware_protocol::session::Session;
use firmware_protocol::session::stored::Generation;
use firmware_protocol::time::UnixMillis;

use crate::generation;

/// Hands out generations.
#[derive(Debug)]
pub struct Generations {
    directory: PathBuf,
    at_start: Generation,
    latest: Mutex<Generation>,
}

impl Generations {
    /// With the generation this process was started in.
    pub fn new(directory: PathBuf, at_start: Generation) -> Self {
        Self { directory, at_start, latest: Mutex::new(at_start) }
    }

    /// The generation in which this process makes sessions.
    pub fn current(&self) -> Generation {
        self.at_start
    }

    /// Moves a session that is running out of numbers on to a generation that it has not used. Writes and syncs at most once for all sessions
    /// of a generation.
    pub fn renew(&self, session: &mut Session, now: UnixMillis) {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        session.renew(*latest);
        if session.needs_generation() {
            match generation::raise(&self.directory, now) {
                Ok(fresh) => {
                    *latest = fresh;
                    session.renew(fresh);
                }
                // The session goes on with what is left of its own, four million records, and asks again.
                Err(error) => tracing::error!(%error, "cannot raise the generation"),
            }
        }
    }
}
