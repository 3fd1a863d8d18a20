//! The whole server: what is started in which order, what is connected to what, and how it stops.
//!
//! Order matters twice. Everything that can be refused is checked before a port is bound, and everything a device may rely on is recovered
//! before its datagrams are read. A planned stop tells devices nothing: they go on with the next process.

mod data_plane;
mod operations;
mod recovery;
mod run;

pub use data_plane::{DataPlane, DataPlaneHandle};
pub use run::run;

use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use crate::api::tls::TlsError;
use crate::clock::Clock;
use crate::config::Config;
use crate::data_dir::{DataDir, DataDirError};
use crate::generation::GenerationError;
use crate::journal::OpenError;
use crate::keys::{KeysError, ServerKeys};
use crate::metrics::Metrics;
use crate::store::{Registry, RegistryError};
use crate::terminators::BindError;

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
    /// A UDP port cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A TCP port cannot be had.
    #[error("cannot listen on tcp {address}: {source}")]
    Listen {
        /// Which.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The certificate for HTTPS is of no use.
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
    /// Users, tokens and devices.
    pub registry: Arc<Registry>,
    /// The server's own keys.
    pub keys: ServerKeys,
    /// All metrics.
    pub metrics: Metrics,
    /// The clocks.
    pub clock: Clock,
}

impl Opened {
    /// Opens what `config` names.
    pub async fn new(config: &Config) -> Result<Self, StartError> {
        let data = DataDir::lock(&config.data_dir)?;
        let keys = ServerKeys::open(&data)?;
        let registry = Arc::new(Registry::open(&data.registry_file()).await?);
        Ok(Self { data, registry, keys, metrics: Metrics::new(), clock: Clock::start() })
    }
}
