//! The whole server: what is started in which order, what is connected to what, and how it stops.
//!
//! Order matters twice. Everything that can be refused is checked before a port is bound, and everything a device may rely on is recovered
//! before its datagrams are read. A planned stop tells devices nothing: they go on with the next process.

mod data_plane;
mod operations;
mod recovery;
mod run;

pub use data_plane::{DataPlane, DataPlaneHandle, Followed, NoAnswer, Pass};
pub use run::run;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::operations::Parts;
use crate::admin::{self, Ready};
use crate::api::tls::{Certificates, TlsError};
use crate::api::{self, Api, Gateway, Settings};
use crate::changes::{ChangesError, Register, What};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::control::Operations;
use crate::cursors::CursorError;
use crate::data_dir::{DataDir, DataDirError};
use crate::dispatch::Dispatch;
use crate::gateway::Devices;
use crate::generation::GenerationError;
use crate::journal::OpenError;
use crate::keys::{KeysError, ServerKeys};
use crate::metrics::Metrics;
use crate::store::{Registry, RegistryError};
use crate::terminators::BindError;
use crate::watchdog::last_words;

/// The server cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The data directory is taken or unusable.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The registry cannot be opened.
    #[error("the registry cannot be opened: {0}")]
    Registry(#[from] RegistryError),
    /// The server's own keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The generation cannot be raised.
    #[error(transparent)]
    Generation(#[from] GenerationError),
    /// The journal cannot be opened.
    #[error("the journal cannot be opened: {0}")]
    Journal(#[from] OpenError),
    /// A cursor cannot be used.
    #[error(transparent)]
    Cursor(#[from] CursorError),
    /// The register of changes cannot be used.
    #[error(transparent)]
    Changes(#[from] ChangesError),
    /// A UDP port cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A TCP port cannot be had.
    #[error("cannot listen on tcp {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The HTTPS certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The socket for commands cannot be opened.
    #[error("cannot open the control socket {path}: {source}", path = path.display())]
    Control {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Certificates for hooks cannot be used.
    #[error("the certificates in webhooks.certificates cannot be used: {0}")]
    HookCertificates(openssl::error::ErrorStack),
    /// OpenSSL failed.
    #[error(transparent)]
    Crypto(#[from] firmware_protocol::error::KeyError),
    /// Anything else of the operating system.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Everything that is open before the first port: the directory, the registry and the keys.
pub struct Opened {
    /// The locked data directory.
    pub data: DataDir,
    /// Users, tokens and devices: at first without what its database says, which the data plane has it read.
    pub registry: Arc<Registry>,
    /// The server's own keys.
    pub keys: ServerKeys,
    /// All metrics.
    pub metrics: Metrics,
    /// What changed in the data directory and with the configuration.
    pub changes: Register,
    /// The hash of the configuration.
    pub config_hash: String,
    /// The clocks.
    pub clock: Clock,
}

impl Opened {
    /// Opens what `config` names.
    pub async fn new(config: &Config) -> Result<Self, StartError> {
        let (data, clock) = (DataDir::lock(&config.data_dir)?, Clock::start());
        let keys = ServerKeys::open(&data)?;
        let changes = Register::open(data.path())?;
        let (metrics, settings, now) = (Metrics::new(), config.settings(), clock.now().unix);
        let config_hash = config::hash(&settings);
        metrics.identity(&config_hash);
        let registry = Arc::new(Registry::open_unread(&data.registry_to_open()?, &config.secrets.keys, metrics.registry()).await?);
        changes.keep();
        if let Some((from, to)) = registry.migrated() {
            changes.note(now, What::RegistryMigrated { from, to });
        }
        let words = last_words::read(data.path()).unwrap_or_else(|error| {
            tracing::warn!(%error, "what the process before said last cannot be read");
            None
        });
        let before = changes.started(now, &settings, words);
        metrics.process(now, before.is_crash());
        Ok(Self { data, registry, keys, metrics, changes, config_hash, clock })
    }
}

/// A server that serves.
pub struct Server {
    opened: Opened,
    plane: DataPlane,
    dispatch: Dispatch,
    http: SocketAddr,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("plane", &self.plane).field("http", &self.http).finish_non_exhaustive()
    }
}

impl Server {
    /// Starts everything. The TCP ports are bound before the data plane starts, so that a taken port stops the start early. Callers are answered once
    /// the registry is in memory; devices with sessions do not wait for that.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        let opened = Opened::new(config).await?;
        let (changes, clock) = (opened.changes.clone(), opened.clock);
        let started = Self::start_opened(config, opened).await;
        // Whoever could not start has said why, and left nothing undone.
        started.inspect_err(|_| changes.stopped(clock.now().unix))
    }

    async fn start_opened(config: &Config, opened: Opened) -> Result<Self, StartError> {
        let certificates = config.http.tls.clone().map(Certificates::load).transpose()?;
        let admin = listen(config.admin.listen).await?;
        let api = listen(config.http.listen).await?;
        let (http, ready, shutdown, tasks) = (api.local_addr()?, Ready::default(), CancellationToken::new(), TaskTracker::new());
        tasks.spawn(admin::serve(admin, opened.metrics.clone(), ready.clone(), shutdown.clone()));

        let plane = DataPlane::start(config, &opened)?;
        let gateway: Arc<dyn Gateway> = Arc::new(Devices::new(plane.handle(), opened.metrics.calls()));
        let dispatch = Dispatch::start(config, &opened, &plane, Arc::clone(&gateway))?;
        let settings = Settings { desk: Some(dispatch.desk()), ..Settings::from(config) };
        let rest = Api::new((*opened.registry).clone(), gateway, settings, shutdown.clone());
        opened.metrics.api(rest.counters());
        if let Some(certificates) = certificates.clone() {
            tasks.spawn(certificates.keep_fresh(shutdown.clone()));
        }
        let (registry, serving, tracker) = (Registry::clone(&opened.registry), shutdown.clone(), tasks.clone());
        tasks.spawn(async move {
            // Whoever connects before waits in the socket's queue.
            if serving.run_until_cancelled(registry.filled()).await.is_some() {
                ready.set();
                tracker.spawn(registry.watch(serving.clone()));
                api::serve(api, rest, certificates, serving).await;
            }
        });
        Ok(Self { opened, plane, dispatch, http, shutdown, tasks })
    }

    /// Address of the REST API.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Address of the devices' UDP port.
    pub fn udp(&self) -> SocketAddr {
        self.plane.udp()
    }

    /// Address of the devices' TCP port.
    pub fn tcp(&self) -> SocketAddr {
        self.plane.tcp()
    }

    /// What is open.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// What commands ask.
    pub fn operations(&self) -> Arc<dyn Operations> {
        Arc::new(Parts { plane: self.plane.handle(), desk: self.dispatch.desk() })
    }

    /// The data plane.
    pub fn plane(&self) -> &DataPlane {
        &self.plane
    }

    /// Stops: requests that are open get their answers, what shards accepted is written, devices are told nothing.
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        // What it publishes needs shards and journal.
        self.dispatch.stop();
        self.plane.stop();
        self.opened.registry.close().await;
        self.opened.changes.stopped(self.opened.clock.now().unix);
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, source })
}
