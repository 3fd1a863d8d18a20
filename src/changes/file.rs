//! The register's file: JSON, replaced as a whole.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Change, FILE};
use crate::config::Settings;

/// The version of its format that is written, and the newest that can be read.
const FORMAT: u32 = 1;

/// What stands in it.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Stored {
    /// What was set at the last start.
    pub settings: Settings,
    /// What changed, the oldest first.
    pub changes: Vec<Change>,
}

#[derive(Serialize, Deserialize)]
struct Framed<T> {
    format: u32,
    #[serde(flatten)]
    stored: T,
}

/// What all versions of the file have.
#[derive(Deserialize)]
struct Version {
    format: u32,
}

/// The register cannot be used.
#[derive(Debug, Error)]
pub enum ChangesError {
    /// Reading or writing failed.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what this program writes.
    #[error("the register of changes {path} is damaged", path = path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
    /// A newer version wrote it.
    #[error(
        "the register of changes {path} is of format version {found}; this program knows versions up to {FORMAT}. Start the version of Holdfast \
         that wrote it, or a newer one; or remove the file, which is only for people", path = path.display()
    )]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
}

impl Stored {
    /// As it stands in the file.
    pub(super) fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&Framed { format: FORMAT, stored: self }).expect("texts and numbers can be written as JSON")
    }
}

/// What stands in the register of the data directory at `directory`, whoever works there: it is there whole or not at all. Nothing if there is none.
///
/// # Errors
/// It cannot be read, is damaged, or a newer version wrote it.
pub fn read(directory: &Path) -> Result<Stored, ChangesError> {
    let path = directory.join(FILE);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Stored::default()),
        Err(source) => return Err(ChangesError::Io { path, source }),
        Ok(bytes) => bytes,
    };
    match serde_json::from_slice(&bytes) {
        Ok(Version { format }) if format > FORMAT => Err(ChangesError::Newer { path, found: format }),
        Ok(Version { format: FORMAT }) => match serde_json::from_slice::<Framed<Stored>>(&bytes) {
            Ok(framed) => Ok(framed.stored),
            Err(_) => Err(ChangesError::Damaged { path }),
        },
        _ => Err(ChangesError::Damaged { path }),
    }
}
