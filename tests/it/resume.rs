//! Event streams that are continued, also after the server was killed.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::time::timeout;

use crate::cli::{Server, Shell};
use crate::client::{OpenStream, send};

const PATIENCE: Duration = Duration::from_secs(20);

/// A reader as browsers are: it keeps the last id it saw.
struct Reader {
    stream: OpenStream,
    last: Option<u64>,
}

impl Reader {
    async fn open(address: SocketAddr, token: &str, last: Option<u64>) -> Self {
        let continued = last.map(|last| format!("\r\nLast-Event-ID: {last}")).unwrap_or_default();
        let head = format!("GET /v1/devices/events HTTP/1.1\r\nAuthorization: Bearer {token}{continued}");
        let mut stream = OpenStream::open(address, &head).await;
        assert_eq!(stream.chunk().await.as_deref(), Some(":ok\n\n"));
        Self { stream, last }
    }

    /// The next chunk that is not a heartbeat; `None` at the end.
    async fn chunk(&mut self) -> Option<String> {
        loop {
            let chunk = timeout(PATIENCE, self.stream.chunk()).await.expect("something comes")?;
            if chunk != "\n" {
                return Some(chunk);
            }
        }
    }

    /// The name of the next event, whose id it keeps; `None` at the end.
    async fn event(&mut self) -> Option<String> {
        let chunk = self.chunk().await?;
        let field = |name: &str| chunk.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{chunk}")).to_owned();
        self.last = Some(field("id: ").parse().expect("a position"));
        Some(field("event: "))
    }

    async fn events(&mut self, numbers: std::ops::Range<u32>) {
        for number in numbers {
            assert_eq!(self.event().await, Some(format!("e{number}")));
        }
    }
}

async fn publish(address: SocketAddr, token: &str, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let form = format!("name=e{number}&data={number}");
        let head = format!(
            "POST /v1/devices/events HTTP/1.1\r\nAuthorization: Bearer {token}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}",
            form.len()
        );
        assert_eq!(send(address, &head, form.as_bytes()).await.status, 200);
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn address(server: &Server) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, server.port).into()
}

fn token(shell: &Shell) -> String {
    shell.add_user("dev@example.com");
    shell.text(&["token", "create"]).trim_end().to_owned()
}

#[test]
fn a_reader_misses_nothing_while_the_server_is_killed_again_and_again() {
    let shell = Shell::new();
    let token = token(&shell);
    let runtime = runtime();
    let mut last = None;
    for life in 0..4u32 {
        let server = Server::start(&shell);
        let (address, first) = (address(&server), life * 30);
        last = runtime.block_on(async {
            let mut reader = Reader::open(address, &token, last).await;
            if life > 0 {
                reader.events(first - 10..first).await;
            }
            publish(address, &token, first..first + 20).await;
            reader.events(first..first + 20).await;
            let last = reader.last;
            drop(reader);
            publish(address, &token, first + 20..first + 30).await;
            last
        });
        drop(server);
    }
    assert_eq!(last, Some(110));
}

#[test]
fn a_reader_is_told_that_its_last_id_is_not_known() {
    let shell = Shell::new();
    let token = token(&shell);
    let server = Server::start(&shell);
    runtime().block_on(async {
        let address = address(&server);
        // Once somebody has heard of them, they have gone past all streams.
        let mut witness = Reader::open(address, &token, None).await;
        publish(address, &token, 0..3).await;
        witness.events(0..3).await;
        let mut reader = Reader::open(address, &token, Some(5_000)).await;
        assert_eq!(reader.chunk().await.as_deref(), Some(": gap, the Last-Event-ID is not known here; the last event was 3\n\n"));
        assert_eq!(reader.event().await.as_deref(), Some("spark/stream/gap"));
        assert_eq!(reader.last, Some(3));
        publish(address, &token, 3..4).await;
        reader.events(3..4).await;
    });
    server.stop();
}
