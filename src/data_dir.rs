//! The data directory: one place for everything that must survive, and one process at a time that works in it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process;

use thiserror::Error;

use crate::durable;

/// A data directory that this process has for itself, until it is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// The lock goes when the file is closed, whatever way the process ends.
    _lock: File,
}

/// Why a data directory cannot be used.
#[derive(Debug, Error)]
pub enum DataDirError {
    /// Another process works in it.
    #[error("the data directory {path} is in use by another Holdfast{holder}; one directory serves one process at a time", path = path.display())]
    Taken {
        /// Which directory.
        path: PathBuf,
        /// Who has it, as far as it said so.
        holder: String,
    },
    /// It cannot be created, opened or locked.
    #[error("cannot use the data directory {path}: {source}", path = path.display())]
    Io {
        /// Which directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl DataDir {
    /// Creates the directory durably if need be, and locks it.
    ///
    /// # Errors
    /// Another process has it, or it cannot be created or written.
    pub fn lock(path: &Path) -> Result<Self, DataDirError> {
        let io = |source| DataDirError::Io { path: path.to_owned(), source };
        let created = durable::create_directory(path, 0o700).map_err(io)?;
        let path = path.canonicalize().map_err(io)?;
        if !created {
            durable::sync_name(&path).map_err(io)?;
        }
        let mut lock =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path.join("lock")).map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {
                sign(&mut lock).map_err(io)?;
                Ok(Self { path, _lock: lock })
            }
            Err(TryLockError::WouldBlock) => Err(DataDirError::Taken { holder: holder(&mut lock), path }),
            Err(TryLockError::Error(source)) => Err(io(source)),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The database of users and devices.
    pub fn registry_file(&self) -> PathBuf {
        self.path.join("registry.db")
    }

    /// Where the server's own keys are.
    pub fn keys_dir(&self) -> PathBuf {
        keys_dir(&self.path)
    }

    /// Where events and sessions are written down.
    pub fn journal_dir(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// Where it is noted how far sinks have come in the journal.
    pub fn cursors_dir(&self) -> PathBuf {
        self.path.join("cursors")
    }

    /// Where the history of devices is.
    pub fn history_dir(&self) -> PathBuf {
        self.path.join("history")
    }

    /// The socket on which a running server takes commands.
    pub fn control_socket(&self) -> PathBuf {
        control_socket(&self.path)
    }

    /// Whether a server has worked here before, so that devices may rely on its keys.
    pub fn has_history(&self) -> bool {
        self.registry_file().exists() || self.has_journal()
    }

    /// Whether sessions and events were written down here.
    pub fn has_journal(&self) -> bool {
        fs::read_dir(self.journal_dir()).is_ok_and(|mut entries| entries.next().is_some())
    }
}

/// Where the keys of the data directory at `path` are.
pub fn keys_dir(path: &Path) -> PathBuf {
    path.join("keys")
}

/// The socket of whichever server works in the data directory at `path`.
pub fn control_socket(path: &Path) -> PathBuf {
    path.join("control.sock")
}

fn sign(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", process::id())
}

/// The process that wrote its number into the lock, for a message; empty when it cannot be told.
fn holder(lock: &mut File) -> String {
    let mut text = String::new();
    let _ = lock.take(16).read_to_string(&mut text);
    text.trim().parse::<u32>().map_or_else(|_| String::new(), |process| format!(" (process {process})"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn one_process_at_a_time() {
        let parent = tempfile::tempdir().expect("a directory");
        let path = parent.path().join("deep/data");
        let held = DataDir::lock(&path).expect("it is free");
        assert_eq!(fs::metadata(&path).expect("metadata").permissions().mode() & 0o777, 0o700);

        let complaint = DataDir::lock(&path).expect_err("it is taken").to_string();
        assert!(complaint.contains(&format!("process {}", process::id())), "{complaint}");
        drop(held);
        DataDir::lock(&path).expect("it is free again");
    }

    #[test]
    fn a_directory_without_registry_and_journal_is_new() {
        let parent = tempfile::tempdir().expect("a directory");
        let data = DataDir::lock(parent.path()).expect("it is free");
        fs::create_dir(data.journal_dir()).expect("created");
        assert!(!data.has_history());
        fs::write(data.journal_dir().join("1"), "").expect("written");
        assert!(data.has_history());
        fs::remove_dir_all(data.journal_dir()).expect("removed");
        fs::write(data.registry_file(), "").expect("written");
        assert!(data.has_history());
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let parent = tempfile::tempdir().expect("a directory");
        let path = parent.path().join("file");
        fs::write(&path, "").expect("written");
        assert!(DataDir::lock(&path).expect_err("no directory").to_string().contains("file"));
    }
}
