//! A cursor that is moved to where its sink's account is.

use crate::cursors::{Cursor, CursorError, Ledger};
use crate::fan_out::account::{Account, SharedAccount};

/// A cursor and the account that it follows.
#[derive(Debug)]
pub struct Bookmark {
    cursor: Cursor,
    account: SharedAccount,
    /// The ledger when the process began.
    base: Ledger,
    /// What was made durable last.
    durable: Account,
    /// It cannot be written, and that was said.
    is_broken: bool,
}

impl Bookmark {
    /// Of a sink that begins where `cursor` is.
    pub fn new(cursor: Cursor) -> Self {
        let account = SharedAccount::after(cursor.mark().position);
        let (base, durable) = (cursor.mark().ledger.clone(), account.get());
        Self { cursor, account, base, durable, is_broken: false }
    }

    /// The account, for the sink.
    pub fn account(&self) -> SharedAccount {
        self.account.clone()
    }

    /// Makes durable where the account is, if that is worth a sync: the sink passed something on since the last time, or has something under way. With
    /// `all`, whatever is new.
    ///
    /// # Errors
    /// It cannot be written. That is said once.
    pub(super) fn commit(&mut self, all: bool) -> Result<(), CursorError> {
        let account = self.account.get();
        let is_worth_it = all || account.waiting > 0 || account.wanted() != self.durable.wanted();
        if !is_worth_it || self.is_broken {
            return Ok(());
        }
        let committed = self.cursor.commit(account.mark(&self.base)).and_then(|()| self.cursor.witness());
        self.is_broken = committed.is_err();
        self.durable = account;
        committed
    }
}
