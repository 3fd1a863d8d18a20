//! The generation: how often this data directory has been served. It is the upper part of every send sequence, so it must rise with each start
//! and never be the same in two of them, whatever happened to the disk in between.
//!
//! * A start takes the larger of "one more than stored" and "minutes since 2025": a lost or old file does not turn the count back.
//! * The file knows its own inode and birth time. Where they differ, it is a copy: a restored backup or a cloned directory, whose original may have gone
//!   on since. Then a day's worth is added, and the seconds since the file was written, so that two copies of one original differ as well; the
//!   start of a copy takes more than a second, so that two that are started one after the other never see the same one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use firmware_protocol::session::stored::Generation;
use firmware_protocol::time::UnixMillis;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::durable;

/// Name of the file.
pub const FILE: &str = "generation";
/// The version of its format that is written, and the newest that can be read.
const FORMAT: u32 = 1;
/// 2025-01-01, in minutes since 1970.
const EPOCH_MIN: u64 = 28_928_160;
const DAY_MIN: u64 = 24 * 60;
/// The seconds of this many at most are added for a copy.
const COPY_SECONDS_MAX: u64 = 1 << 17;
/// What the start of a copy takes at least.
const COPY_PAUSE: Duration = Duration::from_millis(1100);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    generation: u32,
    written_at_s: u64,
    inode: u64,
    born_ns: u64,
}

/// What all versions of the file have.
#[derive(Deserialize)]
struct Version {
    format: u32,
}

/// The generation file cannot be used.
#[derive(Debug, Error)]
pub enum GenerationError {
    /// Reading or writing failed.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what this program writes.
    #[error("{path} is damaged; without it record numbers could repeat, so it must be restored from a backup", path = path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
    /// A newer version wrote it.
    #[error(
        "{path} is of format version {found}; this program knows versions up to {FORMAT}. Start the version of Holdfast that wrote it, or a \
         newer one", path = path.display()
    )]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// 33 million starts.
    #[error("the generation is used up")]
    Exhausted,
}

/// Takes the next generation of `directory` and makes it durable.
pub fn raise(directory: &Path, now: UnixMillis) -> Result<Generation, GenerationError> {
    let path = directory.join(FILE);
    let io = |source| GenerationError::Io { path: path.clone(), source };
    let now_s = now.0 / 1000;
    let next = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => minutes(now_s),
        Err(error) => return Err(io(error)),
        Ok(bytes) => {
            let stored = parse(&path, &bytes)?;
            let own = identity(&File::open(&path).map_err(io)?).map_err(io)?;
            match own == (stored.inode, stored.born_ns) {
                true => stored.next(now_s),
                false => {
                    tracing::warn!(path = %path.display(), "the data directory is a copy; record numbers go a day ahead");
                    stored.next_of_copy(now_s)
                }
            }
        }
    };
    take(directory, next, now_s)
}

/// Makes the generation file of `directory` from that of a backup, whose `bytes` these are: a day's worth ahead, as for any copy.
///
/// # Errors
/// The bytes are none of a generation file, or of a newer one, or the file cannot be written.
pub fn restore(directory: &Path, bytes: &[u8], now: UnixMillis) -> Result<Generation, GenerationError> {
    let now_s = now.0 / 1000;
    let next = parse(&directory.join(FILE), bytes)?.next_of_copy(now_s);
    take(directory, next, now_s)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Stored, GenerationError> {
    let damaged = || GenerationError::Damaged { path: path.to_owned() };
    let Version { format } = serde_json::from_slice(bytes).map_err(|_| damaged())?;
    if format > FORMAT {
        return Err(GenerationError::Newer { path: path.to_owned(), found: format });
    }
    serde_json::from_slice(bytes).ok().filter(|_| format == FORMAT).ok_or_else(damaged)
}

fn minutes(now_s: u64) -> u64 {
    (now_s / 60).saturating_sub(EPOCH_MIN)
}

impl Stored {
    fn next(&self, now_s: u64) -> u64 {
        minutes(now_s).max(u64::from(self.generation) + 1)
    }

    /// Waits, so that the next copy sees another second.
    fn next_of_copy(&self, now_s: u64) -> u64 {
        thread::sleep(COPY_PAUSE);
        self.next(now_s) + DAY_MIN + now_s.saturating_sub(self.written_at_s).min(COPY_SECONDS_MAX)
    }
}

fn take(directory: &Path, next: u64, now_s: u64) -> Result<Generation, GenerationError> {
    let path = directory.join(FILE);
    let generation = u32::try_from(next).map_err(|_| GenerationError::Exhausted)?;
    write(directory, &path, generation, now_s).map_err(|source| GenerationError::Io { path, source })?;
    Ok(Generation(generation))
}

/// Writes a new file that knows its own identity, then puts it in the old one's place.
fn write(directory: &Path, path: &Path, generation: u32, written_at_s: u64) -> io::Result<()> {
    let temporary = directory.join("generation.new");
    let mut file = durable::create_private(&temporary)?;
    let (inode, born_ns) = identity(&file)?;
    let stored = Stored { format: FORMAT, generation, written_at_s, inode, born_ns };
    file.write_all(&serde_json::to_vec(&stored)?)?;
    durable::sync_file(&file)?;
    fs::rename(&temporary, path)?;
    durable::sync_directory(directory)
}

/// What a copy of the file does not share with it. Where the file system knows no birth time, the inode must do.
fn identity(file: &File) -> io::Result<(u64, u64)> {
    let metadata = file.metadata()?;
    let born = metadata.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    Ok((metadata.ino(), u64::try_from(born.as_nanos()).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: UnixMillis = UnixMillis(1_800_000_000_000);

    fn later(seconds: u64) -> UnixMillis {
        UnixMillis(NOON.0 + seconds * 1000)
    }

    #[test]
    fn every_start_gets_a_generation_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let starts: Vec<u32> = [0, 0, 1, 61, 3600].map(|s| raise(directory.path(), later(s)).unwrap().0).into();
        let minutes = u32::try_from(NOON.0 / 60_000 - EPOCH_MIN).unwrap();
        assert_eq!(starts, [minutes, minutes + 1, minutes + 2, minutes + 3, minutes + 60]);
        assert_eq!(raise(directory.path(), UnixMillis(0)).unwrap().0, minutes + 61, "a clock that went back changes nothing");
    }

    #[test]
    fn copies_are_a_day_ahead_and_differ() {
        let original = tempfile::tempdir().unwrap();
        let first = raise(original.path(), NOON).unwrap().0;
        let mut seen = vec![raise(original.path(), later(1)).unwrap().0];
        for seconds in [2, 3] {
            let copy = tempfile::tempdir().unwrap();
            fs::copy(original.path().join(FILE), copy.path().join(FILE)).unwrap();
            let generation = raise(copy.path(), later(seconds)).unwrap().0;
            assert!(generation > first + 1440 && !seen.contains(&generation));
            seen.push(generation);
            assert_eq!(raise(copy.path(), later(seconds)).unwrap().0, generation + 1, "then it is an original");
        }
    }

    #[test]
    fn a_damaged_file_is_not_taken_for_a_missing_one() {
        let directory = tempfile::tempdir().unwrap();
        for bytes in [&b""[..], b"{}", b"{\"format\":0}", b"{\"format\":1,\"generation\":1}"] {
            fs::write(directory.path().join(FILE), bytes).unwrap();
            assert!(matches!(raise(directory.path(), NOON), Err(GenerationError::Damaged { .. })));
        }
    }

    #[test]
    fn a_newer_file_is_refused_in_words() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FILE), b"{\"format\":2,\"something\":\"else\"}").unwrap();
        let error = raise(directory.path(), NOON).unwrap_err().to_string();
        assert!(error.contains("generation is of format version 2") && error.contains("up to 1") && error.contains("Start"), "{error}");
    }

    #[test]
    fn format_version_1_keeps_decoding() {
        let golden = include_bytes!("../testdata/generation/v1.json");
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FILE), golden).unwrap();
        assert_eq!(raise(directory.path(), UnixMillis(0)).unwrap(), Generation(992_909 + 1 + 1440), "it is a copy");
        let restored = tempfile::tempdir().unwrap();
        assert_eq!(restore(restored.path(), golden, UnixMillis(1_788_502_605_000)).unwrap(), Generation(992_909 + 1 + 1440 + 5));
        assert_eq!(raise(restored.path(), UnixMillis(0)).unwrap(), Generation(992_909 + 2 + 1440 + 5), "and then an original");
    }
}
