//! The session as a device sees it: what it sends and takes, message by message, against recordings of the real firmware and its hazards.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod bench;
mod captures;
mod disowned;
mod hazards;
mod never_silent;
mod old_firmware;
mod state;
mod stream;
mod vectors;
