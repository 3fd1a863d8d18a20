//! What the holder of an account changes about it, and its end.

use firmware_protocol::id::OwnerId;
use serde_json::Value as Json;
use sqlx::SqliteConnection;

use super::audit::Act;
use super::clients::remove_clients_of;
use super::hooks::remove_hooks_of;
use super::tokens::Which;
use super::users::{checked_email, is_taken, to_i64};
use super::{Registry, RegistryError};
use crate::store::{DeviceRecord, Holder, Product, Realm};

/// Longest text that people say of themselves, as JSON.
const INFO_LEN_MAX: usize = 4_096;

/// What to change about an account.
#[derive(Clone, PartialEq, Default)]
pub struct AccountEdit {
    /// The address its holder logs in with. It takes the current password.
    pub email: Option<String>,
    /// The password. It takes the current one.
    pub password: Option<String>,
    /// What its holder says of themselves: a JSON object that takes the place of the one before.
    pub info: Option<Json>,
    /// Whether all tokens that it holds end.
    pub end_tokens: bool,
}

impl Registry {
    /// What the holder of an account says of themselves: a JSON object, empty if nothing.
    ///
    /// # Errors
    /// There is no such account, or the database failed.
    pub async fn account_info(&self, user: OwnerId) -> Result<Json, RegistryError> {
        let select = "SELECT account_info FROM users WHERE id = $1";
        let text: Option<Option<String>> = self.answer(sqlx::query_scalar(select).bind(to_i64(user.0)).fetch_optional(self.pool())).await?;
        let text = text.ok_or(RegistryError::NoSuch("account"))?;
        let info = text.map_or_else(|| Ok(Json::Object(Default::default())), |text| serde_json::from_str(&text));
        info.map_err(|_| RegistryError::Damaged("what the holder of an account says"))
    }

    /// Changes an account.
    ///
    /// # Errors
    /// The current password is wrong or missing where it is needed; the address is none or has another account; the new password is too short or too
    /// long; what is said is no object or too long; or the database failed.
    pub async fn edit_account(&self, user: OwnerId, current: Option<&str>, edit: AccountEdit) -> Result<(), RegistryError> {
        let email = edit.email.as_deref().map(|email| checked_email(email).map(str::to_owned)).transpose()?;
        let info = edit.info.as_ref().map(checked_info).transpose()?;
        let proved = match current {
            Some(current) => Some(self.proved(user, current).await?),
            None if edit.email.is_some() || edit.password.is_some() => return Err(RegistryError::WrongPassword),
            None => None,
        };
        let hash = match &edit.password {
            Some(password) => Some(self.hash_of_new(password).await?),
            None => None,
        };
        let changes = Changes { email, hash, info };
        self.change(move |registry| async move {
            let mut transaction = registry.begin().await?;
            check_still(&mut transaction, user, proved.as_deref()).await?;
            changes.write(&mut transaction, user).await?;
            registry.write_down(&mut transaction, Act::new("user.edit", Realm::User(user)).with(changes.words())).await?;
            let ended = match edit.end_tokens {
                true => registry.delete_tokens(&mut transaction, Which::AllOf(user)).await?,
                false => Vec::new(),
            };
            transaction.commit().await?;
            registry.forget_tokens(ended)
        })
        .await
    }

    /// Gives an account another password, whatever it was: for operators. Its tokens end.
    ///
    /// # Errors
    /// There is no such account, the password is too short or too long, or the database failed.
    pub async fn set_password(&self, user: OwnerId, password: &str) -> Result<(), RegistryError> {
        let hash = self.hash_of_new(password).await?;
        self.change(move |registry| async move {
            let mut transaction = registry.begin().await?;
            let ended = registry.replace_password(&mut transaction, user, &hash).await?;
            transaction.commit().await?;
            registry.forget_tokens(ended)
        })
        .await
    }

    /// Removes an account with its tokens, clients and hooks, and takes it out of all teams. Its devices become nobody's, and lose their names and notes.
    ///
    /// # Errors
    /// The password is wrong, the account has products, or the database failed.
    pub async fn delete_account(&self, user: OwnerId, password: &str) -> Result<(), RegistryError> {
        let proved = self.proved(user, password).await?;
        self.change(move |registry| async move {
            if registry.products().owned_by(user) > 0 {
                return Err(RegistryError::Refused("this account has products; remove them, or give them to somebody else, first"));
            }
            let mut transaction = registry.begin().await?;
            check_still(&mut transaction, user, Some(&proved)).await?;
            registry.write_down(&mut transaction, Act::new("user.delete", Realm::User(user))).await?;
            let ended = registry.delete_tokens(&mut transaction, Which::Behind(user)).await?;
            let codes = remove_rows(&mut transaction, user).await?;
            transaction.commit().await?;
            registry.forget_tokens(ended)?;
            registry.forget_codes(codes)?;
            registry.leave_teams(user);
            registry.let_devices_go(user);
            Ok(())
        })
        .await
    }

    /// Writes another password within a change, and that all tokens of the account end, which have to be forgotten after the commit.
    pub(super) async fn replace_password(
        &self,
        connection: &mut SqliteConnection,
        user: OwnerId,
        hash: &str,
    ) -> Result<Vec<Vec<u8>>, RegistryError> {
        let update = sqlx::query("UPDATE users SET password_hash = $1 WHERE id = $2").bind(hash).bind(to_i64(user.0));
        if update.execute(&mut *connection).await?.rows_affected() == 0 {
            return Err(RegistryError::NoSuch("account"));
        }
        self.write_down(&mut *connection, Act::new("user.password", Realm::User(user))).await?;
        sqlx::query("DELETE FROM password_resets WHERE user_id = $1").bind(to_i64(user.0)).execute(&mut *connection).await?;
        self.delete_tokens(connection, Which::AllOf(user)).await
    }

    fn leave_teams(&self, user: OwnerId) {
        for product in self.products().list_for(&Holder::User(user)) {
            let mut product = Product::clone(&product);
            product.members.retain(|member| member.user != user);
            self.remember_product(product);
        }
    }

    fn let_devices_go(&self, user: OwnerId) {
        for device in self.devices().owned_by(user).into_iter().filter_map(|id| self.devices().find(id)) {
            self.remember(DeviceRecord { owner: None, name: None, notes: None, ..device.record() });
        }
    }
}

/// What is written about an account.
struct Changes {
    email: Option<String>,
    hash: Option<String>,
    info: Option<String>,
}

impl Changes {
    async fn write(&self, connection: &mut SqliteConnection, user: OwnerId) -> Result<(), RegistryError> {
        let update = "UPDATE users SET email = COALESCE($1, email), password_hash = COALESCE($2, password_hash), \
                      account_info = COALESCE($3, account_info) WHERE id = $4";
        let written =
            sqlx::query(update).bind(&self.email).bind(&self.hash).bind(&self.info).bind(to_i64(user.0)).execute(connection).await;
        match written {
            Ok(written) if written.rows_affected() == 0 => Err(RegistryError::NoSuch("account")),
            Ok(_) => Ok(()),
            Err(error) if is_taken(&error) => Err(RegistryError::EmailTaken),
            Err(error) => Err(error.into()),
        }
    }

    fn words(&self) -> String {
        let named = [("address", &self.email), ("password", &self.hash), ("info", &self.info)];
        named.iter().filter(|(_, change)| change.is_some()).map(|(name, _)| *name).collect::<Vec<_>>().join(" ")
    }
}

/// Makes sure that the password is still the one that was proved.
async fn check_still(connection: &mut SqliteConnection, user: OwnerId, proved: Option<&str>) -> Result<(), RegistryError> {
    let select = "SELECT password_hash FROM users WHERE id = $1";
    let hash: Option<String> = sqlx::query_scalar(select).bind(to_i64(user.0)).fetch_optional(connection).await?;
    let hash = hash.ok_or(RegistryError::NoSuch("account"))?;
    if proved.is_none_or(|proved| proved == hash) { Ok(()) } else { Err(RegistryError::WrongPassword) }
}

/// All that belongs to an account, but its tokens. Gives back the hashes of its claim codes.
async fn remove_rows(connection: &mut SqliteConnection, user: OwnerId) -> Result<Vec<Vec<u8>>, RegistryError> {
    let delete = "DELETE FROM claim_codes WHERE user_id = $1 RETURNING code_hash";
    let codes = sqlx::query_scalar(delete).bind(to_i64(user.0)).fetch_all(&mut *connection).await?;
    remove_clients_of(&mut *connection, Realm::User(user)).await?;
    remove_hooks_of(&mut *connection, Realm::User(user)).await?;
    for statement in [
        "UPDATE devices SET owner = NULL, name = NULL, notes = NULL WHERE owner = $1",
        "DELETE FROM team_members WHERE user_id = $1",
        "DELETE FROM users WHERE id = $1",
    ] {
        sqlx::query(statement).bind(to_i64(user.0)).execute(&mut *connection).await?;
    }
    Ok(codes)
}

fn checked_info(info: &Json) -> Result<String, RegistryError> {
    let text = info.to_string();
    if !info.is_object() || text.len() > INFO_LEN_MAX {
        return Err(RegistryError::Unfit("account_info is a JSON object of at most 4096 bytes"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
