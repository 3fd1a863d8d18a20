//! Access tokens and the refresh tokens beside them. The database holds their hashes only.

use firmware_protocol::id::OwnerId;
use firmware_protocol::time::UnixMillis;
use sqlx::SqliteConnection;

use super::users::{owner_id, to_i64, to_u64};
use super::{Registry, RegistryError};
use crate::dates;
use crate::store::{Scopes, TokenHash, TokenRecord, TokenText};

const TOKENS_PER_USER_MAX: i64 = 10_000;
const CLIENT_LEN_MAX: usize = 64;
/// How long a refresh token is good.
const REFRESH_LIFE_MS: u64 = 14 * 86_400_000;
/// How long an expired token is remembered, so that its holder is told "expired" and not "invalid".
const EXPIRED_KEPT_MS: u64 = 30 * 86_400_000;

/// What a new token shall be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewToken {
    /// Whose it is.
    pub user: OwnerId,
    /// The program that asks for it.
    pub client: String,
    /// What it may be used for.
    pub scopes: Scopes,
    /// How long it is good in milliseconds; `None` is for ever.
    pub life_ms: Option<u64>,
    /// Whether a refresh token goes with it.
    pub refreshable: bool,
}

/// A token that was just made. The only time its text is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IssuedToken {
    /// Its public name.
    pub id: String,
    /// The token itself.
    pub access: TokenText,
    /// What renews it.
    pub refresh: Option<TokenText>,
    /// When it ends; `None` is never.
    pub expires_at: Option<UnixMillis>,
}

/// What can be told about a token later.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenInfo {
    /// What holding it means.
    pub record: TokenRecord,
    /// When it was made.
    pub created_at: UnixMillis,
}

type Row = (Vec<u8>, String, i64, String, String, Option<i64>, i64);

impl Registry {
    /// Makes a token.
    ///
    /// # Errors
    /// The client's name is not printable, the account has too many tokens, or the database failed.
    pub async fn issue_token(&self, new: NewToken) -> Result<IssuedToken, RegistryError> {
        let printable = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        if new.client.is_empty() || new.client.len() > CLIENT_LEN_MAX || !printable(&new.client) {
            return Err(RegistryError::BadClient);
        }
        self.change(|registry| async move {
            let mut transaction = registry.pool().begin().await?;
            let (issued, record) = insert(&mut transaction, new).await?;
            transaction.commit().await?;
            registry.tokens().insert(issued.access.hash(), record);
            Ok(issued)
        })
        .await
    }

    /// Trades a refresh token for a new pair. The old pair is good no longer. `None` if there is no such refresh token or its time is over.
    ///
    /// # Errors
    /// The database failed.
    pub async fn refresh_token(&self, refresh: TokenHash) -> Result<Option<IssuedToken>, RegistryError> {
        self.change(move |registry| async move {
            let mut transaction = registry.pool().begin().await?;
            let select = "SELECT token_hash, id, user_id, client, scopes, expires_at, created_at FROM access_tokens \
                          WHERE refresh_hash = $1 AND refresh_expires_at > $2";
            let row: Option<Row> =
                sqlx::query_as(select).bind(&refresh.0[..]).bind(to_i64(dates::now().0)).fetch_optional(&mut *transaction).await?;
            let Some((old, info)) = row.map(token).transpose()? else {
                return Ok(None);
            };
            delete(&mut transaction, old).await?;
            let life_ms = info.record.expires_at.map(|end| end.0.saturating_sub(info.created_at.0));
            let TokenRecord { user, client, scopes, .. } = info.record;
            let (issued, record) = insert(&mut transaction, NewToken { user, client, scopes, life_ms, refreshable: true }).await?;
            transaction.commit().await?;
            registry.tokens().insert(issued.access.hash(), record);
            registry.tokens().remove(&old);
            Ok(Some(issued))
        })
        .await
    }

    /// Ends a token. Says whether there was one.
    ///
    /// # Errors
    /// The database failed.
    pub async fn revoke_token(&self, hash: TokenHash) -> Result<bool, RegistryError> {
        self.change(move |registry| async move {
            let mut connection = registry.pool().acquire().await?;
            let found = delete(&mut connection, hash).await?;
            registry.tokens().remove(&hash);
            Ok(found)
        })
        .await
    }

    /// Ends the token with this public name. Says whether there was one.
    ///
    /// # Errors
    /// The database failed.
    pub async fn revoke_token_named(&self, id: &str) -> Result<bool, RegistryError> {
        let select = "SELECT token_hash FROM access_tokens WHERE id = $1";
        let hash: Option<Vec<u8>> = self.answer(sqlx::query_scalar(select).bind(id).fetch_optional(self.pool())).await?;
        match hash {
            Some(hash) => self.revoke_token(token_hash(hash)?).await,
            None => Ok(false),
        }
    }

    /// All tokens, or those of one account, the newest first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn list_tokens(&self, user: Option<OwnerId>) -> Result<Vec<TokenInfo>, RegistryError> {
        let select = "SELECT token_hash, id, user_id, client, scopes, expires_at, created_at FROM access_tokens \
                      WHERE $1 IS NULL OR user_id = $1 ORDER BY created_at DESC, id";
        let rows: Vec<Row> = self.answer(sqlx::query_as(select).bind(user.map(|user| to_i64(user.0))).fetch_all(self.pool())).await?;
        rows.into_iter().map(|row| Ok(token(row)?.1)).collect()
    }

    /// Forgets tokens that ended long ago. Says how many.
    ///
    /// # Errors
    /// The database failed.
    pub async fn forget_expired_tokens(&self, now: UnixMillis) -> Result<usize, RegistryError> {
        let before = to_i64(now.0.saturating_sub(EXPIRED_KEPT_MS));
        self.change(move |registry| async move {
            let delete = "DELETE FROM access_tokens WHERE expires_at < $1 AND (refresh_expires_at IS NULL OR refresh_expires_at < $1) \
                          RETURNING token_hash";
            let gone: Vec<Vec<u8>> = sqlx::query_scalar(delete).bind(before).fetch_all(registry.pool()).await?;
            let count = gone.len();
            for hash in gone {
                registry.tokens().remove(&token_hash(hash)?);
            }
            Ok(count)
        })
        .await
    }

    pub(super) async fn fill_tokens(&self) -> Result<(), RegistryError> {
        let select = "SELECT token_hash, id, user_id, client, scopes, expires_at, created_at FROM access_tokens";
        let rows: Vec<Row> = sqlx::query_as(select).fetch_all(self.pool()).await?;
        let records = rows.into_iter().map(|row| token(row).map(|(hash, info)| (hash, info.record))).collect::<Result<Vec<_>, _>>()?;
        self.tokens().fill(records);
        Ok(())
    }
}

async fn insert(connection: &mut SqliteConnection, new: NewToken) -> Result<(IssuedToken, TokenRecord), RegistryError> {
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM access_tokens WHERE user_id = $1")
        .bind(to_i64(new.user.0))
        .fetch_one(&mut *connection)
        .await?;
    if count >= TOKENS_PER_USER_MAX {
        return Err(RegistryError::TooManyTokens);
    }
    let now = dates::now();
    let issued = IssuedToken {
        id: uuid::Uuid::now_v7().simple().to_string(),
        access: TokenText::random()?,
        refresh: new.refreshable.then(TokenText::random).transpose()?,
        expires_at: new.life_ms.map(|life| UnixMillis(now.0.saturating_add(life))),
    };
    let refresh_ends = issued.refresh.as_ref().map(|_| to_i64(now.0 + REFRESH_LIFE_MS));
    let statement = "INSERT INTO access_tokens \
                     (token_hash, id, user_id, client, scopes, expires_at, refresh_hash, refresh_expires_at, created_at) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    sqlx::query(statement)
        .bind(&issued.access.hash().0[..])
        .bind(&issued.id)
        .bind(to_i64(new.user.0))
        .bind(&new.client)
        .bind(new.scopes.to_string())
        .bind(issued.expires_at.map(|at| to_i64(at.0)))
        .bind(issued.refresh.as_ref().map(|refresh| refresh.hash().0.to_vec()))
        .bind(refresh_ends)
        .bind(to_i64(now.0))
        .execute(connection)
        .await?;
    let record =
        TokenRecord { id: issued.id.clone(), user: new.user, client: new.client, scopes: new.scopes, expires_at: issued.expires_at };
    Ok((issued, record))
}

async fn delete(connection: &mut SqliteConnection, hash: TokenHash) -> Result<bool, RegistryError> {
    let done = sqlx::query("DELETE FROM access_tokens WHERE token_hash = $1").bind(&hash.0[..]).execute(connection).await?;
    Ok(done.rows_affected() > 0)
}

fn token((hash, id, user, client, scopes, expires_at, created_at): Row) -> Result<(TokenHash, TokenInfo), RegistryError> {
    let record = TokenRecord {
        id,
        user: owner_id(user)?,
        client,
        scopes: Scopes::parse(&scopes).map_err(|_| RegistryError::Damaged("the scopes of a token"))?,
        expires_at: expires_at.map(to_u64).transpose()?.map(UnixMillis),
    };
    Ok((token_hash(hash)?, TokenInfo { record, created_at: UnixMillis(to_u64(created_at)?) }))
}

fn token_hash(bytes: Vec<u8>) -> Result<TokenHash, RegistryError> {
    bytes.try_into().map(TokenHash).map_err(|_| RegistryError::Damaged("the hash of a token"))
}
