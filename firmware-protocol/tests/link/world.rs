//! A cloud of one session, a device, and the link between them.

use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use firmware_protocol::coap::Code;
use firmware_protocol::crypto::{Aead, Curve, KeyPair};
use firmware_protocol::device::{Age, App, Device, DeviceConfig, DeviceEvent, DeviceTools};
use firmware_protocol::dtls::cid::{ConnectionId, ConnectionIds};
use firmware_protocol::dtls::cookie::Cookies;
use firmware_protocol::dtls::demux::{Datagram, demux};
use firmware_protocol::dtls::record::Record;
use firmware_protocol::dtls::server::{Handshaker, Pending, ServerCertificate};
use firmware_protocol::entropy::SeededEntropy;
use firmware_protocol::id::{DeviceId, Identity, OwnerId};
use firmware_protocol::path::Path;
use firmware_protocol::session::request::{Outcome, Request, RequestId};
use firmware_protocol::session::stored::{Generation, StoredSession};
use firmware_protocol::session::{Context, Dropped, Output, Session, Uplink};
use firmware_protocol::time::{Millis, Now, UnixMillis};

use crate::disk::{Commit, Disk, Written};
use crate::sample;

const SERVER: &str = "192.0.2.1:5684";

/// What the link does to datagrams, in percent and milliseconds.
#[derive(Clone, Copy)]
pub(crate) struct Link {
    loss: u64,
    repeat: u64,
    delay: u64,
    jitter: u64,
}

impl Link {
    pub(crate) fn perfect() -> Self {
        Self { loss: 0, repeat: 0, delay: 5, jitter: 0 }
    }

    /// Loses a little: a device that waits long enough always gets through.
    pub(crate) fn fair(seed: u64) -> Self {
        Self { loss: seed % 4, repeat: seed % 10, delay: 20, jitter: 50 }
    }

    /// Loses nothing, but repeats and reorders.
    pub(crate) fn whole(seed: u64) -> Self {
        Self { loss: 0, repeat: seed % 10, delay: 20, jitter: 50 }
    }

    pub(crate) fn bad(seed: u64) -> Self {
        Self { loss: seed % 25, repeat: seed % 30, delay: 50, jitter: 10 * (seed % 60) }
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct InFlight {
    arrives: std::cmp::Reverse<(Millis, u64)>,
    to_server: bool,
    path: SocketAddr,
    bytes: Vec<u8>,
}

pub(crate) struct World {
    now: Millis,
    entropy: SeededEntropy,
    link: Link,
    flying: BinaryHeap<InFlight>,
    order: u64,
    pub(crate) device: Device,
    tools: DeviceTools,
    address: SocketAddr,
    server_key: KeyPair,
    generation: Generation,
    cookies: Cookies,
    ids: ConnectionIds,
    handshaker: Handshaker,
    pending: HashMap<SocketAddr, Pending>,
    session: Option<Session>,
    pub(crate) disk: Disk,
    /// When the server is up again, if it is down.
    down_until: Option<Millis>,
    aead: Aead,
    next_request: u64,
    pub(crate) outcomes: BTreeMap<u64, Vec<Outcome>>,
    pub(crate) events: Vec<DeviceEvent>,
    /// Everything that was made durable.
    pub(crate) uplinks: Vec<Uplink>,
    pub(crate) handshakes: usize,
    pub(crate) dropped: usize,
    pub(crate) wrong_keys: usize,
    pub(crate) forge_flights: usize,
    pub(crate) forged: usize,
    pub(crate) captured: Option<Vec<u8>>,
    /// What the device sent.
    pub(crate) sent: Vec<Vec<u8>>,
    capturing: bool,
}

impl World {
    pub(crate) fn new(seed: u64, link: Link) -> Self {
        Self::made(seed, link, sample::app(), Age::default())
    }

    pub(crate) fn with_app(seed: u64, link: Link, app: App) -> Self {
        Self::made(seed, link, app, Age::default())
    }

    pub(crate) fn with_age(age: Age, seed: u64, link: Link) -> Self {
        // Where there are no blocks, a describe must go into one message.
        let app = sample::app_with(if age == Age::V2 { 3 } else { 60 });
        Self::made(seed, link, app, age)
    }

    fn made(seed: u64, link: Link, app: App, age: Age) -> Self {
        let mut entropy = SeededEntropy::new(seed.wrapping_mul(77).wrapping_add(5));
        let mut curve = Curve::new().unwrap();
        let (server_key, key) =
            (KeyPair::generate(&mut curve, &mut entropy).unwrap(), KeyPair::generate(&mut curve, &mut entropy).unwrap());
        let config = DeviceConfig {
            age,
            id: DeviceId([7; 12]),
            key,
            server_key: *server_key.public(),
            platform: 13,
            keep_alive: Duration::from_secs(25),
            app,
            system_describe: sample::system_describe(),
            audit: true,
        };
        let device = Device::new(config, seed, Millis(0));
        Self {
            now: Millis(0),
            link,
            flying: BinaryHeap::new(),
            order: 0,
            device,
            tools: DeviceTools::new().unwrap(),
            address: "198.51.100.1:4000".parse().unwrap(),
            generation: Generation(1000),
            cookies: Cookies::new(Millis(0), &mut entropy),
            ids: ConnectionIds::new(1, &[1; 32], None),
            handshaker: Handshaker::new(server_key.clone(), ServerCertificate::Omitted).unwrap(),
            server_key,
            pending: HashMap::new(),
            session: None,
            disk: Disk::default(),
            down_until: None,
            aead: Aead::new().unwrap(),
            next_request: 0,
            outcomes: BTreeMap::new(),
            events: Vec::new(),
            uplinks: Vec::new(),
            handshakes: 0,
            dropped: 0,
            wrong_keys: 0,
            forge_flights: 0,
            forged: 0,
            captured: None,
            sent: Vec::new(),
            capturing: false,
            entropy,
        }
    }

    pub(crate) fn age(&self) -> Age {
        self.device.config().age
    }

    pub(crate) fn chance(&mut self, bound: u64) -> u64 {
        self.entropy.below(bound)
    }

    pub(crate) fn link_loses(&self) -> bool {
        self.link.loss > 0
    }

    pub(crate) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.step(end);
        }
    }

    pub(crate) fn run_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) {
        let end = self.now + limit;
        while !done(self) {
            assert!(self.now < end, "not done after {limit:?}: {:?}", self.events.iter().rev().take(5).collect::<Vec<_>>());
            self.step(end);
        }
    }

    /// Goes to the next moment at which anything happens.
    fn step(&mut self, end: Millis) {
        let arrival = self.flying.peek().map(|flying| flying.arrives.0.0);
        let session = self.session.as_ref().and_then(Session::timeout_at);
        let all = [arrival, self.disk.due(), self.down_until, session, self.device.timeout_at()];
        self.now = all.into_iter().flatten().min().unwrap_or(end).max(self.now).min(end);
        if self.down_until.is_some_and(|until| until <= self.now) {
            self.start();
        }
        while self.flying.peek().is_some_and(|flying| flying.arrives.0.0 <= self.now) {
            let flying = self.flying.pop().unwrap();
            match flying.to_server {
                true => self.server_receives(&flying.bytes, flying.path),
                false if flying.path == self.address => self.device.handle_datagram(self.now, &mut self.tools, &flying.bytes),
                false => {}
            }
        }
        while let Some(written) = self.disk.pop(self.now) {
            self.written(written);
        }
        if session.is_some_and(|at| at <= self.now) {
            self.with_session(|session, cx| session.handle_timeout(cx));
        }
        self.device.handle_timeout(self.now, &mut self.tools);
        self.collect_device();
    }

    fn collect_device(&mut self) {
        while let Some(datagram) = self.device.poll_transmit() {
            if self.capturing && datagram[0] == 25 {
                self.captured = Some(datagram.clone());
                continue;
            }
            let path = self.address;
            self.sent.push(datagram.clone());
            self.fly(true, path, datagram);
        }
        while let Some(event) = self.device.poll_event() {
            self.handshakes += usize::from(event == DeviceEvent::HandshakeStarted);
            self.events.push(event);
        }
    }

    fn fly(&mut self, to_server: bool, path: SocketAddr, bytes: Vec<u8>) {
        if self.entropy.below(100) < self.link.loss {
            return;
        }
        let copies = 1 + u64::from(self.entropy.below(100) < self.link.repeat);
        for _ in 0..copies {
            let delay = self.link.delay + self.entropy.below(self.link.jitter + 1);
            self.order += 1;
            let arrives = std::cmp::Reverse((self.now + Duration::from_millis(delay), self.order));
            self.flying.push(InFlight { arrives, to_server, path, bytes: bytes.clone() });
        }
    }

    fn path(from: SocketAddr) -> Path {
        Path { peer: from, local: Some(SERVER.parse::<SocketAddr>().unwrap().ip()) }
    }

    fn clock(&self) -> Now {
        Now { at: self.now, unix: UnixMillis(1_800_000_000_000 + self.now.0) }
    }

    fn server_receives(&mut self, datagram: &[u8], from: SocketAddr) {
        if self.down_until.is_some() {
            return;
        }
        match demux(datagram) {
            Datagram::Hello(hello) if !self.cookies.proves(from, &hello) => {
                let challenge = self.cookies.challenge(from, &hello);
                self.fly(false, from, challenge);
            }
            Datagram::Hello(hello) => {
                if !self.pending.get(&from).is_some_and(|pending| pending.answers(hello.random)) {
                    let connection = self.ids.allocate(3, &mut self.entropy);
                    let pending = self.handshaker.begin(&hello, Some(connection), &mut self.entropy).unwrap();
                    self.pending.insert(from, pending);
                }
                let flight = self.pending.get_mut(&from).unwrap().flight(hello.record_sequence);
                self.fly(false, from, flight);
            }
            Datagram::Flight { connection: Some(connection) } if self.is_session(connection) => self.session_receives(datagram, from),
            Datagram::Flight { connection: None } if self.is_at(from) && self.session_takes(datagram, from) => {}
            Datagram::Flight { .. } => self.finish(datagram, from),
            Datagram::Record { connection } if self.is_session(connection) => self.session_receives(datagram, from),
            Datagram::Unlabelled if self.is_at(from) => self.session_receives(datagram, from),
            Datagram::Resumed { device } if self.session.as_ref().is_some_and(|session| session.device() == device) => {
                self.session_receives(datagram, from);
            }
            _ => self.dropped += 1,
        }
    }

    fn is_session(&self, connection: ConnectionId) -> bool {
        self.session.as_ref().is_some_and(|session| session.connection() == connection)
    }

    /// Whether the device's address, proved or not, is `from`.
    fn is_at(&self, from: SocketAddr) -> bool {
        self.session.as_ref().is_some_and(|session| [session.path(), session.answer_path()].iter().any(|path| path.peer == from))
    }

    fn finish(&mut self, datagram: &[u8], from: SocketAddr) {
        for _ in 0..std::mem::take(&mut self.forge_flights) {
            let mut forged = datagram.to_vec();
            // Anywhere but in the record headers, whose numbers are not authenticated before epoch 1.
            let bodies: Vec<usize> = record_bodies(datagram).into_iter().flatten().collect();
            let at = bodies[usize::try_from(self.entropy.below(bodies.len() as u64)).unwrap()];
            forged[at] ^= 1 << self.entropy.below(8);
            let pending = &self.pending[&from];
            assert!(self.handshaker.finish(pending, &forged, |key| (key == self.device.config().key.public()).then_some(())).is_err());
            self.forged += 1;
        }
        let Some(pending) = self.pending.get(&from) else { return };
        let known = self.device.config().key.public();
        let Ok(established) = self.handshaker.finish(pending, datagram, |key| (key == known).then_some(())) else { return };
        self.pending.remove(&from);
        let identity =
            Identity { device: self.device.config().id, key: established.public_key.hash(), owner: Some(OwnerId(1)), product: None };
        let stored = StoredSession {
            connection: established.connection.unwrap_or(ConnectionId([0x10, 1, 3, 0, 0, 0, 0, 0])),
            id_on_wire: established.connection.is_some(),
            identity,
            keys: established.keys,
            birth: self.generation,
            established_at: self.clock().unix,
            path: Self::path(from),
            final_flight: established.final_flight,
        };
        let session = Session::established(&stored, established.finished_sequence, self.generation).unwrap();
        self.commit(Commit::Opened(Box::new(session), Box::new(stored)));
    }

    fn commit(&mut self, commit: Commit) {
        let takes = Duration::from_millis(1 + self.entropy.below(20));
        self.disk.write(self.now, takes, commit);
    }

    fn written(&mut self, written: Written) {
        match written {
            Written::Kept(Commit::Opened(session, _)) => {
                self.session = Some(*session);
                self.with_session(Session::confirm);
            }
            Written::Kept(Commit::Uplink(receipt, floor, uplink)) => {
                if self.disk.is_of_session(&floor) {
                    self.uplinks.push(uplink);
                    self.with_session(|session, cx| session.acknowledge(cx, receipt, Code::EMPTY));
                }
            }
            Written::Refused(Commit::Opened(..)) => {}
            Written::Refused(Commit::Uplink(receipt, ..)) => {
                self.with_session(|session, cx| session.acknowledge(cx, receipt, Code::UNAVAILABLE));
            }
            Written::Failed(kept) => self.die(kept, Duration::from_millis(100)),
        }
    }

    fn session_receives(&mut self, datagram: &[u8], from: SocketAddr) {
        self.dropped += usize::from(!self.session_takes(datagram, from));
    }

    fn session_takes(&mut self, datagram: &[u8], from: SocketAddr) -> bool {
        let mut result = Ok(());
        self.with_session(|session, cx| result = session.handle_datagram(cx, datagram, Self::path(from)));
        self.wrong_keys += usize::from(result == Err(Dropped::WrongKey));
        result.is_ok()
    }

    fn with_session(&mut self, action: impl FnOnce(&mut Session, &mut Context<'_>)) {
        let now = self.clock();
        let Some(session) = &mut self.session else { return };
        let mut out = Vec::new();
        action(session, &mut Context { now, aead: &mut self.aead, entropy: &mut self.entropy, out: &mut out });
        for output in out {
            match output {
                Output::Transmit { path, datagram } => self.fly(false, path.peer, datagram),
                Output::Received { receipt, floor, uplink } => self.commit(Commit::Uplink(receipt, floor, uplink)),
                Output::Settled { request, outcome } => self.outcomes.entry(request.0).or_default().push(outcome),
                Output::Moved { path } => {
                    if let Some(stored) = &mut self.disk.session {
                        stored.path = path;
                    }
                }
                Output::DescribeLost(kind) => _ = self.request(Request::Describe(kind)),
                Output::Unkept(unkept) => assert!(self.disk.has_stalled(), "{unkept:?}"),
                Output::Closed => self.session = None,
            }
        }
    }

    pub(crate) fn request(&mut self, request: Request) -> u64 {
        self.next_request += 1;
        let (id, deadline) = (RequestId(self.next_request), self.now + Duration::from_secs(60));
        self.with_session(|session, cx| session.request(cx, id, request, deadline).unwrap());
        id.0
    }

    /// Whether the session would send `request`.
    pub(crate) fn can_request(&mut self, request: Request) -> bool {
        let (id, deadline, mut sent) = (RequestId(u64::MAX), self.now + Duration::from_secs(60), false);
        self.with_session(|session, cx| sent = session.request(cx, id, request, deadline).is_ok());
        sent
    }

    pub(crate) fn publish(&mut self, name: &str, data: &[u8]) -> u64 {
        self.publish_typed(name, 0, data)
    }

    pub(crate) fn publish_typed(&mut self, name: &str, content_format: u16, data: &[u8]) -> u64 {
        let publish = self.device.publish(self.now, &mut self.tools, name, content_format, data);
        self.collect_device();
        publish
    }

    pub(crate) fn publish_unacknowledged(&mut self, name: &str, content_format: u16, data: &[u8]) {
        self.device.publish_unacknowledged(&mut self.tools, name, content_format, data);
        self.collect_device();
    }

    pub(crate) fn goodbye(&mut self, cloud_reason: u8) {
        self.device.goodbye(self.now, &mut self.tools, cloud_reason);
        self.collect_device();
    }

    pub(crate) fn published_ok(&self, publish: u64) -> usize {
        let wanted = DeviceEvent::Published { publish, accepted: true };
        self.events.iter().filter(|event| **event == wanted).count()
    }

    pub(crate) fn accepted(&self, name: &str) -> usize {
        self.disk.accepted(name)
    }

    /// kill -9: memory and commits under way are gone.
    pub(crate) fn kill_and_restart(&mut self) {
        self.die(0, Duration::ZERO);
        self.start();
    }

    /// The server's process ends, and the next one comes after `down`. Of the commits under way the first `kept` are durable.
    pub(crate) fn die(&mut self, kept: usize, down: Duration) {
        self.disk.crash(kept);
        self.session = None;
        self.pending.clear();
        self.down_until = Some(self.now + down);
    }

    fn start(&mut self) {
        self.down_until = None;
        self.generation.0 += 1;
        self.cookies = Cookies::new(self.now, &mut self.entropy);
        self.handshaker = Handshaker::new(self.server_key.clone(), ServerCertificate::Omitted).unwrap();
        let (disk, now) = (&self.disk, self.now);
        self.session = disk.session.as_ref().and_then(|stored| Session::restored(stored, disk.floor, None, self.generation));
        self.session.iter_mut().for_each(|session| session.remember(now, &disk.seen));
    }

    pub(crate) fn now(&self) -> Millis {
        self.now
    }

    pub(crate) fn session_path(&self) -> SocketAddr {
        self.session.as_ref().unwrap().path().peer
    }

    pub(crate) fn move_device(&mut self) {
        self.address.set_port(self.address.port() + 1);
    }

    pub(crate) fn restart_device(&mut self) {
        self.device.power_off();
        self.device.power_on(self.now);
    }

    pub(crate) fn reset_device(&mut self) {
        self.device.forget_session();
        self.device.power_on(self.now);
    }

    pub(crate) fn ping(&mut self) {
        self.device.ping(self.now, &mut self.tools);
        self.collect_device();
    }

    pub(crate) fn capture_next_ping(&mut self) {
        self.capturing = true;
        let end = self.now + Duration::from_secs(26);
        while self.captured.is_none() && self.now < end {
            self.step(end);
        }
        self.capturing = false;
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn inject(&mut self, datagram: &[u8], from: SocketAddr) {
        self.server_receives(datagram, from);
    }

    /// From the device's own address.
    pub(crate) fn forge_records(&mut self, count: usize) {
        self.forge_records_from(self.address, count);
    }

    pub(crate) fn forge_records_from(&mut self, from: SocketAddr, count: usize) {
        let session = self.session.as_ref().unwrap();
        let (connection, device, labelled) = (session.connection(), session.device(), session.id_on_wire());
        for n in 0..count {
            let resumed = !labelled && n % 2 == 0;
            let content_type = if labelled { 25 } else { 23 + 231 * u8::from(resumed) };
            let mut datagram = vec![content_type, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0xff, 0, 0];
            datagram.extend_from_slice(if labelled { &connection.0 } else { &[] });
            datagram.extend_from_slice(&[0, 32]);
            datagram.extend((0..32).map(|i| u8::try_from((n * 31 + i) % 256).unwrap()));
            if resumed {
                datagram.extend_from_slice(&device.0);
                datagram.push(12);
            }
            self.server_receives(&datagram, from);
        }
    }

    pub(crate) fn close_session(&mut self) {
        self.with_session(Session::close);
        self.session = None;
    }
}

/// Where the bodies of a datagram's records are.
fn record_bodies(datagram: &[u8]) -> Vec<std::ops::Range<usize>> {
    let (mut bodies, mut rest) = (Vec::new(), datagram);
    while let Some((record, tail)) = Record::parse(rest) {
        let end = datagram.len() - tail.len();
        bodies.push(end - record.body.len()..end);
        rest = tail;
    }
    bodies
}
