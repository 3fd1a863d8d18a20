//! `holdfast serve`: the server with its commands and its chores, until it is told to stop.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Server, StartError};
use crate::about;
use crate::allocator;
use crate::config::Config;
use crate::control;
use crate::dates;
use crate::faults::{self, Injector};
use crate::store::Registry;
use crate::watchdog::{Supervisor, last_words};

/// How often expired tokens are looked for.
const FORGET_EVERY: Duration = Duration::from_secs(6 * 3600);

/// Runs the server until SIGINT or SIGTERM.
///
/// # Errors
/// It cannot start.
pub async fn run(config: Config) -> Result<(), StartError> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    allocator::start();
    let server = Server::start(&config).await?;
    if let Err(error) = last_words::keep_in(server.opened().data.path()) {
        tracing::warn!(%error, "what this process says last will not be kept");
    }
    let registry = Registry::clone(&server.opened().registry);
    let socket = server.opened().data.control_socket();
    let commands = match control::bind(&socket) {
        Ok(commands) => commands,
        Err(source) => {
            server.stop().await;
            return Err(StartError::Control { path: socket, source });
        }
    };
    let operations = server.operations();
    let shutdown = CancellationToken::new();
    let commands = tokio::spawn(control::serve(commands, registry.clone(), operations, shutdown.clone()));
    admit_faults(|| {
        let faults = server.plane().watch().faults.clone();
        Injector::new(faults, server.opened().metrics.roll().clone(), registry.clone())
    });
    let chores = tokio::spawn(forget_expired_tokens(registry, shutdown.clone()));
    let (version, revision, config) = (about::VERSION, about::REVISION, &server.opened().config_hash);
    tracing::info!(version, revision, config, "holdfast");
    tracing::info!(http = %server.http(), udp = %server.udp(), tcp = %server.tcp(), data_dir = %server.opened().data.path().display(), "serving");
    server.plane().watch().bulletin.arm();
    let supervisor = Supervisor::from_environment();
    supervisor.ready();

    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        () = allocator::settle() => {}
    }
    tracing::info!("stopping");
    supervisor.stopping();
    shutdown.cancel();
    for task in [commands, chores] {
        if let Err(error) = task.await {
            tracing::error!(%error, "a task failed");
        }
    }
    // While the lock is held, so that it cannot be the socket of the next server.
    let _ = fs::remove_file(socket);
    server.stop().await;
    Ok(())
}

/// Lets tests and drills hold threads that are watched, if the server was started for that.
fn admit_faults(injector: impl FnOnce() -> Injector) {
    let Some(socket) = std::env::var_os(faults::VARIABLE).map(PathBuf::from) else { return };
    tracing::warn!(socket = %socket.display(), "whoever can write to this socket can stop threads of this server");
    let injector = injector();
    tokio::spawn(async move {
        if let Err(error) = faults::serve(&socket, injector).await {
            tracing::error!(%error, "no faults can be injected");
        }
    });
}

async fn forget_expired_tokens(registry: Registry, shutdown: CancellationToken) {
    loop {
        match registry.forget_expired_tokens(dates::now()).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "expired tokens forgotten"),
            Err(error) => tracing::warn!(%error, "expired tokens could not be forgotten"),
        }
        if let Err(error) = registry.forget_expired_claim_codes(dates::now()).await {
            tracing::warn!(%error, "expired claim codes could not be forgotten");
        }
        if let Err(error) = registry.forget_expired_transfers(dates::now()).await {
            tracing::warn!(%error, "requests for devices that stood too long could not be forgotten");
        }
        if let Err(error) = registry.forget_idempotency_keys(dates::now()).await {
            tracing::warn!(%error, "expired idempotency keys could not be forgotten");
        }
        if shutdown.run_until_cancelled(tokio::time::sleep(FORGET_EVERY)).await.is_none() {
            return;
        }
    }
}
