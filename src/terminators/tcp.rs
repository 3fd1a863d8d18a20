//! The terminator of devices on TCP: one thread that owns the listening socket, all connections and their sessions.
//!
//! A connection begins with a greeting, which costs nothing; the device's answer to it goes to a thread of its own, because two operations with a
//! private key must not hold up anybody's session. What comes back is a session, which is told to its shard once its device has proved its key
//! with a Hello. Sessions end with their connections and are not kept. Every refusal is the same to the other side: a closed connection.

mod connection;
mod handshakes;
mod takeover;

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use firmware_protocol::coap::Code;
use firmware_protocol::crypto::Cbc;
use firmware_protocol::dtls::cid::{self, ConnectionId};
use firmware_protocol::id::DeviceId;
use firmware_protocol::session::stored::Floor;
use firmware_protocol::session::{Receipt, Uplink};
use firmware_protocol::tcp::handshake::Greeting;
use firmware_protocol::tcp::session::{CloseReason, Context, Opening, Output, Patience, TcpSession};
use firmware_protocol::time::{Millis, Now};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use router::device::Link;
use router::progress::Stage as Watching;
use router::shard::Input;
use socket2::{Domain, Protocol, Socket, Type};

use crate::admission::Admission;
use crate::config::Limit;
use crate::entropy::SystemEntropy;
use crate::faults::Rule;
use crate::mailbox::{Lane, Mailbox};
use crate::metrics::TcpMetrics;
use crate::shards::ToShards;
use crate::terminators::attendance::Attendance;
use crate::terminators::limits;
use crate::terminators::timers::Timers;
use crate::terminators::{Holder, Shared, StrangerSeen, ToTerminator, Who};

use self::connection::{Connection, Half, Live, Read, Stage, Standing};

pub use self::handshakes::{Proved, RsaHandshakes, ToRsaHandshakes};

/// What the listener is called among the events of the poll.
const LISTENER: u64 = 0;
/// Connections taken in one turn.
const ACCEPTS: usize = 64;
/// Events looked at in one turn.
const EVENTS: usize = 256;
/// Messages taken in one turn.
const MESSAGES: usize = 512;
/// How long no connection is taken after the process ran out of files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// A device waits that long for each step of the handshake.
const HANDSHAKE_LIFE: Duration = Duration::from_secs(20);
/// Connections that may wait until they are taken: a fleet that lost its server comes back at once. The kernel's own limit is as high.
const BACKLOG: i32 = 4_096;

/// Binds the listening socket.
///
/// # Errors
/// The address is taken or not ours.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // The wildcard serves both families.
        socket.set_only_v6(false)?;
    }
    // The next process takes the port over while connections of this one still end.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Where the terminator sends what it does not do itself.
#[derive(Debug)]
pub struct TcpLanes {
    /// To the shards.
    pub shards: ToShards,
    /// To the thread that does handshakes.
    pub handshakes: Lane<ToRsaHandshakes>,
}

/// Where connections come in, and how many may.
#[derive(Debug)]
pub struct TcpDoor {
    /// The listening socket.
    pub listener: TcpListener,
    /// Most connections open at once.
    pub connections_max: Limit,
    /// Who may begin a handshake.
    pub admission: Arc<Admission>,
}

/// The terminator.
#[derive(Debug)]
pub struct TcpWorker {
    index: u16,
    door: TcpDoor,
    /// `None` while connections are taken.
    accept_again_at: Option<Millis>,
    epoll: Epoll,
    mailbox: Mailbox<ToTerminator>,
    lanes: TcpLanes,
    metrics: TcpMetrics,
    attendance: Attendance,
    shared: Shared,
    /// By a number that is never used twice, so that what is late finds nobody instead of somebody else.
    connections: HashMap<u64, Connection>,
    next: u64,
    by_id: HashMap<ConnectionId, u64>,
    timers: Timers<u64>,
    cipher: Cbc,
    now: Now,
    buffer: Box<[u8]>,
}

impl TcpWorker {
    /// A terminator with the number `index` among all.
    ///
    /// # Errors
    /// The system or OpenSSL refuses what every thread needs.
    pub fn new(
        index: u16,
        door: TcpDoor,
        mailbox: Mailbox<ToTerminator>,
        lanes: TcpLanes,
        metrics: TcpMetrics,
        shared: Shared,
    ) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(io::Error::from)?;
        epoll.add(&door.listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER)).map_err(io::Error::from)?;
        mailbox.watch(epoll.0.as_fd())?;
        let now = shared.clock.now();
        Ok(Self {
            index,
            door,
            accept_again_at: None,
            epoll,
            mailbox,
            lanes,
            metrics,
            attendance: Attendance::new(index, &shared.watch),
            shared,
            connections: HashMap::new(),
            next: LISTENER + 1,
            by_id: HashMap::new(),
            timers: Timers::default(),
            cipher: Cbc::new().map_err(io::Error::other)?,
            now,
            buffer: vec![0; connection::READ_LEN].into_boxed_slice(),
        })
    }

    /// Runs until `stop` is set and the mailbox's bell was rung. Devices are told nothing; they come again.
    pub fn run(mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Acquire) {
            let until = self.timers.timeout_at().into_iter().chain(self.accept_again_at).min();
            let pause = until.map_or(Duration::from_secs(1), |at| at.since(self.now.at));
            self.attendance.enter(Watching::Wait);
            self.mailbox.wait(pause.min(Duration::from_secs(1)));
            self.turn();
        }
    }

    fn turn(&mut self) {
        self.now = self.shared.clock.now();
        let rule = self.attendance.enter(Watching::Receive);
        self.lanes.shards.note_evidence(rule != Some(Rule::Evidence));
        let mut events = [EpollEvent::empty(); EVENTS];
        // An interruption is an empty turn.
        let count = self.epoll.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
        for event in &events[..count] {
            match event.data() {
                LISTENER => self.accept(),
                serial => self.ready(serial, event.events()),
            }
        }
        self.attendance.enter(Watching::Mailbox);
        let (mut messages, mut takeovers) = (Vec::new(), Vec::new());
        self.mailbox.drain(MESSAGES, |message| match message {
            ToTerminator::TakeOver(takeover) => takeovers.push(*takeover),
            message => messages.push(message),
        });
        messages.into_iter().for_each(|message| self.take_message(message));
        // Behind what came before it, and what the old thread said that was taken with it.
        takeovers.into_iter().for_each(|takeover| self.take_over(takeover));
        if self.attendance.enter(Watching::Timers) != Some(Rule::Timers) {
            self.handle_timeouts();
            self.attendance.looked_after_timers();
        }
        self.attendance.enter(Watching::Output);
        self.lanes.shards.ring();
        self.lanes.handshakes.ring();
        self.attendance.turned(self.now.at);
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPTS {
            match self.door.listener.accept() {
                Ok((socket, peer)) => self.accepted(socket, peer),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The connection was gone before we came to it.
                Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
                Err(error) => return self.pause_accepting(&error),
            }
        }
    }

    /// Without files the listener would wake us all the time.
    fn pause_accepting(&mut self, error: &io::Error) {
        self.metrics.refused("no_files");
        tracing::warn!(%error, "connections of devices cannot be taken");
        if self.epoll.delete(&self.door.listener).is_ok() {
            self.accept_again_at = Some(self.now.at + ACCEPT_PAUSE);
        }
    }

    fn resume_accepting(&mut self) {
        if self.accept_again_at.is_some_and(|at| self.now.at >= at)
            && self.epoll.add(&self.door.listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER)).is_ok()
        {
            self.accept_again_at = None;
        }
    }

    fn accepted(&mut self, socket: TcpStream, peer: SocketAddr) {
        if self.connections.len() >= self.door.connections_max.as_usize() {
            return self.metrics.refused("connection_limit");
        }
        let place = match self.door.admission.enter(peer.ip().to_canonical()) {
            Ok(place) => place,
            Err(full) => return self.metrics.refused(full.name()),
        };
        let greeting = Greeting::new(&mut SystemEntropy);
        let Ok(mut connection) = Connection::new(socket, peer, greeting, place, self.now.at + HANDSHAKE_LIFE) else { return };
        let serial = self.next;
        self.next += 1;
        if self.epoll.add(&connection, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP, serial)).is_err()
            || !connection.greet()
        {
            return;
        }
        self.metrics.connections.inc();
        self.connections.insert(serial, connection);
        self.schedule(serial);
    }

    fn ready(&mut self, serial: u64, events: EpollFlags) {
        if events.contains(EpollFlags::EPOLLOUT) {
            let written = self.connections.get_mut(&serial).is_none_or(|connection| connection.flush(&self.epoll, serial));
            if !written {
                return self.drop_connection(serial, "broken");
            }
        }
        if events.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            self.read(serial);
        }
    }

    /// Reads once: what is left makes the next turn come at once, after everybody else's.
    fn read(&mut self, serial: u64) {
        let Some(connection) = self.connections.get_mut(&serial) else { return };
        match connection.read(&mut self.buffer) {
            Read::Nothing => {}
            Read::Over => self.drop_connection(serial, "closed_by_device"),
            Read::Bytes(count) => {
                let bytes = std::mem::take(&mut self.buffer);
                self.take_bytes(serial, &bytes[..count]);
                self.buffer = bytes;
            }
        }
    }

    fn take_bytes(&mut self, serial: u64, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(&serial) else { return };
        match &mut connection.stage {
            Stage::Half(Half { greeting: Some(greeting), .. }) => {
                let taken = greeting.take(bytes);
                if taken < bytes.len() {
                    return self.drop_connection(serial, "early");
                }
                if greeting.wanted() == 0 {
                    self.judge(serial);
                }
            }
            // A device waits for our reply.
            Stage::Half(_) => self.drop_connection(serial, "early"),
            Stage::Live(live) => {
                if !live.allowance.has_records(self.now.at, &self.shared.limits) {
                    self.shared.noisy.refused(self.now.at, Who::Device(live.session.device()));
                    // A stream has no message that could be left out.
                    return self.drop_connection(serial, "record_limit");
                }
                self.with_session(serial, |session, cx| session.handle_bytes(cx, bytes));
                self.heard(serial);
            }
        }
    }

    /// Passes a whole answer to the thread that can open it, where it may have to wait: the device does.
    fn judge(&mut self, serial: u64) {
        let Some(connection) = self.connections.get_mut(&serial) else { return };
        let peer = connection.peer();
        let Stage::Half(half) = &mut connection.stage else { return };
        half.until = self.now.at + HANDSHAKE_LIFE;
        let Some(answer) = half.greeting.take().and_then(Greeting::answer) else { return };
        if self.lanes.handshakes.push(ToRsaHandshakes { terminator: self.index, serial, peer, answer: Box::new(answer) }).is_err() {
            return self.drop_connection(serial, "handshakes_full");
        }
        self.schedule(serial);
    }

    fn take_message(&mut self, message: ToTerminator) {
        match message {
            ToTerminator::Heartbeat { of, heartbeat } => self.attendance.take(of, heartbeat),
            ToTerminator::Proved { serial, established } => self.proved(serial, *established),
            ToTerminator::Unproved { serial } => self.drop_connection(serial, "refused"),
            ToTerminator::Acknowledge { connection, receipt, code } => {
                self.shared.metrics.answered(code);
                self.lanes.shards.answered(receipt, self.now.at);
                self.with_named(connection, |session, cx| session.acknowledge(cx, receipt, code));
            }
            ToTerminator::Request { connection, id, request, deadline } => {
                let mut result = Ok(());
                let device = self.with_named(connection, |session, cx| result = session.request(cx, id, request, deadline));
                if let (Some(device), Err(error)) = (device, result) {
                    self.lanes.shards.tell(device, Input::Settled { request: id, outcome: Err(error) });
                }
            }
            ToTerminator::Retire { connection, reason } => {
                tracing::debug!(session = %connection, ?reason, "session retired");
                // The shard knows: it said so.
                if let Some(serial) = self.by_id.remove(&connection) {
                    self.drop_connection(serial, "retired");
                }
            }
            ToTerminator::Identify { connection, identity } => {
                self.with_named(connection, |session, _| session.set_owner(identity.owner));
            }
            // What only terminators on UDP are sent, or is taken elsewhere.
            ToTerminator::Datagram { .. }
            | ToTerminator::TakeOver(_)
            | ToTerminator::Unlabelled { .. }
            | ToTerminator::Flight { .. }
            | ToTerminator::Established { .. }
            | ToTerminator::Opened { .. }
            | ToTerminator::NotOpened { .. } => self.metrics.refused("misrouted"),
        }
    }

    fn proved(&mut self, serial: u64, established: Proved) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(&serial) else { return };
        let id = cid::internal(&mut SystemEntropy);
        let (device, owner, standing) = match established.holder {
            Holder::Known(identity) => (identity.device, identity.owner, Standing::Proving(Box::new(identity))),
            Holder::Stranger => (established.device, None, Standing::Stranger(Box::new(established.public_key))),
        };
        let opening = Opening {
            device,
            owner,
            connection: id,
            path: connection.path(),
            secret: established.secret,
            generation: self.shared.generations.current(),
            patience: Patience::default(),
        };
        let allowance = self.shared.limits.resume(now.at, device);
        connection.stage = Stage::Live(Box::new(Live::new(now.unix, TcpSession::new(now, &opening), standing, allowance)));
        self.by_id.insert(id, serial);
        self.metrics.handshakes.inc();
        self.send(serial, &established.reply);
        self.schedule(serial);
    }

    /// A frame came: the shard learns of it now and then.
    fn heard(&mut self, serial: u64) {
        let now = self.now;
        let Some(live) = self.connections.get_mut(&serial).and_then(Connection::live) else { return };
        if live.standing == Standing::Known && live.liveness.report_due(now.at) {
            let (device, connection) = (live.session.device(), live.session.connection());
            self.lanes.shards.tell(device, Input::Heard { device, link: self.link(connection), at: now.unix });
        }
    }

    fn link(&self, connection: ConnectionId) -> Link {
        Link { terminator: self.index, connection }
    }

    /// The device of the session, if it is still there.
    fn with_named(&mut self, connection: ConnectionId, action: impl FnOnce(&mut TcpSession, &mut Context<'_>)) -> Option<DeviceId> {
        let serial = *self.by_id.get(&connection)?;
        let device = self.connections.get_mut(&serial)?.live()?.session.device();
        self.with_session(serial, action);
        Some(device)
    }

    fn with_session(&mut self, serial: u64, action: impl FnOnce(&mut TcpSession, &mut Context<'_>)) {
        let Some(live) = self.connections.get_mut(&serial).and_then(Connection::live) else { return };
        let (mut outputs, mut entropy) = (Vec::new(), SystemEntropy);
        action(&mut live.session, &mut Context { now: self.now, cipher: &mut self.cipher, entropy: &mut entropy, out: &mut outputs });
        self.schedule(serial);
        for output in outputs {
            self.handle_output(serial, output);
        }
    }

    fn handle_output(&mut self, serial: u64, output: Output) {
        let Some(live) = self.connections.get_mut(&serial).and_then(Connection::live) else { return };
        let (device, connection) = (live.session.device(), live.session.connection());
        let link = self.link(connection);
        match output {
            Output::Transmit(frame) => self.send(serial, &frame),
            Output::Received { receipt, uplink } => self.received(serial, link, receipt, uplink),
            Output::Settled { request, outcome } => {
                self.lanes.shards.tell(device, Input::Settled { request, outcome: Ok(outcome) });
            }
            Output::DescribeLost(kind) => {
                self.lanes.shards.tell(device, Input::DescribeLost { device, kind });
            }
            Output::Unkept(unkept) => self.shared.metrics.session_unkept(unkept),
            Output::Closed(reason) => self.drop_connection(serial, name_of(reason)),
        }
    }

    fn received(&mut self, serial: u64, link: Link, receipt: Receipt, uplink: Uplink) {
        let (now, limits) = (self.now, &self.shared.limits);
        let Some(connection) = self.connections.get_mut(&serial) else { return };
        let ip = connection.peer().ip();
        let Some(live) = connection.live() else { return };
        let (device, owner) = (live.session.device(), live.session.owner());
        match &live.standing {
            // It stays a stranger to the end: its shard knows nothing of it.
            Standing::Stranger(key) => {
                if let Uplink::Hello { hello, .. } = &uplink {
                    let (spki, platform, system_version) = (key.spki().to_vec(), hello.platform, hello.system_version);
                    self.shared.strangers.seen(StrangerSeen { spki, device, platform, system_version }, now.unix);
                }
                return self.drop_connection(serial, "stranger");
            }
            Standing::Proving(identity) => {
                let identity = **identity;
                live.standing = Standing::Known;
                connection.leave_admission();
                self.shared.metrics.session_began();
                if !self.lanes.shards.tell(device, Input::Opened { link, identity, ip: ip.to_canonical() }) {
                    return self.drop_connection(serial, "shard_full");
                }
            }
            Standing::Known => {
                live.allowance.take_records(now.at, 1, limits);
                if limits::is_event(&uplink)
                    && let Err(over) = live.allowance.take_event(now.at, owner, limits)
                {
                    self.shared.event_refused(now.at, over, device, owner);
                    return self.with_session(serial, |session, cx| session.acknowledge(cx, receipt, Code::TOO_MANY));
                }
            }
        }
        self.shared.metrics.messages_received.inc();
        let Some(live) = self.connections.get_mut(&serial).and_then(Connection::live) else { return };
        live.messages += 1;
        // A stream is not resumed, so that nothing is ever compared with this floor: it only says where in which stream the message stood.
        let floor = Floor { connection: link.connection, sequence: live.messages, message_id: 0, digest: 0 };
        if !self.lanes.shards.tell(device, Input::Received { link, device, receipt, floor, uplink }) {
            self.shared.metrics.unkept("shard_full");
            self.with_session(serial, |session, cx| session.forget(cx, receipt));
        }
    }

    fn send(&mut self, serial: u64, bytes: &[u8]) {
        let sent = self.connections.get_mut(&serial).is_none_or(|connection| connection.send(bytes, &self.epoll, serial));
        if !sent {
            self.drop_connection(serial, "slow");
        }
    }

    /// Notes when the connection wants to be looked at next.
    fn schedule(&mut self, serial: u64) {
        let Some(connection) = self.connections.get_mut(&serial) else { return };
        let Some(at) = connection.timeout_at() else { return };
        self.timers.set(serial, &mut connection.alarm, at);
    }

    fn handle_timeouts(&mut self) {
        self.resume_accepting();
        while let Some((at, serial)) = self.timers.pop(self.now.at) {
            let Some(connection) = self.connections.get_mut(&serial) else { continue };
            if !connection.alarm.go_off(at) {
                continue;
            }
            match connection.stage {
                Stage::Half(Half { until, .. }) if until <= self.now.at => self.drop_connection(serial, "handshake_timeout"),
                Stage::Half(_) => self.schedule(serial),
                Stage::Live(_) => self.with_session(serial, TcpSession::handle_timeout),
            }
        }
    }

    /// Closes a connection, whatever for: the other side sees the same in every case.
    fn drop_connection(&mut self, serial: u64, reason: &str) {
        // What was open is told its end while the connection is still found.
        self.with_session(serial, |session, cx| session.close(cx));
        let Some(mut connection) = self.connections.remove(&serial) else { return };
        self.metrics.connections.dec();
        self.metrics.closed(reason);
        let Some(live) = connection.live() else { return };
        let (device, id, known) = (live.session.device(), live.session.connection(), live.standing == Standing::Known);
        let retired = self.by_id.remove(&id).is_none();
        if known {
            self.shared.limits.suspend(self.now.at, device, live.allowance);
            self.shared.metrics.session_ended();
            if !retired {
                self.lanes.shards.tell(device, Input::Closed { device, link: self.link(id) });
            }
        }
    }
}

/// What a reason is called in metrics.
fn name_of(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::Unproved => "unproved",
        CloseReason::Silent => "silent",
        CloseReason::Frame(_) => "bad_frame",
        CloseReason::Malformed => "malformed_message",
        CloseReason::StateLost => "state_lost",
    }
}
