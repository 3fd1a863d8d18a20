//! `holdfast keys`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::output::Output;
use super::target::Target;
use crate::data_dir::{DataDir, DataDirError};
use crate::keys::ServerKeys;

#[derive(Subcommand, Debug)]
pub(super) enum KeysCommand {
    /// Write the server's public key to a file for `particle keys server`
    ///
    /// A new data directory gets its key by this, as it would by its first start.
    Export(ExportArgs),
}

#[derive(Args, Debug)]
pub(super) struct ExportArgs {
    /// Form of the file
    #[arg(long, value_enum, default_value_t = Format::Der)]
    format: Format,
    /// Where to write it, "-" being standard output; without it server_key.der or server_key.pem
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Format {
    Der,
    Pem,
}

pub(super) fn run(command: KeysCommand, target: &Target, output: &mut Output<'_>) -> anyhow::Result<()> {
    let KeysCommand::Export(args) = command;
    let keys = keys(target.path())?;
    let (bytes, name) = match args.format {
        Format::Der => (keys.public_der().to_vec(), "server_key.der"),
        Format::Pem => (keys.public_pem()?, "server_key.pem"),
    };
    let path = args.out.unwrap_or_else(|| PathBuf::from(name));
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
