//! The bytes of firmware: a file for each content, named by its SHA-256, beside the registry. Which of them are wanted is in the registry.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use openssl::sha::sha256;

use crate::durable;

/// Its name in a data directory, and in a backup.
pub(crate) const FOLDER: &str = "firmware";
const PRIVATE_DIR_MODE: u32 = 0o700;

/// The folder with the files. It is made with the first of them.
#[derive(Clone)]
pub(super) struct FirmwareFiles {
    directory: PathBuf,
}

impl FirmwareFiles {
    /// That beside the registry in `file`.
    pub(super) fn beside(file: &Path) -> Self {
        Self { directory: durable::parent_of(file).join(FOLDER) }
    }

    /// Keeps these bytes, durably, and says by which name.
    pub(super) fn keep(&self, bytes: &[u8]) -> io::Result<String> {
        let name = hex::encode(sha256(bytes));
        durable::create_directory(&self.directory, PRIVATE_DIR_MODE)?;
        durable::replace_file(&self.directory.join(&name), bytes)?;
        Ok(name)
    }

    /// The bytes of this name, if they are what they were.
    pub(super) fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let bytes = fs::read(self.directory.join(name))?;
        if hex::encode(sha256(&bytes)) == name { Ok(bytes) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    /// Removes the bytes of this name.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        durable::remove_file(&self.directory.join(name))
    }

    /// Removes every file whose name nobody wants, such as what an interrupted run left. Says how many.
    pub(super) fn sweep(&self, wanted: &HashSet<String>) -> io::Result<usize> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            entries => entries?,
        };
        let mut swept = 0;
        for entry in entries {
            let name = entry?.file_name();
            if name.to_str().is_none_or(|name| !wanted.contains(name)) {
                fs::remove_file(self.directory.join(&name))?;
                swept += 1;
            }
        }
        Ok(swept)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn bytes_are_kept_by_what_they_are() {
        let directory = tempfile::tempdir().expect("a directory");
        let files = FirmwareFiles::beside(&directory.path().join("registry.db"));
        assert_eq!(files.sweep(&HashSet::new()).expect("nothing there"), 0);
        let name = files.keep(b"abc").expect("kept");
        assert_eq!(name, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!((files.keep(b"abc").expect("kept"), files.read(&name).expect("read")), (name.clone(), b"abc".to_vec()));
        let path = directory.path().join(FOLDER);
        assert_eq!(fs::metadata(&path).expect("metadata").permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(path.join(&name)).expect("metadata").permissions().mode() & 0o777, 0o600);

        let other = files.keep(b"other").expect("kept");
        fs::write(path.join("half.tmp"), "").expect("written");
        assert_eq!(files.sweep(&[name.clone()].into()).expect("swept"), 2);
        assert_eq!(files.read(&other).expect_err("gone").kind(), io::ErrorKind::NotFound);
        fs::write(path.join(&name), "abd").expect("written");
        assert_eq!(files.read(&name).expect_err("damaged").kind(), io::ErrorKind::InvalidData);
        files.remove(&name).expect("removed");
        assert!(files.read(&name).is_err());
    }
}
