//! The end of a process in which something has stopped: one line to standard error, past all buffers and locks, and no tidying up. Whoever was to write
//! the log or to run destructors may be what has stopped.

use std::fmt::{self, Write};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::OnceLock;
use std::time::UNIX_EPOCH;

use firmware_protocol::time::UnixMillis;
use router::progress::{Part, Stage};

use crate::data_dir::LAST_WORDS_FILE;

/// Longest line, in bytes.
const LINE_MAX: usize = 160;
/// How long a process that ends may wait for its words to be kept, in seconds: then the kernel ends it.
const KEEP_PATIENCE_S: u32 = 1;

/// Where the words are kept for the next process. Opened at the start, because a process that ends cannot open files any more.
static KEPT: OnceLock<File> = OnceLock::new();

/// A line of limited length, on the stack.
struct Line {
    bytes: [u8; LINE_MAX],
    len: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

/// The last words of a process before in the data directory at `directory`, and when it said them.
///
/// # Errors
/// They cannot be read.
pub fn read(directory: &Path) -> io::Result<Option<(UnixMillis, String)>> {
    let path = directory.join(LAST_WORDS_FILE);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    let words = String::from_utf8_lossy(&bytes[..bytes.len().min(LINE_MAX)]).trim().to_owned();
    let said = fs::metadata(&path)?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok((!words.is_empty()).then(|| (UnixMillis(u64::try_from(said.as_millis()).unwrap_or(u64::MAX)), words)))
}

/// From now on last words of this process are kept in the data directory at `directory`.
///
/// # Errors
/// The file cannot be opened.
pub fn keep_in(directory: &Path) -> io::Result<()> {
    let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(directory.join(LAST_WORDS_FILE))?;
    // Another server of the same process, as in tests, keeps them where the first does.
    let _ = KEPT.set(file);
    Ok(())
}

/// Keeps words for the next process, which may be the last of this one. Called by a thread that ends the process, and waits for the disk no longer than a
/// moment.
pub fn leave(words: fmt::Arguments<'_>) {
    let mut line = Line { bytes: [b' '; LINE_MAX], len: 0 };
    // What does not fit is left out.
    let _ = line.write_fmt(words);
    keep(&line);
}

fn keep(line: &Line) {
    if let Some(file) = KEPT.get() {
        // Whoever does not come back from the disk is ended by the signal.
        nix::unistd::alarm::set(KEEP_PATIENCE_S);
        let _ = file.write_all_at(&line.bytes, 0);
    }
}

/// Says which part has stopped, and where, and ends the process.
pub(super) fn end(part: Part, stage: Option<Stage>) -> ! {
    let stage = stage.map_or("start", Stage::name);
    die(format_args!("holdfast: {part} has stalled in {stage}; ending the process, sessions go on after a restart\n"))
}

/// Says that a shard has stopped and was taken over too often, or in vain, and ends the process.
pub(super) fn end_after_takeover(part: Part, stage: Option<Stage>, reason: &str) -> ! {
    let stage = stage.map_or("start", Stage::name);
    die(format_args!("holdfast: {part} has stalled in {stage}, {reason}; ending the process, sessions go on after a restart\n"))
}

/// Says that so many shards have stopped at once that it must be something that they share, and ends the process.
pub(super) fn end_for_many() -> ! {
    die(format_args!(
        "holdfast: more than a third of the shards have stalled at once; ending the process, sessions go on after a restart\n"
    ))
}

/// Says that the watchdog itself has stopped, and ends the process.
pub(super) fn end_for_watchdog() -> ! {
    die(format_args!("holdfast: the watchdog has stalled; ending the process, sessions go on after a restart\n"))
}

fn die(words: fmt::Arguments<'_>) -> ! {
    let mut line = Line { bytes: [b' '; LINE_MAX], len: 0 };
    let _ = line.write_fmt(words);
    // Without the lock that `eprintln` takes. If nobody reads it, the end says enough.
    let _ = nix::unistd::write(io::stderr(), &line.bytes[..line.len]);
    keep(&line);
    std::process::abort()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_said_last_is_read_by_the_next() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(read(directory.path()).unwrap(), None);
        keep_in(directory.path()).unwrap();
        assert_eq!(read(directory.path()).unwrap(), None, "it has said nothing");
        let mut line = Line { bytes: [b' '; LINE_MAX], len: 0 };
        line.write_str("shard-3 has stalled\n").unwrap();
        KEPT.get().unwrap().write_all_at(&line.bytes, 0).unwrap();
        let (said_at, words) = read(directory.path()).unwrap().unwrap();
        assert_eq!(words, "shard-3 has stalled");
        assert!(said_at.0 > 1_700_000_000_000, "{said_at:?}");
        assert!(line.write_str(&"x".repeat(LINE_MAX)).is_err(), "what does not fit is left out");
    }
}
