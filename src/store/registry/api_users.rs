//! API users: programs that act for a product. Each has one token, which never expires and reaches what its scopes say.

use firmware_protocol::id::ProductId;
use firmware_protocol::time::UnixMillis;
use openssl::rand::rand_bytes;
use sqlx::{FromRow, SqliteConnection};

use super::audit::Act;
use super::products::is_name;
use super::tokens::{Added, Wanted, Which};
use super::users::{API_USERS_DOMAIN, to_i64, to_u64};
use super::{Registry, RegistryError};
use crate::dates;
use crate::store::slug::slug;
use crate::store::{ApiUserId, Holder, Product, Realm, Scopes, TokenText};

/// API users of one product.
const API_USERS_PER_PRODUCT_MAX: i64 = 100;
/// Longest name that people give one.
const FRIENDLY_NAME_LEN_MAX: usize = 64;
/// Random bytes in a user name, so that none can be guessed or taken twice.
const NAME_BYTES: usize = 5;
/// The client that its token is said to be for.
const CLIENT: &str = "api-user";

/// An API user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApiUser {
    /// Its number.
    pub id: ApiUserId,
    /// What clients know it by.
    pub username: String,
    /// What people call it.
    pub friendly_name: String,
    /// What it may do.
    pub scopes: Scopes,
    /// When it was created.
    pub created_at: UnixMillis,
    /// When its scopes were changed last.
    pub updated_at: UnixMillis,
}

/// An API user with a token that was just made. The only time its text is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IssuedApiUser {
    /// The API user.
    pub user: ApiUser,
    /// Its token.
    pub token: TokenText,
}

#[derive(FromRow)]
struct Row {
    id: i64,
    username: String,
    friendly_name: String,
    scopes: String,
    created_at: i64,
    updated_at: i64,
}

impl Registry {
    /// The API users of a product, in order of creation.
    ///
    /// # Errors
    /// The database failed.
    pub async fn api_users(&self, product: ProductId) -> Result<Vec<ApiUser>, RegistryError> {
        let select = "SELECT id, username, friendly_name, scopes, created_at, updated_at FROM api_users WHERE product = $1 ORDER BY id";
        let rows: Vec<Row> = self.answer(sqlx::query_as(select).bind(i64::from(product.0)).fetch_all(self.pool())).await?;
        rows.into_iter().map(ApiUser::try_from).collect()
    }

    /// Creates an API user with its token.
    ///
    /// # Errors
    /// There is no such product, the name does not do, the product has too many, or the database failed.
    pub async fn create_api_user(&self, product: ProductId, friendly_name: &str, scopes: Scopes) -> Result<IssuedApiUser, RegistryError> {
        if !is_name(friendly_name, FRIENDLY_NAME_LEN_MAX) {
            return Err(RegistryError::Unfit("the name of an API user has from 1 to 64 bytes without control characters"));
        }
        let friendly_name = friendly_name.to_owned();
        self.change(move |registry| async move {
            let product = registry.known_product(product)?;
            let mut transaction = registry.begin().await?;
            check_room(&mut transaction, product.id).await?;
            let user = insert(&mut transaction, product.id, friendly_name, scopes).await?;
            let act = Act::new("api-user.create", Realm::Product(product.id)).with(format!("{} for {}", user.username, user.scopes));
            registry.write_down(&mut transaction, act).await?;
            let token = registry.token_of(&mut transaction, &product, &user).await?;
            transaction.commit().await?;
            Ok(IssuedApiUser { user, token: registry.remember_token(token).access })
        })
        .await
    }

    /// Changes what an API user may do. It gets another token, and the one that it had is good no longer.
    ///
    /// # Errors
    /// The product has no such API user, or the database failed.
    pub async fn set_api_user_scopes(&self, product: ProductId, username: &str, scopes: Scopes) -> Result<IssuedApiUser, RegistryError> {
        let username = username.to_owned();
        self.change(move |registry| async move {
            let product = registry.known_product(product)?;
            let mut transaction = registry.begin().await?;
            let mut user = find(&mut transaction, product.id, &username).await?;
            (user.scopes, user.updated_at) = (scopes, dates::now());
            sqlx::query("UPDATE api_users SET scopes = $1, updated_at = $2 WHERE id = $3 AND product = $4")
                .bind(user.scopes.to_string())
                .bind(to_i64(user.updated_at.0))
                .bind(to_i64(user.id.0))
                .bind(i64::from(product.id.0))
                .execute(&mut *transaction)
                .await?;
            let act = Act::new("api-user.scopes", Realm::Product(product.id)).with(format!("{username} for {}", user.scopes));
            registry.write_down(&mut transaction, act).await?;
            let ended = registry.delete_tokens(&mut transaction, Which::OfApiUser(user.id)).await?;
            let token = registry.token_of(&mut transaction, &product, &user).await?;
            transaction.commit().await?;
            registry.forget_tokens(ended)?;
            Ok(IssuedApiUser { user, token: registry.remember_token(token).access })
        })
        .await
    }

    /// Removes an API user and ends its token.
    ///
    /// # Errors
    /// The product has no such API user, or the database failed.
    pub async fn remove_api_user(&self, product: ProductId, username: &str) -> Result<(), RegistryError> {
        let username = username.to_owned();
        self.change(move |registry| async move {
            let mut transaction = registry.begin().await?;
            let user = find(&mut transaction, product, &username).await?;
            let ended = registry.delete_tokens(&mut transaction, Which::OfApiUser(user.id)).await?;
            let delete = sqlx::query("DELETE FROM api_users WHERE id = $1 AND product = $2").bind(to_i64(user.id.0));
            delete.bind(i64::from(product.0)).execute(&mut *transaction).await?;
            registry.write_down(&mut transaction, Act::new("api-user.remove", Realm::Product(product)).with(&username)).await?;
            transaction.commit().await?;
            registry.forget_tokens(ended)
        })
        .await
    }

    async fn token_of(&self, connection: &mut SqliteConnection, product: &Product, user: &ApiUser) -> Result<Added, RegistryError> {
        let wanted = Wanted {
            user: product.owner,
            holder: Holder::ApiUser { product: product.id, id: user.id },
            client: CLIENT.to_owned(),
            scopes: user.scopes.clone(),
            life_ms: None,
            refreshable: false,
        };
        self.add_token(connection, wanted).await
    }
}

async fn find(connection: &mut SqliteConnection, product: ProductId, username: &str) -> Result<ApiUser, RegistryError> {
    let select = "SELECT id, username, friendly_name, scopes, created_at, updated_at FROM api_users WHERE product = $1 AND username = $2";
    let row: Option<Row> = sqlx::query_as(select).bind(i64::from(product.0)).bind(username).fetch_optional(connection).await?;
    row.ok_or(RegistryError::NoSuch("API user"))?.try_into()
}

async fn insert(
    connection: &mut SqliteConnection,
    product: ProductId,
    friendly_name: String,
    scopes: Scopes,
) -> Result<ApiUser, RegistryError> {
    let mut random = [0; NAME_BYTES];
    rand_bytes(&mut random)?;
    let username = format!("{}+{}@{API_USERS_DOMAIN}", slug(&friendly_name, "program"), hex::encode(random));
    let now = dates::now();
    let statement = "INSERT INTO api_users (product, username, friendly_name, scopes, created_at, updated_at) \
                     VALUES ($1, $2, $3, $4, $5, $5) RETURNING id";
    let id: i64 = sqlx::query_scalar(statement)
        .bind(i64::from(product.0))
        .bind(&username)
        .bind(&friendly_name)
        .bind(scopes.to_string())
        .bind(to_i64(now.0))
        .fetch_one(connection)
        .await?;
    Ok(ApiUser { id: ApiUserId(to_u64(id)?), username, friendly_name, scopes, created_at: now, updated_at: now })
}

async fn check_room(connection: &mut SqliteConnection, product: ProductId) -> Result<(), RegistryError> {
    let select = "SELECT COUNT(*) FROM api_users WHERE product = $1";
    let count: i64 = sqlx::query_scalar(select).bind(i64::from(product.0)).fetch_one(connection).await?;
    if count >= API_USERS_PER_PRODUCT_MAX { Err(RegistryError::TooMany("API users of this product")) } else { Ok(()) }
}

impl TryFrom<Row> for ApiUser {
    type Error = RegistryError;

    fn try_from(row: Row) -> Result<Self, Self::Error> {
        Ok(ApiUser {
            id: ApiUserId(to_u64(row.id)?),
            username: row.username,
            friendly_name: row.friendly_name,
            scopes: Scopes::parse(&row.scopes).map_err(|_| RegistryError::Damaged("the scopes of an API user"))?,
            created_at: UnixMillis(to_u64(row.created_at)?),
            updated_at: UnixMillis(to_u64(row.updated_at)?),
        })
    }
}

#[cfg(test)]
mod tests;
