//! Why deliveries cannot be stored or read, in words for the person who has to do something about it.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Deliveries cannot be stored or read.
#[derive(Debug, Error)]
pub enum DeliveriesError {
    /// The database failed.
    #[error("the database of deliveries failed: {0}")]
    Database(#[from] fjall::Error),
    /// The database was written by another version.
    #[error(
        "the database of deliveries is of format version {found}; this program knows versions up to {known}. Start the version of Holdfast that wrote \
         it, or a newer one"
    )]
    Format {
        /// Its version.
        found: u64,
        /// The newest version that this program can read.
        known: u64,
    },
    /// It says something that cannot be.
    #[error("the database of deliveries is damaged: {0}")]
    Damaged(&'static str),
    /// The database came upon something it did not expect in its files.
    #[error("the database of deliveries panicked")]
    Panicked,
    /// An earlier write failed, and nobody can tell what is on the disk. The next process can.
    #[error("nothing is stored since a write failed")]
    Broken,
    /// A file cannot be read or written.
    #[error("cannot {doing} {}: {source}", path.display())]
    Files {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// The refusal.
        source: io::Error,
    },
    /// There are as many of this kind as there may be.
    #[error("there are too many {0}")]
    TooMany(&'static str),
    /// Nothing of this kind is there.
    #[error("there is no such {0}")]
    NoSuch(&'static str),
}

/// What a call to the database returns.
pub(super) type Result<T> = std::result::Result<T, DeliveriesError>;
