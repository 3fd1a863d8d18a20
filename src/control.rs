//! Commands that change or show what the server knows: what can be asked, how it is done, and the socket on which a running server is asked.
//!
//! A command is one line of JSON each way over a Unix socket in the data directory, which only its owner can open. Without a running server
//! the command line does the same things itself, under the directory's lock. Either way [`perform`] is what happens.

mod acts;
mod client;
mod hook_messages;
mod hooks;
mod messages;
mod orphans;
mod pairing;
mod perform;
mod server;
mod status;

use std::collections::HashMap;
use std::future::{Future, ready};
use std::pin::Pin;
use std::time::Duration;

use firmware_protocol::id::DeviceId;
use firmware_protocol::time::UnixMillis;
use router::device::DeviceView;

use crate::changes::{Register, What};
use crate::dates;
use crate::diagnose::Diagnosis;
use crate::dispatch::Desk;
use crate::journal::Mark;
use crate::orphans::Orphan;
use crate::store::PublicKey;
use crate::store::registry::Trouble;

pub use client::{ClientError, ask, ask_within};
pub use hook_messages::{HookAnswer, HookLine, HookReport, HookRequest};
pub use messages::{
    ActLine, ActsVerdict, DeviceLine, DeviceSpec, KeySource, OrphanLine, Owner, PairingLine, Request, Response, Secret, TokenLine,
    UnknownKeyLine, UserLine,
};
pub use perform::perform;
pub use server::{bind, serve};
pub use status::{PartLine, Status};

/// Longest command or answer, in bytes.
const LINE_LEN_MAX: u64 = 16 * 1024 * 1024;

/// What a command asks of the part that holds live sessions.
pub trait Operations: Send + Sync + 'static {
    /// Lets devices with unknown keys come as far as proving them, for this long from now.
    ///
    /// # Errors
    /// There is no such part here; the text says what to do.
    fn open_unknown_keys(&self, span: Duration) -> Result<(), String>;

    /// The unknown keys that were proved, in order of their devices.
    fn unknown_keys(&self) -> Vec<UnknownKey>;

    /// Devices that talk with keys we no longer hold.
    fn orphans(&self) -> Vec<Orphan>;

    /// What is known of devices now. Those that never had a session are left out.
    fn views(&self, devices: Vec<DeviceId>) -> Views<'_>;

    /// Up to where the journal is durable; `None` where nobody writes one.
    fn journal_mark(&self) -> Option<Mark>;

    /// How the server is; `None` where none is.
    fn status(&self) -> Option<Status>;

    /// What is wrong, and why, if this is the trouble with the registry; `None` where no server is.
    fn diagnosis(&self, registry: Option<Trouble>) -> Option<Diagnosis>;

    /// A command changed this.
    fn note(&self, what: What);

    /// Where hooks are carried out; `None` if they are not.
    fn desk(&self) -> Option<Desk>;
}

/// Views of devices that come later. `None` where there are no sessions at all.
pub type Views<'a> = Pin<Box<dyn Future<Output = Option<HashMap<DeviceId, DeviceView>>> + Send + 'a>>;

/// A key that a device proved to hold and nobody registered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnknownKey {
    /// The id the device says it has.
    pub device: DeviceId,
    /// The key.
    pub key: PublicKey,
    /// The kind of hardware it says it is.
    pub platform_id: u16,
    /// When it came first.
    pub first_seen: UnixMillis,
    /// When it came last.
    pub last_seen: UnixMillis,
}

/// Nothing is live: for commands without a running server. What they change is noted in the register.
#[derive(Clone, Debug)]
pub struct NoSessions(pub Register);

impl Operations for NoSessions {
    fn open_unknown_keys(&self, _: Duration) -> Result<(), String> {
        Err("no server is running in this data directory, so no device can come; start it with `holdfast serve`".to_owned())
    }

    fn unknown_keys(&self) -> Vec<UnknownKey> {
        Vec::new()
    }

    fn orphans(&self) -> Vec<Orphan> {
        Vec::new()
    }

    fn views(&self, _: Vec<DeviceId>) -> Views<'_> {
        Box::pin(ready(None))
    }

    fn journal_mark(&self) -> Option<Mark> {
        None
    }

    fn status(&self) -> Option<Status> {
        None
    }

    fn diagnosis(&self, _: Option<Trouble>) -> Option<Diagnosis> {
        None
    }

    fn note(&self, what: What) {
        self.0.note(dates::now(), what);
    }

    fn desk(&self) -> Option<Desk> {
        None
    }
}
