//! Why there is no backup, or nothing was restored from one: in words for the person who has to do something about it.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::data_dir::DataDirError;
use crate::generation::GenerationError;
use crate::journal::OpenError;
use crate::store::RegistryError;

/// A backup was not made or not restored. Where it should have gone there is nothing, or what was there before.
#[derive(Debug, Error)]
pub enum BackupError {
    /// Where it shall go there is something.
    #[error("{path} is not empty; {what} goes into a directory that is empty or not there yet", path = path.display())]
    NotEmpty {
        /// Where.
        path: PathBuf,
        /// What should have gone there.
        what: &'static str,
    },
    /// It would be lost with what it is a copy of.
    #[error("{path} is inside the data directory; a backup belongs elsewhere, best on another disk", path = path.display())]
    Inside {
        /// Where it should have gone.
        path: PathBuf,
    },
    /// An earlier run was killed.
    #[error("{path} is left over from a backup that was not finished; remove it and try again", path = path.display())]
    LeftOver {
        /// What is left over.
        path: PathBuf,
    },
    /// No server has worked in the data directory.
    #[error("there is nothing to back up in {path}: no server has worked there", path = path.display())]
    Nothing {
        /// The data directory.
        path: PathBuf,
    },
    /// What sessions depend on is not there.
    #[error("{path} is missing; without it a backup would be of no use, and no server starts in this data directory", path = path.display())]
    Incomplete {
        /// What is missing.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {doing} {path}: {source}", path = path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// The refusal.
        source: io::Error,
    },
    /// The running server did not say up to where the journal is durable.
    #[error("{0}")]
    NoMark(String),
    /// Segments of the journal were dropped faster than they could be copied.
    #[error("the journal changed while it was copied, again and again; try again later")]
    Restless,
    /// It was made by a newer version.
    #[error(
        "{path} is a backup of {what} version {found}, made by Holdfast {made_by}; this program knows versions up to {known}. Restore it with \
         the version that made it, or a newer one", path = path.display()
    )]
    Newer {
        /// The manifest.
        path: PathBuf,
        /// Of which format.
        what: &'static str,
        /// Its version.
        found: u32,
        /// The newest version that this program can read.
        known: u32,
        /// Which program made it.
        made_by: String,
    },
    /// It is not a backup, or one that was not finished.
    #[error("{path} is no backup: it has no manifest.json", path = path.display())]
    NoManifest {
        /// The directory.
        path: PathBuf,
    },
    /// A file of it is not there.
    #[error("{path} is missing from the backup; nothing was restored. Take another backup", path = path.display())]
    Missing {
        /// Which.
        path: PathBuf,
    },
    /// A file of it is not what it was.
    #[error("{path} is damaged: {what}; nothing was restored. Take another backup", path = path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What does not hold.
        what: String,
    },
    /// The journal cannot be read.
    #[error("the journal cannot be copied: {0}")]
    Journal(#[from] OpenError),
    /// The registry cannot be read.
    #[error("the registry cannot be copied: {0}")]
    Registry(#[from] RegistryError),
    /// The count of starts cannot be restored.
    #[error(transparent)]
    Generation(#[from] GenerationError),
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
}

impl BackupError {
    /// For `map_err`: adds what was being done to which file.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }

    /// Whether a file that was to be copied has gone meanwhile.
    pub(super) fn is_gone(&self) -> bool {
        match self {
            Self::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::Journal(error) => matches!(error, OpenError::MissingSegment { .. }),
            _ => false,
        }
    }
}
