//! Moves bytes between devices and a server through their links, a pair of sockets for each connection.

use std::collections::{BTreeSet, HashMap};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use firmware_protocol::time::Millis;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use socket2::SockRef;

use super::Direction;
use super::counts::Counts;
use super::proxy::{ProxyPlan, Shared, name};
use super::stream::{LANE_BYTES_MAX, Piece, Stream};
use crate::dial::{dial, listen};
use crate::timers::Timers;

/// Longest time without a look whether to stop.
const NAP: Duration = Duration::from_millis(20);
/// Connections taken before others have their turn.
const BATCH: usize = 64;
const EVENTS: usize = 256;
/// What the socket that devices come to is called. Those of connection `n` are called 2 n (device) and 2 n + 1 (server).
const LISTENER: u64 = u64::MAX;

/// One end of a connection.
#[derive(Debug)]
struct End {
    socket: TcpStream,
    /// Bytes that have arrived and that the socket does not take yet.
    pending: Vec<u8>,
    /// Whether everything was written, and its end said.
    done: bool,
    /// What is waited for; nothing if it is not waited for.
    interest: EpollFlags,
}

/// One connection: its device's end and its server's end.
#[derive(Debug)]
struct Connection {
    ends: [End; 2],
    stream: Stream,
    /// The device's address, and its place there.
    place: (IpAddr, u32),
}

/// The connections of one address. A device that comes again after its connection has ended gets its place again, and with it the same rules.
#[derive(Default, Debug)]
struct Places {
    came: u32,
    taken: BTreeSet<u32>,
}

impl Places {
    /// Takes the first place that is free: it, and how many came before.
    fn take(&mut self) -> (u32, u32) {
        let place = (0..).find(|place| self.taken.insert(*place)).unwrap_or_default();
        let before = self.came;
        self.came = self.came.wrapping_add(1);
        (place, before)
    }
}

/// How a connection stands after its turn.
#[derive(PartialEq, Eq)]
enum Standing {
    Open,
    /// Both ends have said that they send no more, and everything has arrived.
    Over,
    /// Cut by its link, or one end broke it off.
    Broken,
}

/// All connections.
#[derive(Debug)]
pub(super) struct Forwarder {
    plan: ProxyPlan,
    shared: Arc<Shared>,
    epoll: Epoll,
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    by_ip: HashMap<IpAddr, Places>,
    /// Whether connections are cut no more.
    calm: bool,
    timers: Timers,
    counts: Counts,
    buffer: Vec<u8>,
}

impl Forwarder {
    /// Binds the socket that devices come to: its address.
    pub(super) fn open(plan: ProxyPlan, shared: Arc<Shared>) -> Result<(SocketAddr, Self)> {
        let listener = listen(plan.listen)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        let address = listener.local_addr()?;
        let forwarder = Self {
            plan,
            shared,
            epoll,
            listener,
            connections: Vec::new(),
            free: Vec::new(),
            by_ip: HashMap::new(),
            calm: false,
            timers: Timers::new(0),
            counts: Counts::default(),
            buffer: vec![0; LANE_BYTES_MAX],
        };
        Ok((address, forwarder))
    }

    /// Works until it is told to stop.
    pub(super) fn run(mut self) -> Result<()> {
        let mut events = [EpollEvent::empty(); EVENTS];
        while !self.shared.stopped() {
            if self.shared.is_calm() && !std::mem::replace(&mut self.calm, true) {
                self.connections.iter_mut().flatten().for_each(|connection| connection.stream.calm());
            }
            while let Some(index) = self.timers.pop(self.shared.now()) {
                self.serve(index)?;
            }
            self.shared.show(&self.counts);
            let now = self.shared.now();
            let idle = self.timers.next().map_or(NAP, |(at, _)| at.since(now).min(NAP));
            let ready = match self.epoll.wait(&mut events, u8::try_from(idle.as_millis())?) {
                Err(Errno::EINTR) => 0,
                result => result?,
            };
            for event in &events[..ready] {
                match event.data() {
                    LISTENER => self.accept()?,
                    name => self.serve(usize::try_from(name / 2)?)?,
                }
            }
        }
        self.shared.show(&self.counts);
        Ok(())
    }

    fn accept(&mut self) -> Result<()> {
        for _ in 0..BATCH {
            let Ok((device, peer)) = self.listener.accept() else { break };
            let fits = self.connections.len() - self.free.len() < self.plan.links_max;
            let (true, Ok(server)) = (fits, dial(self.plan.server, peer.ip())) else {
                self.counts.links_refused += 1;
                break_off(&device)?;
                continue;
            };
            let (place, before) = self.by_ip.entry(peer.ip()).or_default().take();
            let (rules, seed) = self.plan.weather.of(&name(peer.ip(), place));
            let mut stream = Stream::new(rules, seed.wrapping_add(before.into()), self.shared.now());
            if self.calm {
                stream.calm();
            }
            let connection = Connection::new([device, server], stream, (peer.ip(), place))?;
            let index = match self.free.pop() {
                Some(index) => index,
                None => {
                    self.connections.push(None);
                    self.timers.add()
                }
            };
            self.connections[index] = Some(connection);
            self.counts.links += 1;
            self.serve(index)?;
        }
        Ok(())
    }

    /// Moves what can be moved on one connection, and looks what it waits for next.
    fn serve(&mut self, index: usize) -> Result<()> {
        let now = self.shared.now();
        // A connection that is over may be named by an event of the same batch.
        let Some(connection) = &mut self.connections[index] else { return Ok(()) };
        match connection.turn(now, &mut self.buffer, &mut self.counts) {
            Standing::Open => {
                connection.wait_for(index, &self.epoll)?;
                self.timers.set(index, connection.timeout_at());
            }
            standing => {
                if standing == Standing::Broken {
                    connection.ends.iter().try_for_each(|end| break_off(&end.socket))?;
                }
                let (ip, place) = connection.place;
                self.by_ip.entry(ip).or_default().taken.remove(&place);
                self.connections[index] = None;
                self.free.push(index);
                self.timers.set(index, None);
            }
        }
        Ok(())
    }
}

impl Connection {
    fn new(sockets: [TcpStream; 2], stream: Stream, place: (IpAddr, u32)) -> Result<Self> {
        for socket in &sockets {
            socket.set_nonblocking(true)?;
            socket.set_nodelay(true)?;
        }
        let ends = sockets.map(|socket| End { socket, pending: Vec::new(), done: false, interest: EpollFlags::empty() });
        Ok(Self { ends, stream, place })
    }

    fn turn(&mut self, now: Millis, buffer: &mut [u8], counts: &mut Counts) -> Standing {
        for direction in Direction::BOTH {
            if !self.take(now, direction, buffer, counts) || !self.give(now, direction, counts) {
                return Standing::Broken;
            }
        }
        if self.ends.iter().all(|end| end.done) { Standing::Over } else { Standing::Open }
    }

    /// Reads what has room on the link. `false` if the connection is broken.
    fn take(&mut self, now: Millis, direction: Direction, buffer: &mut [u8], counts: &mut Counts) -> bool {
        loop {
            let room = self.stream.room(direction).min(buffer.len());
            if room == 0 {
                return true;
            }
            match self.ends[from(direction)].socket.read(&mut buffer[..room]) {
                Ok(0) => self.stream.end(now, direction, counts),
                Ok(len) => self.stream.offer(now, direction, &buffer[..len], counts),
                Err(error) => return again(error.kind()),
            }
        }
    }

    /// Writes what has arrived. `false` if the connection is broken.
    fn give(&mut self, now: Millis, direction: Direction, counts: &mut Counts) -> bool {
        let end = &mut self.ends[to(direction)];
        loop {
            while !end.pending.is_empty() {
                match end.socket.write(&end.pending) {
                    Ok(len) => drop(end.pending.drain(..len)),
                    Err(error) => return again(error.kind()),
                }
            }
            match self.stream.poll(now, direction, counts) {
                None => return true,
                Some(Piece::Bytes(bytes)) => end.pending = bytes,
                Some(Piece::End) => {
                    end.done = true;
                    // It may have gone already.
                    let _ = end.socket.shutdown(Shutdown::Write);
                }
                Some(Piece::Cut) => return false,
            }
        }
    }

    /// Asks to be told when an end can be read, if there is room for it, or written, if something waits.
    fn wait_for(&mut self, index: usize, epoll: &Epoll) -> Result<()> {
        for direction in Direction::BOTH {
            let side = from(direction);
            let end = &mut self.ends[side];
            let mut wanted = EpollFlags::empty();
            wanted.set(EpollFlags::EPOLLIN, self.stream.room(direction) > 0);
            wanted.set(EpollFlags::EPOLLOUT, !end.pending.is_empty());
            let had = std::mem::replace(&mut end.interest, wanted);
            let mut event = EpollEvent::new(wanted, (2 * index + side) as u64);
            match (had.is_empty(), wanted.is_empty()) {
                (true, false) => epoll.add(&end.socket, event)?,
                // Not only asked for nothing: a connection that was hung up would be told of all the time.
                (false, true) => epoll.delete(&end.socket)?,
                (false, false) if had != wanted => epoll.modify(&end.socket, &mut event)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// When something arrives next at an end that has taken what came before.
    fn timeout_at(&self) -> Option<Millis> {
        let waiting = Direction::BOTH.into_iter().filter(|direction| self.ends[to(*direction)].pending.is_empty());
        waiting.filter_map(|direction| self.stream.timeout_at(direction)).min()
    }
}

/// Closing it now resets the connection instead of ending it in order.
fn break_off(socket: &TcpStream) -> Result<()> {
    Ok(SockRef::from(socket).set_linger(Some(Duration::ZERO))?)
}

/// The end that sends in this direction.
fn from(direction: Direction) -> usize {
    direction as usize
}

/// The end that receives in this direction.
fn to(direction: Direction) -> usize {
    1 - direction as usize
}

/// Whether the socket is only not ready.
fn again(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::NotConnected)
}
