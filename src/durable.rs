//! The few ways in which this server makes bytes and names durable. Everything that must survive power loss goes through here.
//!
//! None of these may be retried on the same file after it has failed: the kernel may have dropped the unwritten pages and would report
//! success for data that is gone.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const PRIVATE: u32 = 0o600;

/// Makes the content of `file` durable, and its length if that is needed to read it back (`fdatasync`).
pub fn sync_file(file: &File) -> io::Result<()> {
    file.sync_data()
}

/// Makes the names in `dir` durable: files created, renamed and removed there.
pub fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Creates `dir`, and what is missing above it, with `mode`, each name durable. Returns whether `dir` was missing.
pub fn create_directory(dir: &Path, mode: u32) -> io::Result<bool> {
    if dir.is_dir() {
        return Ok(false);
    }
    let parent = parent_of(dir);
    if !create_directory(&parent, mode)? {
        sync_name(&parent)?;
    }
    match DirBuilder::new().mode(mode).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => sync_directory(&parent)?,
    }
    Ok(true)
}

/// Makes the name of a directory durable that was found: whoever made it may have been killed before coming to that.
pub fn sync_name(dir: &Path) -> io::Result<()> {
    match sync_directory(&parent_of(dir)) {
        // We may not even look there, so somebody else made it.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        synced => synced,
    }
}

/// Puts `bytes` at `path` so that after a crash there is either what was there before or all of `bytes`. Only the owner can read it.
pub fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_file_with(path, |file| file.write_all(bytes)).map(drop)
}

/// [`replace_file`] for content that `write` produces. Returns the open file, which is readable and writable.
///
/// On an error the temporary file is removed, and `path` is as it was unless the last step, the sync of the directory, failed.
pub fn replace_file_with(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<File> {
    let temporary = temporary_name(path);
    let filled = create_private(&temporary).and_then(|mut file| {
        write(&mut file)?;
        sync_file(&file)?;
        Ok(file)
    });
    let renamed = filled.and_then(|file| fs::rename(&temporary, path).map(|()| file));
    match renamed {
        Ok(file) => sync_directory(&parent_of(path)).map(|()| file),
        Err(error) => {
            // Left over if this fails too; whoever opens the directory next removes it.
            let _ = fs::remove_file(&temporary);
            Err(error)
        }
    }
}

/// A new, empty file with mode 0600 in place of what an interrupted run may have left.
pub fn create_private(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    File::options().read(true).write(true).create_new(true).mode(PRIVATE).open(path)
}

/// Removes the file, durably: it is not seen again after a crash.
pub fn remove_file(path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    sync_directory(&parent_of(path))
}

/// The directory that holds the name of `path`.
pub fn parent_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        Some(_) => PathBuf::from("."),
        None => path.to_path_buf(),
    }
}

/// The name under which the content of `path` is prepared.
pub fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(".tmp");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(dir.path().join("file.tmp"), "left over by a crash, and readable by all").unwrap();
        replace_file(&path, b"one").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, PRIVATE);
        let failed = replace_file_with(&path, |file| {
            file.write_all(b"tw")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        });
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "the temporary file is gone");
        replace_file(&path, b"three").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
    }

    #[test]
    fn directories_are_created_with_what_is_above_them() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        assert!(create_directory(&deep, 0o700).unwrap());
        assert!(!create_directory(&deep, 0o755).unwrap());
        for created in [&deep, deep.parent().unwrap()] {
            assert_eq!(fs::metadata(created).unwrap().permissions().mode() & 0o777, 0o700);
        }
    }

    #[test]
    fn a_bare_name_lives_in_the_working_directory() {
        assert_eq!(parent_of(Path::new("name")), Path::new("."));
        assert_eq!(parent_of(Path::new("/")), Path::new("/"));
    }
}
