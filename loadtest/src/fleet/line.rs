//! The TCP connection of one device: made, written to, read from and closed without ever waiting.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};

use anyhow::Result;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use crate::dial::dial;

/// A device's connection, now or later.
#[derive(Debug)]
pub(super) struct Line {
    server: SocketAddr,
    from: IpAddr,
    state: State,
    /// Which connection of the device this is: an event of an earlier one means nothing.
    serial: u32,
    /// What the kernel was asked to tell of.
    interest: EpollFlags,
}

#[derive(Debug)]
enum State {
    Closed,
    Connecting(TcpStream),
    /// With bytes that the socket has not taken yet.
    Open(TcpStream, Vec<u8>),
}

/// What came of an attempt to connect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Attempt {
    Made,
    Refused,
    /// There was none.
    None,
}

impl Line {
    /// To `server` from the address `from`.
    pub(super) fn new(server: SocketAddr, from: IpAddr) -> Self {
        Self { server, from, state: State::Closed, serial: 0, interest: EpollFlags::empty() }
    }

    /// Begins to connect. `false` if that failed at once.
    pub(super) fn connect(&mut self) -> bool {
        self.close();
        self.serial = self.serial.wrapping_add(1);
        match dial(self.server, self.from) {
            Ok(socket) => {
                self.state = State::Connecting(socket);
                true
            }
            Err(_) => false,
        }
    }

    /// What came of connecting, now that the socket has something to say.
    pub(super) fn attempt(&mut self) -> Attempt {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Connecting(socket) if matches!(socket.take_error(), Ok(None)) && socket.set_nodelay(true).is_ok() => {
                self.state = State::Open(socket, Vec::new());
                Attempt::Made
            }
            State::Connecting(_) => Attempt::Refused,
            other => {
                self.state = other;
                Attempt::None
            }
        }
    }

    /// Writes `bytes` behind what waits. `false` if the connection is broken; without one they are lost.
    pub(super) fn send(&mut self, bytes: &[u8]) -> bool {
        if let State::Open(_, unsent) = &mut self.state {
            unsent.extend_from_slice(bytes);
        }
        self.flush()
    }

    /// Writes what waits. `false` if the connection is broken.
    pub(super) fn flush(&mut self) -> bool {
        let State::Open(socket, unsent) = &mut self.state else { return true };
        while !unsent.is_empty() {
            match socket.write(unsent) {
                Ok(len) => drop(unsent.drain(..len)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
        true
    }

    /// The length of what came, 0 if nothing is there; `None` if the connection has ended.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let State::Open(socket, _) = &mut self.state else { return Some(0) };
        match socket.read(buffer) {
            Ok(0) => None,
            Ok(len) => Some(len),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Some(0),
            Err(_) => None,
        }
    }

    /// Closes it. The kernel forgets what it was asked.
    pub(super) fn close(&mut self) {
        self.state = State::Closed;
        self.interest = EpollFlags::empty();
    }

    /// Asks the kernel to tell what the connection waits for. Events are called by `index` and the connection's serial.
    pub(super) fn watch(&mut self, index: usize, epoll: &Epoll) -> Result<()> {
        let (socket, wanted) = match &self.state {
            State::Closed => return Ok(()),
            State::Connecting(socket) => (socket, EpollFlags::EPOLLOUT),
            State::Open(socket, unsent) if unsent.is_empty() => (socket, EpollFlags::EPOLLIN),
            State::Open(socket, _) => (socket, EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT),
        };
        let had = std::mem::replace(&mut self.interest, wanted);
        let mut event = EpollEvent::new(wanted, u64::from(self.serial) << 32 | u64::try_from(index)?);
        match had {
            _ if had == wanted => {}
            _ if had.is_empty() => epoll.add(socket, event)?,
            _ => epoll.modify(socket, &mut event)?,
        }
        Ok(())
    }

    /// Whether an event is of this connection.
    pub(super) fn is_of(&self, serial: u64) -> bool {
        u64::from(self.serial) == serial
    }
}

/// The index and the serial that an event is called by.
pub(super) fn parts(event: EpollEvent) -> Result<(usize, u64)> {
    Ok((usize::try_from(event.data() & u64::from(u32::MAX))?, event.data() >> 32))
}
