//! The end of a process in which something has stopped: one line to standard error, past all buffers and locks, and no tidying up. Whoever was to write
//! the log or to run destructors may be what has stopped.

use std::fmt::{self, Write};

use router::progress::{Part, Stage};

/// A line of limited length, on the stack.
struct Line {
    bytes: [u8; 160],
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
    let mut line = Line { bytes: [0; 160], len: 0 };
    let _ = line.write_fmt(words);
    // Without the lock that `eprintln` takes. If nobody reads it, the end says enough.
    let _ = nix::unistd::write(std::io::stderr(), &line.bytes[..line.len]);
    std::process::abort()
}
