//! The running server's end of the socket.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{LINE_LEN_MAX, Operations, Request, Response, perform};
use crate::store::Registry;

/// Connections at a time; more wait.
const CONNECTIONS_MAX: usize = 32;
/// Commands under way at a time that ask the registry; more wait. Whoever asks how the server is does not wait for these.
const AT_ONCE: usize = 8;
/// How long a command may take to arrive, and its answer to be taken.
const LINE_TIMEOUT: Duration = Duration::from_secs(10);
/// After a failure to accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Opens the socket at `path`, for its owner only. Whatever is there is left over from a process that is gone: the caller holds the
/// directory's lock.
///
/// # Errors
/// The path is too long for a socket, or the directory cannot be written.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    // Under another name until nobody else can open it.
    let fresh = path.with_extension("new");
    for old in [&fresh, path] {
        match fs::remove_file(old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let listener = UnixListener::bind(&fresh)?;
    fs::set_permissions(&fresh, Permissions::from_mode(0o600))?;
    fs::rename(&fresh, path)?;
    Ok(listener)
}

/// Carries out commands from `listener` until `shutdown`.
pub async fn serve(listener: UnixListener, registry: Registry, operations: Arc<dyn Operations>, shutdown: CancellationToken) {
    let (room, turns) = (Arc::new(Semaphore::new(CONNECTIONS_MAX)), Arc::new(Semaphore::new(AT_ONCE)));
    while let Some(Ok(place)) = shutdown.run_until_cancelled(room.clone().acquire_owned()).await {
        let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await else { break };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a command");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (registry, operations, turns) = (registry.clone(), operations.clone(), turns.clone());
        tokio::spawn(async move {
            let _place = place;
            if let Err(error) = command(stream, &registry, &*operations, &turns).await {
                tracing::debug!(%error, "a command ended early");
            }
        });
    }
}

async fn command(stream: UnixStream, registry: &Registry, operations: &dyn Operations, turns: &Semaphore) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = Vec::new();
    timeout(LINE_TIMEOUT, BufReader::new(reader).take(LINE_LEN_MAX).read_until(b'\n', &mut line)).await??;
    let response = match serde_json::from_slice::<Request>(&line) {
        Ok(request) if request.asks_registry() => {
            // What is not in memory yet would seem not to be there.
            registry.filled().await;
            let _turn = turns.acquire().await;
            perform(registry, operations, request).await
        }
        Ok(request) => perform(registry, operations, request).await,
        Err(error) => Response::Refused { error: format!("this server does not understand the command: {error}") },
    };
    let mut text = serde_json::to_vec(&response)?;
    text.push(b'\n');
    timeout(LINE_TIMEOUT, writer.write_all(&text)).await??;
    writer.shutdown().await
}
