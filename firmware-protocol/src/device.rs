//! The device's side of everything, as Device OS behaves on the wire: for tests, simulated fleets and the demo. [`Age`] says which Device OS.
//!
//! Like [`crate::session::Session`] it does no I/O: give it datagrams and timeouts, take datagrams with [`Device::poll_transmit`] and news with
//! [`Device::poll_event`]. It is as strict as a device: it waits for the Hello's acknowledgement and drops what comes meanwhile, remembers
//! server messages for 45 seconds, gives its session up when something stays unacknowledged, and marks its records when it resumes.
//!
//! [`Device`] is one on UDP, [`tcp::TcpDevice`] one on TCP, [`Simulated`] what they have in common.

mod age;
mod app;
mod firmware;
mod observe;
mod reliability;
mod simulated;
pub mod tcp;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::coap::{Code, Kind, Message};
use crate::crypto::{Aead, Cbc, Curve, KeyPair, PublicKey, digest64};
use crate::dtls::client::{ClientFailure, ClientHandshake, ClientKeys};
use crate::dtls::record::{self, Record, content};
use crate::dtls::sequence::ReplayWindow;
use crate::entropy::SeededEntropy;
use crate::error::KeyError;
use crate::id::DeviceId;
use crate::session::describe::DescribeKind;
use crate::time::Millis;

pub use self::age::Age;
pub use self::app::{App, Function};
use self::firmware::Firmware;
use self::reliability::{Ended, Purpose, Reliability};
pub use self::simulated::Simulated;

const PING_TIMEOUT: Duration = Duration::from_secs(30);
const RESTORES_MAX: u8 = 3;
/// Record numbers that an audit looks back over: a number that comes again does so soon after.
const AUDITED_MAX: usize = 1 << 16;

/// What a device is made of.
#[derive(Clone, Debug)]
pub struct DeviceConfig {
    /// How old its firmware is.
    pub age: Age,
    /// Its id.
    pub id: DeviceId,
    /// Its key pair.
    pub key: KeyPair,
    /// The key it expects of the server.
    pub server_key: PublicKey,
    /// Platform id.
    pub platform: u16,
    /// Silence after which it pings: 25 s on Wi-Fi, 23 min on cellular.
    pub keep_alive: Duration,
    /// Functions, variables, subscriptions.
    pub app: App,
    /// System describe payload, for ages that send it as protobuf.
    pub system_describe: Vec<u8>,
    /// Whether to remember the server's last 65 536 record numbers, to find one used twice.
    pub audit: bool,
}

/// Something that happened on the device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DeviceEvent {
    /// A full handshake began.
    HandshakeStarted,
    /// Everything sent at connect was acknowledged: the LED breathes cyan.
    Connected {
        /// Without a handshake.
        resumed: bool,
    },
    /// The connection ended.
    Disconnected {
        /// Why.
        reason: &'static str,
        /// Whether the session can be resumed.
        session_kept: bool,
    },
    /// A publish with acknowledgement ended.
    Published {
        /// From [`Device::publish`].
        publish: u64,
        /// Whether the server took it.
        accepted: bool,
    },
    /// A function was called.
    Called {
        /// Its name.
        function: String,
        /// The argument.
        argument: String,
    },
    /// An event came.
    EventReceived {
        /// Its name.
        name: String,
        /// Its payload.
        data: Vec<u8>,
        /// Its Content-Format.
        content_format: u16,
    },
    /// A ping was answered.
    PingAnswered,
    /// The server told the time, in seconds since 1970.
    ClockSet(u32),
    /// A signal was switched.
    Signal(bool),
    /// A record number was used for two different records under the same key, which must never happen.
    SequenceRepeated(u64),
}

/// A simulated device.
#[derive(Debug)]
pub struct Device {
    config: DeviceConfig,
    entropy: SeededEntropy,
    state: State,
    session: Option<DeviceSession>,
    transmit: VecDeque<Vec<u8>>,
    events: VecDeque<DeviceEvent>,
    failures: u32,
    next_publish: u64,
    token: u8,
    backlog: Vec<(u64, Message)>,
    retransmissions: u64,
}

#[derive(Debug)]
enum State {
    /// Nothing until this moment.
    Waiting(Millis),
    Handshaking(Box<ClientHandshake>),
    /// The session is used; `connecting` until everything sent at the start is acknowledged.
    Online {
        connecting: bool,
        resumed: bool,
        hello_pending: bool,
        last_received: Millis,
        pinged_at: Option<Millis>,
    },
    /// Switched off.
    Off,
}

/// What survives in retained memory.
#[derive(Debug)]
struct DeviceSession {
    keys: ClientKeys,
    received: ReplayWindow,
    moving: bool,
    restores: u8,
    /// Digest of the datagram that each record number came in.
    audited: BTreeMap<u64, u64>,
    reliability: Reliability,
    described: bool,
}

/// Working space that many devices of one thread share.
#[derive(Debug)]
pub struct DeviceTools {
    curve: Curve,
    aead: Aead,
    cbc: Cbc,
}

impl DeviceTools {
    /// One per thread.
    pub fn new() -> Result<Self, KeyError> {
        Ok(Self { curve: Curve::new()?, aead: Aead::new()?, cbc: Cbc::new()? })
    }
}

impl Device {
    /// A device that begins to connect at `start`.
    pub fn new(config: DeviceConfig, seed: u64, start: Millis) -> Self {
        Self {
            config,
            entropy: SeededEntropy::new(seed),
            state: State::Waiting(start),
            session: None,
            transmit: VecDeque::new(),
            events: VecDeque::new(),
            failures: 0,
            next_publish: 1,
            token: 0,
            backlog: Vec::new(),
            retransmissions: 0,
        }
    }

    /// What it is made of.
    pub fn config(&self) -> &DeviceConfig {
        &self.config
    }

    /// Its application, to change a variable.
    pub fn app_mut(&mut self) -> &mut App {
        &mut self.config.app
    }

    /// Whether the LED breathes cyan.
    pub fn is_connected(&self) -> bool {
        matches!(self.state, State::Online { connecting: false, .. })
    }

    /// The connection id in use, if its age knows of such.
    pub fn connection(&self) -> Option<crate::dtls::cid::ConnectionId> {
        self.session.as_ref().and_then(|session| session.keys.connection)
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmit.pop_front()
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<DeviceEvent> {
        self.events.pop_front()
    }

    /// When [`Device::handle_timeout`] wants to be called.
    pub fn timeout_at(&self) -> Option<Millis> {
        match &self.state {
            State::Off => None,
            State::Waiting(until) => Some(*until),
            State::Handshaking(handshake) => Some(handshake.timeout_at()),
            State::Online { last_received, pinged_at, .. } => {
                let keep_alive = pinged_at.map_or(*last_received + self.config.keep_alive, |at| at + PING_TIMEOUT);
                let repeat = self.session.as_ref().and_then(|session| session.reliability.timeout_at());
                Some(repeat.map_or(keep_alive, |repeat| repeat.min(keep_alive)))
            }
        }
    }

    /// Power off. Retained memory keeps the session.
    pub fn power_off(&mut self) {
        self.state = State::Off;
        self.transmit.clear();
    }

    /// Power on again: resumes the session if there is one.
    pub fn power_on(&mut self, now: Millis) {
        self.state = State::Waiting(now);
    }

    /// Publishes an event with acknowledgement; [`DeviceEvent::Published`] tells its end. While not connected it is kept until it is.
    pub fn publish(&mut self, now: Millis, tools: &mut DeviceTools, name: &str, content_format: u16, data: &[u8]) -> u64 {
        self.publish_message(now, tools, firmware::publish(self.config.age, Kind::Confirmable, name, content_format, data))
    }

    /// Sends its vitals, as `Particle.publishVitals()` does; ends like [`Device::publish`].
    pub fn publish_vitals(&mut self, now: Millis, tools: &mut DeviceTools) -> u64 {
        let token = self.next_token();
        let (message, _) = self.firmware().describe(DescribeKind::Metrics, 0, token);
        self.publish_message(now, tools, message)
    }

    fn publish_message(&mut self, now: Millis, tools: &mut DeviceTools, message: Message) -> u64 {
        let publish = self.next_publish;
        self.next_publish += 1;
        match self.is_connected() {
            true => self.start(now, tools, Purpose::Publish(publish), message),
            false => self.backlog.push((publish, message)),
        }
        publish
    }

    /// Publishes an event without acknowledgement: sent once, if there is a connection.
    pub fn publish_unacknowledged(&mut self, tools: &mut DeviceTools, name: &str, content_format: u16, data: &[u8]) {
        if let Some(session) = self.session.as_mut().filter(|_| matches!(self.state, State::Online { connecting: false, .. })) {
            let mut message = firmware::publish(self.config.age, Kind::NonConfirmable, name, content_format, data);
            message.id = session.reliability.take_id();
            self.seal(tools, &message.encode());
        }
    }

    /// Says goodbye for a reason of docs/protocol.md and goes quiet.
    pub fn goodbye(&mut self, now: Millis, tools: &mut DeviceTools, cloud_reason: u8) {
        if self.is_connected() {
            let message = Message::new(Kind::Confirmable, Code::POST, 0, &[]).path(&["x"]).payload([1, cloud_reason]);
            self.start(now, tools, Purpose::Other, message);
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Millis, tools: &mut DeviceTools) {
        match &mut self.state {
            State::Off => {}
            State::Waiting(until) if now >= *until => self.connect(now, tools),
            State::Waiting(_) => {}
            State::Handshaking(handshake) if now >= handshake.timeout_at() => match handshake.handle_timeout(now, &mut tools.aead) {
                Ok(()) => self.transmit.push_back(handshake.datagram().to_vec()),
                Err(failure) => self.handshake_failed(now, failure),
            },
            State::Handshaking(_) => {}
            State::Online { .. } => self.online_timeout(now, tools),
        }
    }

    fn online_timeout(&mut self, now: Millis, tools: &mut DeviceTools) {
        let State::Online { last_received, pinged_at, .. } = &mut self.state else { return };
        if pinged_at.is_some_and(|at| now.since(at) >= PING_TIMEOUT) {
            return self.disconnect(now, "ping timeout", true);
        }
        if pinged_at.is_none() && now.since(*last_received) >= self.config.keep_alive {
            self.ping(now, tools);
        }
        let Some(session) = &mut self.session else { return };
        let (due, ended) = session.reliability.handle_timeout(now);
        self.retransmissions += due.len() as u64;
        due.into_iter().for_each(|bytes| self.seal(tools, &bytes));
        for end in ended {
            match end {
                Ended::SlowPublish(publish) => self.events.push_back(DeviceEvent::Published { publish, accepted: false }),
                Ended::GivenUp => return self.disconnect(now, "a message stayed unacknowledged", false),
                Ended::NeverHandled => return self.disconnect(now, "the server sent something nobody handles", false),
            }
        }
    }

    fn connect(&mut self, now: Millis, tools: &mut DeviceTools) {
        if !self.can_resume() {
            self.session = None;
        }
        let Some(session) = &mut self.session else {
            self.events.push_back(DeviceEvent::HandshakeStarted);
            let (key, server_key) = (self.config.key.clone(), self.config.server_key);
            let connection_id = self.config.age.knows_connection_ids();
            let handshake = ClientHandshake::new(now, key, server_key, connection_id, &mut self.entropy);
            self.transmit.push_back(handshake.datagram().to_vec());
            self.state = State::Handshaking(Box::new(handshake));
            return;
        };
        session.moving = true;
        session.restores += 1;
        session.reliability.forget_connection();
        let described = session.described;
        self.state = State::Online { connecting: true, resumed: true, hello_pending: false, last_received: now, pinged_at: None };
        if described {
            self.start(now, tools, Purpose::Connect, Message::new(Kind::Confirmable, Code::EMPTY, 0, &[]));
            self.publish_update_flags(now, tools);
        } else {
            self.hello(now, tools);
        }
    }

    fn hello(&mut self, now: Millis, tools: &mut DeviceTools) {
        if let State::Online { hello_pending, .. } = &mut self.state {
            *hello_pending = true;
        }
        let message = firmware::hello(self.config.age, self.config.platform, &self.config.app, self.config.id, Kind::Confirmable);
        self.start(now, tools, Purpose::Hello, message);
    }

    /// What follows the Hello, in one burst (docs/protocol.md).
    fn introduce(&mut self, now: Millis, tools: &mut DeviceTools) {
        self.describe(now, tools, DescribeKind::System, 0);
        let token = self.next_token();
        self.start(now, tools, Purpose::Connect, firmware::time(token));
        self.publish_update_flags(now, tools);
        if !self.config.age.combines_describes() {
            self.describe(now, tools, DescribeKind::Application, 0);
        }
        for message in self.firmware().subscriptions(Kind::Confirmable) {
            self.start(now, tools, Purpose::Connect, message);
        }
    }

    fn publish_update_flags(&mut self, now: Millis, tools: &mut DeviceTools) {
        for message in firmware::update_flags(self.config.age, Kind::Confirmable) {
            self.start(now, tools, Purpose::Connect, message);
        }
    }

    fn firmware(&self) -> Firmware<'_> {
        let DeviceConfig { app, system_describe, age, platform, .. } = &self.config;
        Firmware { app, system_describe, age: *age, platform: *platform }
    }

    fn describe(&mut self, now: Millis, tools: &mut DeviceTools, kind: DescribeKind, number: u32) {
        let token = self.next_token();
        let (message, more) = self.firmware().describe(kind, number, token);
        let purpose = if more { Purpose::DescribeBlock(kind, number) } else { Purpose::Connect };
        self.start(now, tools, purpose, message);
    }

    /// Takes a datagram from the server.
    pub fn handle_datagram(&mut self, now: Millis, tools: &mut DeviceTools, datagram: &[u8]) {
        if datagram.len() <= 1 {
            return;
        }
        match &mut self.state {
            State::Handshaking(handshake) => {
                let (curve, aead) = (&mut tools.curve, &mut tools.aead);
                match handshake.handle_datagram(now, datagram, curve, aead, &mut self.entropy) {
                    Ok((_, Some(keys))) => self.handshake_done(now, tools, keys),
                    Ok((true, None)) => self.transmit.push_back(handshake.datagram().to_vec()),
                    Ok((false, None)) => {}
                    Err(failure) => self.handshake_failed(now, failure),
                }
            }
            State::Online { .. } => self.handle_record(now, tools, datagram),
            State::Waiting(_) | State::Off => {}
        }
    }

    fn handshake_done(&mut self, now: Millis, tools: &mut DeviceTools, keys: ClientKeys) {
        let mut received = ReplayWindow::default();
        received.accept(0);
        self.session = Some(DeviceSession {
            keys,
            received,
            moving: false,
            restores: 0,
            audited: BTreeMap::new(),
            reliability: Reliability::new(),
            described: false,
        });
        self.state = State::Online { connecting: true, resumed: false, hello_pending: false, last_received: now, pinged_at: None };
        self.hello(now, tools);
    }

    fn handshake_failed(&mut self, now: Millis, failure: ClientFailure) {
        let reason = match failure {
            ClientFailure::Protocol(reason) => reason,
            ClientFailure::TimedOut => "the handshake timed out",
            ClientFailure::Crypto => "a primitive failed",
        };
        self.disconnect(now, reason, false);
    }

    fn handle_record(&mut self, now: Millis, tools: &mut DeviceTools, datagram: &[u8]) {
        let Some(session) = &mut self.session else { return };
        let Some((record, _)) = Record::parse(datagram).filter(|(record, _)| record.epoch == 1) else { return };
        let Some((content_type, inner)) = record.open(&mut tools.aead, &session.keys.keys.server()) else { return };
        let inner = inner.to_vec();
        if self.config.audit {
            let digest = digest64(datagram);
            if session.audited.insert(record.sequence, digest).is_some_and(|other| other != digest) {
                self.events.push_back(DeviceEvent::SequenceRepeated(record.sequence));
            }
            if session.audited.len() > AUDITED_MAX {
                session.audited.pop_first();
            }
        }
        if !session.received.is_fresh(record.sequence) {
            return;
        }
        session.received.accept(record.sequence);
        match content_type {
            content::APPLICATION => {
                session.moving = false;
                session.restores = 0;
                if let State::Online { last_received, pinged_at, .. } = &mut self.state {
                    *last_received = now;
                    *pinged_at = None;
                }
                if inner.len() > usize::from(self.config.age.message_max()) {
                    self.disconnect(now, "a message longer than the device takes", false);
                } else if let Some(message) = Message::decode(&inner) {
                    self.handle_message(now, tools, &message);
                }
            }
            content::ALERT => self.disconnect(now, "the server closed the session", false),
            _ => {}
        }
    }

    fn handle_message(&mut self, now: Millis, tools: &mut DeviceTools, message: &Message) {
        match message.kind {
            Kind::Acknowledgement => self.acknowledged(now, tools, message),
            Kind::Reset => self.disconnect(now, "the server reset a message", false),
            Kind::Confirmable => self.handle_confirmable(now, tools, message),
            Kind::NonConfirmable => {
                self.act(now, tools, message);
            }
        }
        self.check_connected(now, tools);
    }

    fn acknowledged(&mut self, now: Millis, tools: &mut DeviceTools, message: &Message) {
        let Some(session) = &mut self.session else { return };
        let Some(purpose) = session.reliability.acknowledge(message.id) else { return };
        match purpose {
            Purpose::Hello => {
                if let State::Online { hello_pending, .. } = &mut self.state {
                    *hello_pending = false;
                }
                self.introduce(now, tools);
            }
            Purpose::DescribeBlock(kind, number) => self.describe(now, tools, kind, number + 1),
            Purpose::Publish(publish) => self.events.push_back(DeviceEvent::Published { publish, accepted: message.code.class() < 4 }),
            Purpose::Ping => self.events.push_back(DeviceEvent::PingAnswered),
            Purpose::Connect | Purpose::Other => {}
        }
        if message.code == Code::CONTENT
            && let Ok(seconds) = <[u8; 4]>::try_from(&message.payload[..])
        {
            self.events.push_back(DeviceEvent::ClockSet(u32::from_be_bytes(seconds)));
        }
    }

    fn handle_confirmable(&mut self, now: Millis, tools: &mut DeviceTools, message: &Message) {
        if matches!(self.state, State::Online { hello_pending: true, .. }) {
            return;
        }
        let Some(session) = &mut self.session else { return };
        if let Some(stored) = session.reliability.recognise(now, message.id) {
            return stored.into_iter().for_each(|bytes| self.seal(tools, &bytes));
        }
        let reply = self.act(now, tools, message).map(|code| {
            let token: &[u8] = if code == Code::EMPTY { &[] } else { &message.token };
            Message::new(Kind::Acknowledgement, code, message.id, token).encode()
        });
        if let Some(session) = &mut self.session {
            session.reliability.remember(now, message.id, reply.clone());
        }
        reply.into_iter().for_each(|bytes| self.seal(tools, &bytes));
    }

    /// Does what a server message asks; the code of its acknowledgement, or `None` where a device says nothing and comes to grief.
    fn act(&mut self, now: Millis, tools: &mut DeviceTools, message: &Message) -> Option<Code> {
        let acted = self.firmware().act(message);
        self.events.extend(acted.event);
        if let Some((reason, session_kept)) = acted.end {
            self.disconnect(now, reason, session_kept);
        }
        if let Some(response) = acted.response {
            self.start(now, tools, Purpose::Other, response.message(Kind::Confirmable, &message.token));
        }
        acted.acknowledgement
    }

    fn check_connected(&mut self, now: Millis, tools: &mut DeviceTools) {
        let State::Online { connecting, resumed, hello_pending, .. } = &mut self.state else { return };
        let settled = self.session.as_ref().is_some_and(|session| !session.reliability.is_connecting());
        if !*connecting || *hello_pending || !settled {
            return;
        }
        *connecting = false;
        let resumed = *resumed;
        self.failures = 0;
        if let Some(session) = &mut self.session {
            session.described = true;
        }
        self.events.push_back(DeviceEvent::Connected { resumed });
        for (publish, message) in std::mem::take(&mut self.backlog) {
            self.start(now, tools, Purpose::Publish(publish), message);
        }
    }

    fn disconnect(&mut self, now: Millis, reason: &'static str, session_kept: bool) {
        let was_connected = self.is_connected();
        if let Some(session) = &mut self.session {
            for publish in session.reliability.open_publishes() {
                self.events.push_back(DeviceEvent::Published { publish, accepted: false });
            }
        }
        if !session_kept {
            self.session = None;
        }
        self.failures = if was_connected { 0 } else { self.failures + 1 };
        self.events.push_back(DeviceEvent::Disconnected { reason, session_kept });
        self.state = State::Waiting(now + backoff(self.failures));
    }

    /// Sends a confirmable message and looks after its repetition.
    fn start(&mut self, now: Millis, tools: &mut DeviceTools, purpose: Purpose, message: Message) {
        let Some(session) = &mut self.session else { return };
        let bytes = session.reliability.start(now, purpose, message, &mut self.entropy);
        self.seal(tools, &bytes);
    }

    fn seal(&mut self, tools: &mut DeviceTools, plaintext: &[u8]) {
        let Some(session) = &mut self.session else { return };
        let (keys, number) = (&session.keys, session.keys.next_sequence);
        let mut datagram = Vec::with_capacity(plaintext.len() + 64);
        let client = keys.keys.client();
        let connection = keys.connection;
        if record::write_sealed(&mut datagram, &mut tools.aead, &client, connection, content::APPLICATION, number, plaintext).is_ok() {
            session.keys.next_sequence += 1;
            if session.moving && self.config.age.marks_moves() {
                record::mark_moved(&mut datagram, connection, self.config.id);
            }
            self.transmit.push_back(datagram);
        }
    }

    fn next_token(&mut self) -> u8 {
        self.token = self.token.wrapping_add(1);
        self.token
    }
}

/// Delay before the next attempt after so many failed ones: 1 s five times, 2 s five times, … 128 s, without jitter (docs/protocol.md).
fn backoff(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        n => Duration::from_secs(1 << ((n - 1) / 5).min(7)),
    }
}
