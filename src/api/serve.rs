//! From a listening socket to answers: connections, TLS, HTTP/1.1, and an orderly end.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_openssl::SslStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Api;
use super::counters::count;
use super::patience::Impatient;
use super::tls::Certificates;

/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the head of a request may take, and how long a connection may wait for its next request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// Bytes of a request's head, and of an answer that waits for a slow reader.
const BUFFER_LEN_MAX: usize = 16 * 1024;
/// How long a client may take nothing of what it is sent.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long open requests may take when the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// After a failure to accept, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json; charset=utf-8\r\nRetry-After: 2\r\n\
    Connection: close\r\nContent-Length: 52\r\n\r\n{\"ok\":false,\"error\":\"Too many connections are open\"}";

/// Serves `api` on `listener` until `shutdown`; then lets open requests finish for a moment.
pub async fn serve(listener: TcpListener, api: Api, certificates: Option<Certificates>, shutdown: CancellationToken) {
    let places = Arc::new(Semaphore::new(api.context.settings().connections.as_usize().min(Semaphore::MAX_PERMITS)));
    let tasks = TaskTracker::new();
    while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
        let Some((stream, peer)) = usable(accepted).await else { continue };
        let Ok(place) = places.clone().try_acquire_owned() else {
            count(&api.counters().refused_connections);
            refuse(&stream, certificates.is_some());
            continue;
        };
        let (api, certificates, shutdown) = (api.clone(), certificates.clone(), shutdown.clone());
        tasks.spawn(async move {
            let _place = place;
            if let Err(error) = connection(stream, peer, api, certificates, shutdown).await {
                tracing::debug!(%peer, %error, "connection ended");
            }
        });
    }
    tasks.close();
    if timeout(DRAIN_TIMEOUT, tasks.wait()).await.is_err() {
        tracing::info!(open = tasks.len(), "connections cut off at shutdown");
    }
}

async fn usable(accepted: io::Result<(TcpStream, SocketAddr)>) -> Option<(TcpStream, SocketAddr)> {
    match accepted {
        // Events must leave at once, not wait for more.
        Ok((stream, peer)) => stream.set_nodelay(true).is_ok().then_some((stream, peer)),
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// Cheaply: what fits into the socket's buffer at once, and nothing at all where a TLS handshake would have to come first.
fn refuse(stream: &TcpStream, is_tls: bool) {
    if !is_tls {
        let _ = stream.try_write(TOO_MANY);
    }
}

type ConnectionError = Box<dyn std::error::Error + Send + Sync>;

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    api: Api,
    certificates: Option<Certificates>,
    shutdown: CancellationToken,
) -> Result<(), ConnectionError> {
    match certificates {
        None => http(stream, peer, api, shutdown).await,
        Some(certificates) => {
            let mut stream = SslStream::new(certificates.accept()?, stream)?;
            timeout(HANDSHAKE_TIMEOUT, Pin::new(&mut stream).accept()).await??;
            http(stream, peer, api, shutdown).await
        }
    }
}

async fn http(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    peer: SocketAddr,
    api: Api,
    shutdown: CancellationToken,
) -> Result<(), ConnectionError> {
    let service = service_fn(|request: Request<Incoming>| {
        let api = api.clone();
        async move { Ok::<_, Infallible>(api.respond(request.map(Body::new), peer).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER_LEN_MAX)
        .serve_connection(TokioIo::new(Impatient::new(stream, WRITE_TIMEOUT)), service);
    let mut connection = pin!(connection);
    if let Some(ended) = shutdown.run_until_cancelled(connection.as_mut()).await {
        return Ok(ended?);
    }
    connection.as_mut().graceful_shutdown();
    Ok(connection.await?)
}
