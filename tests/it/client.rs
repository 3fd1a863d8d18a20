//! An HTTP client that sees every byte.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::Value as Json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("UTF-8")
    }

    /// The body as JSON, which it has to be and to say.
    pub(crate) fn json(&self) -> Json {
        assert_eq!(self.header("content-type"), Some("application/json; charset=utf-8"), "{self:?}");
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }
}

/// Sends one request over a connection of its own. `head` is everything up to the body, without the blank line.
pub(crate) async fn send(address: SocketAddr, head: &str, body: &[u8]) -> Answer {
    let stream = TcpStream::connect(address).await.expect("a connection");
    exchange(stream, head, body).await
}

/// The same to a port of this machine, for who has no runtime.
pub(crate) fn send_and_wait(port: u16, head: &str, body: &str) -> Answer {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(send((Ipv4Addr::LOCALHOST, port).into(), head, body.as_bytes()))
}

/// The same over a stream that is open.
pub(crate) async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, head: &str, body: &[u8]) -> Answer {
    let request = [head.trim_end().as_bytes(), b"\r\nHost: test\r\nConnection: close\r\n\r\n", body].concat();
    stream.write_all(&request).await.expect("sent");
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes).await;
    assert!(read.is_ok() || !bytes.is_empty(), "no answer: {read:?}");
    parse(&bytes)
}

/// The answer as far as it has come with its head, for one that may not end.
pub(crate) async fn first_answer(address: SocketAddr, head: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(format!("{}\r\nHost: test\r\nConnection: close\r\n\r\n", head.trim_end()).as_bytes()).await.expect("sent");
    let mut bytes = Vec::new();
    while find(&bytes, b"\r\n\r\n").is_none() || (bytes.starts_with(b"HTTP/1.1 4") && !bytes.ends_with(b"}")) {
        assert!(stream.read_buf(&mut bytes).await.expect("an answer") > 0, "no answer");
    }
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> Answer {
    let end = find(bytes, b"\r\n\r\n").unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(bytes)));
    let head = str::from_utf8(&bytes[..end]).expect("an ASCII head");
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok()).expect("a status");
    let headers: Vec<_> = lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let mut answer = Answer { status, headers, body: bytes[end + 4..].to_vec() };
    if answer.header("transfer-encoding") == Some("chunked") {
        answer.body = unchunk(&answer.body).concat();
    }
    answer
}

/// The chunks of a body, as far as they are complete.
pub(crate) fn unchunk(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut chunks = Vec::new();
    while let Some(end) = find(bytes, b"\r\n") {
        let len = str::from_utf8(&bytes[..end]).ok().and_then(|text| usize::from_str_radix(text, 16).ok()).expect("a length");
        let Some(chunk) = bytes.get(end + 2..end + 2 + len) else { break };
        if len == 0 {
            break;
        }
        chunks.push(chunk.to_vec());
        bytes = bytes.get(end + 4 + len..).unwrap_or_default();
    }
    chunks
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// An event stream that stays open.
pub(crate) struct OpenStream {
    stream: TcpStream,
    bytes: Vec<u8>,
    pub(crate) head: String,
}

impl OpenStream {
    /// Opens a stream and reads the head of the answer.
    pub(crate) async fn open(address: SocketAddr, head: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.write_all(format!("{}\r\nHost: test\r\n\r\n", head.trim_end()).as_bytes()).await.expect("sent");
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(end) = find(&bytes, b"\r\n\r\n") {
                break end;
            }
            assert!(stream.read_buf(&mut bytes).await.expect("an answer") > 0, "no answer");
        };
        let head = String::from_utf8(bytes[..end].to_vec()).expect("an ASCII head");
        Self { stream, bytes: bytes.split_off(end + 4), head }
    }

    /// The next chunk as text; `None` at the end.
    pub(crate) async fn chunk(&mut self) -> Option<String> {
        loop {
            if let Some(chunk) = unchunk(&self.bytes).into_iter().next() {
                let end = find(&self.bytes, b"\r\n").expect("a length") + 4 + chunk.len();
                if self.bytes.len() >= end {
                    self.bytes.drain(..end);
                    return Some(String::from_utf8(chunk).expect("UTF-8"));
                }
            }
            if self.bytes.starts_with(b"0\r\n") {
                return None;
            }
            if self.stream.read_buf(&mut self.bytes).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }
}
