//! From a configuration to a server that runs until it is told to stop. So far: registry, API and commands, and no devices.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Opened, StartError};
use crate::api::offline::Offline;
use crate::api::tls::Certificates;
use crate::api::{self, Api, Settings};
use crate::config::Config;
use crate::control::{self, NoSessions};
use crate::dates;
use crate::store::Registry;

/// How often expired tokens are looked for.
const FORGET_EVERY: Duration = Duration::from_secs(6 * 3600);

/// Runs the server until SIGINT or SIGTERM.
///
/// # Errors
/// It cannot start.
pub async fn run(config: Config) -> Result<(), StartError> {
    let certificates = config.http.tls.clone().map(Certificates::load).transpose()?;
    let opened = Opened::new(&config).await?;
    let registry = Registry::clone(&opened.registry);
    let listener = listen(config.http.listen).await?;
    let socket = opened.data.control_socket();
    let commands = control::bind(&socket).map_err(|source| StartError::Control { path: socket.clone(), source })?;
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);

    let (shutdown, tasks) = (CancellationToken::new(), TaskTracker::new());
    let api = Api::new(registry.clone(), Arc::new(Offline), Settings::from(&config), shutdown.clone());
    if let Some(certificates) = certificates.clone() {
        tasks.spawn(certificates.keep_fresh(shutdown.clone()));
    }
    tracing::info!(http = %listener.local_addr()?, tls = certificates.is_some(), data_dir = %opened.data.path().display(), "serving");
    tasks.spawn(api::serve(listener, api, certificates, shutdown.clone()));
    tasks.spawn(control::serve(commands, registry.clone(), Arc::new(NoSessions), shutdown.clone()));
    tasks.spawn(forget_expired_tokens(registry.clone(), shutdown.clone()));

    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("stopping");
    shutdown.cancel();
    tasks.close();
    tasks.wait().await;
    registry.close().await;
    // While the lock is held, so that it cannot be the socket of the next server.
    let _ = fs::remove_file(socket);
    Ok(())
}

async fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, source })
}

async fn forget_expired_tokens(registry: Registry, shutdown: CancellationToken) {
    loop {
        match registry.forget_expired_tokens(dates::now()).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "expired tokens forgotten"),
            Err(error) => tracing::warn!(%error, "expired tokens could not be forgotten"),
        }
        if shutdown.run_until_cancelled(tokio::time::sleep(FORGET_EVERY)).await.is_none() {
            return;
        }
    }
}
