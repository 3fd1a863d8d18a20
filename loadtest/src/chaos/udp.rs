//! Moves datagrams between devices and a server through their links. All devices come to one socket and are told apart by their address; towards
//! the server each has a socket of its own, with the device's address and a port that changes when its link says so.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use firmware_protocol::time::Millis;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::socket::{setsockopt, sockopt};

use super::Direction;
use super::counts::Counts;
use super::link::{Link, Output};
use super::proxy::{ProxyPlan, Shared, name};
use crate::timers::Timers;

/// Longest time without a look whether to stop.
const NAP: Duration = Duration::from_millis(20);
const DATAGRAM_MAX: usize = 2048;
/// Datagrams taken from one socket before others have their turn.
const BATCH: usize = 64;
const EVENTS: usize = 256;
/// Kernel memory for what was not read yet, as far as the system allows it.
const RECEIVE_BUFFER: usize = 4 << 20;
/// What the socket that devices come to is called; those towards the server are called by their index.
const DEVICES: u64 = u64::MAX;

/// One device.
#[derive(Debug)]
struct Way {
    peer: SocketAddr,
    upstream: UdpSocket,
    link: Link,
}

/// All devices.
#[derive(Debug)]
pub(super) struct Forwarder {
    plan: ProxyPlan,
    shared: Arc<Shared>,
    epoll: Epoll,
    devices: UdpSocket,
    ways: Vec<Way>,
    by_peer: HashMap<SocketAddr, usize>,
    by_ip: HashMap<IpAddr, u32>,
    timers: Timers,
    counts: Counts,
}

impl Forwarder {
    /// Binds the socket that devices come to: its address.
    pub(super) fn open(plan: ProxyPlan, shared: Arc<Shared>) -> Result<(SocketAddr, Self)> {
        let devices = UdpSocket::bind(plan.listen).with_context(|| format!("binding {}", plan.listen))?;
        devices.set_nonblocking(true)?;
        setsockopt(&devices, sockopt::RcvBuf, &RECEIVE_BUFFER)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&devices, EpollEvent::new(EpollFlags::EPOLLIN, DEVICES))?;
        let (ways, by_peer, by_ip, timers) = (Vec::new(), HashMap::new(), HashMap::new(), Timers::new(0));
        let address = devices.local_addr()?;
        Ok((address, Self { plan, shared, epoll, devices, ways, by_peer, by_ip, timers, counts: Counts::default() }))
    }

    /// Works until it is told to stop.
    pub(super) fn run(mut self) -> Result<()> {
        let mut events = [EpollEvent::empty(); EVENTS];
        while !self.shared.stopped() {
            while let Some(index) = self.timers.pop(self.shared.now()) {
                self.pump(index)?;
            }
            self.shared.show(&self.counts);
            let now = self.shared.now();
            let idle = self.timers.next().map_or(NAP, |(at, _)| at.since(now).min(NAP));
            let ready = match self.epoll.wait(&mut events, u8::try_from(idle.as_millis())?) {
                Err(nix::errno::Errno::EINTR) => 0,
                result => result?,
            };
            for event in &events[..ready] {
                match event.data() {
                    DEVICES => self.hear_devices()?,
                    index => self.hear_server(usize::try_from(index)?)?,
                }
            }
        }
        self.shared.show(&self.counts);
        Ok(())
    }

    fn hear_devices(&mut self) -> Result<()> {
        let mut buffer = [0; DATAGRAM_MAX];
        for _ in 0..BATCH {
            let Ok((len, peer)) = self.devices.recv_from(&mut buffer) else { break };
            let now = self.shared.now();
            let Some(index) = self.way(now, peer)? else { continue };
            self.ways[index].link.offer(now, Direction::Up, &buffer[..len], &mut self.counts);
            self.pump(index)?;
        }
        Ok(())
    }

    /// The way of the device at `peer`, which may be new.
    fn way(&mut self, now: Millis, peer: SocketAddr) -> Result<Option<usize>> {
        if let Some(index) = self.by_peer.get(&peer) {
            return Ok(Some(*index));
        }
        let upstream = (self.ways.len() < self.plan.links_max).then(|| towards(self.plan.server, peer.ip()));
        let Some(Ok(upstream)) = upstream else {
            self.counts.links_refused += 1;
            return Ok(None);
        };
        let nth = self.by_ip.entry(peer.ip()).or_default();
        let (rules, seed) = self.plan.weather.of(&name(peer.ip(), *nth));
        *nth += 1;
        let index = self.timers.add();
        self.epoll.add(&upstream, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?;
        self.ways.push(Way { peer, upstream, link: Link::new(rules, seed, now) });
        self.by_peer.insert(peer, index);
        self.counts.links += 1;
        Ok(Some(index))
    }

    fn hear_server(&mut self, index: usize) -> Result<()> {
        let mut buffer = [0; DATAGRAM_MAX];
        for _ in 0..BATCH {
            let way = &mut self.ways[index];
            // While no server listens, an earlier datagram's refusal is reported here.
            let Ok(len) = way.upstream.recv(&mut buffer) else { break };
            way.link.offer(self.shared.now(), Direction::Down, &buffer[..len], &mut self.counts);
        }
        self.pump(index)
    }

    /// Does what a link wants done, and looks when it wants something next.
    fn pump(&mut self, index: usize) -> Result<()> {
        let now = self.shared.now();
        while let Some(output) = self.ways[index].link.poll(now, &mut self.counts) {
            let way = &self.ways[index];
            let sent = match output {
                Output::Deliver { direction: Direction::Up, datagram } => send(&way.upstream, &datagram),
                Output::Deliver { direction: Direction::Down, datagram } => self.devices.send_to(&datagram, way.peer).is_ok(),
                Output::Rebind => self.rebind(index)?,
            };
            self.counts.undeliverable += u64::from(!sent);
        }
        self.timers.set(index, self.ways[index].link.timeout_at());
        Ok(())
    }

    /// Another socket towards the server. The old one is closed: what comes to its port is lost, as behind a NAT that has forgotten it.
    fn rebind(&mut self, index: usize) -> Result<bool> {
        let way = &mut self.ways[index];
        match towards(self.plan.server, way.peer.ip()) {
            Ok(fresh) => {
                self.epoll.add(&fresh, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?;
                way.upstream = fresh;
                self.counts.rebinds += 1;
            }
            Err(_) => self.counts.rebinds_refused += 1,
        }
        Ok(true)
    }
}

/// A socket towards the server, from the device's own address and any port.
fn towards(server: SocketAddr, from: IpAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((from, 0))?;
    socket.connect(server)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Whether the kernel took it. The refusal of an earlier datagram is reported first: once more, then.
fn send(socket: &UdpSocket, datagram: &[u8]) -> bool {
    match socket.send(datagram) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => socket.send(datagram).is_ok(),
        result => result.is_ok(),
    }
}
