//! As much HTTP as it takes to ask a server whether it is ready, and what it has counted.

use std::io::{self, Read, Write};
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
    let mut stream = TcpStream::connect_timeout(&server, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n").as_bytes())?;
    Ok(stream)
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
    fn where_nobody_listens_there_is_no_status() -> io::Result<()> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        assert_eq!(status(address, "/ready"), None);
        Ok(())
    }
}
