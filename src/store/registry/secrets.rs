//! All secrets that are stored in envelopes, whatever table they stand in: which master keys they need, and sealing them anew.
//!
//! A table that gets another field with a secret has it in [`FIELDS`], and in nothing else here.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqlitePool;
use sqlx::{FromRow, SqliteConnection};
use tokio::task::spawn_blocking;

use super::audit::Act;
use super::{Registry, RegistryError};
use crate::durable;
use crate::store::envelope::{EnvelopeError, MasterKeys, Place, key_of};
use crate::store::master_key_file::{KeySource, MasterKeyFile};

/// Secrets that are sealed in one transaction.
const SEALED_AT_ONCE: i64 = 64;
/// Places that a report names.
const NAMED_MAX: usize = 20;

/// A field of a table that holds secrets.
struct Field {
    table: &'static str,
    name: &'static str,
    /// Id and content of those that the key behind `$1` did not seal, at most `$2`.
    stale: &'static str,
    all: &'static str,
    update: &'static str,
}

macro_rules! field {
    ($table:literal, $row:literal, $name:literal) => {
        Field {
            table: $table,
            name: $name,
            stale: concat!(
                "SELECT ",
                $row,
                " AS id, ",
                $name,
                " AS secret FROM ",
                $table,
                " WHERE ",
                $name,
                " IS NOT NULL AND ",
                $name,
                " NOT LIKE $1 || '%' ORDER BY ",
                $row,
                " LIMIT $2"
            ),
            all: concat!("SELECT ", $row, " AS id, ", $name, " AS secret FROM ", $table, " WHERE ", $name, " IS NOT NULL"),
            update: concat!("UPDATE ", $table, " SET ", $name, " = $1 WHERE ", $row, " = $2"),
        }
    };
}

/// All of them.
const FIELDS: [Field; 4] = [
    field!("hooks", "id", "url"),
    field!("hooks", "id", "definition"),
    field!("hook_keys", "hook", "current"),
    field!("hook_keys", "hook", "previous"),
];

#[derive(FromRow)]
struct Row {
    id: String,
    secret: String,
}

/// What is stored in envelopes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SecretsReport {
    /// How many secrets there are.
    pub secrets: u64,
    /// How many of them each master key sealed; those that are there and sealed none as well.
    pub by_key: BTreeMap<String, u64>,
    /// The master key that seals.
    pub current: String,
    /// How many cannot be read.
    pub unreadable: u64,
    /// Why, of some of these.
    pub reasons: Vec<String>,
}

/// What came of sealing all secrets anew.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rotated {
    /// The master key that seals now.
    pub key: String,
    /// Whether that was new; otherwise an earlier run was gone on with.
    pub is_new: bool,
    /// Secrets that were sealed anew.
    pub sealed: u64,
    /// Secrets that there are, all of them sealed with this key.
    pub secrets: u64,
}

impl SecretsReport {
    /// Secrets that another master key than the current one sealed.
    pub fn stale(&self) -> u64 {
        self.secrets - self.by_key.get(&self.current).copied().unwrap_or_default()
    }

    fn note(&mut self, error: &EnvelopeError) {
        self.unreadable += 1;
        if self.reasons.len() < NAMED_MAX {
            self.reasons.push(error.to_string());
        }
    }
}

/// Opens the file with the master keys of the registry in `file`, and seals what stands there in the clear.
pub(super) async fn open_master(source: &KeySource, file: &Path, pool: &SqlitePool) -> Result<MasterKeyFile, RegistryError> {
    let (source, data) = (source.clone(), durable::parent_of(file));
    let any = "SELECT EXISTS (SELECT 1 FROM hooks WHERE definition LIKE 'hf%') OR EXISTS (SELECT 1 FROM hook_keys)";
    let is_in_use: bool = sqlx::query_scalar(any).fetch_one(pool).await?;
    let opened = spawn_blocking(move || MasterKeyFile::open(&source, &data, is_in_use)).await;
    let master = opened.map_err(|_| RegistryError::Interrupted)??;
    seal_plain_hooks(pool, &master.keys()).await?;
    Ok(master)
}

#[derive(FromRow)]
struct PlainHook {
    id: String,
    url: String,
    definition: String,
}

/// Seals hooks that were stored before there were envelopes, some at a time: whoever is killed meanwhile goes on at the next start. The definition tells,
/// which is JSON and so never looks like an envelope; an address might.
async fn seal_plain_hooks(pool: &SqlitePool, keys: &MasterKeys) -> Result<(), RegistryError> {
    let mut sealed = 0;
    loop {
        let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
        // What is overwritten does not stay in free pages.
        sqlx::query("PRAGMA secure_delete = ON").execute(&mut *transaction).await?;
        let select = "SELECT id, url, definition FROM hooks WHERE definition NOT LIKE 'hf%' ORDER BY id LIMIT $1";
        let plain: Vec<PlainHook> = sqlx::query_as(select).bind(SEALED_AT_ONCE).fetch_all(&mut *transaction).await?;
        if plain.is_empty() {
            break;
        }
        for hook in &plain {
            let envelopes = super::hooks::Sealed::of(keys, &hook.id, &hook.url, &hook.definition)?;
            let update = sqlx::query("UPDATE hooks SET url = $1, definition = $2 WHERE id = $3");
            update.bind(envelopes.url).bind(envelopes.definition).bind(&hook.id).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        sealed += plain.len();
    }
    if sealed > 0 {
        tracing::info!(hooks = sealed, "what hooks say is in envelopes now");
    }
    Ok(())
}

impl Registry {
    /// Opens every secret, and counts them by master key.
    ///
    /// # Errors
    /// The database failed.
    pub async fn check_secrets(&self) -> Result<SecretsReport, RegistryError> {
        let keys = self.master().keys();
        let mut report = SecretsReport { current: keys.current().to_owned(), ..SecretsReport::default() };
        report.by_key.extend(keys.ids().map(|id| (id.to_owned(), 0)));
        for field in &FIELDS {
            let rows: Vec<Row> = self.answer(sqlx::query_as(field.all).fetch_all(self.pool())).await?;
            for row in rows {
                report.secrets += 1;
                *report.by_key.entry(key_of(&row.secret).unwrap_or("none").to_owned()).or_default() += 1;
                if let Err(error) = keys.open(field.place(&row.id), &row.secret) {
                    report.note(&error);
                }
            }
        }
        Ok(report)
    }

    /// Seals every secret anew, with a new master key; with the current one if an earlier run was cut off, or somebody has put a new one into the file.
    /// Keys that were there before stay: backups need them.
    ///
    /// # Errors
    /// A secret cannot be read, the file with the keys not be written, or the database failed. It can be tried again: what is sealed stays sealed.
    pub async fn rotate_secrets(&self) -> Result<Rotated, RegistryError> {
        self.with_master(MasterKeyFile::reload).await?;
        let before = self.check_secrets().await?;
        if before.unreadable > 0 {
            return Err(RegistryError::Refused("some secrets cannot be read; `holdfast secrets check` says which"));
        }
        let is_new = before.stale() == 0;
        if is_new {
            self.with_master(MasterKeyFile::add).await?;
        }
        let mut sealed = 0;
        loop {
            let some = self.seal_some().await?;
            if some == 0 {
                break;
            }
            sealed += some;
        }
        let after = self.check_secrets().await?;
        if after.stale() > 0 || after.unreadable > 0 {
            return Err(RegistryError::Refused("not all secrets are sealed with the new key; try again"));
        }
        Ok(Rotated { key: after.current, is_new, sealed, secrets: after.secrets })
    }

    /// Removes a master key from the file.
    ///
    /// # Errors
    /// A secret needs it, it is the current one, there is none of this id, or the file cannot be written.
    pub async fn drop_master_key(&self, id: String) -> Result<(), RegistryError> {
        self.with_master(MasterKeyFile::reload).await?;
        self.change(move |registry| async move {
            // Nothing is sealed meanwhile, and whatever is sealed after has the current key.
            let report = registry.check_secrets().await?;
            match report.by_key.get(&id) {
                None => return Err(RegistryError::NoSuch("master key")),
                Some(0) if id != report.current => {}
                Some(0) => return Err(RegistryError::Refused("this master key seals what is stored from now on; rotate first")),
                Some(_) => return Err(RegistryError::Refused("secrets are sealed with this master key; rotate first")),
            }
            let mut transaction = registry.begin().await?;
            registry.write_down(&mut transaction, Act::new("secrets.drop", &id)).await?;
            registry.with_master(move |master| master.remove(&id)).await?;
            Ok(transaction.commit().await?)
        })
        .await
    }

    /// Seals some secrets anew that another key than the current one sealed. Returns how many.
    async fn seal_some(&self) -> Result<u64, RegistryError> {
        self.change(|registry| async move {
            let (keys, mut sealed) = (registry.master().keys(), 0);
            let mut transaction = registry.begin().await?;
            for field in &FIELDS {
                sealed += field.seal_some(&mut transaction, &keys, SEALED_AT_ONCE - sealed).await?;
            }
            if sealed > 0 {
                let act = Act::new("secrets.rotate", keys.current()).with(format!("{sealed} secrets"));
                registry.write_down(&mut transaction, act).await?;
                transaction.commit().await?;
            }
            Ok(u64::try_from(sealed).unwrap_or_default())
        })
        .await
    }

    async fn with_master(
        &self,
        work: impl FnOnce(&MasterKeyFile) -> Result<(), EnvelopeError> + Send + 'static,
    ) -> Result<(), RegistryError> {
        let inner = Arc::clone(&self.inner);
        Ok(spawn_blocking(move || work(&inner.master)).await.map_err(|_| RegistryError::Interrupted)??)
    }
}

impl Field {
    fn place<'a>(&self, row: &'a str) -> Place<'a> {
        Place { table: self.table, row, field: self.name }
    }

    async fn seal_some(&self, connection: &mut SqliteConnection, keys: &MasterKeys, len_max: i64) -> Result<i64, RegistryError> {
        let query = sqlx::query_as(self.stale).bind(keys.current_prefix()).bind(len_max);
        let rows: Vec<Row> = query.fetch_all(&mut *connection).await?;
        let mut sealed = 0;
        for Row { id, secret } in rows {
            let place = self.place(&id);
            let envelope = keys.seal(place, &keys.open(place, &secret)?)?;
            sqlx::query(self.update).bind(envelope).bind(&id).execute(&mut *connection).await?;
            sealed += 1;
        }
        Ok(sealed)
    }
}

#[cfg(test)]
mod tests;
