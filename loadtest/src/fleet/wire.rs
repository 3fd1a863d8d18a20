//! One UDP socket and the devices behind it.
//!
//! A device has an address of its own in any case. One that has a socket for itself connects it, as real devices do. Where several share a socket, what
//! each sends leaves from its address, and what comes is for the one whose address it came to.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::Range;

use anyhow::{Context, Result};
use nix::sys::socket::{setsockopt, sockopt};
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};

use super::plan::Transport;

/// Longest datagram of a server, and some more.
pub(super) const DATAGRAM_MAX: usize = 2048;
/// Kernel memory for what a shared socket has not read yet, for each device.
const SHARED_BUFFER_LEN: usize = 4096;

/// A socket.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) socket: UdpSocket,
    members: Range<usize>,
    shared: Option<Shared>,
}

/// What a shared socket needs besides.
#[derive(Debug)]
struct Shared {
    state: UdpSocketState,
    server: SocketAddr,
    /// Of the members, in order.
    addresses: Vec<IpAddr>,
}

impl Wire {
    /// A socket for `members`, the first of which has this `number` in the whole fleet.
    pub(super) fn open(number: usize, server: SocketAddr, members: Range<usize>) -> Result<Self> {
        let source = |number| Transport::Udp.source(number, server.ip());
        let (from, shared) = match members.len() {
            1 => (SocketAddr::new(source(number), 0), false),
            _ => ((Ipv4Addr::UNSPECIFIED, 0).into(), true),
        };
        let socket = UdpSocket::bind(from).with_context(|| format!("binding a socket to {from}"))?;
        socket.set_nonblocking(true)?;
        if !shared {
            socket.connect(server)?;
            return Ok(Self { socket, members, shared: None });
        }
        setsockopt(&socket, sockopt::RcvBuf, &(members.len() * SHARED_BUFFER_LEN).max(212_992))?;
        let state = UdpSocketState::new((&socket).into())?;
        let addresses = (number..number + members.len()).map(source).collect();
        Ok(Self { socket, members, shared: Some(Shared { state, server, addresses }) })
    }

    /// Whether the kernel took the datagram of a member. While no server listens, an earlier datagram's refusal is reported first: once more, then.
    pub(super) fn send(&self, member: usize, datagram: &[u8]) -> bool {
        let Some(shared) = &self.shared else {
            return match self.socket.send(datagram) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => self.socket.send(datagram).is_ok(),
                result => result.is_ok(),
            };
        };
        let src_ip = shared.addresses.get(member - self.members.start).copied();
        let transmit = Transmit { destination: shared.server, ecn: None, contents: datagram, segment_size: None, src_ip };
        shared.state.try_send((&self.socket).into(), &transmit).is_ok()
    }

    /// The next datagram's length, if one is there, and the member whose it is, if it is anybody's.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> Option<(usize, Option<usize>)> {
        let Some(shared) = &self.shared else {
            let len = match self.socket.recv(buffer) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => self.socket.recv(buffer).ok(),
                result => result.ok(),
            };
            return len.map(|len| (len, Some(self.members.start)));
        };
        let mut meta = [RecvMeta::default()];
        shared.state.recv((&self.socket).into(), &mut [IoSliceMut::new(buffer)], &mut meta).ok()?;
        // What the kernel has put together is longer than one datagram of a server.
        let [RecvMeta { addr, len, stride, dst_ip, .. }] = meta;
        let index = shared.addresses.iter().position(|address| Some(*address) == dst_ip);
        Some((len, index.filter(|_| addr == shared.server && stride == len).map(|index| self.members.start + index)))
    }
}
