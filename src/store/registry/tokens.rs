//! Access tokens and the refresh tokens beside them. The database holds their hashes only.

use firmware_protocol::id::{OwnerId, ProductId};
use firmware_protocol::time::UnixMillis;
use sqlx::{FromRow, SqliteConnection};

use super::audit::Act;
use super::products::product_id;
use super::users::{owner_id, to_i64, to_u64};
use super::{Registry, RegistryError};
use crate::dates;
use crate::store::{ApiUserId, ClientNumber, Holder, Realm, Scopes, TokenHash, TokenRecord, TokenText};

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

/// A token to insert, whoever shall hold it.
pub(super) struct Wanted {
    pub(super) user: OwnerId,
    pub(super) holder: Holder,
    pub(super) client: String,
    pub(super) scopes: Scopes,
    pub(super) life_ms: Option<u64>,
    pub(super) refreshable: bool,
}

impl From<NewToken> for Wanted {
    fn from(new: NewToken) -> Self {
        let NewToken { user, client, scopes, life_ms, refreshable } = new;
        Self { user, holder: Holder::User(user), client, scopes, life_ms, refreshable }
    }
}

/// Which tokens shall end.
pub(super) enum Which {
    /// The one that somebody knows.
    Known(TokenHash),
    /// The one of this account with this public name.
    Named(OwnerId, String),
    /// The one with this public name, whoever holds it.
    AnyNamed(String),
    /// All that this account holds itself.
    AllOf(OwnerId),
    /// All that this account is behind, whoever holds them.
    Behind(OwnerId),
    /// Those of this API user.
    OfApiUser(ApiUserId),
    /// Those of this client.
    OfClient(ClientNumber),
}

#[derive(FromRow)]
struct Row {
    token_hash: Vec<u8>,
    id: String,
    user_id: i64,
    product: Option<i64>,
    api_user: Option<i64>,
    oauth_client: Option<i64>,
    client: String,
    scopes: String,
    expires_at: Option<i64>,
    created_at: i64,
}

/// A question for rows.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT token_hash, id, user_id, product, api_user, oauth_client, client, scopes, expires_at, created_at FROM access_tokens ",
            $rest
        )
    };
}

/// Deletes rows, and gives back their hashes and public names.
macro_rules! delete {
    ($condition:literal) => {
        concat!("DELETE FROM access_tokens WHERE ", $condition, " RETURNING token_hash, id")
    };
}

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
            let mut transaction = registry.begin().await?;
            let issued = registry.add_token(&mut transaction, new.into()).await?;
            transaction.commit().await?;
            Ok(registry.remember_token(issued))
        })
        .await
    }

    /// Trades a refresh token for a new pair. The old pair is good no longer. `None` if there is no such refresh token or its time is over.
    ///
    /// # Errors
    /// The database failed.
    pub async fn refresh_token(&self, refresh: TokenHash) -> Result<Option<IssuedToken>, RegistryError> {
        self.change(move |registry| async move {
            let mut transaction = registry.begin().await?;
            let select = select!("WHERE refresh_hash = $1 AND refresh_expires_at > $2");
            let row: Option<Row> =
                sqlx::query_as(select).bind(&refresh.0[..]).bind(to_i64(dates::now().0)).fetch_optional(&mut *transaction).await?;
            let Some((old, info)) = row.map(token).transpose()? else {
                return Ok(None);
            };
            delete(&mut transaction, Which::Known(old)).await?;
            let life_ms = info.record.expires_at.map(|end| end.0.saturating_sub(info.created_at.0));
            let TokenRecord { user, holder, client, scopes, .. } = info.record;
            let wanted = Wanted { user, holder, client, scopes, life_ms, refreshable: true };
            let issued = registry.add_token(&mut transaction, wanted).await?;
            transaction.commit().await?;
            let issued = registry.remember_token(issued);
            registry.tokens().remove(&old);
            Ok(Some(issued))
        })
        .await
    }

    /// Ends a token: whoever knows it may. Says whether there was one.
    ///
    /// # Errors
    /// The database failed.
    pub async fn revoke_token(&self, hash: TokenHash) -> Result<bool, RegistryError> {
        self.end_tokens(Which::Known(hash)).await.map(|ended| ended > 0)
    }

    /// Ends the token of an account with this public name. Says whether there was one.
    ///
    /// # Errors
    /// The database failed.
    pub async fn revoke_token_named(&self, user: OwnerId, id: &str) -> Result<bool, RegistryError> {
        self.end_tokens(Which::Named(user, id.to_owned())).await.map(|ended| ended > 0)
    }

    /// Ends whichever token has this public name: for operators. Says whether there was one.
    ///
    /// # Errors
    /// The database failed.
    pub async fn revoke_any_token_named(&self, id: &str) -> Result<bool, RegistryError> {
        self.end_tokens(Which::AnyNamed(id.to_owned())).await.map(|ended| ended > 0)
    }

    /// Ends all tokens that an account holds itself. Says how many.
    ///
    /// # Errors
    /// The database failed.
    pub async fn revoke_all_tokens(&self, user: OwnerId) -> Result<usize, RegistryError> {
        self.end_tokens(Which::AllOf(user)).await
    }

    /// All tokens, or those that one account holds itself, the newest first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn list_tokens(&self, user: Option<OwnerId>) -> Result<Vec<TokenInfo>, RegistryError> {
        let select =
            select!("WHERE $1 IS NULL OR (user_id = $1 AND api_user IS NULL AND oauth_client IS NULL) ORDER BY created_at DESC, id");
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
            registry.forget_tokens(gone)?;
            Ok(count)
        })
        .await
    }

    pub(super) async fn fill_tokens(&self) -> Result<(), RegistryError> {
        let rows: Vec<Row> = sqlx::query_as(select!("")).fetch_all(self.pool()).await?;
        self.tokens().fill(records(rows)?);
        Ok(())
    }

    /// Makes a token within a change, and writes that down.
    pub(super) async fn add_token(&self, connection: &mut SqliteConnection, wanted: Wanted) -> Result<Added, RegistryError> {
        let added = insert(&mut *connection, wanted).await?;
        let act = Act::new("token.issue", &added.0.id).with(format!("to {} by {}", added.1.holder, added.1.client));
        self.write_down(connection, act).await?;
        Ok(added)
    }

    /// Puts a token into memory that the database has.
    pub(super) fn remember_token(&self, (issued, record): Added) -> IssuedToken {
        self.tokens().insert(issued.access.hash(), record);
        issued
    }

    /// The tokens of a product's programs, which end with it and follow it to another owner.
    pub(super) async fn tokens_of_product(
        &self,
        connection: &mut SqliteConnection,
        product: ProductId,
    ) -> Result<Vec<(TokenHash, TokenRecord)>, RegistryError> {
        records(sqlx::query_as(select!("WHERE product = $1")).bind(i64::from(product.0)).fetch_all(connection).await?)
    }

    async fn end_tokens(&self, which: Which) -> Result<usize, RegistryError> {
        self.change(|registry| async move {
            let mut transaction = registry.begin().await?;
            let ended = registry.delete_tokens(&mut transaction, which).await?;
            transaction.commit().await?;
            let count = ended.len();
            registry.forget_tokens(ended)?;
            Ok(count)
        })
        .await
    }

    /// Ends tokens within a change, and writes that down. What it gives back has to be forgotten after the commit.
    pub(super) async fn delete_tokens(&self, connection: &mut SqliteConnection, which: Which) -> Result<Vec<Vec<u8>>, RegistryError> {
        let ended = delete(&mut *connection, which).await?;
        for (_, id) in &ended {
            self.write_down(connection, Act::new("token.revoke", id)).await?;
        }
        Ok(ended.into_iter().map(|(hash, _)| hash).collect())
    }

    /// Takes tokens out of memory that are no longer in the database.
    pub(super) fn forget_tokens(&self, hashes: impl IntoIterator<Item = Vec<u8>>) -> Result<(), RegistryError> {
        hashes.into_iter().try_for_each(|hash| token_hash(hash).map(|hash| self.tokens().remove(&hash)))
    }
}

/// A token that was inserted, and what memory says of it.
pub(super) type Added = (IssuedToken, TokenRecord);

async fn insert(connection: &mut SqliteConnection, new: Wanted) -> Result<Added, RegistryError> {
    let (product, api_user, oauth_client) = columns(&new.holder);
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
    let statement = "INSERT INTO access_tokens (token_hash, id, user_id, product, api_user, oauth_client, client, scopes, expires_at, \
                     refresh_hash, refresh_expires_at, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
    sqlx::query(statement)
        .bind(&issued.access.hash().0[..])
        .bind(&issued.id)
        .bind(to_i64(new.user.0))
        .bind(product)
        .bind(api_user)
        .bind(oauth_client)
        .bind(&new.client)
        .bind(new.scopes.to_string())
        .bind(issued.expires_at.map(|at| to_i64(at.0)))
        .bind(issued.refresh.as_ref().map(|refresh| refresh.hash().0.to_vec()))
        .bind(refresh_ends)
        .bind(to_i64(now.0))
        .execute(connection)
        .await?;
    let Wanted { user, holder, client, scopes, .. } = new;
    let record = TokenRecord { id: issued.id.clone(), user, holder, client, scopes, expires_at: issued.expires_at };
    Ok((issued, record))
}

/// A holder as the columns product, API user and client have it.
fn columns(holder: &Holder) -> (Option<i64>, Option<i64>, Option<i64>) {
    match *holder {
        Holder::User(_) => (None, None, None),
        Holder::ApiUser { product, id } => (Some(product.0.into()), Some(to_i64(id.0)), None),
        Holder::Client { number, realm: Realm::Product(product) } => (Some(product.0.into()), None, Some(to_i64(number.0))),
        Holder::Client { number, realm: Realm::User(_) } => (None, None, Some(to_i64(number.0))),
    }
}

fn holder(row: &Row) -> Result<Holder, RegistryError> {
    let (user, product) = (owner_id(row.user_id)?, row.product.map(product_id).transpose()?);
    match (product, row.api_user, row.oauth_client) {
        (None, None, None) => Ok(Holder::User(user)),
        (Some(product), Some(id), None) => Ok(Holder::ApiUser { product, id: ApiUserId(to_u64(id)?) }),
        (product, None, Some(number)) => {
            let realm = product.map_or(Realm::User(user), Realm::Product);
            Ok(Holder::Client { number: ClientNumber(to_u64(number)?), realm })
        }
        // Never taken for the account's own.
        _ => Err(RegistryError::Damaged("the holder of a token")),
    }
}

/// Deletes tokens, and gives back the hash and the public name of each.
async fn delete(connection: &mut SqliteConnection, which: Which) -> Result<Vec<(Vec<u8>, String)>, RegistryError> {
    let query = match which {
        Which::Known(hash) => sqlx::query_as(delete!("token_hash = $1")).bind(hash.0.to_vec()),
        Which::Named(user, id) => {
            sqlx::query_as(delete!("id = $1 AND user_id = $2 AND api_user IS NULL AND oauth_client IS NULL")).bind(id).bind(to_i64(user.0))
        }
        Which::AnyNamed(id) => sqlx::query_as(delete!("id = $1")).bind(id),
        Which::AllOf(user) => sqlx::query_as(delete!("user_id = $1 AND api_user IS NULL AND oauth_client IS NULL")).bind(to_i64(user.0)),
        Which::Behind(user) => sqlx::query_as(delete!("user_id = $1")).bind(to_i64(user.0)),
        Which::OfClient(number) => sqlx::query_as(delete!("oauth_client = $1")).bind(to_i64(number.0)),
        Which::OfApiUser(id) => sqlx::query_as(delete!("api_user = $1")).bind(to_i64(id.0)),
    };
    Ok(query.fetch_all(connection).await?)
}

fn records(rows: Vec<Row>) -> Result<Vec<(TokenHash, TokenRecord)>, RegistryError> {
    rows.into_iter().map(|row| token(row).map(|(hash, info)| (hash, info.record))).collect()
}

fn token(row: Row) -> Result<(TokenHash, TokenInfo), RegistryError> {
    let record = TokenRecord {
        holder: holder(&row)?,
        id: row.id,
        user: owner_id(row.user_id)?,
        client: row.client,
        scopes: Scopes::parse(&row.scopes).map_err(|_| RegistryError::Damaged("the scopes of a token"))?,
        expires_at: row.expires_at.map(to_u64).transpose()?.map(UnixMillis),
    };
    Ok((token_hash(row.token_hash)?, TokenInfo { record, created_at: UnixMillis(to_u64(row.created_at)?) }))
}

fn token_hash(bytes: Vec<u8>) -> Result<TokenHash, RegistryError> {
    bytes.try_into().map(TokenHash).map_err(|_| RegistryError::Damaged("the hash of a token"))
}
