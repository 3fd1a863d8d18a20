//! The register of changes: starts and how the process before ended, settings, keys, devices that commands brought or took, restores, steps of the clock.
//! Whoever looks for a cause wants to know what was changed before it began. A change is a suspect and no more.
//!
//! It is kept in memory, and in a file of the data directory that is replaced as a whole. A running server has a thread for that, so that nobody who notes a
//! change waits for the disk; a command without a server writes it itself, under the directory's lock.

mod file;
mod what;

use std::collections::VecDeque;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use firmware_protocol::time::UnixMillis;

pub use self::file::{ChangesError, Stored, read};
pub use self::what::{Before, Change, What};

use crate::config::{self, Settings};
use crate::{about, durable};

/// Name of the file.
pub const FILE: &str = "changes";
/// Most changes that are kept; the oldest go first.
const CHANGES_MAX: usize = 1_000;
/// Most of them of one kind: a server that starts again and again must not push out everything else.
const OF_A_KIND_MAX: usize = 250;
/// Devices that come one after the other within so long are one change: an import is many commands.
const MERGED_WITHIN_MS: u64 = 600_000;
/// How soon a write that failed is tried again, into a new file.
const AGAIN: Duration = Duration::from_secs(10);

/// The register. A handle: clones are the same register.
#[derive(Clone, Debug)]
pub struct Register(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    kept: Mutex<Kept>,
    /// Held while the file is written. How many changes it has seen.
    written: Mutex<u64>,
    /// Wakes who writes.
    wake: SyncSender<()>,
    /// Until somebody writes.
    woken: Mutex<Option<Receiver<()>>>,
}

#[derive(Debug, Default)]
struct Kept {
    settings: Settings,
    changes: VecDeque<Change>,
    /// Rises with each change.
    revision: u64,
}

impl Register {
    /// The register of the data directory at `directory`, for whoever has that for itself. One that is damaged is begun anew: it is only for people.
    ///
    /// # Errors
    /// The file cannot be read, or a newer version wrote it.
    pub fn open(directory: &Path) -> Result<Self, ChangesError> {
        let stored = match read(directory) {
            Err(error @ ChangesError::Damaged { .. }) => {
                tracing::warn!(%error, "it is begun anew");
                Stored::default()
            }
            read => read?,
        };
        let kept = Kept { settings: stored.settings, changes: stored.changes.into(), revision: 0 };
        let (wake, woken) = sync_channel(1);
        let (kept, written, woken) = (Mutex::new(kept), Mutex::new(0), Mutex::new(Some(woken)));
        Ok(Self(Arc::new(Inner { path: directory.join(FILE), kept, written, wake, woken })))
    }

    /// From now on a thread writes what is noted. It ends with the last handle.
    pub fn keep(&self) {
        let Some(woken) = lock(&self.0.woken).take() else { return };
        let register = Arc::downgrade(&self.0);
        let began = thread::Builder::new().name("changes".to_owned()).spawn(move || write_when_woken(&register, &woken));
        if let Err(error) = began {
            tracing::warn!(%error, "changes are written at the end only");
        }
    }

    /// Notes a change.
    pub fn note(&self, now: UnixMillis, what: What) {
        lock(&self.0.kept).push(Change { at_ms: now.0, what });
        // One that is full will be seen all the same.
        let _ = self.0.wake.try_send(());
    }

    /// Notes a start with these settings, and which of them are others than before. `words` are the last ones of a process before, and when they were said.
    /// Returns how that ended.
    pub fn started(&self, now: UnixMillis, settings: &Settings, words: Option<(UnixMillis, String)>) -> Before {
        let mut kept = lock(&self.0.kept);
        let before = before(&kept.changes, words);
        let previous = mem::replace(&mut kept.settings, settings.clone());
        let (version, revision) = (about::VERSION.to_owned(), about::REVISION.to_owned());
        let start = What::Started { version, revision, config: config::hash(settings), before: before.clone() };
        for what in different(&previous, settings).into_iter().chain([start]) {
            kept.push(Change { at_ms: now.0, what });
        }
        drop(kept);
        let _ = self.0.wake.try_send(());
        before
    }

    /// Notes that the process ends in order, and waits until that is on disk.
    pub fn stopped(&self, now: UnixMillis) {
        self.note(now, What::Stopped);
        if let Err(error) = self.write() {
            tracing::warn!(%error, "the next start will not know that this process ended in order");
        }
    }

    /// What changed, the oldest first.
    pub fn list(&self) -> Vec<Change> {
        lock(&self.0.kept).changes.iter().cloned().collect()
    }

    /// Writes what was noted since the last time.
    ///
    /// # Errors
    /// The file cannot be written; it is as it was.
    pub fn write(&self) -> Result<(), ChangesError> {
        self.0.write()
    }
}

impl Inner {
    fn write(&self) -> Result<(), ChangesError> {
        let mut written = lock(&self.written);
        let (revision, stored) = {
            let kept = lock(&self.kept);
            (kept.revision, Stored { settings: kept.settings.clone(), changes: kept.changes.iter().cloned().collect() })
        };
        if revision != *written {
            durable::replace_file(&self.path, &stored.bytes()).map_err(|source| ChangesError::Io { path: self.path.clone(), source })?;
            *written = revision;
        }
        Ok(())
    }
}

impl Kept {
    fn push(&mut self, change: Change) {
        self.revision += 1;
        let kind = mem::discriminant(&change.what);
        let same = |other: &Change| mem::discriminant(&other.what) == kind;
        if let Some(last) = self.changes.back_mut().filter(|last| change.at_ms.saturating_sub(last.at_ms) <= MERGED_WITHIN_MS)
            && last.what.merge(&change.what)
        {
            return;
        }
        self.changes.push_back(change);
        if self.changes.iter().filter(|other| same(other)).count() > OF_A_KIND_MAX
            && let Some(oldest) = self.changes.iter().position(same)
        {
            self.changes.remove(oldest);
        }
        if self.changes.len() > CHANGES_MAX {
            self.changes.pop_front();
        }
    }
}

/// Notes one change in the data directory at `directory`, which the caller has for itself, and waits until that is on disk.
///
/// # Errors
/// The register cannot be read or written, or a newer version wrote it.
pub fn note_in(directory: &Path, now: UnixMillis, what: What) -> Result<(), ChangesError> {
    let register = Register::open(directory)?;
    register.note(now, what);
    register.write()
}

fn write_when_woken(register: &Weak<Inner>, woken: &Receiver<()>) {
    let mut failed = false;
    loop {
        match if failed { woken.recv_timeout(AGAIN) } else { woken.recv().map_err(|_| RecvTimeoutError::Disconnected) } {
            Ok(()) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let Some(register) = register.upgrade() else { return };
        let result = register.write();
        if let (Err(error), false) = (&result, failed) {
            tracing::warn!(%error, "changes are kept in memory only, until this can be written");
        }
        failed = result.is_err();
    }
}

/// How the process before ended.
fn before(changes: &VecDeque<Change>, words: Option<(UnixMillis, String)>) -> Before {
    let last = changes.iter().rev().find(|change| matches!(change.what, What::Started { .. } | What::Stopped));
    match last {
        None => Before::None,
        Some(Change { what: What::Stopped, .. }) => Before::Stopped,
        // Older ones are those of a process before that.
        Some(started) => match words.filter(|(said_at, _)| said_at.0 >= started.at_ms) {
            Some((said_at, words)) => Before::Died { at_ms: said_at.0, words },
            None => Before::Killed,
        },
    }
}

/// What is set otherwise than before. On a first start nothing was before.
fn different(before: &Settings, now: &Settings) -> Vec<What> {
    if before.is_empty() {
        return Vec::new();
    }
    let keys: std::collections::BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let changed = keys.into_iter().filter(|key| before.get(*key) != now.get(*key));
    changed.map(|key| What::Setting { key: key.clone(), from: before.get(key).cloned(), to: now.get(key).cloned() }).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
