//! What requests of hooks are signed with: a key for each hook that has one, and for a while the one before it. Kept in envelopes, and known here as text.

use std::fmt;

use firmware_protocol::time::UnixMillis;
use sqlx::{FromRow, SqliteConnection};

use super::audit::Act;
use super::users::{to_i64, to_u64};
use super::{Registry, RegistryError};
use crate::dates;
use crate::store::envelope::Place;
use crate::store::{HookId, Realm};

/// Longest key, as text.
const KEY_LEN_MAX: usize = 1_024;

/// The keys of a hook.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKeys {
    /// The key that signs.
    pub current: String,
    /// The key before, which signs as well until this time.
    pub previous: Option<(String, UnixMillis)>,
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKeys(..)")
    }
}

#[derive(FromRow)]
struct Row {
    hook: String,
    current: String,
    previous: Option<String>,
    previous_until: Option<i64>,
}

impl Registry {
    /// The signing keys of a hook of an account or a product, if it has any.
    ///
    /// # Errors
    /// The database failed, or they cannot be read.
    pub async fn signing_keys(&self, realm: Realm, hook: HookId) -> Result<Option<SigningKeys>, RegistryError> {
        let select = "SELECT k.hook, k.current, k.previous, k.previous_until FROM hook_keys k JOIN hooks h ON h.id = k.hook \
                      WHERE h.id = $1 AND h.realm = $2";
        let query = sqlx::query_as(select).bind(hook.to_string()).bind(realm.to_string());
        let row: Option<Row> = self.answer(query.fetch_optional(self.pool())).await?;
        row.map(|row| self.opened_keys(&row).map(|(_, keys)| keys)).transpose()
    }

    /// The signing keys of all hooks, for whoever carries them out. Some that cannot be read stand in no other's way.
    ///
    /// # Errors
    /// The database failed.
    pub async fn all_signing_keys(&self) -> Result<Vec<Result<(HookId, SigningKeys), RegistryError>>, RegistryError> {
        let query = sqlx::query_as("SELECT hook, current, previous, previous_until FROM hook_keys ORDER BY hook");
        let rows: Vec<Row> = self.answer(query.fetch_all(self.pool())).await?;
        Ok(rows.iter().map(|row| self.opened_keys(row)).collect())
    }

    /// Gives a hook another signing key. The one that it has goes on to sign until `previous_until`; the one before that ends.
    ///
    /// # Errors
    /// There is no such hook there, the key has no length that a key has, or the database failed.
    pub async fn set_signing_key(
        &self,
        realm: Realm,
        hook: HookId,
        key: String,
        previous_until: UnixMillis,
    ) -> Result<SigningKeys, RegistryError> {
        if !(1..=KEY_LEN_MAX).contains(&key.len()) {
            return Err(RegistryError::Unfit("a signing key has from 1 to 1024 bytes"));
        }
        self.change(move |registry| async move {
            let mut transaction = registry.begin().await?;
            let exists = sqlx::query("SELECT 1 FROM hooks WHERE id = $1 AND realm = $2").bind(hook.to_string()).bind(realm.to_string());
            exists.fetch_optional(&mut *transaction).await?.ok_or(RegistryError::NoSuch("hook"))?;
            let select = "SELECT hook, current, previous, previous_until FROM hook_keys WHERE hook = $1";
            let row: Option<Row> = sqlx::query_as(select).bind(hook.to_string()).fetch_optional(&mut *transaction).await?;
            let before = row.map(|row| registry.opened_keys(&row)).transpose()?;
            let keys = SigningKeys { current: key, previous: before.map(|(_, keys)| (keys.current, previous_until)) };
            registry.put_keys(&mut transaction, &hook.to_string(), &keys).await?;
            registry.write_down(&mut transaction, Act::new("hook.sign", realm).with(hook)).await?;
            transaction.commit().await?;
            Ok(keys)
        })
        .await
    }

    fn opened_keys(&self, row: &Row) -> Result<(HookId, SigningKeys), RegistryError> {
        let keys = self.master().keys();
        let current = keys.open_text(current_of(&row.hook), &row.current)?;
        let previous = row.previous.as_ref().map(|previous| keys.open_text(previous_of(&row.hook), previous)).transpose()?;
        let until = row.previous_until.map(to_u64).transpose()?.map(UnixMillis);
        let hook = row.hook.parse().map_err(|()| RegistryError::Damaged("the id of a hook"))?;
        Ok((hook, SigningKeys { current, previous: previous.zip(until) }))
    }

    async fn put_keys(&self, connection: &mut SqliteConnection, hook: &str, keys: &SigningKeys) -> Result<(), RegistryError> {
        let master = self.master().keys();
        let (previous, until) = keys.previous.as_ref().map(|(key, until)| (key, to_i64(until.0))).unzip();
        let previous = previous.map(|key| master.seal(previous_of(hook), key.as_bytes())).transpose()?;
        let upsert = "INSERT INTO hook_keys (hook, current, previous, previous_until, updated_at) VALUES ($1, $2, $3, $4, $5) \
                      ON CONFLICT (hook) DO UPDATE SET current = excluded.current, previous = excluded.previous, \
                      previous_until = excluded.previous_until, updated_at = excluded.updated_at";
        sqlx::query(upsert)
            .bind(hook)
            .bind(master.seal(current_of(hook), keys.current.as_bytes())?)
            .bind(previous)
            .bind(until)
            .bind(to_i64(dates::now().0))
            .execute(connection)
            .await?;
        Ok(())
    }
}

/// Where the signing key of a hook stands.
pub(super) fn current_of(hook: &str) -> Place<'_> {
    Place { table: "hook_keys", row: hook, field: "current" }
}

/// Where the one before it stands.
pub(super) fn previous_of(hook: &str) -> Place<'_> {
    Place { table: "hook_keys", row: hook, field: "previous" }
}

#[cfg(test)]
mod tests {
    use super::super::HookText;
    use super::super::tests::{account, open, registry};
    use super::*;

    #[tokio::test]
    async fn two_keys_of_a_hook_are_live_and_go_with_it() {
        let (directory, registry) = registry().await;
        let realm = Realm::User(account(&registry, "a").await);
        let text = HookText { event: "e".into(), name: "n".into(), url: "u".into(), enabled: true, definition: "{}".into() };
        let hook = registry.create_hook(realm, text).await.unwrap().id;
        assert_eq!(registry.signing_keys(realm, hook).await.unwrap(), None);
        for key in ["whsec_one", "whsec_two", "whsec_three"] {
            registry.set_signing_key(realm, hook, key.into(), UnixMillis(5_000)).await.unwrap();
        }
        registry.close().await;
        let registry = open(&directory).await;
        let keys = SigningKeys { current: "whsec_three".into(), previous: Some(("whsec_two".into(), UnixMillis(5_000))) };
        assert_eq!(registry.signing_keys(realm, hook).await.unwrap().as_ref(), Some(&keys));
        assert_eq!(registry.all_signing_keys().await.unwrap().len(), 1);
        let elsewhere = Realm::Product(firmware_protocol::id::ProductId(10_001));
        assert_eq!(registry.signing_keys(elsewhere, hook).await.unwrap(), None);
        let set = |realm, key: &str| registry.set_signing_key(realm, hook, key.into(), UnixMillis(0));
        assert!(matches!(set(elsewhere, "whsec_four").await, Err(RegistryError::NoSuch("hook"))));
        assert!(matches!(set(realm, "").await, Err(RegistryError::Unfit(_))));
        let told = format!("{keys:?} {:?}", registry.audit(None, 10).await.unwrap());
        assert!(told.contains("hook.sign") && !told.contains("whsec_"));
        let stored: Vec<String> = sqlx::query_scalar("SELECT current || previous FROM hook_keys").fetch_all(registry.pool()).await.unwrap();
        assert!(stored.iter().all(|stored| stored.starts_with("hf1:") && !stored.contains("whsec_")));
        registry.remove_hook(realm, hook).await.unwrap();
        assert!(registry.all_signing_keys().await.unwrap().is_empty());
    }
}
