//! Files that are copied, linked and told by their content.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use openssl::sha::Sha256;

use crate::durable;

const CHUNK_BYTES: usize = 1 << 20;

/// What a file holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Content {
    pub(super) bytes: u64,
    /// SHA-256 in hex digits.
    pub(super) sha256: String,
}

/// What the file at `path` holds.
pub(super) fn content(path: &Path) -> io::Result<Content> {
    transfer(File::open(path)?, &mut io::sink())
}

/// Copies a file, or the first `bytes` of it, into a new one that nobody else can read, and syncs that.
///
/// # Errors
/// Reading or writing failed, or the file is shorter.
pub(super) fn copy(from: &Path, to: &Path, bytes: Option<u64>) -> io::Result<Content> {
    let source = File::open(from)?;
    let mut target = durable::create_private(to)?;
    let copied = transfer(source.take(bytes.unwrap_or(u64::MAX)), &mut target)?;
    if bytes.is_some_and(|bytes| bytes != copied.bytes) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    durable::sync_file(&target)?;
    Ok(copied)
}

/// Gives a file that never changes another name, or copies it where that cannot be: to another file system, for example.
pub(super) fn link(from: &Path, to: &Path) -> io::Result<Content> {
    match fs::hard_link(from, to) {
        Ok(()) => content(to),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error),
        Err(_) => copy(from, to, None),
    }
}

fn transfer(mut from: impl Read, to: &mut impl Write) -> io::Result<Content> {
    let (mut chunk, mut bytes, mut hash) = (vec![0; CHUNK_BYTES], 0, Sha256::new());
    loop {
        let read = from.read(&mut chunk)?;
        if read == 0 {
            return Ok(Content { bytes, sha256: hex::encode(hash.finish()) });
        }
        hash.update(&chunk[..read]);
        to.write_all(&chunk[..read])?;
        bytes += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_copy_is_private_and_as_long_as_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        fs::write(&from, b"abcdef").unwrap();
        let copied = copy(&from, &to, Some(3)).unwrap();
        assert_eq!(copied.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!((copied, fs::metadata(&to).unwrap().mode() & 0o777), (content(&to).unwrap(), 0o600));
        assert_eq!(copy(&from, &to, Some(7)).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(copy(&from, &to, None).unwrap(), content(&from).unwrap());
    }

    #[test]
    fn a_link_is_the_same_file_and_a_file_that_is_gone_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        assert_eq!(link(&from, &to).unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::write(&from, b"abc").unwrap();
        assert_eq!(link(&from, &to).unwrap().bytes, 3);
        assert_eq!(fs::metadata(&from).unwrap().ino(), fs::metadata(&to).unwrap().ino());
    }
}
