//! Whom a command goes to: the server that runs in the data directory or, if none does, the registry itself under the directory's lock.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};

use crate::changes::Register;
use crate::control::{self, ClientError, NoSessions, Request, Response};
use crate::data_dir::{DataDir, DataDirError, control_socket};
use crate::keys::ServerKeys;
use crate::store::{KeySource, Registry};

/// How long a server that has the lock may take until it listens, or a command that has it until it is done.
const BUSY_PATIENCE: Duration = Duration::from_secs(5);
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// The data directory that a command is about.
pub(super) struct Target {
    path: PathBuf,
    /// Where master keys come from, for a command that opens the registry itself.
    keys: KeySource,
}

impl Target {
    pub(super) fn new(data_dir: &Path, keys: &KeySource) -> Self {
        Self { path: data_dir.to_owned(), keys: keys.clone() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Asks the running server, and nobody else.
    pub(super) fn ask_server(&self, request: &Request) -> anyhow::Result<Response> {
        match control::ask(&control_socket(&self.path), request) {
            Ok(Response::Refused { error }) => bail!(error),
            Ok(response) => Ok(response),
            Err(error) => Err(anyhow!(error).context(format!("no server answers in {}", self.path.display()))),
        }
    }

    /// Has it done. A refusal is an error with its words.
    pub(super) fn ask(&self, request: Request) -> anyhow::Result<Response> {
        let begun = Instant::now();
        let response = loop {
            match DataDir::lock(&self.path) {
                Ok(data) => break perform(&data, &self.keys, request)?,
                Err(taken @ DataDirError::Taken { .. }) => match control::ask(&control_socket(&self.path), &request) {
                    Ok(response) => break response,
                    Err(ClientError::Unreachable { .. }) if begun.elapsed() < BUSY_PATIENCE => thread::sleep(BUSY_PAUSE),
                    Err(error @ ClientError::Unreachable { .. }) => return Err(anyhow!(taken).context(error)),
                    Err(error) => return Err(error.into()),
                },
                Err(error) => return Err(error.into()),
            }
        };
        match response {
            Response::Refused { error } => bail!(error),
            other => Ok(other),
        }
    }
}

/// Does it here. The server's keys come first, so that a registry is never there without them.
fn perform(data: &DataDir, keys: &KeySource, request: Request) -> anyhow::Result<Response> {
    ServerKeys::open(data)?;
    let (file, changes) = (data.registry_to_open()?, Register::open(data.path())?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let registry = Registry::open_with(&file, keys).await?;
        let response = control::perform(&registry, &NoSessions(changes.clone()), request).await;
        registry.close().await;
        changes.write().context("it was done, but is not in the register of changes")?;
        Ok(response)
    })
}
