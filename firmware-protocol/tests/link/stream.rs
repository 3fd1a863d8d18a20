//! A cloud of one session, a device on TCP, and the stream between them, which arrives in pieces of any length.

use std::collections::{BTreeMap, VecDeque};
use std::sync::OnceLock;
use std::time::Duration;

use firmware_protocol::coap::Code;
use firmware_protocol::crypto::{Cbc, DeviceKeyPair, ServerKeyPair};
use firmware_protocol::device::tcp::{TcpAction, TcpDevice, TcpDeviceConfig};
use firmware_protocol::device::{DeviceEvent, DeviceTools};
use firmware_protocol::dtls::cid::ConnectionId;
use firmware_protocol::entropy::SeededEntropy;
use firmware_protocol::id::DeviceId;
use firmware_protocol::path::Path;
use firmware_protocol::session::request::{Outcome, Request, RequestId};
use firmware_protocol::session::stored::Generation;
use firmware_protocol::session::{Receipt, Uplink};
use firmware_protocol::tcp::handshake::{Established, Greeting, Handshaker};
use firmware_protocol::tcp::session::{CloseReason, Context, Opening, Output, Patience, TcpSession};
use firmware_protocol::time::{Millis, Now, UnixMillis};

use crate::sample;

/// What comes to an end of the connection.
enum Arrival {
    Connected,
    Bytes(Vec<u8>),
    Closed,
}

/// The server's end of the connection.
enum ServerEnd {
    Greeting(Greeting),
    Session(Box<TcpSession>),
    Closed,
}

pub(crate) struct StreamWorld {
    pub(crate) now: Millis,
    entropy: SeededEntropy,
    pub(crate) device: TcpDevice,
    tools: DeviceTools,
    handshaker: Handshaker,
    /// In order: nothing overtakes.
    to_device: VecDeque<(Millis, Arrival)>,
    to_server: VecDeque<(Millis, Vec<u8>)>,
    server: ServerEnd,
    connections: u8,
    committing: Vec<(Millis, u8, Receipt, Uplink)>,
    cipher: Cbc,
    next_request: u64,
    pub(crate) outcomes: BTreeMap<u64, Vec<Outcome>>,
    pub(crate) events: Vec<DeviceEvent>,
    /// Everything that was made durable.
    pub(crate) uplinks: Vec<Uplink>,
    /// How sessions ended on the server's side.
    pub(crate) closed: Vec<CloseReason>,
    /// Frames that went to the device.
    pub(crate) frames: usize,
    /// Whether commits are lost, so that nothing is acknowledged.
    pub(crate) commits_fail: bool,
}

/// Keys take their time to make: one pair of each for all tests.
fn keys() -> &'static (ServerKeyPair, DeviceKeyPair) {
    static KEYS: OnceLock<(ServerKeyPair, DeviceKeyPair)> = OnceLock::new();
    KEYS.get_or_init(|| (ServerKeyPair::generate().unwrap(), DeviceKeyPair::generate().unwrap()))
}

impl StreamWorld {
    pub(crate) fn new(seed: u64) -> Self {
        let (server_key, key) = keys();
        let config = TcpDeviceConfig {
            id: DeviceId([7; 12]),
            key: key.clone(),
            server_key: *server_key.public(),
            shows_key: !seed.is_multiple_of(3),
            platform: 6,
            keep_alive: Duration::from_secs(15),
            app: sample::subscribed_app(),
            system_describe: sample::system_describe(),
        };
        Self {
            now: Millis(0),
            entropy: SeededEntropy::new(seed.wrapping_mul(91).wrapping_add(3)),
            device: TcpDevice::new(config, seed, Millis(0)),
            tools: DeviceTools::new().unwrap(),
            handshaker: Handshaker::new(server_key.clone()),
            to_device: VecDeque::new(),
            to_server: VecDeque::new(),
            server: ServerEnd::Closed,
            connections: 0,
            committing: Vec::new(),
            cipher: Cbc::new().unwrap(),
            next_request: 0,
            outcomes: BTreeMap::new(),
            events: Vec::new(),
            uplinks: Vec::new(),
            closed: Vec::new(),
            frames: 0,
            commits_fail: false,
        }
    }

    pub(crate) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.step(end);
        }
    }

    /// Goes to the next moment at which anything happens.
    fn step(&mut self, end: Millis) {
        let arrivals = [self.to_device.front().map(|(at, _)| *at), self.to_server.front().map(|(at, _)| *at)];
        let commit = self.committing.iter().map(|(at, ..)| *at).min();
        let session = self.session().and_then(|session| session.timeout_at());
        let next = arrivals.into_iter().chain([commit, session, self.device.timeout_at()]).flatten().min().unwrap_or(end);
        self.now = next.max(self.now).min(end);
        while self.to_device.front().is_some_and(|(at, _)| *at <= self.now) {
            match self.to_device.pop_front() {
                Some((_, Arrival::Connected)) => self.device.connected(self.now),
                Some((_, Arrival::Bytes(bytes))) => self.device.handle_bytes(self.now, &mut self.tools, &bytes),
                Some((_, Arrival::Closed)) | None => self.device.disconnected(self.now),
            }
            self.collect_device();
        }
        while self.to_server.front().is_some_and(|(at, _)| *at <= self.now) {
            if let Some((_, bytes)) = self.to_server.pop_front() {
                self.server_receives(&bytes);
            }
        }
        while let Some(index) = self.committing.iter().position(|(at, ..)| *at <= self.now) {
            let (_, connection, receipt, uplink) = self.committing.remove(index);
            if connection == self.connections {
                self.durable(receipt, uplink);
            }
        }
        if session.is_some_and(|at| at <= self.now) {
            self.with_session(|session, cx| session.handle_timeout(cx));
        }
        self.device.handle_timeout(self.now, &mut self.tools);
        self.collect_device();
    }

    fn session(&self) -> Option<&TcpSession> {
        match &self.server {
            ServerEnd::Session(session) => Some(session),
            ServerEnd::Greeting(_) | ServerEnd::Closed => None,
        }
    }

    fn collect_device(&mut self) {
        while let Some(action) = self.device.poll_action() {
            match action {
                TcpAction::Connect => self.accept(),
                TcpAction::Send(bytes) => {
                    let mut at = self.to_server.back().map_or(self.now, |(at, _)| *at).max(self.now);
                    for piece in self.pieces(&bytes) {
                        at = at + self.delay();
                        self.to_server.push_back((at, piece));
                    }
                }
                TcpAction::Disconnect => self.hang_up(),
            }
        }
        self.events.extend(std::iter::from_fn(|| self.device.poll_event()));
    }

    /// The connection is gone, from the device's side.
    fn hang_up(&mut self) {
        self.with_session(TcpSession::close);
        self.server = ServerEnd::Closed;
        self.to_device.clear();
        self.to_server.clear();
    }

    fn accept(&mut self) {
        self.hang_up();
        self.connections += 1;
        self.to_device.push_back((self.now + Duration::from_millis(20), Arrival::Connected));
        let greeting = Greeting::new(&mut self.entropy);
        let nonce = *greeting.nonce();
        self.server = ServerEnd::Greeting(greeting);
        self.send_to_device(&nonce);
    }

    fn delay(&mut self) -> Duration {
        Duration::from_millis(self.entropy.below(4))
    }

    /// Cuts bytes anywhere, as a network does.
    fn pieces(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let (mut pieces, mut rest) = (Vec::new(), bytes);
        while !rest.is_empty() {
            let longest = [1, 3, 20, 2000][usize::try_from(self.entropy.below(4)).unwrap()];
            let len = usize::try_from(1 + self.entropy.below(longest)).unwrap().min(rest.len());
            let (piece, tail) = rest.split_at(len);
            pieces.push(piece.to_vec());
            rest = tail;
        }
        pieces
    }

    fn send_to_device(&mut self, bytes: &[u8]) {
        let mut at = self.to_device.back().map_or(self.now, |(at, _)| *at).max(self.now);
        for piece in self.pieces(bytes) {
            at = at + self.delay();
            self.to_device.push_back((at, Arrival::Bytes(piece)));
        }
    }

    fn clock(&self) -> Now {
        Now { at: self.now, unix: UnixMillis(1_800_000_000_000 + self.now.0) }
    }

    fn server_receives(&mut self, mut bytes: &[u8]) {
        if let ServerEnd::Greeting(greeting) = &mut self.server {
            let taken = greeting.take(bytes);
            bytes = &bytes[taken..];
            if greeting.wanted() == 0 {
                self.finish();
            }
        }
        self.with_session(|session, cx| session.handle_bytes(cx, bytes));
    }

    fn finish(&mut self) {
        let ServerEnd::Greeting(greeting) = std::mem::replace(&mut self.server, ServerEnd::Closed) else { return };
        let answer = greeting.answer().unwrap();
        let (known, id) = (*keys().1.public(), self.device.config().id);
        let shows_key = self.device.config().shows_key;
        let judged = self.handshaker.finish(&answer, &mut self.entropy, |device, shown| {
            assert_eq!(shown.is_some(), shows_key);
            (device == id).then_some(((), known))
        });
        match judged {
            Ok(established) => self.open(&established),
            Err(_) => self.close_connection(),
        }
    }

    fn open(&mut self, established: &Established<()>) {
        let opening = Opening {
            device: established.device,
            owner: None,
            connection: ConnectionId([self.connections; 8]),
            path: Path { peer: ([198, 51, 100, 1], 4000).into(), local: None },
            secret: established.secret,
            generation: Generation(1000),
            patience: Patience::default(),
        };
        self.server = ServerEnd::Session(Box::new(TcpSession::new(self.clock(), &opening)));
        self.send_to_device(&established.reply);
    }

    fn close_connection(&mut self) {
        let at = self.to_device.back().map_or(self.now, |(at, _)| *at).max(self.now) + Duration::from_millis(20);
        self.to_device.push_back((at, Arrival::Closed));
        self.server = ServerEnd::Closed;
    }

    fn durable(&mut self, receipt: Receipt, uplink: Uplink) {
        if self.commits_fail {
            return;
        }
        self.uplinks.push(uplink);
        self.with_session(|session, cx| session.acknowledge(cx, receipt, Code::EMPTY));
    }

    fn with_session(&mut self, action: impl FnOnce(&mut TcpSession, &mut Context<'_>)) {
        let now = self.clock();
        let ServerEnd::Session(session) = &mut self.server else { return };
        let mut out = Vec::new();
        action(session, &mut Context { now, cipher: &mut self.cipher, entropy: &mut self.entropy, out: &mut out });
        for output in out {
            match output {
                Output::Transmit(frame) => {
                    self.frames += 1;
                    self.send_to_device(&frame);
                }
                Output::Received { receipt, uplink } => {
                    let at = self.now + Duration::from_millis(1 + self.entropy.below(20));
                    self.committing.push((at, self.connections, receipt, uplink));
                }
                Output::Settled { request, outcome } => self.outcomes.entry(request.0).or_default().push(outcome),
                Output::DescribeLost(kind) => _ = self.request(Request::Describe(kind)),
                // Nothing here takes so long to commit.
                Output::Unkept(unkept) => panic!("{unkept:?}"),
                Output::Closed(reason) => {
                    self.closed.push(reason);
                    self.close_connection();
                }
            }
        }
    }

    pub(crate) fn request(&mut self, request: Request) -> u64 {
        self.next_request += 1;
        let (id, deadline) = (RequestId(self.next_request), self.now + Duration::from_secs(60));
        self.with_session(|session, cx| session.request(cx, id, request, deadline).unwrap());
        id.0
    }

    pub(crate) fn publish_typed(&mut self, name: &str, content_format: u16, data: &[u8]) -> u64 {
        let publish = self.device.publish(self.now, &mut self.tools, name, content_format, data);
        self.collect_device();
        publish
    }

    pub(crate) fn publish_unacknowledged(&mut self, name: &str, content_format: u16, data: &[u8]) {
        self.device.publish_unacknowledged(self.now, &mut self.tools, name, content_format, data);
        self.collect_device();
    }

    pub(crate) fn goodbye(&mut self, cloud_reason: u8) {
        self.device.goodbye(self.now, &mut self.tools, cloud_reason);
        self.collect_device();
    }

    pub(crate) fn ping(&mut self) {
        self.device.ping(self.now, &mut self.tools);
        self.collect_device();
    }

    /// Bytes that the device did not write come over its connection.
    pub(crate) fn inject(&mut self, bytes: &[u8]) {
        self.server_receives(bytes);
    }

    /// The network stops carrying anything, without telling either side.
    pub(crate) fn cut_cable(&mut self) {
        self.to_device.clear();
        self.to_server.clear();
        self.device.power_off();
        while self.device.poll_action().is_some() {}
    }
}
