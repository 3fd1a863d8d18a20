//! A data directory from a backup.
//!
//! Everything is copied and checked below the name that [`DataDir::lock`] refuses, so that no server starts with half of it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use firmware_protocol::session::stored::Generation;
use firmware_protocol::time::UnixMillis;

use super::files;
use super::manifest::{CURSORS, FIRMWARE, JOURNAL, KEYS, REGISTRY};
use super::{BackupError, Entry, Manifest};
use crate::changes::{self, What};
use crate::data_dir::{DataDir, FORMAT_FILE, LOCK, UNFINISHED_RESTORE};
use crate::durable;
use crate::generation;

const PRIVATE_DIR_MODE: u32 = 0o700;
/// What is moved into place when all is there.
const PARTS: [&str; 6] = [KEYS, CURSORS, JOURNAL, FIRMWARE, generation::FILE, REGISTRY];

/// What was restored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Restored {
    /// What the backup says about itself.
    pub manifest: Manifest,
    /// The generation that the directory continues from; `None` if the backup has none.
    pub generation: Option<Generation>,
}

/// Makes the data directory at `data`, which must be empty or absent, from the backup in a directory. `now` is the time of day: the count of starts
/// goes a day ahead of it and of the backup.
///
/// # Errors
/// The backup is not whole or of a newer format, a server works in the data directory, it holds something, or reading or writing failed.
/// The data directory is empty then, or says that it was not restored.
pub fn restore(backup: &Path, data: &Path, now: UnixMillis) -> Result<Restored, BackupError> {
    let manifest = Manifest::read(backup)?;
    let locked = claim(data)?;
    let staging = locked.path().join(UNFINISHED_RESTORE);
    durable::create_directory(&staging, PRIVATE_DIR_MODE).map_err(BackupError::io("create", &staging))?;
    let filled = fill(backup, &manifest, &staging, now);
    if filled.is_err() {
        // If this fails too, the directory is refused until somebody empties it.
        let _ = fs::remove_dir_all(&staging);
    }
    let generation = filled?;
    put_in_place(locked.path(), &staging)?;
    let note = What::Restored { made_at: manifest.made_at.clone() };
    if let Err(error) = changes::note_in(locked.path(), now, note) {
        // What was restored is whole all the same.
        tracing::warn!(%error, "the restore is not in the register of changes");
    }
    Ok(Restored { manifest, generation })
}

/// Locks the directory, if nothing is in it.
fn claim(data: &Path) -> Result<DataDir, BackupError> {
    let list = || -> io::Result<(bool, bool)> {
        let (mut lock, mut others) = (false, false);
        for entry in fs::read_dir(data)? {
            let name = entry?.file_name();
            lock |= name == LOCK;
            others |= name != LOCK && name != FORMAT_FILE;
        }
        Ok((lock, others))
    };
    match list() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(DataDir::lock(data)?),
        Err(source) => Err(BackupError::Io { doing: "list", path: data.to_owned(), source }),
        Ok((_, false)) => Ok(DataDir::lock(data)?),
        Ok((locked, true)) => {
            // A server that works here is the better reason; nothing is left where none has ever worked.
            if locked {
                DataDir::lock(data)?;
            }
            Err(BackupError::NotEmpty { path: data.to_owned(), what: "what is restored" })
        }
    }
}

fn fill(backup: &Path, manifest: &Manifest, staging: &Path, now: UnixMillis) -> Result<Option<Generation>, BackupError> {
    let has = |folder: &&str| manifest.files.iter().any(|entry| Path::new(&entry.path).starts_with(folder));
    let folders: Vec<_> = [KEYS, JOURNAL].into_iter().chain([CURSORS, FIRMWARE].into_iter().filter(has)).collect();
    for folder in &folders {
        let path = staging.join(folder);
        durable::create_directory(&path, PRIVATE_DIR_MODE).map_err(BackupError::io("create", &path))?;
    }
    let mut generation = None;
    for entry in &manifest.files {
        bring(backup, entry, staging)?;
        if entry.path == generation::FILE {
            let path = staging.join(generation::FILE);
            let bytes = fs::read(&path).map_err(BackupError::io("read", &path))?;
            generation = Some(generation::restore(staging, &bytes, now)?);
        }
    }
    for folder in folders {
        let path = staging.join(folder);
        durable::sync_directory(&path).map_err(BackupError::io("sync", &path))?;
    }
    durable::sync_directory(staging).map_err(BackupError::io("sync", staging))?;
    Ok(generation)
}

/// Copies one file, which must be what the manifest says.
fn bring(backup: &Path, entry: &Entry, staging: &Path) -> Result<(), BackupError> {
    let from = backup.join(&entry.path);
    let copied = match files::copy(&from, &staging.join(&entry.path), None) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(BackupError::Missing { path: from }),
        copied => copied.map_err(BackupError::io("copy", &from))?,
    };
    if copied.bytes != entry.bytes {
        let what = format!("it has {} bytes and not {}", copied.bytes, entry.bytes);
        return Err(BackupError::Damaged { path: from, what });
    }
    if copied.sha256 != entry.sha256 {
        return Err(BackupError::Damaged { path: from, what: "its checksum does not fit".to_owned() });
    }
    Ok(())
}

/// The name of the staging goes last: until then the directory is refused.
fn put_in_place(data: &Path, staging: &Path) -> Result<(), BackupError> {
    for part in PARTS.map(PathBuf::from) {
        let (from, to) = (staging.join(&part), data.join(&part));
        if from.exists() {
            fs::rename(&from, &to).map_err(BackupError::io("rename what was restored to", &to))?;
        }
    }
    durable::sync_directory(data).map_err(BackupError::io("sync", data))?;
    fs::remove_dir(staging).map_err(BackupError::io("remove", staging))?;
    durable::sync_directory(data).map_err(BackupError::io("sync", data))
}
