//! Who is paged: takes web hooks of Alertmanager, as much of HTTP as that takes.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

/// Longest that is read.
const HOOK_MAX: u64 = 1 << 20;
/// Alertmanager keeps its connection open for longer than a hook takes.
const PATIENCE: Duration = Duration::from_secs(5);

/// One alert that came as a page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Page {
    /// When it came.
    pub(super) at: Instant,
    /// Its name.
    pub(super) alert: String,
}

#[derive(Default, Debug)]
struct Heard {
    pages: Vec<Page>,
    dead_man: bool,
}

/// The receiver. Its thread ends with the program.
#[derive(Debug)]
pub(super) struct Receiver {
    address: SocketAddr,
    heard: Arc<Mutex<Heard>>,
}

#[derive(Deserialize)]
struct Hook {
    alerts: Vec<Alert>,
}

#[derive(Deserialize)]
struct Alert {
    status: String,
    labels: Labels,
}

#[derive(Deserialize)]
struct Labels {
    alertname: String,
}

impl Receiver {
    /// On a port of its own.
    pub(super) fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let receiver = Self { address: listener.local_addr()?, heard: Arc::default() };
        let heard = Arc::clone(&receiver.heard);
        thread::Builder::new().name("receiver".into()).spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // A hook that is cut off comes again.
                let _ = take(stream, &heard);
            }
        })?;
        Ok(receiver)
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The pages that came, in order.
    pub(super) fn pages(&self) -> Vec<Page> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).pages.clone()
    }

    /// Whether the service was told that all is well with whoever watches.
    pub(super) fn dead_man_was_told(&self) -> bool {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).dead_man
    }
}

/// Takes one hook and closes the connection.
fn take(stream: TcpStream, heard: &Mutex<Heard>) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream.try_clone()?.take(HOOK_MAX));
    let (path, body) = read(&mut reader)?;
    note(Instant::now(), &path, &body, &mut heard.lock().unwrap_or_else(PoisonError::into_inner));
    (&stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

/// The path and the body of a request.
fn read(reader: &mut impl BufRead) -> io::Result<(String, Vec<u8>)> {
    let (mut line, mut length) = (String::new(), 0);
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = Vec::new();
    reader.take(length).read_to_end(&mut body)?;
    Ok((path, body))
}

fn note(now: Instant, path: &str, body: &[u8], heard: &mut Heard) {
    let Ok(hook) = serde_json::from_slice::<Hook>(body) else { return };
    let firing = hook.alerts.into_iter().filter(|alert| alert.status == "firing").map(|alert| alert.labels.alertname);
    match path {
        "/page" => heard.pages.extend(firing.map(|alert| Page { at: now, alert })),
        "/alive" => heard.dead_man |= firing.count() > 0,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(receiver: &Receiver, path: &str, body: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(receiver.address())?;
        write!(stream, "POST {path} HTTP/1.1\r\nHost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    #[test]
    fn what_fires_is_a_page_and_what_is_over_is_none() -> io::Result<()> {
        let receiver = Receiver::start()?;
        let alert =
            |status: &str, name: &str| format!(r#"{{"status":"{status}","labels":{{"alertname":"{name}","severity":"critical"}}}}"#);
        let hook = format!(r#"{{"alerts":[{},{}]}}"#, alert("resolved", "A"), alert("firing", "B"));
        assert!(send(&receiver, "/page", &hook)?.starts_with("HTTP/1.1 200 "));
        send(&receiver, "/ticket", &hook)?;
        send(&receiver, "/page", "nonsense")?;
        assert_eq!(receiver.pages().iter().map(|page| page.alert.as_str()).collect::<Vec<_>>(), ["B"]);
        assert!(!receiver.dead_man_was_told());
        send(&receiver, "/alive", &hook)?;
        assert!(receiver.dead_man_was_told());
        Ok(())
    }
}
