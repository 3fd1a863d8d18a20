//! Receivers that do what a test says, and names that lead where a test says.

use std::future::pending;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::super::{LookupError, Resolve, Resolving};
use super::*;

/// An answer without a body, after which the connection goes on.
pub(super) const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// A receiver on this machine.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl Receiver {
    /// One that does this with each connection; they are numbered from 0.
    pub(super) async fn start<F, W>(handle: F) -> Self
    where
        F: Fn(TcpStream, usize) -> W + Send + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        Self::start_on("127.0.0.1:0", handle).await
    }

    /// The same, on a certain address.
    pub(super) async fn start_on<F, W>(address: &str, handle: F) -> Self
    where
        F: Fn(TcpStream, usize) -> W + Send + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let (address, accepted) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&accepted);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(handle(stream, count.fetch_add(1, Ordering::SeqCst)));
            }
        });
        Self { address, accepted }
    }

    /// One that reads requests and answers each with these bytes.
    pub(super) async fn answering(answer: &'static [u8]) -> Self {
        Self::start(move |mut stream, _| async move {
            while read_request(&mut stream).await.is_some() && stream.write_all(answer).await.is_ok() {}
        })
        .await
    }

    /// One that answers one request on each connection, without reading more, and closes it.
    pub(super) async fn answering_once(answer: &'static [u8]) -> Self {
        Self::start(move |mut stream, _| async move {
            read_request(&mut stream).await;
            let _ = stream.write_all(answer).await;
        })
        .await
    }

    pub(super) fn url(&self) -> Url {
        Url::parse(&format!("http://{}/path?query=1", self.address)).unwrap()
    }

    pub(super) fn named(&self, name: &str) -> Url {
        Url::parse(&format!("http://{name}:{}/", self.address.port())).unwrap()
    }

    pub(super) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// Reads the head of a request, and as much body as it says.
pub(super) async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut text = Vec::new();
    let end = loop {
        if let Some(end) = text.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        text.push(stream.read_u8().await.ok()?);
    };
    let head = String::from_utf8_lossy(&text[..end]).to_lowercase();
    let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    text.resize(end + len, 0);
    stream.read_exact(&mut text[end..]).await.ok()?;
    String::from_utf8(text).ok()
}

/// Closes a connection as a machine does that has lost it.
pub(super) fn reset(stream: TcpStream) {
    stream.set_zero_linger().unwrap();
    drop(stream);
}

/// Where names lead: the first answer to the first question, and so on; the last is given from then on. No answer at all: nobody ever says.
#[derive(Debug)]
pub(super) struct Names(Mutex<Vec<Result<Vec<IpAddr>, LookupError>>>);

impl Names {
    /// Names that nobody shall ask for.
    pub(super) fn none() -> Self {
        Self(Mutex::new(vec![Err(LookupError::Failed)]))
    }

    /// Names that hang.
    pub(super) fn hanging() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// Names that lead to these.
    pub(super) fn leading(answers: &[&[&str]]) -> Self {
        let addresses = |texts: &&[&str]| Ok(texts.iter().map(|text| text.parse().unwrap()).collect());
        Self(Mutex::new(answers.iter().map(addresses).collect()))
    }
}

impl Resolve for Names {
    fn resolve<'a>(&'a self, _: &'a str) -> Resolving<'a> {
        let mut answers = self.0.lock().unwrap();
        let answer = if answers.len() > 1 { Some(answers.remove(0)) } else { answers.first().cloned() };
        Box::pin(async move {
            match answer {
                Some(answer) => answer,
                None => pending().await,
            }
        })
    }
}
