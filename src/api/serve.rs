//! From a listening socket to answers: connections, TLS, HTTP/1.1, and an orderly end.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_openssl::SslStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Api;
use super::counters::count;
use super::own_words::{self, OwnWords};
use super::patience::Impatient;
use super::tls::Certificates;

/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a request's head, and of an answer that waits for a slow reader.
const BUFFER_LEN_MAX: usize = 16 * 1024;
/// How long a client may take nothing of what it is sent.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// What is still read of somebody who was refused, and for how long.
const LINGER_LEN_MAX: u64 = 256 * 1024;
const LINGER: Duration = Duration::from_millis(500);
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

/// Reads on for a moment, so that the other end reads why it was refused: what is sent and not read would reset the connection.
async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    stream.shutdown().await?;
    let (mut unread, mut nowhere) = (stream.take(LINGER_LEN_MAX), tokio::io::sink());
    // It was told what there is to tell.
    let _ = timeout(LINGER, tokio::io::copy(&mut unread, &mut nowhere)).await;
    Ok(())
}

async fn http(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    peer: SocketAddr,
    api: Api,
    shutdown: CancellationToken,
) -> Result<(), ConnectionError> {
    let head_timeout = api.context.settings().head_timeout;
    let service = service_fn(|request: Request<Incoming>| {
        let api = api.clone();
        async move { Ok::<_, Infallible>(api.respond(request.map(Body::new), peer).await) }
    });
    let stream = OwnWords::new(Impatient::new(stream, WRITE_TIMEOUT));
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_buf_size(BUFFER_LEN_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let ended = match shutdown.run_until_cancelled(&mut connection).await {
        Some(ended) => ended,
        None => {
            Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
    };
    let Err(error) = ended else { return Ok(()) };
    if error.is_timeout() {
        let parts = connection.into_parts();
        // A connection that waited for its next request in silence is not owed an answer.
        if !parts.read_buf.is_empty() {
            parts.io.into_inner().write_all(&own_words::refusal(StatusCode::REQUEST_TIMEOUT)).await?;
        }
    } else if error.is_parse() {
        linger(connection.into_parts().io.into_inner()).await?;
    }
    Err(error.into())
}
