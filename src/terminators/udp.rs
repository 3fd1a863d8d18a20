//! The UDP sockets of the workers: one each on the same port, so that the kernel spreads datagrams over them.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use firmware_protocol::path::Path;
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

/// Room the kernel is asked for, each way: the burst of a fleet between two turns of a worker.
const KERNEL_BUFFER: usize = 4 << 20;
/// A coalesced run of datagrams is at most this long.
const RECEIVE_MAX: usize = 65_535;

/// The UDP port cannot be had.
#[derive(Debug, Error)]
#[error("cannot listen on udp {address}: {source}")]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

/// Binds `workers` sockets to `address`. Fails if anything else has the port, another server of the same user included.
pub fn bind_group(address: SocketAddr, workers: usize) -> Result<Vec<Udp>, BindError> {
    let failed = |source| BindError { address, source };
    // Without SO_REUSEPORT this bind fails if the port is in use in whatever way; the group would silently share it.
    let probe = open(address, false).map_err(failed)?;
    let address = probe.local_addr().ok().and_then(|bound| bound.as_socket()).unwrap_or(address);
    drop(probe);
    (0..workers).map(|_| open(address, true).and_then(Udp::new).map_err(failed)).collect()
}

fn open(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        // The wildcard serves both families.
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_port(shared)?;
    // The kernel may grant less, which costs drops in a storm, not correctness.
    let _ = socket.set_recv_buffer_size(KERNEL_BUFFER);
    let _ = socket.set_send_buffer_size(KERNEL_BUFFER);
    socket.bind(&address.into())?;
    Ok(socket)
}

/// One worker's socket, reading in batches and telling which of our addresses a datagram came to.
#[derive(Debug)]
pub struct Udp {
    socket: UdpSocket,
    state: UdpSocketState,
    is_ipv6: bool,
    buffers: Vec<Vec<u8>>,
}

impl Udp {
    /// Reads of the kernel that one call makes at most. With coalescing there can be more datagrams.
    pub const BATCH: usize = BATCH_SIZE;

    fn new(socket: Socket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        let socket = UdpSocket::from(socket);
        let is_ipv6 = socket.local_addr()?.is_ipv6();
        Ok(Self { socket, state, is_ipv6, buffers: vec![vec![0; RECEIVE_MAX]; BATCH_SIZE] })
    }

    /// The address it is bound to.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// What to wait for.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Hands every datagram of one batch to `take`. Returns how many; 0 when there is nothing to read.
    pub fn receive(&mut self, mut take: impl FnMut(&[u8], Path)) -> usize {
        let mut meta = [RecvMeta::default(); BATCH_SIZE];
        let mut slices: Vec<IoSliceMut<'_>> = self.buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
        // Errors here are the network's report about an earlier send; the next read goes on.
        let Ok(received) = self.state.recv((&self.socket).into(), &mut slices, &mut meta) else { return 0 };
        let mut count = 0;
        for (buffer, meta) in self.buffers.iter().zip(&meta[..received]) {
            let path = Path { peer: canonical(meta.addr), local: meta.dst_ip.map(|ip| ip.to_canonical()) };
            for datagram in buffer[..meta.len].chunks(meta.stride.max(1)) {
                take(datagram, path);
                count += 1;
            }
        }
        count
    }

    /// Sends one datagram from the address its session talks to. What the network does not take is lost like any other datagram.
    pub fn send(&self, path: Path, contents: &[u8]) -> io::Result<()> {
        let transmit = Transmit {
            destination: self.for_socket(path.peer),
            ecn: None,
            contents,
            segment_size: None,
            src_ip: path.local.map(|ip| self.for_socket(SocketAddr::new(ip, 0)).ip()),
        };
        self.state.try_send((&self.socket).into(), &transmit)
    }

    /// An IPv6 socket speaks IPv4 by mapped addresses.
    fn for_socket(&self, address: SocketAddr) -> SocketAddr {
        match address.ip() {
            IpAddr::V4(ip) if self.is_ipv6 => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
            _ => address,
        }
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        // Scope and flow are of the moment; the address is the device's.
        SocketAddr::V6(v6) if v6.scope_id() != 0 => address,
        _ => SocketAddr::new(address.ip().to_canonical(), address.port()),
    }
}
