//! Hooks: what is to happen elsewhere when an event comes. What a definition says is for whoever carries it out; here it is text of a bounded length. Addresses
//! and definitions hold secrets: they are stored in envelopes.

use std::collections::BTreeSet;
use std::fmt;

use firmware_protocol::time::UnixMillis;
use serde_json::{Map, Value as Json};
use sqlx::{FromRow, SqliteConnection};
use webhooks::hook::Hook;

use super::audit::Act;
use super::users::{to_i64, to_u64};
use super::{Registry, RegistryError};
use crate::dates;
use crate::store::envelope::{EnvelopeError, MasterKeys, Place};
use crate::store::short_id::random_hook_id;
use crate::store::{HookId, Realm};

/// Hooks of one account or product.
const HOOKS_PER_REALM_MAX: i64 = 1_000;
/// Longest definition, as JSON.
const DEFINITION_LEN_MAX: usize = 64 * 1024;
/// Longest prefix of the events that a hook is for.
const EVENT_LEN_MAX: usize = 64;
/// Longest name.
const NAME_LEN_MAX: usize = 256;
/// Longest address, with what is filled in later.
const URL_LEN_MAX: usize = 4 * 1024;

/// A hook.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredHook {
    /// Its id.
    pub id: HookId,
    /// Whose it is.
    pub realm: Realm,
    /// What it says.
    pub text: HookText,
    /// When it was created.
    pub created_at: UnixMillis,
    /// When it was replaced last.
    pub updated_at: UnixMillis,
}

impl StoredHook {
    /// The hook as it is carried out.
    ///
    /// # Errors
    /// It cannot be: why, in words for its owner.
    pub fn read(&self) -> Result<Hook, String> {
        let definition = serde_json::from_str(&self.text.definition).map_err(|_| "the definition is no JSON object".to_owned())?;
        Hook::parse(self.id, self.realm.audience(), &definition).map_err(|error| error.to_string())
    }
}

/// What a hook says.
#[derive(Clone, PartialEq, Eq)]
pub struct HookText {
    /// The prefix of the events that it is for.
    pub event: String,
    /// Its name.
    pub name: String,
    /// Where its requests go.
    pub url: String,
    /// Whether it does anything.
    pub enabled: bool,
    /// All of it, as a JSON object.
    pub definition: String,
}

impl HookText {
    /// Has it do something, or nothing.
    ///
    /// # Errors
    /// Its definition is no JSON object.
    pub fn set_enabled(&mut self, enabled: bool) -> Result<(), RegistryError> {
        let mut definition: Map<String, Json> =
            serde_json::from_str(&self.definition).map_err(|_| RegistryError::Damaged("the definition of a hook"))?;
        definition.insert("disabled".into(), (!enabled).into());
        (self.enabled, self.definition) = (enabled, Json::Object(definition).to_string());
        Ok(())
    }
}

/// Definitions and addresses hold secrets.
impl fmt::Debug for HookText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookText")
            .field("event", &self.event)
            .field("name", &self.name)
            .field("enabled", &self.enabled)
            .finish_non_exhaustive()
    }
}

#[derive(FromRow)]
struct Row {
    id: String,
    realm: String,
    event: String,
    name: String,
    url: String,
    enabled: i64,
    definition: String,
    created_at: i64,
    updated_at: i64,
}

/// A question for rows.
macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT id, realm, event, name, url, enabled, definition, created_at, updated_at FROM hooks ", $rest)
    };
}

impl Registry {
    /// The hooks of an account or a product, in order of creation.
    ///
    /// # Errors
    /// The database failed.
    pub async fn hooks(&self, realm: Realm) -> Result<Vec<StoredHook>, RegistryError> {
        let query = sqlx::query_as(select!("WHERE realm = $1 ORDER BY created_at, id")).bind(realm.to_string());
        let rows: Vec<Row> = self.answer(query.fetch_all(self.pool())).await?;
        rows.into_iter().map(|row| self.opened(row)).collect()
    }

    /// All hooks, for whoever carries them out. One that cannot be read stands in no other's way.
    ///
    /// # Errors
    /// The database failed.
    pub async fn all_hooks(&self) -> Result<Vec<Result<StoredHook, RegistryError>>, RegistryError> {
        let query = sqlx::query_as(select!("ORDER BY id"));
        let rows: Vec<Row> = self.answer(query.fetch_all(self.pool())).await?;
        Ok(rows.into_iter().map(|row| self.opened(row)).collect())
    }

    /// A hook, whosever it is, for whoever carries it out.
    ///
    /// # Errors
    /// The database failed, or it cannot be read.
    pub async fn any_hook(&self, id: HookId) -> Result<Option<StoredHook>, RegistryError> {
        let query = sqlx::query_as(select!("WHERE id = $1")).bind(id.to_string());
        let row: Option<Row> = self.answer(query.fetch_optional(self.pool())).await?;
        row.map(|row| self.opened(row)).transpose()
    }

    /// The ids of all hooks, those that cannot be read included.
    ///
    /// # Errors
    /// The database failed.
    pub async fn hook_ids(&self) -> Result<BTreeSet<HookId>, RegistryError> {
        let ids: Vec<String> = self.answer(sqlx::query_scalar("SELECT id FROM hooks").fetch_all(self.pool())).await?;
        ids.iter().map(|id| id.parse().map_err(|()| RegistryError::Damaged("the id of a hook"))).collect()
    }

    /// Disables a hook because of what its receiver does. When its owner changed it last stays as it is.
    ///
    /// # Errors
    /// There is no such hook, it cannot be read, or the database failed.
    pub async fn disable_hook(&self, id: HookId) -> Result<(), RegistryError> {
        self.change(move |registry| async move {
            let mut transaction = registry.begin().await?;
            let row: Option<Row> = sqlx::query_as(select!("WHERE id = $1")).bind(id.to_string()).fetch_optional(&mut *transaction).await?;
            let mut hook = row.map(|row| registry.opened(row)).transpose()?.ok_or(RegistryError::NoSuch("hook"))?;
            hook.text.set_enabled(false)?;
            let row = id.to_string();
            let sealed = Sealed::of(&registry.master().keys(), &row, &hook.text.url, &hook.text.definition)?;
            let update = sqlx::query("UPDATE hooks SET enabled = 0, definition = $1 WHERE id = $2").bind(&sealed.definition).bind(&row);
            update.execute(&mut *transaction).await?;
            registry.write_down(&mut transaction, act("hook.disable", &hook)).await?;
            Ok(transaction.commit().await?)
        })
        .await
    }

    /// A hook of an account or a product.
    ///
    /// # Errors
    /// The database failed.
    pub async fn hook(&self, realm: Realm, id: HookId) -> Result<Option<StoredHook>, RegistryError> {
        let query = sqlx::query_as(select!("WHERE id = $1 AND realm = $2")).bind(id.to_string()).bind(realm.to_string());
        let row: Option<Row> = self.answer(query.fetch_optional(self.pool())).await?;
        row.map(|row| self.opened(row)).transpose()
    }

    /// Creates a hook.
    ///
    /// # Errors
    /// A text does not do, there are too many hooks, or the database failed.
    pub async fn create_hook(&self, realm: Realm, text: HookText) -> Result<StoredHook, RegistryError> {
        check(&text)?;
        self.change(move |registry| async move {
            let mut transaction = registry.begin().await?;
            check_room(&mut transaction, realm).await?;
            let now = dates::now();
            let hook = StoredHook { id: random_hook_id()?, realm, text, created_at: now, updated_at: now };
            let sealed = Sealed::of(&registry.master().keys(), &hook.id.to_string(), &hook.text.url, &hook.text.definition)?;
            insert(&mut transaction, &hook, &sealed).await?;
            registry.write_down(&mut transaction, act("hook.create", &hook)).await?;
            transaction.commit().await?;
            Ok(hook)
        })
        .await
    }

    /// Puts another text in the place of all that a hook says.
    ///
    /// # Errors
    /// There is no such hook there, a text does not do, or the database failed.
    pub async fn replace_hook(&self, realm: Realm, id: HookId, text: HookText) -> Result<StoredHook, RegistryError> {
        check(&text)?;
        self.change(move |registry| async move {
            let mut transaction = registry.begin().await?;
            let (now, row) = (dates::now(), id.to_string());
            let sealed = Sealed::of(&registry.master().keys(), &row, &text.url, &text.definition)?;
            let statement = "UPDATE hooks SET event = $1, name = $2, url = $3, enabled = $4, definition = $5, updated_at = $6 \
                             WHERE id = $7 AND realm = $8 RETURNING created_at";
            let created_at: Option<i64> = sqlx::query_scalar(statement)
                .bind(&text.event)
                .bind(&text.name)
                .bind(&sealed.url)
                .bind(i64::from(text.enabled))
                .bind(&sealed.definition)
                .bind(to_i64(now.0))
                .bind(&row)
                .bind(realm.to_string())
                .fetch_optional(&mut *transaction)
                .await?;
            let created_at = UnixMillis(to_u64(created_at.ok_or(RegistryError::NoSuch("hook"))?)?);
            let hook = StoredHook { id, realm, text, created_at, updated_at: now };
            registry.write_down(&mut transaction, act("hook.replace", &hook)).await?;
            transaction.commit().await?;
            Ok(hook)
        })
        .await
    }

    /// Removes a hook.
    ///
    /// # Errors
    /// There is no such hook there, or the database failed.
    pub async fn remove_hook(&self, realm: Realm, id: HookId) -> Result<(), RegistryError> {
        self.change(move |registry| async move {
            let mut transaction = registry.begin().await?;
            let delete = sqlx::query("DELETE FROM hooks WHERE id = $1 AND realm = $2").bind(id.to_string()).bind(realm.to_string());
            if delete.execute(&mut *transaction).await?.rows_affected() == 0 {
                return Err(RegistryError::NoSuch("hook"));
            }
            registry.write_down(&mut transaction, Act::new("hook.remove", realm).with(id)).await?;
            Ok(transaction.commit().await?)
        })
        .await
    }

    /// A hook from its row.
    fn opened(&self, row: Row) -> Result<StoredHook, RegistryError> {
        use RegistryError::Damaged;
        let keys = self.master().keys();
        let Row { id, event, name, url, definition, .. } = row;
        let (url, definition) = (keys.open_text(url_of(&id), &url)?, keys.open_text(definition_of(&id), &definition)?);
        Ok(StoredHook {
            id: id.parse().map_err(|()| Damaged("the id of a hook"))?,
            realm: row.realm.parse().map_err(|_| Damaged("whose a hook is"))?,
            text: HookText { event, name, url, enabled: row.enabled != 0, definition },
            created_at: UnixMillis(to_u64(row.created_at)?),
            updated_at: UnixMillis(to_u64(row.updated_at)?),
        })
    }
}

/// Where the address of a hook stands.
pub(super) fn url_of(hook: &str) -> Place<'_> {
    Place { table: "hooks", row: hook, field: "url" }
}

/// Where the definition of a hook stands.
pub(super) fn definition_of(hook: &str) -> Place<'_> {
    Place { table: "hooks", row: hook, field: "definition" }
}

/// What of a hook is stored in envelopes.
pub(super) struct Sealed {
    pub(super) url: String,
    pub(super) definition: String,
}

impl Sealed {
    pub(super) fn of(keys: &MasterKeys, hook: &str, url: &str, definition: &str) -> Result<Self, EnvelopeError> {
        Ok(Self { url: keys.seal(url_of(hook), url.as_bytes())?, definition: keys.seal(definition_of(hook), definition.as_bytes())? })
    }
}

/// Removes all hooks of an account or a product.
pub(super) async fn remove_hooks_of(connection: &mut SqliteConnection, realm: Realm) -> Result<(), RegistryError> {
    Ok(sqlx::query("DELETE FROM hooks WHERE realm = $1").bind(realm.to_string()).execute(connection).await.map(drop)?)
}

/// Addresses are left out of it: they hold secrets.
fn act(name: &'static str, hook: &StoredHook) -> Act {
    Act::new(name, hook.realm).with(format!("{} for {}", hook.id, hook.text.event))
}

async fn insert(connection: &mut SqliteConnection, hook: &StoredHook, sealed: &Sealed) -> Result<(), RegistryError> {
    let statement = "INSERT INTO hooks (id, realm, event, name, url, enabled, definition, created_at, updated_at) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    sqlx::query(statement)
        .bind(hook.id.to_string())
        .bind(hook.realm.to_string())
        .bind(&hook.text.event)
        .bind(&hook.text.name)
        .bind(&sealed.url)
        .bind(i64::from(hook.text.enabled))
        .bind(&sealed.definition)
        .bind(to_i64(hook.created_at.0))
        .bind(to_i64(hook.updated_at.0))
        .execute(connection)
        .await?;
    Ok(())
}

async fn check_room(connection: &mut SqliteConnection, realm: Realm) -> Result<(), RegistryError> {
    let select = "SELECT COUNT(*) FROM hooks WHERE realm = $1";
    let count: i64 = sqlx::query_scalar(select).bind(realm.to_string()).fetch_one(connection).await?;
    if count >= HOOKS_PER_REALM_MAX { Err(RegistryError::TooMany("hooks")) } else { Ok(()) }
}

fn check(text: &HookText) -> Result<(), RegistryError> {
    let is_object = || serde_json::from_str::<Map<String, Json>>(&text.definition).is_ok();
    let fits = |text: &str, len_max: usize| (1..=len_max).contains(&text.len()) && !text.contains(char::is_control);
    if !fits(&text.event, EVENT_LEN_MAX) {
        return Err(RegistryError::Unfit("the event of a hook has from 1 to 64 bytes"));
    }
    if !fits(&text.name, NAME_LEN_MAX) {
        return Err(RegistryError::Unfit("the name of a hook has from 1 to 256 bytes"));
    }
    if !fits(&text.url, URL_LEN_MAX) {
        return Err(RegistryError::Unfit("the url of a hook has from 1 to 4096 bytes"));
    }
    if text.definition.len() > DEFINITION_LEN_MAX || !is_object() {
        return Err(RegistryError::Unfit("the definition of a hook is a JSON object of at most 65536 bytes"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
