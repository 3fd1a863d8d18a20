//! One UDP socket and the devices behind it.
//!
//! What a server sends says nothing about whom it is for, so usually each device has a socket of its own. When several share one, a protected
//! record belongs to the device whose key opens it, and everything in plaintext to the one whose turn to handshake it is: they take turns.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{setsockopt, sockopt};

/// Longest datagram of a server, and some more.
pub(super) const DATAGRAM_MAX: usize = 2048;
/// Open files that are not sockets of devices.
const FILES_SPARE: u64 = 64;
/// Kernel memory for what a shared socket has not read yet, for each device.
const SHARED_BUFFER_LEN: usize = 4096;

#[derive(Debug)]
pub(super) struct Wire {
    pub(super) socket: UdpSocket,
    pub(super) members: Vec<usize>,
    /// Who may handshake now.
    pub(super) turn: Option<usize>,
    /// Who wants to be next.
    pub(super) queue: VecDeque<usize>,
}

impl Wire {
    /// A socket for `members`, from the loopback address with this `number`, as devices come from many addresses.
    pub(super) fn open(number: usize, server: SocketAddr, members: Vec<usize>) -> Result<Self> {
        let from = SocketAddr::new(source(number, server.ip()), 0);
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

/// 250 × 250 addresses of 127.0.0.0/8, or the one there is.
#[expect(clippy::cast_possible_truncation, reason = "below 250")]
fn source(number: usize, server: IpAddr) -> IpAddr {
    match server {
        IpAddr::V4(_) => Ipv4Addr::new(127, 1, (number / 250 % 250) as u8, (number % 250 + 1) as u8).into(),
        IpAddr::V6(own) => own.into(),
    }
}

/// Raises the limit on open files as far as it goes, and checks that `sockets` fit.
pub(crate) fn allow_sockets(sockets: usize) -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let fits = sockets as u64 + FILES_SPARE <= hard;
    ensure!(fits, "{sockets} sockets are more than the {hard} open files allowed: let devices share them with --per-socket");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_come_from_many_addresses() -> Result<()> {
        let server = "127.0.0.1:5684".parse::<SocketAddr>()?;
        let sources: std::collections::HashSet<IpAddr> = (0..62_500).map(|number| source(number, server.ip())).collect();
        assert_eq!(sources.len(), 62_500);
        assert!(sources.iter().all(IpAddr::is_loopback));
        assert_eq!(source(9, "::1".parse()?), "::1".parse::<IpAddr>()?);
        Ok(())
    }

    #[test]
    fn too_many_sockets_are_refused_before_any_is_opened() {
        assert!(allow_sockets(1).is_ok());
        assert!(allow_sockets(usize::MAX / 2).is_err());
    }
}
