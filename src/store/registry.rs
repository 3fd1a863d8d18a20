//! The registry: users, their tokens, products, devices and their keys, in a database on disk.
//!
//! All SQL of the server stands in this module and its parts, in the subset that SQLite and PostgreSQL share. A change is written to the
//! database first and to memory after, one change at a time, and runs to its end even when its caller goes away. Whoever makes one says who they are
//! ([`Registry::by`]), and the log of acts has it in the same transaction.

mod accounts;
mod api_users;
mod arrivals;
mod audit;
mod claims;
mod clients;
mod copy;
mod devices;
mod error;
mod firmware;
mod groups;
mod health;
mod hooks;
mod idempotency;
mod imports;
mod memberships;
mod product_devices;
mod products;
mod provisioning;
mod resets;
mod secrets;
mod signing_keys;
mod team;
mod tokens;
mod transfers;
mod users;

use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use firmware_protocol::entropy::Entropy;
use sqlx::Transaction;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{Sqlite, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;

use self::health::{Health, Home};
use super::claim_code::ClaimRecord;
use super::digest_map::{Digest, DigestMap};
use super::firmware_files::FirmwareFiles;
use super::passwords::Passwords;
use super::{Actor, DeviceBook, KeyRing, KeySource, MasterKeyFile, Pairing, ProductBook, TokenCache};
use crate::durable;
use crate::entropy::SystemEntropy;
use crate::metrics::{Metrics, RegistryMetrics};

pub use accounts::AccountEdit;
pub use api_users::{ApiUser, IssuedApiUser};
pub use arrivals::Arrival;
pub use audit::{AUDIT_PAGE_MAX, AuditRow, AuditVerdict};
pub use claims::Claimed;
pub use clients::{ClientCheck, ClientEdit, ClientKind, IssuedClient, NewClient, OAuthClient};
pub use devices::{Added, DeviceEdit, NewDevice};
pub use error::RegistryError;
pub use firmware::{Firmware, FirmwareEdit, NewFirmware, Release};
pub use groups::{GroupEdit, NewGroup};
pub use health::Trouble;
pub use hooks::{HookText, StoredHook};
pub use idempotency::{Begun, IdempotencyKey, StoredAnswer};
pub use imports::{Imported, KnownDevice};
pub use product_devices::{DeviceChange, DeviceFilter, GroupsChange};
pub use products::{NewProduct, ProductEdit};
pub use provisioning::Provisioned;
pub use secrets::{Rotated, SecretsReport};
pub use signing_keys::SigningKeys;
pub use tokens::{IssuedToken, NewToken, TokenInfo};
pub use transfers::Transfer;
pub use users::User;

static MIGRATIONS: Migrator = sqlx::migrate!("src/store/migrations/sqlite");

/// SQLite has one writer; the rest read.
const CONNECTIONS: u32 = 4;
/// Pages that each connection keeps, in KiB, as SQLite wants it said: all is served from memory, so the database needs no more.
const CACHE: &str = "-256";
/// How long a statement waits for another process that has the database locked. Callers of the API wait for less than a second in all.
const BUSY_TIMEOUT: Duration = Duration::from_millis(400);
/// How long whoever did not say otherwise waits for an answer: long enough for a list of a million devices.
const PATIENCE: Duration = Duration::from_secs(120);

/// The registry. A handle: clones are the same registry.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
    /// How long the holder of this handle waits for an answer.
    patience: Duration,
    /// Who it is, for the log of acts.
    actor: Actor,
}

struct Inner {
    pool: SqlitePool,
    filled: watch::Sender<bool>,
    home: Home,
    /// From which version to which it was brought when it was opened.
    migrated: Option<(i64, i64)>,
    health: Health,
    /// Held from before a change's checks until memory has it, so that memory and database pass through the same states.
    changing: Mutex<()>,
    passwords: Passwords,
    keys: Arc<KeyRing>,
    tokens: TokenCache,
    products: ProductBook,
    devices: DeviceBook,
    claims: DigestMap<(Digest, ClaimRecord)>,
    pairing: Pairing,
    firmware: FirmwareFiles,
    master: MasterKeyFile,
    /// A number that no other process has: what another one began, nobody ends any more.
    process: i64,
}

impl Registry {
    /// Opens the registry at `file`, creating or migrating it as needed, and fills memory from it.
    ///
    /// # Errors
    /// The file cannot be opened, is no registry, or was written by a newer version, or the master keys cannot be read.
    pub async fn open(file: &Path) -> Result<Self, RegistryError> {
        Self::open_with(file, &KeySource::Own).await
    }

    /// [`Registry::open`] with master keys from elsewhere.
    ///
    /// # Errors
    /// As for [`Registry::open`].
    pub async fn open_with(file: &Path, keys: &KeySource) -> Result<Self, RegistryError> {
        let registry = Self::open_unread(file, keys, Metrics::new().registry()).await?;
        registry.fill().await?;
        registry.set_filled();
        Ok(registry)
    }

    /// [`Registry::open`] without filling memory, which [`Registry::fill`] does: until then nothing is known, and every change waits. What fails later
    /// is counted.
    ///
    /// # Errors
    /// As for [`Registry::open`].
    pub async fn open_unread(file: &Path, keys: &KeySource, metrics: RegistryMetrics) -> Result<Self, RegistryError> {
        create_private(file).map_err(RegistryError::File)?;
        sync_log(file).map_err(RegistryError::File)?;
        let home = Home::of(file).map_err(RegistryError::File)?;
        let options = SqliteConnectOptions::new()
            .filename(file)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .pragma("cache_size", CACHE);
        let pool = SqlitePoolOptions::new().max_connections(CONNECTIONS).connect_with(options).await?;
        let before = version_of(&pool).await;
        MIGRATIONS.run(&pool).await.map_err(|error| RegistryError::from_migration(error, &MIGRATIONS))?;
        let master = secrets::open_master(keys, file, &pool).await?;
        let migrated = before.zip(version_of(&pool).await).filter(|(before, now)| before != now);
        Ok(Self {
            inner: Arc::new(Inner {
                pool,
                filled: watch::Sender::new(false),
                home,
                migrated,
                health: Health::new(metrics),
                changing: Mutex::new(()),
                passwords: Passwords::new(),
                keys: Arc::new(KeyRing::new()),
                tokens: TokenCache::default(),
                products: ProductBook::default(),
                devices: DeviceBook::default(),
                claims: DigestMap::default(),
                pairing: Pairing::default(),
                firmware: FirmwareFiles::beside(file),
                master,
                process: i64::from_be_bytes(SystemEntropy.array()),
            }),
            patience: PATIENCE,
            actor: Actor::SERVER,
        })
    }

    /// From which version of the database to which it was brought when it was opened, if it was; a new one was not.
    pub fn migrated(&self) -> Option<(i64, i64)> {
        self.inner.migrated
    }

    /// Fills memory with what the database says, and tells whoever follows the keys to look at all of them. To be called once, or until it succeeds.
    ///
    /// # Errors
    /// The database cannot be read, or says what cannot be.
    pub async fn fill(&self) -> Result<(), RegistryError> {
        // Devices act for the owners of their products.
        self.fill_products().await?;
        self.fill_devices().await?;
        self.fill_tokens().await?;
        self.fill_claims().await?;
        self.sweep_firmware_files().await
    }

    /// Memory has been filled, and everybody may rely on it. Only now sessions are compared with it: before, every device would seem to be removed.
    pub fn set_filled(&self) {
        self.inner.filled.send_replace(true);
        self.keys().tell_all();
    }

    /// Whether memory has been filled: whom it does not know now is unknown.
    pub fn is_filled(&self) -> bool {
        *self.inner.filled.borrow()
    }

    /// Waits until [`Registry::is_filled`].
    pub async fn filled(&self) {
        // The sender lives as long as the registry.
        let _ = self.inner.filled.subscribe().wait_for(|filled| *filled).await;
    }

    /// The same registry for somebody who waits no longer than this for an answer. What has begun by then runs to its end all the same.
    pub fn with_patience(&self, patience: Duration) -> Self {
        Self { patience, ..self.clone() }
    }

    /// The same registry for somebody by whom its changes are, as the log of acts will say.
    pub fn by(&self, actor: impl Into<Actor>) -> Self {
        Self { actor: actor.into(), ..self.clone() }
    }

    /// The keys of all devices, for the terminators.
    pub fn keys(&self) -> &Arc<KeyRing> {
        &self.inner.keys
    }

    /// All tokens.
    pub fn tokens(&self) -> &TokenCache {
        &self.inner.tokens
    }

    /// All products.
    pub fn products(&self) -> &ProductBook {
        &self.inner.products
    }

    /// All devices.
    pub fn devices(&self) -> &DeviceBook {
        &self.inner.devices
    }

    /// Who may bring devices along now.
    pub fn pairing(&self) -> &Pairing {
        &self.inner.pairing
    }

    fn master(&self) -> &MasterKeyFile {
        &self.inner.master
    }

    fn claims(&self) -> &DigestMap<(Digest, ClaimRecord)> {
        &self.inner.claims
    }

    /// Waits for open queries and closes the database.
    pub async fn close(&self) {
        self.inner.pool.close().await;
    }

    fn pool(&self) -> &SqlitePool {
        &self.inner.pool
    }

    /// Begins a change of the database. It takes the right to write at once, and waits for that: one that reads first and finds it taken then, by a change
    /// that was given up a moment ago and is not rolled back yet, would fail without waiting.
    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, RegistryError> {
        Ok(self.pool().begin_with("BEGIN IMMEDIATE").await?)
    }

    /// Panics while it holds the registry for a change, as a mistake in one would: a fault that tests inject.
    pub(crate) async fn panic_in_a_change(self) {
        async fn panics() -> Result<(), RegistryError> {
            panic!("a fault that was injected, in the middle of a change of the registry")
        }
        let ended = self.change(|_| panics()).await;
        tracing::error!(?ended, "a change of the registry panicked");
    }

    /// Runs a change alone and to its end. It is a task of its own, since a caller that leaves between commit and memory must not leave them
    /// different.
    async fn change<T, Work>(&self, work: impl FnOnce(Registry) -> Work + Send + 'static) -> Result<T, RegistryError>
    where
        T: Send + 'static,
        Work: Future<Output = Result<T, RegistryError>> + Send,
    {
        let (registry, patience) = (self.clone(), self.patience);
        let task = tokio::spawn(async move {
            let inner = registry.inner.clone();
            timeout(patience / 3, registry.filled()).await.map_err(|_| RegistryError::TimedOut)?;
            // Most that fail do so here or at the lock of the database, and have then not begun.
            let _alone = timeout(patience / 3, inner.changing.lock()).await.map_err(|_| RegistryError::TimedOut)?;
            inner.home.check().await?;
            work(registry).await
        });
        let ended = timeout(patience, task).await.unwrap_or(Ok(Err(RegistryError::TimedOut)));
        let ended = ended.unwrap_or(Err(RegistryError::Interrupted));
        self.inner.health.note(&ended, true);
        ended
    }

    /// Waits for an answer of the database.
    async fn answer<T>(&self, answer: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, RegistryError> {
        let answer = timeout(self.patience, answer).await.map_or(Err(RegistryError::TimedOut), |answer| Ok(answer?));
        self.inner.health.note(&answer, false);
        answer
    }
}

/// The newest migration that was made; `None` of a database that is new.
async fn version_of(pool: &SqlitePool) -> Option<i64> {
    sqlx::query_scalar("SELECT MAX(version) FROM _sqlx_migrations").fetch_one(pool).await.ok().flatten()
}

/// Makes sure of a file that nobody else can read; SQLite gives its log and index the same mode.
fn create_private(file: &Path) -> io::Result<()> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(file).map(drop)
}

/// A process may have been killed between writing a change to SQLite's log and syncing it. SQLite takes such a change for made and does not sync it
/// again, so it would be served and answered for although a power cut could still undo it. The name of the log is durable with that of the
/// generation, before a port is bound.
fn sync_log(file: &Path) -> io::Result<()> {
    let mut log = file.as_os_str().to_os_string();
    log.push("-wal");
    match File::open(&log) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        opened => durable::sync_file(&opened?),
    }
}

#[cfg(test)]
mod tests;
