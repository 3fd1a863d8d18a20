//! The UDP sockets of the workers, all on the same port: each has one for records of sessions and one for whatever else comes.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use firmware_protocol::path::Path;
use nix::sys::stat::fstat;
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

use super::kernel_drops::SocketName;
use super::steering::steer;

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

/// Binds two sockets for each of `workers` to `address`. Fails if anything else has the port, another server of the same user included.
pub fn bind_group(address: SocketAddr, workers: usize) -> Result<Vec<Udp>, BindError> {
    let failed = |source| BindError { address, source };
    // Without SO_REUSEPORT this bind fails if the port is in use in whatever way; the group would silently share it.
    let probe = open(address, false).map_err(failed)?;
    let address = probe.local_addr().ok().and_then(|bound| bound.as_socket()).unwrap_or(address);
    drop(probe);
    // The kernel numbers them in this order.
    let group = (0..2 * workers).map(|_| open(address, true)).collect::<io::Result<Vec<_>>>().map_err(failed)?;
    if let Some(Err(error)) = group.first().map(|first| steer(first, workers)) {
        tracing::warn!(%error, "the kernel spreads datagrams by address: a flood of hellos can displace records of sessions");
    }
    let mut of_sessions = group;
    let of_others = of_sessions.split_off(workers);
    of_sessions.into_iter().zip(of_others).map(|(sessions, others)| Udp::new(sessions, others).map_err(failed)).collect()
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

/// One worker's sockets, read in batches. Every datagram comes with the address of ours that it came to.
#[derive(Debug)]
pub struct Udp {
    sessions: Door,
    others: Door,
    is_ipv6: bool,
    buffers: Vec<Vec<u8>>,
}

/// Which of its sockets a worker reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Queue {
    /// Records of sessions, as far as the kernel can tell.
    Sessions,
    /// What anybody may send without a session.
    Others,
}

#[derive(Debug)]
struct Door {
    socket: UdpSocket,
    state: UdpSocketState,
}

impl Door {
    fn new(socket: Socket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Self { socket: socket.into(), state })
    }
}

impl Udp {
    /// Reads of the kernel that one call makes at most. With coalescing there can be more datagrams.
    pub(super) const BATCH: usize = BATCH_SIZE;

    fn new(sessions: Socket, others: Socket) -> io::Result<Self> {
        let (sessions, others) = (Door::new(sessions)?, Door::new(others)?);
        let is_ipv6 = sessions.socket.local_addr()?.is_ipv6();
        Ok(Self { sessions, others, is_ipv6, buffers: vec![vec![0; RECEIVE_MAX]; BATCH_SIZE] })
    }

    /// The address it is bound to.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.sessions.socket.local_addr()
    }

    /// What to wait for.
    pub fn sockets(&self) -> [BorrowedFd<'_>; 2] {
        [&self.sessions, &self.others].map(|door| door.socket.as_fd())
    }

    /// What the kernel calls its sockets.
    pub fn names(&self) -> io::Result<[SocketName; 2]> {
        let name = |queue, door: &Door| Ok::<_, io::Error>(SocketName { queue, inode: fstat(&door.socket)?.st_ino });
        Ok([name("sessions", &self.sessions)?, name("others", &self.others)?])
    }

    /// Hands every datagram of one batch to `take`. Returns how many; 0 when there is nothing to read.
    pub(super) fn receive(&mut self, queue: Queue, mut take: impl FnMut(&[u8], Path)) -> usize {
        let Self { sessions, others, buffers, .. } = self;
        let Door { socket, state } = match queue {
            Queue::Sessions => sessions,
            Queue::Others => others,
        };
        let mut meta = [RecvMeta::default(); BATCH_SIZE];
        let mut slices: Vec<IoSliceMut<'_>> = buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
        // Errors here are the network's report about an earlier send; the next read goes on.
        let Ok(received) = state.recv((&*socket).into(), &mut slices, &mut meta) else { return 0 };
        let mut count = 0;
        for (buffer, meta) in buffers.iter().zip(&meta[..received]) {
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
        self.sessions.state.try_send((&self.sessions.socket).into(), &transmit)
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// The worker and the queue that get a datagram with these first bytes.
    fn place(group: &mut [Udp], sender: &UdpSocket, datagram: &[u8]) -> (usize, Queue) {
        sender.send_to(datagram, group[0].local_addr().unwrap()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            for (worker, udp) in group.iter_mut().enumerate() {
                for queue in [Queue::Sessions, Queue::Others] {
                    if udp.receive(queue, |bytes, _| assert_eq!(bytes, datagram)) > 0 {
                        return (worker, queue);
                    }
                }
            }
        }
        panic!("it did not come");
    }

    fn datagram(content_type: u8, bucket: u8) -> Vec<u8> {
        [&[content_type, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 0, 0x10, 0x01, bucket][..], &[0; 40]].concat()
    }

    fn steered(address: &str) {
        let address = SocketAddr::new(address.parse().unwrap(), 0);
        let mut group = bind_group(address, 3).unwrap();
        let sender = UdpSocket::bind(address).unwrap();
        for (content_type, bucket) in [(25, 0), (25, 1), (253, 5), (25, 255)] {
            let place = place(&mut group, &sender, &datagram(content_type, bucket));
            assert_eq!(place, (usize::from(bucket) % 3, Queue::Sessions), "{content_type} {bucket}");
        }
        let (hello, _) = place(&mut group, &sender, &datagram(22, 0));
        for (content_type, queue) in
            [(22, Queue::Others), (23, Queue::Sessions), (254, Queue::Sessions), (252, Queue::Others), (0, Queue::Others)]
        {
            let place = place(&mut group, &sender, &datagram(content_type, 7));
            assert_eq!(place, (hello, queue), "{content_type}: what a sender sends goes to one worker");
        }
        assert_eq!(place(&mut group, &sender, &[0]), (hello, Queue::Others));
        let mut workers: Vec<_> = (0..64)
            .map(|_| place(&mut group, &UdpSocket::bind(address).unwrap(), &datagram(22, 0)))
            .map(|(worker, queue)| (worker, queue == Queue::Others))
            .collect();
        workers.sort_unstable();
        workers.dedup();
        assert_eq!(workers, [(0, true), (1, true), (2, true)], "senders are spread over all");
    }

    #[test]
    fn the_kernel_sends_records_to_their_workers_and_hellos_elsewhere() {
        steered("127.0.0.1");
        steered("::1");
    }

    #[test]
    fn a_flood_of_hellos_displaces_no_record_of_a_session() {
        let address = "127.0.0.1:0".parse().unwrap();
        let mut group = bind_group(address, 1).unwrap();
        let (stranger, device) = (UdpSocket::bind(address).unwrap(), UdpSocket::bind(address).unwrap());
        let server = group[0].local_addr().unwrap();
        let hello = [22; 1000];
        for _ in 0..50_000 {
            stranger.send_to(&hello, server).unwrap();
        }
        assert_eq!(place(&mut group, &device, &datagram(25, 0)), (0, Queue::Sessions));
    }
}
