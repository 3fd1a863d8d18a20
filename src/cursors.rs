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
    /// No longer kept when the sink came to them, or too old by then to be passed on.
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

/// All that a cursor's file says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// Where the cursor was when it was made: events up to there are in no ledger.
    pub origin: Position,
    /// How far it has come.
    pub mark: Mark,
    /// The newest durable event when this was written. A journal that ends before it has lost events.
    pub seen: Position,
    /// Events after the origin that the journal lost at its end: their positions were given out again.
    pub lost: u64,
}

impl Standing {
    /// How many events were accepted since the cursor was made, in a journal whose newest durable event is at `last`.
    pub fn accepted(&self, last: Position) -> u64 {
        last.max(self.seen).0.saturating_sub(self.origin.0) + self.lost
    }
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
    /// The journal had more events when the cursor was moved: it has lost its end, or is another one.
    #[error(
        "the cursor {name} is at position {position}, but the journal's last event is {last}: the journal has lost its end, or is another one. \
         Restore a backup, or remove the cursors: their sinks then begin anew"
    )]
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
        if !durable::create_directory(dir, 0o700).map_err(io_error("create the directory of", dir))? {
            // Whoever made it, or a cursor in it, may have been killed before the name was durable, and every commit relies on that.
            let synced = durable::sync_name(dir).and_then(|()| durable::sync_directory(dir));
            synced.map_err(io_error("sync the directory of", dir))?;
        }
        let cursors = Self { shared: Arc::new(Shared { dir: dir.to_path_buf(), events, known: Mutex::default() }) };
        for entry in fs::read_dir(dir).map_err(io_error("list", dir))? {
            let entry = entry.map_err(io_error("list", dir))?.file_name();
            let Some(name) = entry.to_str().and_then(|name| name.strip_suffix(ENDING)) else { continue };
            let (file, stored) = CursorFile::open(&cursors.path(name))?;
            // Segments are given up by what is found here, so it must not go back.
            file.sync()?;
            let position = stored.standing.mark.position;
            cursors.check(name, position)?;
            cursors.known().insert(name.to_owned(), Arc::new(Known::at(position)));
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
        let standing = stored.standing;
        self.check(name, standing.mark.position)?;
        let known = Arc::clone(all.entry(name.to_owned()).or_insert_with(|| Arc::new(Known::at(standing.mark.position))));
        known.taken.store(true, Ordering::Release);
        drop(all);
        let mut cursor = Cursor { name: name.to_owned(), file, standing, is_broken: false, known, cursors: self.clone() };
        cursor.note_loss()?;
        Ok(cursor)
    }

    /// The names of all cursors, in order.
    pub fn names(&self) -> Vec<String> {
        self.known().keys().cloned().collect()
    }

    /// How far a cursor has come, as far as that is durable. `None` if there is no such cursor.
    pub fn position(&self, name: &str) -> Option<Position> {
        self.known().get(name).map(|known| known.position())
    }

    /// What the file of a cursor says.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn standing(&self, name: &str) -> Result<Standing, CursorError> {
        check_name(name)?;
        CursorFile::open(&self.path(name)).map(|(_, stored)| stored.standing)
    }

    /// Removes a cursor, durably.
    ///
    /// # Errors
    /// It is in use, or cannot be removed.
    pub fn remove(&self, name: &str) -> Result<(), CursorError> {
        check_name(name)?;
        let mut all = self.known();
        if all.get(name).is_some_and(|known| known.taken.load(Ordering::Acquire)) {
            return Err(CursorError::Taken(name.to_owned()));
        }
        let path = self.path(name);
        durable::remove_file(&path).map_err(io_error("remove", &path))?;
        all.remove(name);
        Ok(())
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
    standing: Standing,
    is_broken: bool,
    known: Arc<Known>,
    cursors: Cursors,
}

impl Cursor {
    /// Where it was when it was made: events up to there are in no ledger.
    pub fn origin(&self) -> Position {
        self.standing.origin
    }

    /// What was committed last.
    pub fn mark(&self) -> &Mark {
        &self.standing.mark
    }

    /// Moves the cursor. When this returns, `mark` is durable, and up to where the journal was. It costs one synced write in place, without growing a
    /// file.
    ///
    /// # Errors
    /// It would go back, or pass the newest durable event; then it stays as it was. If it cannot be written, every later commit is refused.
    pub fn commit(&mut self, mark: Mark) -> Result<(), CursorError> {
        let (from, to) = (self.standing.mark.position, mark.position);
        if to < from {
            return Err(CursorError::Backwards { name: self.name.clone(), position: from, to });
        }
        self.cursors.check(&self.name, to)?;
        check_reasons(&mark.ledger)?;
        if mark == self.standing.mark {
            return self.unless_broken();
        }
        self.write(Standing { mark, seen: self.cursors.shared.events.last(), ..self.standing.clone() })
    }

    /// Makes durable up to where the journal is, so that it is noticed if it loses what is there. Costs nothing if that is known.
    ///
    /// # Errors
    /// As for [`Cursor::commit`].
    pub fn witness(&mut self) -> Result<(), CursorError> {
        let seen = self.cursors.shared.events.last();
        if seen <= self.standing.seen {
            return self.unless_broken();
        }
        self.write(Standing { seen, ..self.standing.clone() })
    }

    /// A journal that ends before what was seen of it has lost events, whose positions it will give out again.
    fn note_loss(&mut self) -> Result<(), CursorError> {
        let (seen, last) = (self.standing.seen, self.cursors.shared.events.last());
        if seen <= last {
            return Ok(());
        }
        tracing::error!(sink = self.name, ends = %last, ended = %seen, "the journal has lost durable events");
        self.write(Standing { seen: last, lost: self.standing.lost + (seen.0 - last.0), ..self.standing.clone() })
    }

    fn write(&mut self, standing: Standing) -> Result<(), CursorError> {
        self.unless_broken()?;
        let written = self.file.write(&standing);
        self.is_broken = written.is_err();
        written?;
        self.known.position.store(standing.mark.position.0, Ordering::Release);
        self.standing = standing;
        Ok(())
    }

    fn unless_broken(&self) -> Result<(), CursorError> {
        if self.is_broken { Err(CursorError::Broken(self.name.clone())) } else { Ok(()) }
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.known.taken.store(false, Ordering::Release);
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor").field("name", &self.name).field("mark", &self.standing.mark).finish_non_exhaustive()
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
