//! Backups: a consistent copy of a data directory, made beside a server that goes on, and a data directory made of one.
//!
//! # A backup, format version 1, and 2 where there is firmware
//!
//! A directory of mode 0700, whose files have mode 0600:
//!
//! | name | content |
//! |---|---|
//! | `manifest.json` | [`Manifest`]: every other file with its length and its SHA-256 |
//! | `keys/` | the server's key pairs, and the keys of connection-id tags |
//! | `journal/` | segments up to a synced byte of the last one, and the newest snapshot |
//! | `registry.db` | the registry, as of a moment after the journal's |
//! | `firmware/` | the bytes of firmware, each in a file that is named by its SHA-256 |
//! | `generation` | the count of starts |
//!
//! The history is not in it: it is made anew from the journal. The journal comes before the registry, so that no session is of a device that the
//! registry does not know yet.

mod error;
mod files;
mod make;
mod manifest;
mod restore;

pub use error::BackupError;
pub use make::make;
pub use manifest::{Entry, JournalPart, Manifest};
pub use restore::{Restored, restore};
