//! Cuts the torn end of the database's own log, which a power cut may leave: blocks of the same batch reach the disk in any order, and the database does not
//! open with a batch that is there in its whole length and says something else than was written.
//!
//! What is cut was never synced, unless the disk lost it. The log is read as fjall 3 writes it: per batch 1, items u32, sequence u64; items of 2, kind u8,
//! compression u8, keyspace u64, length of the key u16, of the value u32, of the value as it is stored u32, key, value, or of 4, keyspace u64; then 3,
//! XXH3-64 of the items u64, `FJL` 3. All of it little-endian. A test writes such a log with the library and compares.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

const ENDING: &str = "jnl";
const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const TRAILER: [u8; 4] = *b"FJL\x03";
/// No item is longer: the largest event and what is around it.
const VALUE_LEN_MAX: u32 = 32 << 20;

/// Cuts the log of the database in `directory` behind its last whole batch. Returns how many bytes went, of those that were not zero to the end.
pub(super) fn cut_torn_end(directory: &Path) -> io::Result<u64> {
    let Some(log) = newest_log(directory)? else { return Ok(0) };
    let whole = whole_len(BufReader::new(File::open(&log)?))?;
    let written = written_len(&log)?;
    if written <= whole {
        return Ok(0);
    }
    let file = OpenOptions::new().write(true).open(&log)?;
    file.set_len(whole)?;
    file.sync_all()?;
    Ok(written - whole)
}

/// The log that is being written: the one with the highest number.
fn newest_log(directory: &Path) -> io::Result<Option<PathBuf>> {
    let mut newest = None;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u64>().ok());
        if let Some(number) = number.filter(|_| path.extension().is_some_and(|ending| ending == ENDING)) {
            newest = newest.max(Some((number, path)));
        }
    }
    Ok(newest.map(|(_, path)| path))
}

/// Bytes up to the last one that is not zero: the file is filled ahead.
fn written_len(log: &Path) -> io::Result<u64> {
    let (mut reader, mut chunk) = (File::open(log)?, vec![0; 1 << 16]);
    let (mut at, mut written) = (0, 0);
    loop {
        let read = reader.read(&mut chunk)?;
        if read == 0 {
            return Ok(written);
        }
        if let Some(last) = chunk[..read].iter().rposition(|byte| *byte != 0) {
            written = at + last as u64 + 1;
        }
        at += read as u64;
    }
}

/// Bytes of the whole batches at the front.
fn whole_len(from: impl Read) -> io::Result<u64> {
    let (mut log, mut whole) = (Log { from, at: 0 }, 0);
    loop {
        match log.batch() {
            Ok(true) => whole = log.at,
            Ok(false) => return Ok(whole),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(whole),
            Err(error) => return Err(error),
        }
    }
}

struct Log<R> {
    from: R,
    at: u64,
}

impl<R: Read> Log<R> {
    /// Reads a batch. `false` if it is none, or not what was written.
    fn batch(&mut self) -> io::Result<bool> {
        let [START] = self.array()? else { return Ok(false) };
        let items = u32::from_le_bytes(self.array()?);
        self.array::<8>()?;
        let mut sum = Xxh3::new();
        for _ in 0..items {
            if !self.item(&mut sum)? {
                return Ok(false);
            }
        }
        let [END] = self.array()? else { return Ok(false) };
        let expected = u64::from_le_bytes(self.array()?);
        Ok(self.array()? == TRAILER && sum.digest() == expected)
    }

    fn item(&mut self, sum: &mut Xxh3) -> io::Result<bool> {
        let [tag] = self.array()?;
        sum.update(&[tag]);
        match tag {
            ITEM => {
                let head: [u8; 20] = self.array()?;
                sum.update(&head);
                let [.., a, b, _, _, _, _, _, _, _, _] = head;
                let key = u32::from(u16::from_le_bytes([a, b]));
                let [.., c, d, e, f] = head;
                let stored = u32::from_le_bytes([c, d, e, f]);
                if stored > VALUE_LEN_MAX {
                    return Ok(false);
                }
                self.pass(key + stored, sum)?;
                Ok(true)
            }
            CLEAR => {
                sum.update(&self.array::<8>()?);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.from.read_exact(&mut bytes)?;
        self.at += N as u64;
        Ok(bytes)
    }

    fn pass(&mut self, len: u32, sum: &mut Xxh3) -> io::Result<()> {
        let (mut chunk, mut left) = ([0; 4096], u64::from(len));
        while left > 0 {
            let part = usize::try_from(left).map_or(chunk.len(), |left| left.min(chunk.len()));
            self.from.read_exact(&mut chunk[..part])?;
            sum.update(&chunk[..part]);
            left -= part as u64;
            self.at += part as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use fjall::{Database, KeyspaceCreateOptions, PersistMode};

    use super::*;

    /// A log with these many batches in a database, and where each ends.
    fn written(directory: &Path, batches: u32) -> (PathBuf, Vec<u64>) {
        let database = Database::builder(directory).open().unwrap();
        let keyspace = database.keyspace("some", KeyspaceCreateOptions::default).unwrap();
        let mut ends = Vec::new();
        for number in 0..batches {
            let mut batch = database.batch();
            batch.insert(&keyspace, number.to_be_bytes(), vec![7; 9_000]);
            batch.insert(&keyspace, format!("text {number}"), number.to_string().repeat(50));
            batch.remove(&keyspace, "nothing");
            batch.commit().unwrap();
            database.persist(PersistMode::SyncAll).unwrap();
            ends.push(written_len(&newest_log(directory).unwrap().unwrap()).unwrap());
        }
        (newest_log(directory).unwrap().unwrap(), ends)
    }

    fn rows(directory: &Path) -> Result<usize, fjall::Error> {
        let database = Database::builder(directory).open()?;
        Ok(database.keyspace("some", KeyspaceCreateOptions::default)?.iter().count())
    }

    #[test]
    fn a_log_is_read_as_the_library_writes_it() {
        let directory = tempfile::tempdir().unwrap();
        let (log, ends) = written(directory.path(), 9);
        assert_eq!(whole_len(File::open(&log).unwrap()).unwrap(), *ends.last().unwrap());
        assert_eq!(cut_torn_end(directory.path()).unwrap(), 0);
        assert_eq!(rows(directory.path()).unwrap(), 18);
    }

    #[test]
    fn batches_after_a_torn_one_are_cut_and_those_before_stay() {
        for (at, whole) in [(8, 8), (5, 5), (0, 0)] {
            let directory = tempfile::tempdir().unwrap();
            let (log, ends) = written(directory.path(), 9);
            // A block that never reached the disk.
            let end = ends[at];
            let file = OpenOptions::new().write(true).open(&log).unwrap();
            file.write_all_at(&[0; 40], end - 200).unwrap();
            drop(file);
            let cut = cut_torn_end(directory.path()).unwrap();
            let begins = if whole == 0 { 0 } else { ends[whole - 1] };
            assert!(cut > 0 && fs::metadata(&log).unwrap().len() == begins);
            assert_eq!(rows(directory.path()).unwrap(), 2 * whole);
        }
    }

    #[test]
    fn whatever_is_in_the_log_nothing_panics() {
        for seed in 0..200_u32 {
            let bytes: Vec<u8> = (0..seed * 3).map(|at| (at.wrapping_mul(seed).wrapping_add(at >> 3) % 7).try_into().unwrap()).collect();
            assert!(whole_len(&bytes[..]).unwrap() <= bytes.len() as u64);
        }
    }
}
