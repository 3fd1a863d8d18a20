//! A hello with a right cookie while it waits: what is kept of it until its handshake begins.

use std::net::SocketAddr;

use firmware_protocol::dtls::cid::ConnectionId;
use firmware_protocol::dtls::server::ProvenHello;
use firmware_protocol::path::Path;

use crate::waiting_room::{Guest, WaitingRoom};

/// The hello, where it came from, and what was reserved for it.
#[derive(Debug)]
pub struct WaitingHello {
    /// What the handshake needs of it.
    pub hello: ProvenHello,
    /// From where.
    pub path: Path,
    /// The id reserved for the session.
    pub connection: ConnectionId,
    /// Which terminator.
    pub terminator: u16,
}

impl Guest for WaitingHello {
    fn peer(&self) -> SocketAddr {
        self.path.peer
    }

    fn repeats(&self, waiting: &Self) -> bool {
        self.hello.random() == waiting.hello.random()
    }
}

/// It points to nothing.
const _: () = assert!(WaitingRoom::<WaitingHello>::BYTES_EACH <= 256, "65 536 hellos that wait take 16 MiB");
