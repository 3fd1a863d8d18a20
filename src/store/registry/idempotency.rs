//! Requests to which their senders gave a key, so that one that is repeated is answered again and not done again.

use firmware_protocol::time::UnixMillis;
use sqlx::{FromRow, SqliteConnection};

use super::users::to_i64;
use super::{Registry, RegistryError};
use crate::dates;
use crate::store::Holder;

/// How long a key is remembered.
const LIFE_MS: u64 = 86_400_000;
/// Keys of one holder that are remembered.
const KEYS_PER_HOLDER_MAX: i64 = 10_000;
/// Longest key.
const NAME_LEN_MAX: usize = 255;
/// Longest body of an answer that is kept.
const BODY_LEN_MAX: usize = 64 * 1024;
/// Longest headers of an answer that are kept, as JSON.
const HEADERS_LEN_MAX: usize = 4 * 1024;
const UNDER_WAY: i64 = 0;
const INTERRUPTED: i64 = 1;
const ANSWERED: i64 = 2;

/// A key, and whose: the same text from somebody else is another key.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct IdempotencyKey {
    /// Who sends it.
    pub holder: Holder,
    /// The text.
    pub name: String,
}

/// An answer, to be given again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredAnswer {
    /// Its status.
    pub status: u16,
    /// Those of its headers that it needs, names and values.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

/// What a key says about a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Begun {
    /// It is the first with this key, and has now begun.
    First,
    /// The same request has begun and has no answer yet.
    UnderWay,
    /// The same request was begun, and how it ended is not known: it may have been done.
    Interrupted,
    /// The same request was answered so.
    Answered(StoredAnswer),
    /// Another request had this key.
    Other,
}

#[derive(FromRow)]
struct Row {
    request_hash: Vec<u8>,
    state: i64,
    process: i64,
    status: Option<i64>,
    headers: Option<String>,
    body: Option<Vec<u8>>,
}

impl Registry {
    /// Begins a request with a key, unless that is known. `request` is a hash over what was asked.
    ///
    /// # Errors
    /// The key does not do, its holder has too many, or the database failed.
    pub async fn begin_request(&self, key: IdempotencyKey, request: [u8; 32]) -> Result<Begun, RegistryError> {
        if !(1..=NAME_LEN_MAX).contains(&key.name.len()) || !key.name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(RegistryError::Unfit("an idempotency key has from 1 to 255 printable characters"));
        }
        self.change(move |registry| async move {
            let mut transaction = registry.begin().await?;
            let now = dates::now();
            forget(&mut transaction, now).await?;
            if let Some(row) = find(&mut transaction, &key).await? {
                transaction.commit().await?;
                return row.says(request, registry.inner.process);
            }
            check_room(&mut transaction, &key.holder).await?;
            let statement = "INSERT INTO idempotency_keys (holder, name, request_hash, state, process, expires_at) \
                             VALUES ($1, $2, $3, $4, $5, $6)";
            sqlx::query(statement)
                .bind(key.holder.to_string())
                .bind(&key.name)
                .bind(request.to_vec())
                .bind(UNDER_WAY)
                .bind(registry.inner.process)
                .bind(to_i64(now.0 + LIFE_MS))
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await?;
            Ok(Begun::First)
        })
        .await
    }

    /// Keeps the answer to a request that began with a key. One that is too long is not kept: a repetition is then told that the request was done, perhaps.
    ///
    /// # Errors
    /// The answer is too long, or the database failed.
    pub async fn finish_request(&self, key: IdempotencyKey, answer: StoredAnswer) -> Result<(), RegistryError> {
        let headers = serde_json::to_string(&answer.headers).expect("texts are JSON");
        let fits = answer.body.len() <= BODY_LEN_MAX && headers.len() <= HEADERS_LEN_MAX;
        self.change(move |registry| async move {
            let kept = fits.then_some(answer);
            let statement = "UPDATE idempotency_keys SET state = $1, status = $2, headers = $3, body = $4 WHERE holder = $5 AND name = $6";
            sqlx::query(statement)
                .bind(if kept.is_some() { ANSWERED } else { INTERRUPTED })
                .bind(kept.as_ref().map(|answer| i64::from(answer.status)))
                .bind(kept.as_ref().map(|_| headers))
                .bind(kept.map(|answer| answer.body))
                .bind(key.holder.to_string())
                .bind(&key.name)
                .execute(registry.pool())
                .await?;
            if fits { Ok(()) } else { Err(RegistryError::Unfit("this answer is too long to be kept")) }
        })
        .await
    }

    /// Forgets a key whose request certainly did nothing, so that a repetition is done.
    ///
    /// # Errors
    /// The database failed.
    pub async fn abandon_request(&self, key: IdempotencyKey) -> Result<(), RegistryError> {
        self.change(move |registry| async move {
            let delete = sqlx::query("DELETE FROM idempotency_keys WHERE holder = $1 AND name = $2").bind(key.holder.to_string());
            Ok(delete.bind(&key.name).execute(registry.pool()).await.map(drop)?)
        })
        .await
    }

    /// Forgets keys whose time is over. Says how many.
    ///
    /// # Errors
    /// The database failed.
    pub async fn forget_idempotency_keys(&self, now: UnixMillis) -> Result<u64, RegistryError> {
        self.change(move |registry| async move {
            let mut connection = registry.pool().acquire().await?;
            forget(&mut connection, now).await
        })
        .await
    }
}

impl Row {
    fn says(self, request: [u8; 32], process: i64) -> Result<Begun, RegistryError> {
        use RegistryError::Damaged;
        if self.request_hash != request {
            return Ok(Begun::Other);
        }
        match self.state {
            UNDER_WAY if self.process == process => Ok(Begun::UnderWay),
            UNDER_WAY | INTERRUPTED => Ok(Begun::Interrupted),
            ANSWERED => {
                let status = self.status.and_then(|status| u16::try_from(status).ok()).ok_or(Damaged("the status of an answer"))?;
                let headers = serde_json::from_str(&self.headers.unwrap_or_default()).map_err(|_| Damaged("the headers of an answer"))?;
                Ok(Begun::Answered(StoredAnswer { status, headers, body: self.body.unwrap_or_default() }))
            }
            _ => Err(Damaged("the state of a request")),
        }
    }
}

async fn find(connection: &mut SqliteConnection, key: &IdempotencyKey) -> Result<Option<Row>, RegistryError> {
    let select = "SELECT request_hash, state, process, status, headers, body FROM idempotency_keys WHERE holder = $1 AND name = $2";
    let query = sqlx::query_as(select).bind(key.holder.to_string()).bind(key.name.clone());
    Ok(query.fetch_optional(connection).await?)
}

async fn forget(connection: &mut SqliteConnection, now: UnixMillis) -> Result<u64, RegistryError> {
    let delete = sqlx::query("DELETE FROM idempotency_keys WHERE expires_at <= $1").bind(to_i64(now.0));
    Ok(delete.execute(connection).await?.rows_affected())
}

async fn check_room(connection: &mut SqliteConnection, holder: &Holder) -> Result<(), RegistryError> {
    let select = "SELECT COUNT(*) FROM idempotency_keys WHERE holder = $1";
    let count: i64 = sqlx::query_scalar(select).bind(holder.to_string()).fetch_one(connection).await?;
    if count >= KEYS_PER_HOLDER_MAX { Err(RegistryError::TooMany("idempotency keys; wait until some have expired")) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
