//! What became of the events for the devices of each shard, and the cursors in which that is kept.

use std::sync::{Arc, Mutex, PoisonError};

use router::event::Position;
use router::fate::{Fate, Fates};

use crate::cursors::{Cursor, CursorError, Cursors, Ledger, Mark};

/// How the names of these cursors begin.
const PREFIX: &str = "devices-";

/// How far a shard has come, and what became of the events since it began in this process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Account {
    /// Everything up to here has met its fate.
    pub position: Position,
    /// How many met which, by [`Fate::index`].
    pub fates: Fates,
    /// How many had expired when their turn came.
    pub expired: u64,
    /// Events after that which devices were offered, or are about to be, and whose fate is not known yet.
    pub waiting: usize,
}

/// An account that the fan-out writes and the stock-taking reads. Held for moments in memory only.
#[derive(Clone, Debug)]
pub struct SharedAccount {
    account: Arc<Mutex<Account>>,
}

impl Account {
    /// How many events some device wanted.
    pub fn wanted(&self) -> u64 {
        self.fates.iter().sum::<u64>() - self.fates[Fate::Unwanted.index()]
    }

    /// The mark that this comes to for a cursor whose ledger was `base` when the process began.
    pub fn mark(&self, base: &Ledger) -> Mark {
        let mut ledger = base.clone();
        ledger.delivered += self.fates[Fate::Delivered.index()];
        ledger.expired += self.expired;
        for fate in Fate::ALL.into_iter().filter(|fate| *fate != Fate::Delivered) {
            let count = self.fates[fate.index()];
            if count > 0 {
                *ledger.rejected.entry(fate.name().to_owned()).or_default() += count;
            }
        }
        Mark { position: self.position, ledger }
    }
}

impl SharedAccount {
    /// An account that begins after `position`.
    pub fn after(position: Position) -> Self {
        Self { account: Arc::new(Mutex::new(Account { position, ..Account::default() })) }
    }

    /// What it says now.
    pub fn get(&self) -> Account {
        *self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, account: Account) {
        *self.account.lock().unwrap_or_else(PoisonError::into_inner) = account;
    }
}

/// The cursors of that many shards, in order, in a journal whose newest event is at `last`.
///
/// Which devices a shard has depends on how many there are. If that was another number before, all begin where the slowest of them was: some devices
/// hear events again, and none misses any.
///
/// # Errors
/// A cursor cannot be read, made or removed.
pub fn cursors_of_shards(cursors: &Cursors, shards: usize, last: Position) -> Result<Vec<Cursor>, CursorError> {
    let names: Vec<String> = (0..shards).map(|shard| format!("{PREFIX}{shard}-of-{shards}")).collect();
    let known: Vec<String> = cursors.names().into_iter().filter(|name| name.starts_with(PREFIX)).collect();
    let slowest = known.iter().filter_map(|name| cursors.position(name)).min();
    if slowest.is_some() && names.iter().any(|name| !known.contains(name)) {
        tracing::warn!(shards, after = %slowest.unwrap_or_default(), "the shards are others than before: devices may hear events again");
    }
    let taken = names.iter().map(|name| cursors.take(name, slowest.unwrap_or(last))).collect::<Result<_, _>>()?;
    known.iter().filter(|name| !names.contains(name)).try_for_each(|name| cursors.remove(name))?;
    Ok(taken)
}
