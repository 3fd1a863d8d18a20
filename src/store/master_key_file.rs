//! The file with the master keys: where it is, what it says, and how it gets another key.
//!
//! A line for each key, `id:key`, the key in Base64; the first one seals. Empty lines and those that begin with `#` are passed over. Nobody else may read it.
//! Without configuration it is made in the data directory, where it keeps secrets out of backups and copies of the database and out of nothing else.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::envelope::{EnvelopeError, KEY_LEN, MasterKey, MasterKeys, is_key_id};
use crate::durable;

/// Name of the file in a data directory.
pub const FILE: &str = "master-keys";
/// Longest file.
const FILE_LEN_MAX: u64 = 64 * 1024;
/// Most keys.
const KEYS_MAX: usize = 32;

/// Where master keys come from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum KeySource {
    /// From a file beside the registry, which is made when it is needed.
    #[default]
    Own,
    /// From this file, which somebody has made.
    Given(PathBuf),
}

/// The file, and what it said when it was read.
#[derive(Debug)]
pub struct MasterKeyFile {
    path: PathBuf,
    keys: RwLock<Arc<MasterKeys>>,
}

impl MasterKeyFile {
    /// Reads the file, for a registry in the data directory at `data`. One of our own is made if it is not there, unless secrets are sealed already.
    ///
    /// # Errors
    /// It is missing, readable by others, damaged, in the data directory although it was given, or cannot be read or written.
    pub fn open(source: &KeySource, data: &Path, is_in_use: bool) -> Result<Self, EnvelopeError> {
        let path = match source {
            KeySource::Own => data.join(FILE),
            KeySource::Given(path) => path.clone(),
        };
        if *source == KeySource::Own && !path.exists() && !is_in_use {
            let keys = MasterKeys::new(vec![MasterKey::random()?]).ok_or(EnvelopeError::Malformed(FILE.to_owned()))?;
            write(&path, &keys)?;
        }
        if matches!(source, KeySource::Given(_)) && is_inside(&path, data) {
            return Err(EnvelopeError::Inside { path });
        }
        Ok(Self { keys: RwLock::new(Arc::new(read(&path)?)), path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The keys.
    pub fn keys(&self) -> Arc<MasterKeys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the file again.
    ///
    /// # Errors
    /// It cannot be read; the keys stay as they were.
    pub fn reload(&self) -> Result<(), EnvelopeError> {
        self.set(read(&self.path)?);
        Ok(())
    }

    /// Puts a new key before the others, durably.
    ///
    /// # Errors
    /// There are too many, or the file cannot be written; the keys stay as they were.
    pub fn add(&self) -> Result<(), EnvelopeError> {
        let added = [MasterKey::random()?].into_iter().chain(self.keys().keys().iter().cloned()).collect::<Vec<_>>();
        if added.len() > KEYS_MAX {
            return Err(self.bad(added.len(), "there are too many; drop those that nothing needs"));
        }
        self.replace(added)
    }

    /// Removes a key, durably. Nothing may need it.
    ///
    /// # Errors
    /// It is the one that seals, or the file cannot be written; the keys stay as they were.
    pub fn remove(&self, id: &str) -> Result<(), EnvelopeError> {
        if self.keys().current() == id {
            return Err(self.bad(1, "it seals what is stored from now on and cannot be dropped"));
        }
        self.replace(self.keys().keys().iter().filter(|key| key.id != id).cloned().collect())
    }

    fn replace(&self, keys: Vec<MasterKey>) -> Result<(), EnvelopeError> {
        let keys = MasterKeys::new(keys).ok_or_else(|| self.bad(1, "there is none"))?;
        write(&self.path, &keys)?;
        self.set(keys);
        Ok(())
    }

    fn set(&self, keys: MasterKeys) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }

    fn bad(&self, line: usize, what: &'static str) -> EnvelopeError {
        EnvelopeError::BadFile { path: self.path.clone(), line, what }
    }
}

fn is_inside(path: &Path, data: &Path) -> bool {
    // By what the names stand for: a link out of the data directory is outside.
    let full = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    full(path).starts_with(full(data))
}

fn read(path: &Path) -> Result<MasterKeys, EnvelopeError> {
    let io = |source| EnvelopeError::File { doing: "read", path: path.to_owned(), source };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(EnvelopeError::NoFile { path: path.to_owned() }),
        opened => opened.map_err(io)?,
    };
    let mode = file.metadata().map_err(io)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(EnvelopeError::Exposed { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    file.take(FILE_LEN_MAX).read_to_string(&mut text).map_err(io)?;
    parse(&text).map_err(|(line, what)| EnvelopeError::BadFile { path: path.to_owned(), line, what })
}

fn parse(text: &str) -> Result<MasterKeys, (usize, &'static str)> {
    let mut keys: Vec<MasterKey> = Vec::new();
    for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line.trim())) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (id, key) = line.split_once(':').ok_or((number, "a line is an id, a colon and 32 bytes in Base64"))?;
        let key = STANDARD.decode(key.trim()).ok().and_then(|key| <[u8; KEY_LEN]>::try_from(key).ok());
        let key = key.ok_or((number, "a key has 32 bytes, in Base64"))?;
        if !is_key_id(id) {
            return Err((number, "an id has from 1 to 32 of a to z, 0 to 9 and hyphens"));
        }
        if keys.iter().any(|known| known.id == id) {
            return Err((number, "another key has this id"));
        }
        if keys.len() == KEYS_MAX {
            return Err((number, "there are too many keys"));
        }
        keys.push(MasterKey { id: id.to_owned(), key });
    }
    MasterKeys::new(keys).ok_or((1, "there is none"))
}

fn write(path: &Path, keys: &MasterKeys) -> Result<(), EnvelopeError> {
    let lines: String = keys.keys().iter().map(|key| format!("{}:{}\n", key.id, STANDARD.encode(key.key))).collect();
    let written = durable::replace_file(path, lines.as_bytes());
    written.map_err(|source| EnvelopeError::File { doing: "write", path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;

    const KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

    #[test]
    fn a_file_of_our_own_is_made_once_and_kept() {
        let data = tempfile::tempdir().unwrap();
        let open = |is_in_use| MasterKeyFile::open(&KeySource::Own, data.path(), is_in_use);
        assert!(matches!(open(true), Err(EnvelopeError::NoFile { .. })), "secrets were sealed with another");
        let first = open(false).unwrap();
        assert_eq!(fs::metadata(first.path()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(open(true).unwrap().keys(), first.keys());
    }

    #[test]
    fn keys_are_added_before_the_others_and_removed() {
        let data = tempfile::tempdir().unwrap();
        let file = MasterKeyFile::open(&KeySource::Own, data.path(), false).unwrap();
        let old = file.keys().current().to_owned();
        file.add().unwrap();
        let new = file.keys().current().to_owned();
        assert_eq!(file.keys().ids().collect::<Vec<_>>(), [&new, &old]);
        assert!(file.remove(&new).is_err());
        file.remove(&old).unwrap();
        let read = MasterKeyFile::open(&KeySource::Own, data.path(), true).unwrap();
        assert_eq!(read.keys().ids().collect::<Vec<_>>(), [&new]);
        (1..KEYS_MAX).for_each(|_| file.add().unwrap());
        assert!(matches!(file.add(), Err(EnvelopeError::BadFile { .. })));
    }

    #[test]
    fn a_file_that_was_given_has_to_be_elsewhere_private_and_whole() {
        let (data, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let inside = data.path().join("keys.txt");
        let outside = elsewhere.path().join("keys.txt");
        let open = |path: &Path| MasterKeyFile::open(&KeySource::Given(path.to_owned()), data.path(), false);
        assert!(matches!(open(&outside), Err(EnvelopeError::NoFile { .. })), "it is never made");
        for path in [&inside, &outside] {
            durable::replace_file(path, format!("# two\nnew-1:{KEY}\n\nold:{KEY}\n").as_bytes()).unwrap();
        }
        assert!(matches!(open(&inside), Err(EnvelopeError::Inside { .. })));
        let link = elsewhere.path().join("link");
        std::os::unix::fs::symlink(&inside, &link).unwrap();
        assert!(matches!(open(&link), Err(EnvelopeError::Inside { .. })));
        assert_eq!(open(&outside).unwrap().keys().ids().collect::<Vec<_>>(), ["new-1", "old"]);
        fs::set_permissions(&outside, Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(open(&outside), Err(EnvelopeError::Exposed { mode: 0o640, .. })));
        fs::set_permissions(&outside, Permissions::from_mode(0o600)).unwrap();
        let twice = format!("a:{KEY}\na:{KEY}\n");
        for bad in ["", "# nothing\n", "a\n", "a:AAAA\n", "A:AQEB\n", &twice, &format!("a b:{KEY}\n")] {
            fs::write(&outside, bad).unwrap();
            assert!(matches!(open(&outside), Err(EnvelopeError::BadFile { .. })), "{bad:?}");
        }
    }
}
