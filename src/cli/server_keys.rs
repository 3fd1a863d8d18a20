//! `holdfast keys`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::output::Output;
use super::target::Target;
use crate::data_dir::{DataDir, DataDirError};
use crate::keys::{ServerKeys, Transport};

#[derive(Subcommand, Debug)]
pub(super) enum KeysCommand {
    /// Write a public key of the server to a file for `particle keys server`
    ///
    /// Devices on UDP and devices on TCP carry different ones. A new data directory gets its keys by this, as it would by its first start.
    Export(ExportArgs),
}

#[derive(Args, Debug)]
pub(super) struct ExportArgs {
    /// The key of which devices
    #[arg(long, value_enum, default_value_t = Protocol::Udp)]
    protocol: Protocol,
    /// Form of the file
    #[arg(long, value_enum, default_value_t = Format::Der)]
    format: Format,
    /// Where to write it, "-" being standard output; without it server_key.der or server_key.pem, for TCP server_key_tcp.der or .pem
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Protocol {
    /// Gen 3 and later, and Gen 2 cellular: an EC key
    Udp,
    /// Photon, P1 and other devices on TCP: an RSA key
    Tcp,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Format {
    Der,
    Pem,
}

pub(super) fn run(command: KeysCommand, target: &Target, output: &mut Output<'_>) -> anyhow::Result<()> {
    let KeysCommand::Export(args) = command;
    let keys = keys(target.path())?;
    let (transport, name) = match args.protocol {
        Protocol::Udp => (Transport::Udp, "server_key"),
        Protocol::Tcp => (Transport::Tcp, "server_key_tcp"),
    };
    let (bytes, ending) = match args.format {
        Format::Der => (keys.public_der(transport).to_vec(), "der"),
        Format::Pem => (keys.public_pem(transport)?, "pem"),
    };
    let path = args.out.unwrap_or_else(|| PathBuf::from(format!("{name}.{ending}")));
    if path == Path::new("-") {
        return Ok(output.bytes(&bytes)?);
    }
    fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(output.say(&format!("Wrote {}.", path.display()), &json!({ "file": path }))?)
}

/// A running server is no hindrance: its keys do not change.
fn keys(data_dir: &Path) -> anyhow::Result<ServerKeys> {
    match DataDir::lock(data_dir) {
        Ok(data) => Ok(ServerKeys::open(&data)?),
        Err(DataDirError::Taken { .. }) => Ok(ServerKeys::read_in(data_dir)?),
        Err(error) => Err(error.into()),
    }
}
