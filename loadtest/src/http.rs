//! As much HTTP as it takes to ask a server whether it is ready and what it has counted, and to call its API.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_millis(500);
/// `HTTP/1.1 200`
const STATUS_LEN: usize = 12;
/// Longest answer that is read.
const ANSWER_MAX: u64 = 1 << 20;

/// The status code that `GET path` is answered with, if it is.
pub(crate) fn status(server: SocketAddr, path: &str) -> Option<u16> {
    let mut line = [0; STATUS_LEN];
    ask(server, path).ok()?.read_exact(&mut line).ok()?;
    std::str::from_utf8(&line).ok()?.strip_prefix("HTTP/1.1 ")?.parse().ok()
}

/// What `GET path` is answered with, if it is there.
pub(crate) fn body(server: SocketAddr, path: &str) -> Option<String> {
    let mut answer = String::new();
    ask(server, path).ok()?.take(ANSWER_MAX).read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
}

fn ask(server: SocketAddr, path: &str) -> io::Result<TcpStream> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n");
    send(server, request.as_bytes(), TIMEOUT)
}

/// The answer to a request that is written as it stands, if it comes with no longer a pause than `patience`.
///
/// # Errors
/// Nobody is there, or what comes is no answer.
pub(crate) fn call(server: SocketAddr, request: &[u8], patience: Duration) -> io::Result<Answer> {
    let (stream, mut bytes) = (send(server, request, patience)?, Vec::new());
    stream.take(ANSWER_MAX).read_to_end(&mut bytes)?;
    Answer::parse(&String::from_utf8_lossy(&bytes)).ok_or_else(|| ErrorKind::InvalidData.into())
}

/// A connection on which a request is under way.
pub(crate) fn send(server: SocketAddr, request: &[u8], patience: Duration) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&server, patience.max(TIMEOUT))?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(request)?;
    Ok(stream)
}

/// What came of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: u16,
    /// Whether it says when to come again.
    pub(crate) says_when: bool,
    /// What stands behind the headers, as it came.
    pub(crate) body: String,
}

impl Answer {
    fn parse(text: &str) -> Option<Self> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
        let says_when = head.lines().any(|line| line.to_ascii_lowercase().starts_with("retry-after: "));
        Some(Self { status, says_when, body: body.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn answered<T>(answer: &'static [u8], ask: impl FnOnce(SocketAddr, &str) -> T) -> io::Result<T> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let server = std::thread::spawn(move || -> io::Result<Vec<u8>> {
            let (mut stream, _) = listener.accept()?;
            let mut request = vec![0; 1024];
            let len = stream.read(&mut request)?;
            request.truncate(len);
            stream.write_all(answer)?;
            Ok(request)
        });
        let result = ask(address, "/ready");
        let request = server.join().expect("the thread does not panic")?;
        assert!(request.starts_with(b"GET /ready HTTP/1.1\r\nHost: 127.0.0.1:"));
        Ok(result)
    }

    #[test]
    fn the_status_is_read_and_nothing_else_is_one() -> io::Result<()> {
        let answered = |answer| answered(answer, status);
        assert_eq!(answered(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?, Some(200));
        assert_eq!(answered(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")?, Some(503));
        assert_eq!(answered(b"SSH-2.0-OpenSSH_9.2p1")?, None);
        assert_eq!(answered(b"HTTP/1.1")?, None);
        Ok(())
    }

    #[test]
    fn the_body_is_what_comes_behind_the_headers_of_a_good_answer() -> io::Result<()> {
        let answered = |answer| answered(answer, body);
        assert_eq!(answered(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\na 1\nb 2")?.as_deref(), Some("a 1\nb 2"));
        assert_eq!(answered(b"HTTP/1.1 404 Not Found\r\n\r\nno")?, None);
        assert_eq!(answered(b"HTTP/1.1 200 OK\r\n")?, None);
        Ok(())
    }

    #[test]
    fn an_answer_says_how_it_went_and_when_to_come_again() -> io::Result<()> {
        let request = |server, _: &str| call(server, b"GET /ready HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n", TIMEOUT);
        let refused = answered(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\n\r\nlater", request)??;
        assert_eq!(refused, Answer { status: 503, says_when: true, body: "later".into() });
        let taken = answered(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", request)??;
        assert_eq!((taken.status, taken.says_when), (200, false));
        assert!(answered(b"HTTP/1.1 200 OK\r\n", request)?.is_err(), "cut off");
        Ok(())
    }

    #[test]
    fn where_nobody_listens_there_is_no_status() -> io::Result<()> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        assert_eq!(status(address, "/ready"), None);
        Ok(())
    }
}
