//! A small cloud on a loopback socket, made of the protocol crate's own server parts: no threads but one, no store but memory that survives a
//! "kill". It can be told to do wrong.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use firmware_protocol::coap::Code;
use firmware_protocol::crypto::{Aead, Curve, KeyPair, PublicKey};
use firmware_protocol::dtls::cid::{ConnectionId, ConnectionIds};
use firmware_protocol::dtls::cookie::Cookies;
use firmware_protocol::dtls::demux::{Datagram, demux};
use firmware_protocol::dtls::hello::ClientHello;
use firmware_protocol::dtls::server::{Handshaker, Pending, ServerCertificate};
use firmware_protocol::entropy::SeededEntropy;
use firmware_protocol::id::{DeviceId, Identity};
use firmware_protocol::path::Path;
use firmware_protocol::session::publish::{Delivery, Publish};
use firmware_protocol::session::request::{Request, RequestId};
use firmware_protocol::session::stored::{Floor, Generation, StoredSession};
use firmware_protocol::session::{Context, Output, Session, Uplink};
use firmware_protocol::time::{Millis, Now, UnixMillis};
use holdfast_load::cli::AcceptedEvent;
use holdfast_load::fleet::text::NEWS_PREFIX;
use holdfast_load::keys::DeviceKey;

/// The cloud ends by itself after this.
const LIMIT: Duration = Duration::from_secs(120);
const NAP: Duration = Duration::from_millis(2);

/// What the cloud does wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Nothing,
    /// Each start counts record numbers from the same one.
    SameGeneration,
    /// Every tenth event is acknowledged and not kept.
    LosesEvents,
    /// Every tenth event is kept twice.
    DoublesEvents,
}

enum Order {
    Kill,
    /// Calls a function on each device, and delivers it an event.
    Talk,
    Stop,
}

/// A running cloud.
pub(crate) struct MiniCloud {
    pub(crate) address: SocketAddr,
    pub(crate) key: PublicKey,
    orders: Sender<Order>,
    thread: JoinHandle<Result<Vec<AcceptedEvent>>>,
}

impl MiniCloud {
    pub(crate) fn start(devices: &[DeviceKey], fault: Fault) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(NAP))?;
        let (address, (orders, mailbox)) = (socket.local_addr()?, channel());
        let mut entropy = SeededEntropy::new(99);
        let server_key = KeyPair::generate(&mut Curve::new()?, &mut entropy)?;
        let key = *server_key.public();
        let cloud = Cloud {
            fault,
            known: devices.iter().map(|device| (*device.pair.public(), device.id)).collect(),
            cookies: Cookies::new(Millis(0), &mut entropy),
            ids: ConnectionIds::new(1, &[1; 32], None),
            handshaker: Handshaker::new(server_key, ServerCertificate::Omitted)?,
            generation: Generation(100),
            pending: HashMap::new(),
            sessions: HashMap::new(),
            disk: HashMap::new(),
            accepted: Vec::new(),
            aead: Aead::new()?,
            origin: Instant::now(),
            requests: 0,
            socket,
            entropy,
        };
        Ok(Self { address, key, orders, thread: thread::spawn(move || cloud.run(&mailbox)) })
    }

    pub(crate) fn kill(&self) -> Result<()> {
        self.orders.send(Order::Kill).ok().context("the cloud is gone")
    }

    pub(crate) fn talk(&self) -> Result<()> {
        self.orders.send(Order::Talk).ok().context("the cloud is gone")
    }

    /// What it accepted.
    pub(crate) fn stop(self) -> Result<Vec<AcceptedEvent>> {
        self.orders.send(Order::Stop).ok().context("the cloud is gone")?;
        self.thread.join().ok().context("the cloud panicked")?
    }
}

/// What a kill leaves of a session.
struct Kept {
    stored: StoredSession,
    floor: Option<u64>,
    seen: Vec<(u16, u64)>,
}

struct Cloud {
    fault: Fault,
    known: HashMap<PublicKey, DeviceId>,
    cookies: Cookies,
    ids: ConnectionIds,
    handshaker: Handshaker,
    generation: Generation,
    pending: HashMap<SocketAddr, Pending>,
    sessions: HashMap<ConnectionId, Session>,
    disk: HashMap<ConnectionId, Kept>,
    accepted: Vec<AcceptedEvent>,
    aead: Aead,
    origin: Instant,
    requests: u64,
    socket: UdpSocket,
    entropy: SeededEntropy,
}

impl Cloud {
    fn run(mut self, mailbox: &Receiver<Order>) -> Result<Vec<AcceptedEvent>> {
        let mut buffer = [0; 2048];
        while self.origin.elapsed() < LIMIT {
            match mailbox.try_recv() {
                Ok(Order::Kill) => self.kill(),
                Ok(Order::Talk) => self.talk(),
                Ok(Order::Stop) | Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => {}
            }
            match self.socket.recv_from(&mut buffer) {
                Ok((len, from)) => self.receive(&buffer[..len], from)?,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(self.accepted)
    }

    fn now(&self) -> Now {
        let at = Millis(0) + self.origin.elapsed();
        Now { at, unix: UnixMillis(1_800_000_000_000 + at.0) }
    }

    fn receive(&mut self, datagram: &[u8], from: SocketAddr) -> Result<()> {
        match demux(datagram) {
            Datagram::Hello(hello) if !self.cookies.proves(from, &hello) => {
                self.socket.send_to(&self.cookies.challenge(from, &hello), from)?;
            }
            Datagram::Hello(hello) => self.begin(&hello, from)?,
            Datagram::Flight { connection: Some(connection) } if !self.sessions.contains_key(&connection) => self.finish(datagram, from),
            Datagram::Flight { connection: Some(connection) } | Datagram::Record { connection } => {
                let path = Path { peer: from, local: None };
                self.with_session(connection, |session, cx| {
                    // What is not for the session changes nothing.
                    let _ = session.handle_datagram(cx, datagram, path);
                });
            }
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, hello: &ClientHello<'_>, from: SocketAddr) -> Result<()> {
        if !self.pending.get(&from).is_some_and(|pending| pending.answers(hello.random)) {
            let connection = self.ids.allocate(3, &mut self.entropy);
            self.pending.insert(from, self.handshaker.begin(hello, Some(connection), &mut self.entropy)?);
        }
        let pending = self.pending.get_mut(&from).context("just put there")?;
        self.socket.send_to(&pending.flight(hello.record_sequence), from)?;
        Ok(())
    }

    fn finish(&mut self, datagram: &[u8], from: SocketAddr) {
        let Some(pending) = self.pending.get(&from) else { return };
        let Ok(established) = self.handshaker.finish(pending, datagram, |key| self.known.get(key).copied()) else {
            return;
        };
        self.pending.remove(&from);
        let Some(connection) = established.connection else { return };
        let stored = StoredSession {
            connection,
            id_on_wire: true,
            identity: Identity { device: established.holder, key: established.public_key.hash(), owner: None, product: None },
            keys: established.keys,
            birth: self.generation,
            established_at: self.now().unix,
            path: Path { peer: from, local: None },
            final_flight: established.final_flight,
        };
        let Some(session) = Session::established(&stored, established.finished_sequence, self.generation) else {
            return;
        };
        self.disk.insert(connection, Kept { stored, floor: None, seen: Vec::new() });
        self.sessions.insert(connection, session);
        self.with_session(connection, Session::confirm);
    }

    /// Calls a session and does what it wants done; what is received is kept and acknowledged.
    fn with_session(&mut self, connection: ConnectionId, action: impl FnOnce(&mut Session, &mut Context<'_>)) {
        for output in self.call(connection, action) {
            match output {
                Output::Transmit { path, datagram } => self.transmit(path, &datagram),
                Output::Received { receipt, floor, uplink } => {
                    self.keep(floor, &uplink);
                    for answer in self.call(connection, |session, cx| session.acknowledge(cx, receipt, Code::EMPTY)) {
                        if let Output::Transmit { path, datagram } = answer {
                            self.transmit(path, &datagram);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn call(&mut self, connection: ConnectionId, action: impl FnOnce(&mut Session, &mut Context<'_>)) -> Vec<Output> {
        let (now, mut out) = (self.now(), Vec::new());
        if let Some(session) = self.sessions.get_mut(&connection) {
            action(session, &mut Context { now, aead: &mut self.aead, entropy: &mut self.entropy, out: &mut out });
        }
        out
    }

    fn transmit(&self, path: Path, datagram: &[u8]) {
        // A datagram that does not leave is a datagram lost.
        let _ = self.socket.send_to(datagram, path.peer);
    }

    fn keep(&mut self, floor: Floor, uplink: &Uplink) {
        let Some(kept) = self.disk.get_mut(&floor.connection) else { return };
        kept.floor = kept.floor.max(Some(floor.sequence));
        kept.seen.push((floor.message_id, floor.digest));
        let source = kept.stored.identity.device;
        if let Uplink::Publish(publish) = uplink {
            let copies = match self.fault {
                Fault::LosesEvents if self.entropy.below(10) == 0 => 0,
                Fault::DoublesEvents if self.entropy.below(10) == 0 => 2,
                _ => 1,
            };
            (0..copies).for_each(|_| self.accept(source, publish));
        }
    }

    fn accept(&mut self, source: DeviceId, publish: &Publish) {
        let data = publish.data.as_ref().map(|data| String::from_utf8_lossy(data).into_owned());
        let position = self.accepted.len() as u64;
        self.accepted.push(AcceptedEvent { position, name: publish.name.clone(), data, source: Some(source.to_string()) });
    }

    fn kill(&mut self) {
        if self.fault != Fault::SameGeneration {
            self.generation.0 += 1;
        }
        let now = self.now();
        self.pending.clear();
        self.cookies = Cookies::new(now.at, &mut self.entropy);
        let (generation, kept) = (self.generation, self.disk.values());
        let restored = kept.filter_map(|kept| {
            let mut session = Session::restored(&kept.stored, kept.floor, None, generation)?;
            session.remember(now.at, &kept.seen);
            Some(session)
        });
        self.sessions = restored.map(|session| (session.connection(), session)).collect();
    }

    fn talk(&mut self) {
        let call = Request::Call { function: "double".into(), argument: "21".into() };
        let news = Delivery::new(&format!("{NEWS_PREFIX}/today"), 0, Some(b"2")).map(Request::Deliver);
        let connections: Vec<ConnectionId> = self.sessions.keys().copied().collect();
        for (connection, request) in connections.iter().flat_map(|id| [Ok(call.clone()), news.clone()].map(|request| (*id, request))) {
            let Ok(request) = request else { continue };
            self.requests += 1;
            let (id, deadline) = (RequestId(self.requests), self.now().at + Duration::from_secs(30));
            self.with_session(connection, |session, cx| {
                // A device that is busy is not asked.
                let _ = session.request(cx, id, request, deadline);
            });
        }
    }
}
