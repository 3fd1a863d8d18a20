//! Somebody who reads an event stream and keeps what came.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use tokio::task::JoinHandle;

use super::receiver::PATIENCE;
use crate::client::OpenStream;

/// Who published what the cloud says of hooks.
pub(super) const CLOUD: &str = "particle-internal";

/// An event.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Heard {
    pub(super) name: String,
    /// All that the stream says of it beside its name.
    pub(super) said: Json,
}

/// The reader.
pub(super) struct Ear {
    heard: Arc<Mutex<Vec<Heard>>>,
    reading: JoinHandle<()>,
}

impl Heard {
    /// Its data, if it has any.
    pub(super) fn data(&self) -> Option<&str> {
        self.said["data"].as_str()
    }

    fn read(chunk: &str) -> Option<Self> {
        let field = |name: &str| chunk.lines().find_map(|line| line.strip_prefix(name));
        Some(Self { name: field("event: ")?.to_owned(), said: serde_json::from_str(field("data: ")?).unwrap() })
    }
}

impl Ear {
    /// Opens a stream. Everything is heard that is published from now on.
    pub(super) async fn open(address: SocketAddr, path: &str, token: &str) -> Self {
        let mut stream = OpenStream::open(address, &format!("GET {path} HTTP/1.1\r\nAuthorization: Bearer {token}")).await;
        assert!(stream.head.starts_with("HTTP/1.1 200"), "{}", stream.head);
        assert_eq!(stream.chunk().await.as_deref(), Some(":ok\n\n"));
        let heard = Arc::new(Mutex::new(Vec::new()));
        let kept = heard.clone();
        let reading = tokio::spawn(async move {
            while let Some(chunk) = stream.chunk().await {
                kept.lock().unwrap().extend(Heard::read(&chunk));
            }
        });
        Self { heard, reading }
    }

    /// Everything that was not taken.
    pub(super) fn all(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    /// What the cloud said of that.
    pub(super) fn of_cloud(&self) -> Vec<Heard> {
        self.all().into_iter().filter(|heard| heard.said["coreid"] == CLOUD).collect()
    }

    /// Takes all that the cloud has said once it has said so much.
    pub(super) async fn take(&self, count: usize) -> Vec<Heard> {
        self.until(|ear| ear.of_cloud().len() >= count).await;
        let taken = self.of_cloud();
        self.heard.lock().unwrap().clear();
        taken
    }

    /// Waits until something is so.
    pub(super) async fn until(&self, done: impl Fn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < end, "heard: {:?}", self.all());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.reading.abort();
    }
}
