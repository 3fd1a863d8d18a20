//! Accounts and their passwords.

use firmware_protocol::id::OwnerId;
use firmware_protocol::time::UnixMillis;

use super::audit::Act;
use super::{Registry, RegistryError};
use crate::dates;
use crate::store::Realm;

const EMAIL_LEN_MAX: usize = 254;
/// Where programs have their names, and no account has its address.
pub(super) const API_USERS_DOMAIN: &str = "api.holdfast";
const PASSWORD_LEN_MIN: usize = 8;
const PASSWORD_LEN_MAX: usize = 1024;

/// An account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    /// Its number, by which devices and events name their owner.
    pub id: OwnerId,
    /// The address its holder logs in with, as first written.
    pub email: String,
    /// When it was created.
    pub created_at: UnixMillis,
}

type Row = (i64, String, i64);

impl Registry {
    /// Creates an account.
    ///
    /// # Errors
    /// The address is none or has an account, the password is too short or too long, or the database failed.
    pub async fn add_user(&self, email: &str, password: &str) -> Result<User, RegistryError> {
        let email = checked_email(email)?.to_owned();
        let hash = self.hash_of_new(password).await?;
        self.change(|registry| async move {
            let created_at = dates::now();
            let insert = "INSERT INTO users (email, password_hash, created_at) VALUES ($1, $2, $3) RETURNING id";
            let mut transaction = registry.begin().await?;
            let row: Result<i64, _> =
                sqlx::query_scalar(insert).bind(&email).bind(hash).bind(to_i64(created_at.0)).fetch_one(&mut *transaction).await;
            let id = owner_id(row.map_err(|error| if is_taken(&error) { RegistryError::EmailTaken } else { error.into() })?)?;
            registry.write_down(&mut transaction, Act::new("user.add", Realm::User(id)).with(&email)).await?;
            transaction.commit().await?;
            Ok(User { id, email, created_at })
        })
        .await
    }

    /// The account with this number.
    ///
    /// # Errors
    /// The database failed.
    pub async fn user(&self, id: OwnerId) -> Result<Option<User>, RegistryError> {
        let select = "SELECT id, email, created_at FROM users WHERE id = $1";
        let row: Option<Row> = self.answer(sqlx::query_as(select).bind(to_i64(id.0)).fetch_optional(self.pool())).await?;
        row.map(user).transpose()
    }

    /// The account with this address, in upper or lower case.
    ///
    /// # Errors
    /// The database failed.
    pub async fn user_by_email(&self, email: &str) -> Result<Option<User>, RegistryError> {
        let select = "SELECT id, email, created_at FROM users WHERE lower(email) = lower($1)";
        let row: Option<Row> = self.answer(sqlx::query_as(select).bind(email.trim()).fetch_optional(self.pool())).await?;
        row.map(user).transpose()
    }

    /// All accounts, in order of creation.
    ///
    /// # Errors
    /// The database failed.
    pub async fn users(&self) -> Result<Vec<User>, RegistryError> {
        let select = "SELECT id, email, created_at FROM users ORDER BY id";
        let rows: Vec<Row> = self.answer(sqlx::query_as(select).fetch_all(self.pool())).await?;
        rows.into_iter().map(user).collect()
    }

    /// The account that this address and password open, if they do. Takes the same time whether or not there is such an account.
    ///
    /// # Errors
    /// Too many passwords are being checked, or the database failed.
    pub async fn log_in(&self, email: &str, password: &str) -> Result<Option<User>, RegistryError> {
        if email.len() > EMAIL_LEN_MAX || password.len() > PASSWORD_LEN_MAX {
            return Ok(None);
        }
        let user = self.user_by_email(email).await?;
        let hash = match &user {
            Some(user) => self.password_hash(user.id).await?,
            None => None,
        };
        let right = self.inner.passwords.verify(password.to_owned(), hash).await?;
        Ok(user.filter(|_| right))
    }

    /// The hash to keep of a password that somebody chose.
    pub(super) async fn hash_of_new(&self, password: &str) -> Result<String, RegistryError> {
        if !(PASSWORD_LEN_MIN..=PASSWORD_LEN_MAX).contains(&password.len()) {
            return Err(RegistryError::BadPassword);
        }
        self.inner.passwords.hash(password.to_owned()).await
    }

    /// The hash of an account's password, if this is the password. Whoever then changes something makes sure that it still is.
    pub(super) async fn proved(&self, user: OwnerId, password: &str) -> Result<String, RegistryError> {
        let hash = self.password_hash(user).await?;
        let short = Some(password).filter(|password| password.len() <= PASSWORD_LEN_MAX).ok_or(RegistryError::WrongPassword)?;
        let right = self.inner.passwords.verify(short.to_owned(), hash.clone()).await?;
        hash.filter(|_| right).ok_or(RegistryError::WrongPassword)
    }

    async fn password_hash(&self, id: OwnerId) -> Result<Option<String>, RegistryError> {
        let select = "SELECT password_hash FROM users WHERE id = $1";
        self.answer(sqlx::query_scalar(select).bind(to_i64(id.0)).fetch_optional(self.pool())).await
    }
}

fn user((id, email, created_at): Row) -> Result<User, RegistryError> {
    Ok(User { id: owner_id(id)?, email, created_at: UnixMillis(to_u64(created_at)?) })
}

pub(super) fn checked_email(text: &str) -> Result<&str, RegistryError> {
    let text = text.trim();
    let (name, domain) = text.split_once('@').ok_or(RegistryError::BadEmail)?;
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == '@';
    if domain.eq_ignore_ascii_case(API_USERS_DOMAIN)
        || name.is_empty()
        || domain.is_empty()
        || text.len() > EMAIL_LEN_MAX
        || name.contains(bad)
        || domain.contains(bad)
    {
        return Err(RegistryError::BadEmail);
    }
    Ok(text)
}

/// Whether a row with the same unique value is there already.
pub(super) fn is_taken(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}

/// Numbers of ours stay far below the sign bit.
pub(super) fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn to_u64(number: i64) -> Result<u64, RegistryError> {
    u64::try_from(number).map_err(|_| RegistryError::Damaged("a negative number"))
}

pub(super) fn owner_id(number: i64) -> Result<OwnerId, RegistryError> {
    to_u64(number).map(OwnerId)
}
