//! `holdfast backup` and `holdfast restore`.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use router::event::Position;
use serde_json::json;

use super::output::Output;
use super::target::Target;
use crate::backup;
use crate::control::{Request, Response};
use crate::data_dir::{DataDir, DataDirError};
use crate::dates;
use crate::entropy::SystemEntropy;
use crate::journal::{Journal, Mark, Options};
use firmware_protocol::entropy::Entropy;

#[derive(Args, Debug)]
pub(super) struct BackupArgs {
    /// Where the backup goes: a directory that is empty or not there yet
    #[arg(value_name = "DIR")]
    to: PathBuf,
}

#[derive(Args, Debug)]
pub(super) struct RestoreArgs {
    /// The backup
    #[arg(value_name = "BACKUP")]
    from: PathBuf,
}

/// Makes a backup. A server that runs goes on, and says only up to where its journal is durable: files are read here, with the rights of whoever
/// typed the command.
pub(super) fn make(args: &BackupArgs, target: &Target, output: &mut Output<'_>) -> anyhow::Result<()> {
    if !target.path().is_dir() {
        bail!("there is no data directory {}", target.path().display());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let manifest = match DataDir::lock(target.path()) {
        Ok(data) => {
            let mark = at_rest(&data)?;
            runtime.block_on(backup::make(data.path(), &args.to, || Ok(mark)))?
        }
        Err(DataDirError::Taken { .. }) => {
            runtime.block_on(backup::make(target.path(), &args.to, || beside(target).map(Some).map_err(|error| format!("{error:#}"))))?
        }
        Err(error) => return Err(error.into()),
    };
    let (files, bytes) = (manifest.files.len(), manifest.bytes());
    let next_position = manifest.journal.map(|journal| journal.next_position);
    let sentence = format!(
        "Backed up {files} files, {bytes} bytes, to {}.\nIt holds the server's private keys and the keys of all sessions, in clear: keep it like a \
         password.",
        args.to.display()
    );
    let value = json!({ "backup": args.to, "files": files, "bytes": bytes, "next_position": next_position });
    Ok(output.say(&sentence, &value)?)
}

/// Makes a data directory from a backup.
pub(super) fn restore(args: &RestoreArgs, data_dir: &Path, output: &mut Output<'_>) -> anyhow::Result<()> {
    let restored = backup::restore(&args.from, data_dir, dates::now())?;
    let sentence = format!(
        "Restored the backup of {} to {}.\nThe server it was made of must not run any more, nor another restored from the same backup: devices can be \
         served by one only.",
        restored.manifest.made_at,
        data_dir.display()
    );
    let generation = restored.generation.map(|generation| generation.0);
    Ok(output.say(&sentence, &json!({ "data_dir": data_dir, "made_at": restored.manifest.made_at, "generation": generation }))?)
}

/// Up to where the journal of a directory goes that nobody works in. A torn tail is cut, as by a start.
fn at_rest(data: &DataDir) -> anyhow::Result<Option<Mark>> {
    if !data.has_journal() {
        return Ok(None);
    }
    let (journal, _) = Journal::open(&data.journal_dir(), Options::new(u64::from_be_bytes(SystemEntropy.array())))?;
    Ok(Some(journal.latest_mark().get()))
}

/// Up to where the journal of the running server is durable now.
fn beside(target: &Target) -> anyhow::Result<Mark> {
    let Response::JournalMark { segment, bytes, next_position } = target.ask(Request::JournalMark {})? else { bail!("unexpected answer") };
    Ok(Mark { segment, bytes, next: Position(next_position) })
}
