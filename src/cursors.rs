//! Durable cursors: how far each sink has come in the journal, and what became of the events up to there.
//!
//! Position and ledger are written together, in one synced write of 4 KiB, so that after a crash they may be behind what the sink did and
//! never ahead of it: a sink that commits after it acted repeats at most what it did since its last commit. A cursor never passes the newest
//! durable event. What a sink does with events is its own business; [`Tail`](crate::journal::Tail) reads them.

mod file;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use router::event::Position;
use thiserror::Error;

use self::file::CursorFile;
use crate::durable;
use crate::journal::Events;

/// Most cursors in a directory.
const CURSORS_MAX: usize = 1_024;
/// Longest name of a cursor, and of a reason.
pub const NAME_BYTES_MAX: usize = 48;
/// Most reasons in a ledger.
pub const REASONS_MAX: usize = 32;

const ENDING: &str = ".cursor";

/// What became of the events up to a cursor. Every event is in one of these.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ledger {
    /// Passed on.
    pub delivered: u64,
    /// No longer kept when the sink came to them.
    pub expired: u64,
    /// Not passed on, by reason.
    pub rejected: BTreeMap<String, u64>,
}

/// A place in the journal and the ledger up to there.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Mark {
    /// Every event up to here is done with.
    pub position: Position,
    /// How.
    pub ledger: Ledger,
}

/// Why a cursor cannot be opened or moved.
#[derive(Debug, Error)]
pub enum CursorError {
    /// The operating system refused.
    #[error("cannot {doing} the cursor {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// The refusal.
        source: io::Error,
    },
    /// Neither of the two copies in the file is whole, or they contradict each other.
    #[error("the cursor {} is damaged: {what}. Put it back from a backup, or remove it: its sink then begins anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not hold.
        what: &'static str,
    },
    /// Written by a newer version of this program.
    #[error("the cursor {} has format version {version}; this program knows versions up to {known}", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u16,
        /// The newest version that this program can read.
        known: u16,
    },
    /// The cursor belongs to a journal that had more events than this one.
    #[error("the cursor {name} is at position {position}, but the journal's last event is {last}: it belongs to another journal")]
    Ahead {
        /// Whose.
        name: String,
        /// Where it is, or shall be.
        position: Position,
        /// The newest durable position.
        last: Position,
    },
    /// A cursor moves forward only.
    #[error("the cursor {name} is at position {position} and cannot go back to {to}")]
    Backwards {
        /// Whose.
        name: String,
        /// Where it is.
        position: Position,
        /// Where it should have gone.
        to: Position,
    },
    /// A name is empty, too long, or has other characters than a to z, 0 to 9 and hyphens.
    #[error("{0:?} cannot be the name of a cursor or a reason")]
    BadName(String),
    /// There are too many cursors, or too many reasons in a ledger.
    #[error("there are more than {0} of them")]
    TooMany(usize),
    /// Somebody has it.
    #[error("the cursor {0} is in use")]
    Taken(String),
    /// An earlier write failed, and nobody can tell what is on the disk. The next process can.
    #[error("the cursor {0} cannot be moved since a write failed")]
    Broken(String),
}

/// All cursors of a journal. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cursors {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    events: Events,
    known: Mutex<BTreeMap<String, Arc<Known>>>,
}

/// What everybody may know of a cursor.
#[derive(Debug)]
struct Known {
    position: AtomicU64,
    taken: AtomicBool,
}

impl Cursors {
    /// Reads all cursors in `dir`, which is created if it is not there, and checks them against the journal with these `events`.
    ///
    /// # Errors
    /// One of them cannot be read, or is ahead of the journal.
    pub fn open(dir: &Path, events: Events) -> Result<Self, CursorError> {
        durable::create_directory(dir, 0o700).map_err(io_error("create the directory of", dir))?;
        let cursors = Self { shared: Arc::new(Shared { dir: dir.to_path_buf(), events, known: Mutex::default() }) };
        for entry in fs::read_dir(dir).map_err(io_error("list", dir))? {
            let entry = entry.map_err(io_error("list", dir))?.file_name();
            let Some(name) = entry.to_str().and_then(|name| name.strip_suffix(ENDING)) else { continue };
            let (_, stored) = CursorFile::open(&cursors.path(name))?;
            cursors.check(name, stored.mark.position)?;
            cursors.known().insert(name.to_owned(), Arc::new(Known::at(stored.mark.position)));
        }
        if cursors.known().len() > CURSORS_MAX {
            return Err(CursorError::TooMany(CURSORS_MAX));
        }
        Ok(cursors)
    }

    /// The cursor `name`; if there is none, a new one that begins after `origin`. One at a time.
    ///
    /// # Errors
    /// It is in use, cannot be read or made, or `origin` is ahead of the journal.
    pub fn take(&self, name: &str, origin: Position) -> Result<Cursor, CursorError> {
        check_name(name)?;
        let mut all = self.known();
        let (path, known) = (self.path(name), all.get(name).cloned());
        if known.as_ref().is_some_and(|known| known.taken.load(Ordering::Acquire)) {
            return Err(CursorError::Taken(name.to_owned()));
        }
        let (file, stored) = match known {
            Some(_) => CursorFile::open(&path)?,
            None if all.len() >= CURSORS_MAX => return Err(CursorError::TooMany(CURSORS_MAX)),
            None => {
                self.check(name, origin)?;
                CursorFile::create(&path, origin)?
            }
        };
        self.check(name, stored.mark.position)?;
        let known = Arc::clone(all.entry(name.to_owned()).or_insert_with(|| Arc::new(Known::at(stored.mark.position))));
        known.taken.store(true, Ordering::Release);
        let (name, cursors) = (name.to_owned(), self.clone());
        Ok(Cursor { name, file, origin: stored.origin, mark: stored.mark, is_broken: false, known, cursors })
    }

    /// The cursor that is furthest behind, and how far it has come. `None` if there are none.
    pub fn slowest(&self) -> Option<(String, Position)> {
        let all = self.known();
        let positions = all.iter().map(|(name, known)| (known.position(), name));
        positions.min().map(|(position, name)| (name.clone(), position))
    }

    fn check(&self, name: &str, position: Position) -> Result<(), CursorError> {
        let last = self.shared.events.last();
        if position <= last { Ok(()) } else { Err(CursorError::Ahead { name: name.to_owned(), position, last }) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.shared.dir.join(format!("{name}{ENDING}"))
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Known>>> {
        self.shared.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn at(position: Position) -> Self {
        Self { position: AtomicU64::new(position.0), taken: AtomicBool::new(false) }
    }

    fn position(&self) -> Position {
        Position(self.position.load(Ordering::Acquire))
    }
}

/// How far one sink has come. Dropping it does not move it.
pub struct Cursor {
    name: String,
    file: CursorFile,
    origin: Position,
    mark: Mark,
    is_broken: bool,
    known: Arc<Known>,
    cursors: Cursors,
}

impl Cursor {
    /// Where it was when it was made: events up to there are in no ledger.
    pub fn origin(&self) -> Position {
        self.origin
    }

    /// What was committed last.
    pub fn mark(&self) -> &Mark {
        &self.mark
    }

    /// Moves the cursor. When this returns, `mark` is durable. It costs one synced write in place, without growing a file.
    ///
    /// # Errors
    /// It would go back, or pass the newest durable event; then it stays as it was. If it cannot be written, every later commit is refused.
    pub fn commit(&mut self, mark: Mark) -> Result<(), CursorError> {
        if self.is_broken {
            return Err(CursorError::Broken(self.name.clone()));
        }
        if mark.position < self.mark.position {
            return Err(CursorError::Backwards { name: self.name.clone(), position: self.mark.position, to: mark.position });
        }
        self.cursors.check(&self.name, mark.position)?;
        check_reasons(&mark.ledger)?;
        if mark == self.mark {
            return Ok(());
        }
        let written = self.file.write(self.origin, &mark);
        self.is_broken = written.is_err();
        written?;
        self.known.position.store(mark.position.0, Ordering::Release);
        self.mark = mark;
        Ok(())
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.known.taken.store(false, Ordering::Release);
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor").field("name", &self.name).field("mark", &self.mark).finish_non_exhaustive()
    }
}

fn check_name(name: &str) -> Result<(), CursorError> {
    let good = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if good && (1..=NAME_BYTES_MAX).contains(&name.len()) { Ok(()) } else { Err(CursorError::BadName(name.to_owned())) }
}

fn check_reasons(ledger: &Ledger) -> Result<(), CursorError> {
    if ledger.rejected.len() > REASONS_MAX {
        return Err(CursorError::TooMany(REASONS_MAX));
    }
    ledger.rejected.keys().try_for_each(|reason| check_name(reason))
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CursorError {
    move |source| CursorError::Io { doing, path: path.to_path_buf(), source }
}

#[cfg(test)]
mod tests;
