//! Codes with which people who forgot their password choose another.

use firmware_protocol::id::OwnerId;
use firmware_protocol::time::UnixMillis;

use super::audit::Act;
use super::users::{owner_id, to_i64};
use super::{Registry, RegistryError};
use crate::dates;
use crate::store::{Realm, SecretHash, SecretText};

/// How long a code is good.
const LIFE_MS: u64 = 3_600_000;
/// Codes of one account that are good at the same time.
const CODES_PER_USER_MAX: i64 = 10;

impl Registry {
    /// Makes a code with which an account gets another password. It is good once and for an hour; until when is said too.
    ///
    /// # Errors
    /// There is no such account, it has too many codes that are still good, or the database failed.
    pub async fn create_password_reset(&self, user: OwnerId) -> Result<(SecretText, UnixMillis), RegistryError> {
        self.user(user).await?.ok_or(RegistryError::NoSuch("account"))?;
        self.change(move |registry| async move {
            let (code, now) = (SecretText::random()?, dates::now());
            let ends = UnixMillis(now.0 + LIFE_MS);
            let mut transaction = registry.begin().await?;
            let expired = sqlx::query("DELETE FROM password_resets WHERE expires_at <= $1").bind(to_i64(now.0));
            expired.execute(&mut *transaction).await?;
            let select = "SELECT COUNT(*) FROM password_resets WHERE user_id = $1";
            let count: i64 = sqlx::query_scalar(select).bind(to_i64(user.0)).fetch_one(&mut *transaction).await?;
            if count >= CODES_PER_USER_MAX {
                return Err(RegistryError::TooMany("codes for another password; wait until some have expired"));
            }
            sqlx::query("INSERT INTO password_resets (code_hash, user_id, expires_at, created_at) VALUES ($1, $2, $3, $4)")
                .bind(code.hash().bytes().to_vec())
                .bind(to_i64(user.0))
                .bind(to_i64(ends.0))
                .bind(to_i64(now.0))
                .execute(&mut *transaction)
                .await?;
            registry.write_down(&mut transaction, Act::new("user.reset-code", Realm::User(user))).await?;
            transaction.commit().await?;
            Ok((code, ends))
        })
        .await
    }

    /// Gives the account of a code another password, and ends the code, all others of the account, and its tokens. Says which account it is; `None` if there
    /// is no such code or its time is over.
    ///
    /// # Errors
    /// The password is too short or too long, or the database failed.
    pub async fn reset_password(&self, code: SecretHash, password: &str) -> Result<Option<OwnerId>, RegistryError> {
        // Looked up first: what people make up costs no hashing.
        if self.holder_of_code(&code).await?.is_none() {
            return Ok(None);
        }
        let hash = self.hash_of_new(password).await?;
        self.change(move |registry| async move {
            let mut transaction = registry.begin().await?;
            let delete = "DELETE FROM password_resets WHERE code_hash = $1 AND expires_at > $2 RETURNING user_id";
            let query = sqlx::query_scalar(delete).bind(code.bytes().to_vec()).bind(to_i64(dates::now().0));
            let user: Option<i64> = query.fetch_optional(&mut *transaction).await?;
            let Some(user) = user.map(owner_id).transpose()? else { return Ok(None) };
            let ended = registry.replace_password(&mut transaction, user, &hash).await?;
            transaction.commit().await?;
            registry.forget_tokens(ended)?;
            Ok(Some(user))
        })
        .await
    }

    async fn holder_of_code(&self, code: &SecretHash) -> Result<Option<OwnerId>, RegistryError> {
        let select = "SELECT user_id FROM password_resets WHERE code_hash = $1 AND expires_at > $2";
        let query = sqlx::query_scalar(select).bind(code.bytes().to_vec()).bind(to_i64(dates::now().0));
        let user: Option<i64> = self.answer(query.fetch_optional(self.pool())).await?;
        user.map(owner_id).transpose()
    }
}

#[cfg(test)]
mod tests;
