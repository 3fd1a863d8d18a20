//! As much HTTP as it takes to ask a server whether it is ready.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_millis(500);
/// `HTTP/1.1 200`
const STATUS_LEN: usize = 12;

/// The status code that `GET path` is answered with, if it is.
pub(crate) fn status(server: SocketAddr, path: &str) -> Option<u16> {
    let mut stream = TcpStream::connect_timeout(&server, TIMEOUT).ok()?;
    stream.set_read_timeout(Some(TIMEOUT)).ok()?;
    stream.set_write_timeout(Some(TIMEOUT)).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n").as_bytes()).ok()?;
    let mut line = [0; STATUS_LEN];
    stream.read_exact(&mut line).ok()?;
    std::str::from_utf8(&line).ok()?.strip_prefix("HTTP/1.1 ")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn answered(answer: &'static [u8]) -> std::io::Result<Option<u16>> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let server = std::thread::spawn(move || -> std::io::Result<Vec<u8>> {
            let (mut stream, _) = listener.accept()?;
            let mut request = vec![0; 1024];
            let len = stream.read(&mut request)?;
            request.truncate(len);
            stream.write_all(answer)?;
            Ok(request)
        });
        let status = status(address, "/ready");
        let request = server.join().expect("the thread does not panic")?;
        assert!(request.starts_with(b"GET /ready HTTP/1.1\r\nHost: 127.0.0.1:"));
        Ok(status)
    }

    #[test]
    fn the_status_is_read_and_nothing_else_is_one() -> std::io::Result<()> {
        assert_eq!(answered(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?, Some(200));
        assert_eq!(answered(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")?, Some(503));
        assert_eq!(answered(b"SSH-2.0-OpenSSH_9.2p1")?, None);
        assert_eq!(answered(b"HTTP/1.1")?, None);
        Ok(())
    }

    #[test]
    fn where_nobody_listens_there_is_no_status() -> std::io::Result<()> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        assert_eq!(status(address, "/ready"), None);
        Ok(())
    }
}
