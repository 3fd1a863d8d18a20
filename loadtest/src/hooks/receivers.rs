//! HTTP servers that requests of hooks go to, all on one thread: each has an address of its own, keeps connections, and answers as its handler says.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use bytes::Bytes;
use firmware_protocol::time::UnixMillis;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use openssl::ssl::{Ssl, SslAcceptor};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio_openssl::SslStream;

use crate::dial::listen;

/// Longest body that is read: a hook sends no longer one.
const BODY_MAX: usize = 1 << 20;

/// A request that has come as a whole.
#[derive(Clone, Debug)]
pub(crate) struct Post {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// When it began to come.
    pub(crate) at: UnixMillis,
}

/// The status code that a request is answered with, in time.
pub(crate) type Answering = Pin<Box<dyn Future<Output = StatusCode> + Send>>;
/// What answers requests.
pub(crate) type Handler = Arc<dyn Fn(Post) -> Answering + Send + Sync>;

/// What a receiver with TLS shows; it can be changed, and new connections see that.
#[derive(Clone)]
pub(crate) struct Identity(Arc<Mutex<SslAcceptor>>);

/// The thread of some receivers. They are gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Receivers(Runtime);

impl Receivers {
    /// Starts the thread.
    pub(crate) fn start() -> Result<Self> {
        Ok(Self(Builder::new_multi_thread().worker_threads(1).thread_name("receivers").enable_all().build()?))
    }

    /// Opens a receiver anywhere on this machine: where it is.
    pub(crate) fn open(&self, handler: Handler) -> Result<SocketAddr> {
        self.open_at((Ipv4Addr::LOCALHOST, 0).into(), handler)
    }

    /// Opens one at a certain address.
    pub(crate) fn open_at(&self, address: SocketAddr, handler: Handler) -> Result<SocketAddr> {
        self.accept(address, move |stream| Box::pin(serve(stream, Arc::clone(&handler))))
    }

    /// Opens one that speaks TLS.
    pub(crate) fn open_tls(&self, identity: &Identity, handler: Handler) -> Result<SocketAddr> {
        let identity = identity.clone();
        let address = (Ipv4Addr::LOCALHOST, 0).into();
        self.accept(address, move |stream| Box::pin(agree_and_serve(stream, identity.acceptor(), Arc::clone(&handler))))
    }

    fn accept(&self, address: SocketAddr, serve: impl Fn(TcpStream) -> Serving + Send + 'static) -> Result<SocketAddr> {
        let _entered = self.0.enter();
        let listener = TcpListener::from_std(listen(address)?)?;
        let address = listener.local_addr()?;
        self.0.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // It is only about speed.
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve(stream));
            }
        });
        Ok(address)
    }
}

type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Identity {
    /// It shows this.
    pub(crate) fn new(acceptor: SslAcceptor) -> Self {
        Self(Arc::new(Mutex::new(acceptor)))
    }

    /// It shows something else from now on.
    pub(crate) fn change(&self, acceptor: SslAcceptor) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = acceptor;
    }

    fn acceptor(&self) -> SslAcceptor {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The wall clock.
pub(crate) fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

async fn agree_and_serve(stream: TcpStream, acceptor: SslAcceptor, handler: Handler) {
    let Ok(mut stream) = Ssl::new(acceptor.context()).and_then(|ssl| SslStream::new(ssl, stream)) else { return };
    if Pin::new(&mut stream).accept().await.is_ok() {
        serve(stream, handler).await;
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, handler: Handler) {
    let service = service_fn(move |request| {
        let handler = Arc::clone(&handler);
        async move { Ok::<_, Infallible>(answer(request, handler).await) }
    });
    // Whoever sends may be killed at any time.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, handler: Handler) -> Response<Empty<Bytes>> {
    let (at, (head, body)) = (now(), request.into_parts());
    let mut response = Response::new(Empty::new());
    *response.status_mut() = match Limited::new(body, BODY_MAX).collect().await {
        Ok(body) => handler(Post { path: head.uri.path().to_owned(), headers: head.headers, body: body.to_bytes(), at }).await,
        Err(_) => StatusCode::BAD_REQUEST,
    };
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::call;
    use std::time::Duration;

    #[test]
    fn a_receiver_is_asked_and_answers_on_a_connection_that_stays() -> Result<()> {
        let (receivers, heard) = (Receivers::start()?, Arc::new(Mutex::new(Vec::new())));
        let book = Arc::clone(&heard);
        let address = receivers.open(Arc::new(move |post: Post| {
            book.lock().unwrap().push((post.path, post.body));
            Box::pin(async { StatusCode::ACCEPTED })
        }))?;
        let request = "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi";
        let last = "POST /b HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\nho";
        let answer = call(address, format!("{request}{last}").as_bytes(), Duration::from_secs(5))?;
        assert_eq!(answer.status, 202);
        assert_eq!(*heard.lock().unwrap(), [("/a".to_owned(), Bytes::from("hi")), ("/b".to_owned(), Bytes::from("ho"))]);
        Ok(())
    }
}
