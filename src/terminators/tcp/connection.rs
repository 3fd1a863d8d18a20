//! One connection: its socket, what waits to be written, and how far it has come.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use firmware_protocol::crypto::DevicePublicKey;
use firmware_protocol::id::Identity;
use firmware_protocol::path::Path;
use firmware_protocol::tcp::handshake::Greeting;
use firmware_protocol::tcp::session::TcpSession;
use firmware_protocol::time::{Millis, UnixMillis};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use crate::admission::Place;
use crate::terminators::limits::Allowance;
use crate::terminators::liveness::Liveness;
use crate::terminators::timers::Alarm;

/// Most bytes read at once.
pub(super) const READ_LEN: usize = 16 << 10;
/// Most bytes that wait for a device that does not read.
const UNSENT_MAX: usize = 64 << 10;

/// A connection of a device, or of whoever it is.
#[derive(Debug)]
pub(super) struct Connection {
    socket: TcpStream,
    peer: SocketAddr,
    unsent: Vec<u8>,
    /// Its place among those that have proved nothing yet.
    place: Option<Place>,
    pub(super) stage: Stage,
    pub(super) alarm: Alarm,
}

/// How far a connection has come.
#[derive(Debug)]
pub(super) enum Stage {
    /// Nothing is proved.
    Half(Half),
    /// The handshake is done.
    Live(Box<Live>),
}

/// A handshake.
#[derive(Debug)]
pub(super) struct Half {
    /// `None` while the answer is being judged.
    pub(super) greeting: Option<Greeting>,
    /// When it must be over.
    pub(super) until: Millis,
}

/// A session and what its terminator keeps beside it.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) session: TcpSession,
    pub(super) since: UnixMillis,
    pub(super) standing: Standing,
    pub(super) allowance: Allowance,
    /// Messages that had an effect beyond the session.
    pub(super) messages: u64,
    pub(super) liveness: Liveness,
}

/// What a session is at the moment.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// Of this registered device, before its Hello.
    Proving(Box<Identity>),
    /// In use; its shard knows.
    Known,
    /// A stranger's, until its Hello.
    Stranger(Box<DevicePublicKey>),
}

/// What a read brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Read {
    /// That many bytes.
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// The other side has ended, or the connection is broken.
    Over,
}

impl Connection {
    pub(super) fn new(socket: TcpStream, peer: SocketAddr, greeting: Greeting, place: Place, until: Millis) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        // A frame is one segment: devices lose half a header.
        socket.set_nodelay(true)?;
        let stage = Stage::Half(Half { greeting: Some(greeting), until });
        Ok(Self { socket, peer, unsent: Vec::new(), place: Some(place), stage, alarm: Alarm::default() })
    }

    /// Sends the first bytes there are. `false` if they do not fit into an empty buffer: the connection is broken.
    pub(super) fn greet(&mut self) -> bool {
        let Stage::Half(Half { greeting: Some(greeting), .. }) = &self.stage else { return true };
        (&self.socket).write(greeting.nonce()).is_ok_and(|written| written == greeting.nonce().len())
    }

    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The two ends.
    pub(super) fn path(&self) -> Path {
        let canonical = SocketAddr::new(self.peer.ip().to_canonical(), self.peer.port());
        Path { peer: canonical, local: self.socket.local_addr().ok().map(|local| local.ip().to_canonical()) }
    }

    /// Its session, if the handshake is done.
    pub(super) fn live(&mut self) -> Option<&mut Live> {
        match &mut self.stage {
            Stage::Live(live) => Some(live),
            Stage::Half(_) => None,
        }
    }

    /// It has proved itself and no longer counts as a handshake.
    pub(super) fn leave_admission(&mut self) {
        self.place = None;
    }

    pub(super) fn timeout_at(&self) -> Option<Millis> {
        match &self.stage {
            Stage::Half(half) => Some(half.until),
            Stage::Live(live) => live.session.timeout_at(),
        }
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Read {
        match self.socket.read(buffer) {
            Ok(0) => Read::Over,
            Ok(count) => Read::Bytes(count),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Read::Nothing,
            Err(_) => Read::Over,
        }
    }

    /// Writes `bytes`, or keeps what the socket does not take. `false` if the device reads too slowly, or the connection is broken.
    pub(super) fn send(&mut self, bytes: &[u8], epoll: &Epoll, serial: u64) -> bool {
        if self.unsent.len() + bytes.len() > UNSENT_MAX {
            return false;
        }
        if !self.unsent.is_empty() {
            self.unsent.extend_from_slice(bytes);
            return true;
        }
        let Some(written) = self.write(bytes) else { return false };
        self.unsent.extend_from_slice(&bytes[written..]);
        self.unsent.is_empty() || self.watch_for(EpollFlags::EPOLLOUT, epoll, serial)
    }

    /// Writes what waits. `false` if the connection is broken.
    pub(super) fn flush(&mut self, epoll: &Epoll, serial: u64) -> bool {
        let waiting = std::mem::take(&mut self.unsent);
        let Some(written) = self.write(&waiting) else { return false };
        if written < waiting.len() {
            self.unsent.extend_from_slice(&waiting[written..]);
            return true;
        }
        self.watch_for(EpollFlags::empty(), epoll, serial)
    }

    /// How many bytes the socket took; `None` if it is broken.
    fn write(&mut self, bytes: &[u8]) -> Option<usize> {
        match self.socket.write(bytes) {
            Ok(written) => Some(written),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Some(0),
            Err(_) => None,
        }
    }

    fn watch_for(&self, more: EpollFlags, epoll: &Epoll, serial: u64) -> bool {
        let mut event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | more, serial);
        epoll.modify(&self.socket, &mut event).is_ok()
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Live {
    pub(super) fn new(since: UnixMillis, session: TcpSession, standing: Standing, allowance: Allowance) -> Self {
        Self { session, since, standing, allowance, messages: 0, liveness: Liveness::default() }
    }
}
