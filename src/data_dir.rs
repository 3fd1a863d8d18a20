//! The data directory: one place for everything that must survive, and one process at a time that works in it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;

use thiserror::Error;

use crate::durable;

/// Version of the data directory's format: which files there are, and the form of those that carry no version of their own, the keys. It stands in
/// the file `format`; a directory without that file has version 1.
pub const FORMAT: u32 = 1;
/// Name of the file that is locked.
pub const LOCK: &str = "lock";
/// What is there while a restore is not finished.
pub const UNFINISHED_RESTORE: &str = "restore.unfinished";
/// Name of the file with the version.
pub const FORMAT_FILE: &str = "format";
/// Name of the file by which the disk is asked whether it answers. What is in it says nothing.
pub const PROBE_FILE: &str = "probe";
/// Name of the file with what a process said last.
pub const LAST_WORDS_FILE: &str = "last-words";
/// Longest version that is read.
const FORMAT_LEN_MAX: u64 = 16;

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
    /// A newer version worked in it.
    #[error(
        "the data directory {path} is of format version {found}; this program knows versions up to {FORMAT}. Start the version of Holdfast that \
         worked in it, or a newer one", path = path.display()
    )]
    Newer {
        /// Which directory.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// Its version cannot be read.
    #[error("{path} should hold the version of the data directory's format, and is damaged; put it back from a backup", path = path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
    /// Sessions depend on a database that is not there.
    #[error(
        "the registry {path} is missing, but this data directory has been in use. Without it nobody is known, and all sessions would be ended. Put \
         it back, or restore a backup. If it is lost for good, start with an empty data directory", path = path.display()
    )]
    NoRegistry {
        /// Where it should be.
        path: PathBuf,
    },
    /// A backup was being restored into it, and that was cut off.
    #[error("a restore into {path} was not finished; remove everything in it and restore again", path = path.display())]
    HalfRestored {
        /// Which directory.
        path: PathBuf,
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
    /// Another process has it, a newer version worked in it, a restore into it was cut off, or it cannot be created or written.
    pub fn lock(path: &Path) -> Result<Self, DataDirError> {
        let io = |source| DataDirError::Io { path: path.to_owned(), source };
        let created = durable::create_directory(path, 0o700).map_err(io)?;
        let path = path.canonicalize().map_err(io)?;
        if !created {
            durable::sync_name(&path).map_err(io)?;
        }
        let mut lock =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path.join(LOCK)).map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {
                check_format(&path)?;
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

    /// The same for whoever opens it, and makes it if it is not there.
    ///
    /// # Errors
    /// It is not there, but sessions are, which belong to the devices in it.
    pub fn registry_to_open(&self) -> Result<PathBuf, DataDirError> {
        let path = self.registry_file();
        if self.has_journal() && !path.exists() { Err(DataDirError::NoRegistry { path }) } else { Ok(path) }
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

    /// Where deliveries are kept.
    pub fn deliveries_dir(&self) -> PathBuf {
        self.path.join("deliveries")
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

/// The process that works in the data directory at `path`, as far as can be told without locking it, and the state that Linux says it is in: a letter, see
/// proc_pid_stat(5).
pub fn holder_of(path: &Path) -> Option<(u32, char)> {
    let inode = fs::metadata(path.join(LOCK)).ok()?.ino();
    // The number in the file itself may be that of a process that is gone, and belong to another by now.
    let process = fs::read_to_string("/proc/locks").ok()?.lines().find_map(|line| lock_of(line, inode))?;
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name stands in brackets and may hold anything.
    let state = stat.rsplit_once(") ")?.1.chars().next()?;
    Some((process, state))
}

/// Who holds a lock on the file of this inode, in a line such as `1: FLOCK  ADVISORY  WRITE 708 fe:00:5678 0 EOF`.
fn lock_of(line: &str, inode: u64) -> Option<u32> {
    let [_, "FLOCK", _, "WRITE", process, file, ..] = line.split_whitespace().collect::<Vec<_>>()[..] else { return None };
    let found = file.rsplit(':').next()?.parse::<u64>().ok()?;
    if found == inode { process.parse().ok() } else { None }
}

/// Makes sure that this program knows everything in the directory, and notes that it does.
fn check_format(path: &Path) -> Result<(), DataDirError> {
    let file = path.join(FORMAT_FILE);
    let io = |source| DataDirError::Io { path: path.to_owned(), source };
    if path.join(UNFINISHED_RESTORE).exists() {
        return Err(DataDirError::HalfRestored { path: path.to_owned() });
    }
    let mut text = String::new();
    match File::open(&file).and_then(|opened| opened.take(FORMAT_LEN_MAX).read_to_string(&mut text)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => durable::replace_file(&file, format!("{FORMAT}\n").as_bytes()).map_err(io),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(DataDirError::Damaged { path: file }),
        Err(error) => Err(io(error)),
        Ok(_) => match text.trim().parse() {
            Ok(FORMAT) => Ok(()),
            Ok(found @ 2..) => Err(DataDirError::Newer { path: path.to_owned(), found }),
            Ok(0) | Err(_) => Err(DataDirError::Damaged { path: file }),
        },
    }
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
        assert_eq!(holder_of(&path).map(|(process, _)| process), Some(process::id()));
        drop(held);
        assert_eq!(holder_of(&path), None);
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
    fn no_new_registry_is_made_beside_a_journal() {
        let parent = tempfile::tempdir().expect("a directory");
        let data = DataDir::lock(parent.path()).expect("it is free");
        assert_eq!(data.registry_to_open().expect("a first start"), data.registry_file());
        fs::create_dir(data.journal_dir()).expect("created");
        fs::write(data.journal_dir().join("1"), "").expect("written");
        let complaint = data.registry_to_open().expect_err("sessions without devices").to_string();
        assert!(complaint.contains("registry.db is missing") && complaint.contains("restore a backup"), "{complaint}");
        fs::write(data.registry_file(), "").expect("written");
        data.registry_to_open().expect("it is there");
    }

    #[test]
    fn a_newer_directory_is_refused_in_words_and_a_damaged_version_too() {
        let parent = tempfile::tempdir().expect("a directory");
        drop(DataDir::lock(parent.path()).expect("it is free"));
        let file = parent.path().join(FORMAT_FILE);
        assert_eq!(fs::read(&file).expect("written by the first"), b"1\n");
        fs::write(&file, "2\n").expect("written");
        let complaint = DataDir::lock(parent.path()).expect_err("it is newer").to_string();
        assert!(complaint.contains("format version 2") && complaint.contains("up to 1") && complaint.contains("Start"), "{complaint}");
        for damage in [&b"0"[..], b"", b"one", b"\xff\xff", b"99999999999"] {
            fs::write(&file, damage).expect("written");
            assert!(matches!(DataDir::lock(parent.path()), Err(DataDirError::Damaged { .. })), "{damage:?}");
        }
    }

    #[test]
    fn a_directory_that_was_not_restored_to_the_end_is_refused() {
        let parent = tempfile::tempdir().expect("a directory");
        fs::create_dir(parent.path().join(UNFINISHED_RESTORE)).expect("created");
        assert!(matches!(DataDir::lock(parent.path()), Err(DataDirError::HalfRestored { .. })));
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let parent = tempfile::tempdir().expect("a directory");
        let path = parent.path().join("file");
        fs::write(&path, "").expect("written");
        assert!(DataDir::lock(&path).expect_err("no directory").to_string().contains("file"));
    }
}
