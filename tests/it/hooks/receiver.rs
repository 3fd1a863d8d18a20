//! A receiver of hooks on this machine, over http or https: it keeps what came, and answers each path as it was told.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response};
use hyper_util::rt::TokioIo;
use openssl::asn1::Asn1Time;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::ssl::{Ssl, SslAcceptor, SslMethod};
use openssl::x509::X509;
use openssl::x509::extension::SubjectAlternativeName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_openssl::SslStream;

/// Longer than anything takes that comes at all, but for what is retried.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// How often whoever waits looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Received {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) at: Instant,
}

/// What a request is answered with.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    after: Duration,
}

/// The receiver. A handle: clones are the same.
#[derive(Clone)]
pub(super) struct Receiver {
    base: String,
    kept: Arc<Kept>,
}

#[derive(Default)]
struct Kept {
    received: Mutex<Vec<Received>>,
    replies: Mutex<HashMap<String, VecDeque<Reply>>>,
}

impl Reply {
    /// Success, with a body.
    pub(super) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::status(200).saying(body)
    }

    /// A status alone.
    pub(super) fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), after: Duration::ZERO }
    }

    /// With a body.
    pub(super) fn saying(self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// With a header.
    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// After a while.
    pub(super) fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }

    fn response(self) -> Response<Full<Bytes>> {
        let mut builder = Response::builder().status(self.status);
        for (name, value) in self.headers {
            builder = builder.header(name, value);
        }
        builder.body(Full::from(self.body)).unwrap()
    }
}

impl Receiver {
    /// One that speaks http.
    pub(super) async fn http() -> Self {
        let (listener, receiver) = Self::bind("http").await;
        let kept = receiver.kept.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, kept.clone()));
            }
        });
        receiver
    }

    /// One that speaks https, with a certificate that it has signed itself, which is the other thing (PEM).
    pub(super) async fn https() -> (Self, Vec<u8>) {
        let (listener, receiver) = Self::bind("https").await;
        let (acceptor, certificate) = acceptor();
        let kept = receiver.kept.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (ssl, kept) = (Ssl::new(acceptor.context()).unwrap(), kept.clone());
                tokio::spawn(serve_tls(ssl, stream, kept));
            }
        });
        (receiver, certificate)
    }

    async fn bind(scheme: &str) -> (TcpListener, Self) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let base = format!("{scheme}://127.0.0.1:{}", listener.local_addr().unwrap().port());
        (listener, Self { base, kept: Arc::default() })
    }

    /// Where this path is.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Host and port.
    pub(super) fn host(&self) -> &str {
        self.base.split_once("://").unwrap().1
    }

    /// Answers requests to this path so, one after the other; the last answer stays. What was told before is forgotten.
    pub(super) fn answers(&self, path: &str, replies: impl IntoIterator<Item = Reply>) {
        self.kept.replies.lock().unwrap().insert(path.to_owned(), replies.into_iter().collect());
    }

    /// The requests to this path that were not taken.
    pub(super) fn all(&self, path: &str) -> Vec<Received> {
        self.kept.received.lock().unwrap().iter().filter(|received| received.path == path).cloned().collect()
    }

    /// Takes the next request to this path, and waits for it if need be.
    pub(super) async fn next(&self, path: &str) -> Received {
        self.next_within(path, PATIENCE).await
    }

    /// The same with more or less patience.
    pub(super) async fn next_within(&self, path: &str, patience: Duration) -> Received {
        let end = Instant::now() + patience;
        loop {
            if let Some(received) = self.take(path) {
                return received;
            }
            assert!(Instant::now() < end, "nothing at {path}, but: {:?}", self.kept.received.lock().unwrap());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until so many requests have come to this path that nobody took. They stay.
    pub(super) async fn until(&self, path: &str, count: usize) -> Vec<Received> {
        let end = Instant::now() + PATIENCE;
        while self.all(path).len() < count {
            assert!(Instant::now() < end, "not {count} at {path}, but: {:?}", self.all(path));
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.all(path)
    }

    fn take(&self, path: &str) -> Option<Received> {
        let mut received = self.kept.received.lock().unwrap();
        let index = received.iter().position(|received| received.path == path)?;
        Some(received.remove(index))
    }
}

impl Kept {
    /// The next answer of a path: what was told, or else success without a word.
    fn reply(&self, path: &str) -> Reply {
        let mut replies = self.replies.lock().unwrap();
        let Some(told) = replies.get_mut(path) else { return Reply::status(200) };
        let next = if told.len() > 1 { told.pop_front() } else { told.front().cloned() };
        next.unwrap_or_else(|| Reply::status(200))
    }

    async fn take(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        let Ok(body) = body.collect().await else { return Ok(Reply::status(400).response()) };
        let path = head.uri.path().to_owned();
        let reply = self.reply(&path);
        self.received.lock().unwrap().push(Received {
            method: head.method,
            path,
            query: head.uri.query().map(str::to_owned),
            headers: head.headers,
            body: body.to_bytes(),
            at: Instant::now(),
        });
        tokio::time::sleep(reply.after).await;
        Ok(reply.response())
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, kept: Arc<Kept>) {
    let service = service_fn(move |request| kept.clone().take(request));
    // Whoever sends may leave at any time.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn serve_tls(ssl: Ssl, stream: TcpStream, kept: Arc<Kept>) {
    let mut stream = SslStream::new(ssl, stream).unwrap();
    if Pin::new(&mut stream).accept().await.is_ok() {
        serve(stream, kept).await;
    }
}

fn acceptor() -> (SslAcceptor, Vec<u8>) {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(2).unwrap()).unwrap();
    let names = SubjectAlternativeName::new().ip("127.0.0.1").build(&builder.x509v3_context(None, None)).unwrap();
    builder.append_extension(names).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
    let certificate = builder.build();
    acceptor.set_certificate(&certificate).unwrap();
    acceptor.set_private_key(&key).unwrap();
    (acceptor.build(), certificate.to_pem().unwrap())
}
