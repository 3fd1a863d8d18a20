//! Whether the database can be used, as its users find out: counted, and logged when it changes.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::{Registry, RegistryError};
use crate::metrics::RegistryMetrics;

/// How often somebody tries whether the database can be changed, should nobody else.
const TRY_EVERY: Duration = Duration::from_secs(1);
/// How long such a try may take.
const TRY_PATIENCE: Duration = Duration::from_secs(1);

/// What is wrong with a database that cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// Another process has locked it.
    Locked,
    /// The disk is full.
    Full,
    /// It may not be written.
    ReadOnly,
    /// Its file is not there any more, or is another one.
    Gone,
    /// What it says cannot be.
    Corrupt,
    /// The disk failed.
    Disk,
    /// It gave no answer in time.
    Slow,
    /// Anything else.
    Other,
}

impl Trouble {
    /// In a word, for metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Locked => "locked",
            Self::Full => "full",
            Self::ReadOnly => "read_only",
            Self::Gone => "gone",
            Self::Corrupt => "corrupt",
            Self::Disk => "disk",
            Self::Slow => "slow",
            Self::Other => "other",
        }
    }

    /// What is wrong according to the database's driver; `None` if what was asked of it is.
    pub(super) fn of(error: &sqlx::Error) -> Option<Self> {
        match error {
            sqlx::Error::Database(error) if error.is_unique_violation() => None,
            sqlx::Error::Database(error) => Some(error.code().and_then(|code| code.parse().ok()).map_or(Self::Other, Self::of_code)),
            sqlx::Error::PoolTimedOut => Some(Self::Slow),
            sqlx::Error::Io(_) => Some(Self::Disk),
            _ => Some(Self::Other),
        }
    }

    /// From SQLite's result codes (sqlite.org/rescode.html), of which the lowest byte is the primary one.
    fn of_code(code: u32) -> Self {
        match code & 0xff {
            5 | 6 => Self::Locked,
            8 => Self::ReadOnly,
            10 => Self::Disk,
            11 | 26 => Self::Corrupt,
            13 => Self::Full,
            14 => Self::Gone,
            _ => Self::Other,
        }
    }
}

/// What is known of the database's health.
pub(super) struct Health {
    metrics: RegistryMetrics,
    up: AtomicBool,
    /// What was wrong last.
    trouble: Mutex<Option<Trouble>>,
}

impl Health {
    pub(super) fn new(metrics: RegistryMetrics) -> Self {
        metrics.up.set(1);
        Self { metrics, up: AtomicBool::new(true), trouble: Mutex::new(None) }
    }

    /// Notes how something ended. Only a change that was made says that all is well: a database that is locked can still be read.
    pub(super) fn note<T>(&self, result: &Result<T, RegistryError>, changed: bool) {
        match result {
            Ok(_) if changed => {
                if !self.up.swap(true, Ordering::AcqRel) {
                    self.metrics.up.set(1);
                    tracing::warn!("the registry can be changed again");
                }
            }
            Ok(_) => {}
            Err(error) => {
                let Some(trouble) = error.trouble() else { return };
                self.metrics.failed(trouble.word());
                *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble);
                if self.up.swap(false, Ordering::AcqRel) {
                    self.metrics.up.set(0);
                    tracing::error!(%error, trouble = trouble.word(), "the registry cannot be used; devices are served, changes are refused");
                }
            }
        }
    }
}

/// Where the database's file is, and which one it is: SQLite goes on with a file that was removed, and what it writes is lost.
#[derive(Clone)]
pub(super) struct Home {
    file: PathBuf,
    identity: (u64, u64),
}

impl Home {
    pub(super) fn of(file: &Path) -> io::Result<Self> {
        Ok(Self { file: file.to_owned(), identity: identity(file)? })
    }

    /// Whether the file that was opened is still there.
    pub(super) async fn check(&self) -> Result<(), RegistryError> {
        let home = self.clone();
        let found = spawn_blocking(move || identity(&home.file)).await.map_err(|_| RegistryError::Interrupted)?;
        if found.is_ok_and(|found| found == self.identity) { Ok(()) } else { Err(RegistryError::Gone) }
    }
}

fn identity(file: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(file).map(|metadata| (metadata.dev(), metadata.ino()))
}

impl Registry {
    /// Whether the last attempt to change something failed because of the database.
    pub fn is_up(&self) -> bool {
        self.inner.health.up.load(Ordering::Acquire)
    }

    /// What is wrong with the database; `None` if the last attempt to change something succeeded.
    pub fn trouble(&self) -> Option<Trouble> {
        let trouble = *self.inner.health.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.filter(|_| !self.is_up())
    }

    /// Tries now and then whether the database can be changed, until `shutdown`: so the metric is right when nobody else tries.
    pub async fn watch(self, shutdown: CancellationToken) {
        let registry = self.with_patience(TRY_PATIENCE);
        while shutdown.run_until_cancelled(tokio::time::sleep(TRY_EVERY)).await.is_some() {
            // Whatever comes of it has been noted.
            let _ = registry.try_to_change().await;
            registry.inner.health.metrics.tried.beat();
        }
    }

    /// Changes nothing. After trouble something is written all the same: a disk that is full allows a change that writes nothing.
    async fn try_to_change(&self) -> Result<(), RegistryError> {
        let statement = if self.is_up() { "DELETE FROM claim_codes WHERE code_hash = ''" } else { "PRAGMA user_version = 0" };
        self.change(move |registry| async move { Ok(sqlx::query(statement).execute(registry.pool()).await.map(drop)?) }).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extended_codes_say_what_their_primary_code_says() {
        let told = [5, 261, 517, 8, 1032, 10, 266, 11, 26, 13, 14, 1].map(|code| Trouble::of_code(code).word());
        let expected =
            ["locked", "locked", "locked", "read_only", "read_only", "disk", "disk", "corrupt", "corrupt", "full", "gone", "other"];
        assert_eq!(told, expected);
    }
}
