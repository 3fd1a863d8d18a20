//! One UDP socket and the devices behind it.
//!
//! What a server sends says nothing about whom it is for, so usually each device has a socket of its own. When several share one, a protected
//! record belongs to the device whose key opens it, and everything in plaintext to the one whose turn to handshake it is: they take turns.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;

use anyhow::{Context, Result};
use nix::sys::socket::{setsockopt, sockopt};

use super::plan::Transport;

/// Longest datagram of a server, and some more.
pub(super) const DATAGRAM_MAX: usize = 2048;
/// Kernel memory for what a shared socket has not read yet, for each device.
const SHARED_BUFFER_LEN: usize = 4096;

#[derive(Debug)]
pub(super) struct Wire {
    pub(super) socket: UdpSocket,
    pub(super) members: Range<usize>,
    /// Who may handshake now.
    pub(super) turn: Option<usize>,
    /// Who wants to be next.
    pub(super) queue: VecDeque<usize>,
}

impl Wire {
    /// A socket for `members`, from the loopback address with this `number`.
    pub(super) fn open(number: usize, server: SocketAddr, members: Range<usize>) -> Result<Self> {
        let from = SocketAddr::new(Transport::Udp.source(number, server.ip()), 0);
        let socket = UdpSocket::bind(from).with_context(|| format!("binding a socket to {from}"))?;
        socket.connect(server)?;
        socket.set_nonblocking(true)?;
        if members.len() > 1 {
            setsockopt(&socket, sockopt::RcvBuf, &(members.len() * SHARED_BUFFER_LEN).max(212_992))?;
        }
        Ok(Self { socket, members, turn: None, queue: VecDeque::new() })
    }

    /// Whether the kernel took the datagram. While no server listens, an earlier datagram's refusal is reported first: once more, then.
    pub(super) fn send(&self, datagram: &[u8]) -> bool {
        match self.socket.send(datagram) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => self.socket.send(datagram).is_ok(),
            result => result.is_ok(),
        }
    }

    /// The next datagram's length, if one is there.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> Option<usize> {
        match self.socket.recv(buffer) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => self.socket.recv(buffer).ok(),
            result => result.ok(),
        }
    }
}
