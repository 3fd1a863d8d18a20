//! Drills: something is done to a real server while a fleet uses it, and afterwards it is checked what became of every message.

mod chaos;
mod flood;
mod judge;
mod kill_restart;
mod schedule;

use anyhow::Result;

use crate::cli::Cli;
use crate::keys::{self, DeviceKey};
use crate::server::Server;
use firmware_protocol::crypto::PublicKey;

pub use self::chaos::{Chaos, chaos};
pub use self::flood::{FloodDrill, flood};
pub use self::judge::{Verdict, judge};
pub use self::kill_restart::{KillRestart, kill_restart};

/// Registers `devices` with a running server under an account of their own; returns the key that they have to pin.
pub(crate) fn register(server: &Server, devices: &[DeviceKey]) -> Result<PublicKey> {
    let (list, key) = (server.dir().join("keys.csv"), server.dir().join("server_key.der"));
    let cli: Cli = server.cli();
    cli.add_owner()?;
    keys::write_public(&list, devices)?;
    cli.import_devices(&list)?;
    cli.export_server_key(&key)?;
    keys::read_server_key(&key)
}
