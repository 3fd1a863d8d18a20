//! The log of acts: who changed what of the registry, when, and from where.
//!
//! A row is written in the transaction of the change it tells of, so that there is neither without the other. Each carries a hash over the one before it and
//! over itself, and another table says where the log begins and ends: a row that was changed, taken out, or cut off the end is found by
//! [`Registry::verify_audit`]. Whoever can write to the database can make the whole log anew; keep its last hash elsewhere if that matters. Rows hold no
//! token, password, code or secret.

use std::fmt::Display;

use firmware_protocol::time::UnixMillis;
use futures_util::TryStreamExt;
use openssl::sha::Sha256;
use sqlx::{FromRow, SqliteConnection};

use super::users::{to_i64, to_u64};
use super::{Registry, RegistryError};
use crate::dates;

/// Rows that are kept; with one more the oldest goes.
const ROWS_MAX: u64 = 1_000_000;
/// Rows in one answer.
pub const AUDIT_PAGE_MAX: u32 = 1_000;
/// Longest text of what was acted on, and of what is said about it.
const TEXT_LEN_MAX: usize = 512;

/// Something that was done, for the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Act {
    name: &'static str,
    object: String,
    detail: String,
}

impl Act {
    /// That `name` was done to `object`.
    pub(super) fn new(name: &'static str, object: impl Display) -> Self {
        Self { name, object: cut(object.to_string()), detail: String::new() }
    }

    /// The same, with more about it. Nothing that must not be seen.
    pub(super) fn with(self, detail: impl Display) -> Self {
        Self { detail: cut(detail.to_string()), ..self }
    }
}

/// A row of the log.
#[derive(Clone, PartialEq, Eq, Debug, FromRow)]
pub struct AuditRow {
    number: i64,
    at: i64,
    /// Who did it: `operator`, `user:1`, `api-user:10001/3`, `client:5`, `device:…`, `stranger` or `server`.
    pub who: String,
    /// The address that the request came from.
    pub address: Option<String>,
    /// What was done, such as `device.remove`.
    pub act: String,
    /// To what.
    pub object: String,
    /// More about it.
    pub detail: String,
    /// The hash over this row and the one before it, in hex digits.
    pub hash: String,
}

impl AuditRow {
    /// Its number; each is one more than that before it.
    pub fn number(&self) -> u64 {
        u64::try_from(self.number).unwrap_or_default()
    }

    /// When it was done.
    pub fn at(&self) -> UnixMillis {
        UnixMillis(u64::try_from(self.at).unwrap_or_default())
    }

    /// The hash that it should have after a row with this one. Each field goes in with its length, so that no two rows say the same bytes.
    fn hash_after(&self, before: &str) -> String {
        let mut hash = Sha256::new();
        let (number, at) = (self.number.to_string(), self.at.to_string());
        let address = self.address.as_deref().map_or_else(String::new, |address| format!("@{address}"));
        for field in [before, &number, &at, &self.who, &address, &self.act, &self.object, &self.detail] {
            hash.update(&(field.len() as u64).to_be_bytes());
            hash.update(field.as_bytes());
        }
        hex::encode(hash.finish())
    }
}

/// What the log is worth.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AuditVerdict {
    /// Every row follows from the one before it, and none is missing.
    Whole {
        /// How many rows there are.
        rows: u64,
        /// The hash of the last one.
        last_hash: String,
    },
    /// It was tampered with, or is damaged.
    Broken {
        /// The first row that is not as it was written, or is not there.
        number: u64,
        /// What is wrong with it.
        why: &'static str,
    },
}

#[derive(FromRow)]
struct Head {
    first: i64,
    before_hash: String,
    next: i64,
    last_hash: String,
}

impl Registry {
    /// Writes down an act of whoever holds this handle, within the transaction of the change.
    pub(super) async fn write_down(&self, connection: &mut SqliteConnection, act: Act) -> Result<(), RegistryError> {
        let head = head(&mut *connection).await?;
        let mut row = AuditRow {
            number: head.next,
            at: to_i64(dates::now().0),
            who: self.actor.who.to_string(),
            address: self.actor.address.map(|address| address.to_string()),
            act: act.name.to_owned(),
            object: act.object,
            detail: act.detail,
            hash: String::new(),
        };
        row.hash = row.hash_after(&head.last_hash);
        insert(connection, &row).await?;
        sqlx::query("UPDATE audit_head SET next = $1, last_hash = $2 WHERE id = 1")
            .bind(row.number + 1)
            .bind(&row.hash)
            .execute(&mut *connection)
            .await?;
        if row.number - head.first >= to_i64(ROWS_MAX) { drop_first(connection, head.first).await } else { Ok(()) }
    }

    /// Rows of the log, the newest first: at most so many, and only those before number `before` if that is said.
    ///
    /// # Errors
    /// The database failed.
    pub async fn audit(&self, before: Option<u64>, count: u32) -> Result<Vec<AuditRow>, RegistryError> {
        let select = "SELECT number, at, who, address, act, object, detail, hash FROM audit_log WHERE number < $1 \
                      ORDER BY number DESC LIMIT $2";
        let query = sqlx::query_as(select).bind(before.map_or(i64::MAX, to_i64)).bind(i64::from(count.min(AUDIT_PAGE_MAX)));
        self.answer(query.fetch_all(self.pool())).await
    }

    /// Whether the log is as it was written.
    ///
    /// # Errors
    /// The database failed.
    pub async fn verify_audit(&self) -> Result<AuditVerdict, RegistryError> {
        // One moment for both tables: acts may be added meanwhile.
        let mut transaction = self.answer(self.pool().begin()).await?;
        let head = head(&mut transaction).await?;
        let select = "SELECT number, at, who, address, act, object, detail, hash FROM audit_log ORDER BY number";
        let mut rows = sqlx::query_as::<_, AuditRow>(select).fetch(&mut *transaction);
        let (mut due, mut before) = (head.first, head.before_hash);
        while let Some(row) = rows.try_next().await? {
            let why = match row.number {
                number if number != due => Some((due.min(number), "a row is missing here, or was put in")),
                number if row.hash != row.hash_after(&before) => Some((number, "it is not as it was written")),
                _ => None,
            };
            if let Some((number, why)) = why {
                return Ok(AuditVerdict::Broken { number: to_u64(number)?, why });
            }
            (due, before) = (due + 1, row.hash);
        }
        Ok(match (due == head.next, before == head.last_hash) {
            (true, true) => AuditVerdict::Whole { rows: to_u64(due - head.first)?, last_hash: before },
            (false, _) => {
                AuditVerdict::Broken { number: to_u64(due.min(head.next))?, why: "the end was cut off, or something put behind it" }
            }
            (true, false) => AuditVerdict::Broken { number: to_u64(due - 1)?, why: "it is not the row that was written last" },
        })
    }
}

async fn head(connection: &mut SqliteConnection) -> Result<Head, RegistryError> {
    let select = "SELECT first, before_hash, next, last_hash FROM audit_head WHERE id = 1";
    let head = sqlx::query_as(select).fetch_optional(connection).await?;
    head.ok_or(RegistryError::Damaged("the head of the log of acts is missing"))
}

async fn insert(connection: &mut SqliteConnection, row: &AuditRow) -> Result<(), RegistryError> {
    let statement = "INSERT INTO audit_log (number, at, who, address, act, object, detail, hash) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    sqlx::query(statement)
        .bind(row.number)
        .bind(row.at)
        .bind(&row.who)
        .bind(&row.address)
        .bind(&row.act)
        .bind(&row.object)
        .bind(&row.detail)
        .bind(&row.hash)
        .execute(connection)
        .await?;
    Ok(())
}

async fn drop_first(connection: &mut SqliteConnection, number: i64) -> Result<(), RegistryError> {
    let delete = "DELETE FROM audit_log WHERE number = $1 RETURNING hash";
    let hash: Option<String> = sqlx::query_scalar(delete).bind(number).fetch_optional(&mut *connection).await?;
    // Without it somebody has been at the log, which shall be found as it is.
    if let Some(hash) = hash {
        let update = "UPDATE audit_head SET first = $1, before_hash = $2 WHERE id = 1";
        sqlx::query(update).bind(number + 1).bind(hash).execute(connection).await?;
    }
    Ok(())
}

fn cut(mut text: String) -> String {
    if text.len() > TEXT_LEN_MAX {
        text.truncate((0..=TEXT_LEN_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default());
    }
    text
}

#[cfg(test)]
mod tests;
