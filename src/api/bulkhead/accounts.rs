//! How many requests of each account are waiting for devices: one account with many must leave room for the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use firmware_protocol::id::OwnerId;

use crate::config::Limit;

/// Counts by account. There are no more accounts in it than calls at work.
pub(super) struct Accounts {
    limit: Limit,
    at_work: Arc<Mutex<HashMap<OwnerId, u64>>>,
}

/// One of an account's calls, given back when dropped.
pub(super) struct AccountPlace {
    at_work: Arc<Mutex<HashMap<OwnerId, u64>>>,
    account: OwnerId,
}

impl Accounts {
    pub(super) fn new(limit: Limit) -> Self {
        Self { limit, at_work: Arc::default() }
    }

    /// One more of `account`, if it may have that.
    pub(super) fn take(&self, account: OwnerId) -> Option<AccountPlace> {
        let mut at_work = lock(&self.at_work);
        let others = at_work.get(&account).copied().unwrap_or_default();
        if !self.limit.admits_beside(others) {
            return None;
        }
        at_work.insert(account, others + 1);
        Some(AccountPlace { at_work: Arc::clone(&self.at_work), account })
    }
}

impl Drop for AccountPlace {
    fn drop(&mut self) {
        let mut at_work = lock(&self.at_work);
        match at_work.get_mut(&self.account) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(at_work.remove(&self.account)),
        }
    }
}

fn lock(at_work: &Mutex<HashMap<OwnerId, u64>>) -> MutexGuard<'_, HashMap<OwnerId, u64>> {
    at_work.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_its_share_and_takes_none_of_others() {
        let accounts = Accounts::new(Limit::AtMost(2));
        let (one, other) = (OwnerId(1), OwnerId(2));
        let places = [accounts.take(one), accounts.take(one)];
        assert!(places.iter().all(Option::is_some) && accounts.take(one).is_none());
        assert!(accounts.take(other).is_some());
        drop(places);
        assert!(lock(&accounts.at_work).is_empty(), "nothing is left of who is gone");
        assert!(accounts.take(one).is_some());
    }
}
