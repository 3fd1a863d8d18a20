//! A simulated device on TCP: the same firmware behind the other transport, with the oddities of that side (docs/protocol.md).
//!
//! Whoever drives it makes the connections: [`TcpDevice::poll_action`] says when to connect, what to write and when to close;
//! [`TcpDevice::connected`], [`TcpDevice::handle_bytes`] and [`TcpDevice::disconnected`] say what came of it. Bytes may come in any pieces; a real
//! device loses a frame whose header comes in two, which no server that writes frames whole will notice.

use std::collections::VecDeque;
use std::time::Duration;

use crate::coap::{Code, Kind, Message, option};
use crate::crypto::{DeviceKeyPair, ServerPublicKey};
use crate::entropy::SeededEntropy;
use crate::id::DeviceId;
use crate::session::describe::DescribeKind;
use crate::tcp::client::{ClientHandshake, Step};
use crate::tcp::frame::{FROM_DEVICE_MAX, FrameReader, FrameWriter, TO_DEVICE_MAX};
use crate::tcp::handshake::SessionSecret;
use crate::time::Millis;

use super::firmware::{self, Firmware};
use super::reliability::{PUBLISH_LIMIT, Purpose};
use super::{Age, App, DeviceEvent, DeviceTools, backoff};

/// For each step of the handshake.
const STEP_LIMIT: Duration = Duration::from_secs(20);
/// From Hello to the server's.
const HELLO_LIMIT: Duration = Duration::from_secs(4);
/// From a ping to anything at all.
const PING_LIMIT: Duration = Duration::from_secs(10);
/// No-Response (RFC 7967), which goodbyes carry.
const NO_RESPONSE: u16 = 258;

/// What a device on TCP is made of.
#[derive(Clone, Debug)]
pub struct TcpDeviceConfig {
    /// Its id.
    pub id: DeviceId,
    /// Its key pair.
    pub key: DeviceKeyPair,
    /// The key it expects of the server.
    pub server_key: ServerPublicKey,
    /// Whether it shows its public key in the handshake; very old firmware does not.
    pub shows_key: bool,
    /// Platform id.
    pub platform: u16,
    /// Silence of the server after which it pings: 15 s.
    pub keep_alive: Duration,
    /// Functions, variables, subscriptions.
    pub app: App,
    /// System describe payload.
    pub system_describe: Vec<u8>,
}

/// What a device wants done with its connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TcpAction {
    /// Make a connection to the server, then call [`TcpDevice::connected`] or [`TcpDevice::disconnected`].
    Connect,
    /// Write these bytes to it.
    Send(Vec<u8>),
    /// Close it. Nothing needs to be called.
    Disconnect,
}

/// A simulated device on TCP.
#[derive(Debug)]
pub struct TcpDevice {
    config: TcpDeviceConfig,
    entropy: SeededEntropy,
    state: State,
    actions: VecDeque<TcpAction>,
    events: VecDeque<DeviceEvent>,
    failures: u32,
    next_publish: u64,
    token: u8,
    backlog: Vec<(u64, Message)>,
}

#[derive(Debug)]
enum State {
    /// Nothing until this moment.
    Waiting(Millis),
    /// Since this moment.
    Connecting(Millis),
    Handshaking {
        handshake: Box<ClientHandshake>,
        since: Millis,
    },
    Online(Box<Online>),
    /// Switched off.
    Off,
}

/// What lives as long as a connection.
#[derive(Debug)]
struct Online {
    reader: FrameReader,
    writer: FrameWriter,
    last_id: u16,
    /// Until when the server must have said Hello; `None` once it has.
    hello_until: Option<Millis>,
    last_received: Millis,
    pinged_at: Option<Millis>,
    /// Confirmable messages without acknowledgement: purpose, id, when sent. Nothing but publishes waits for it.
    open: Vec<(Purpose, u16, Millis)>,
}

impl Online {
    fn new(secret: &SessionSecret, now: Millis) -> Self {
        Self {
            reader: FrameReader::new(secret, TO_DEVICE_MAX),
            writer: FrameWriter::new(secret, FROM_DEVICE_MAX),
            last_id: secret.first_id(),
            hello_until: Some(now + HELLO_LIMIT),
            last_received: now,
            pinged_at: None,
            open: Vec::new(),
        }
    }

    fn take_id(&mut self) -> u16 {
        self.last_id = self.last_id.wrapping_add(1);
        self.last_id
    }

    fn acknowledge(&mut self, id: u16) -> Option<Purpose> {
        let index = self.open.iter().position(|(_, own, _)| *own == id)?;
        Some(self.open.swap_remove(index).0)
    }

    fn timeout_at(&self, keep_alive: Duration) -> Millis {
        let ping = self.pinged_at.map_or(self.last_received + keep_alive, |at| at + PING_LIMIT);
        let publishes =
            self.open.iter().filter(|(purpose, ..)| matches!(purpose, Purpose::Publish(_))).map(|(_, _, at)| *at + PUBLISH_LIMIT);
        publishes.chain(self.hello_until).fold(ping, Millis::min)
    }
}

impl TcpDevice {
    /// A device that begins to connect at `start`.
    pub fn new(config: TcpDeviceConfig, seed: u64, start: Millis) -> Self {
        Self {
            config,
            entropy: SeededEntropy::new(seed),
            state: State::Waiting(start),
            actions: VecDeque::new(),
            events: VecDeque::new(),
            failures: 0,
            next_publish: 1,
            token: 0,
            backlog: Vec::new(),
        }
    }

    /// What it is made of.
    pub fn config(&self) -> &TcpDeviceConfig {
        &self.config
    }

    /// Its application, to change a variable.
    pub fn app_mut(&mut self) -> &mut App {
        &mut self.config.app
    }

    /// Whether the LED breathes cyan.
    pub fn is_connected(&self) -> bool {
        matches!(&self.state, State::Online(online) if online.hello_until.is_none())
    }

    /// Whether the handshake of its connection is done.
    pub fn has_session(&self) -> bool {
        matches!(self.state, State::Online(_))
    }

    /// The next thing to do with the connection, in order.
    pub fn poll_action(&mut self) -> Option<TcpAction> {
        self.actions.pop_front()
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<DeviceEvent> {
        self.events.pop_front()
    }

    /// When [`TcpDevice::handle_timeout`] wants to be called.
    pub fn timeout_at(&self) -> Option<Millis> {
        match &self.state {
            State::Off => None,
            State::Waiting(until) => Some(*until),
            State::Connecting(since) | State::Handshaking { since, .. } => Some(*since + STEP_LIMIT),
            State::Online(online) => Some(online.timeout_at(self.config.keep_alive)),
        }
    }

    /// Power off: the connection is gone, without a word.
    pub fn power_off(&mut self) {
        self.state = State::Off;
        self.actions.clear();
        self.actions.push_back(TcpAction::Disconnect);
    }

    /// Power on again.
    pub fn power_on(&mut self, now: Millis) {
        self.state = State::Waiting(now);
    }

    /// Publishes an event with acknowledgement; [`DeviceEvent::Published`] tells its end. While not connected it is kept until it is.
    pub fn publish(&mut self, now: Millis, tools: &mut DeviceTools, name: &str, content_format: u16, data: &[u8]) -> u64 {
        let publish = self.next_publish;
        self.next_publish += 1;
        let message = firmware::publish(Age::default(), Kind::Confirmable, name, content_format, data);
        match self.is_connected() {
            true => self.start(now, tools, Purpose::Publish(publish), message),
            false => self.backlog.push((publish, message)),
        }
        publish
    }

    /// Publishes an event without acknowledgement, as devices on TCP do if not told otherwise: sent once, if there is a connection.
    pub fn publish_unacknowledged(&mut self, now: Millis, tools: &mut DeviceTools, name: &str, content_format: u16, data: &[u8]) {
        if self.is_connected() {
            self.start(now, tools, Purpose::Other, firmware::publish(Age::default(), Kind::NonConfirmable, name, content_format, data));
        }
    }

    /// Says goodbye for a reason of docs/protocol.md.
    pub fn goodbye(&mut self, now: Millis, tools: &mut DeviceTools, cloud_reason: u8) {
        if self.is_connected() {
            let message = Message::new(Kind::NonConfirmable, Code::POST, 0, &[]).path(&["x"]).with(NO_RESPONSE, []);
            self.start(now, tools, Purpose::Other, message.payload([1, cloud_reason]));
        }
    }

    /// Pings the server as after a long silence; [`DeviceEvent::PingAnswered`] tells the answer. Does nothing without a connection, or while
    /// another ping is open.
    pub fn ping(&mut self, now: Millis, tools: &mut DeviceTools) {
        if let State::Online(online) = &mut self.state
            && online.pinged_at.is_none()
        {
            online.pinged_at = Some(now);
            self.start(now, tools, Purpose::Ping, Message::new(Kind::Confirmable, Code::EMPTY, 0, &[]));
        }
    }

    /// The connection that was wanted is made.
    pub fn connected(&mut self, now: Millis) {
        if matches!(self.state, State::Connecting(_)) {
            self.events.push_back(DeviceEvent::HandshakeStarted);
            let config = &self.config;
            let handshake = ClientHandshake::new(config.id, config.key.clone(), config.server_key, config.shows_key);
            self.state = State::Handshaking { handshake: Box::new(handshake), since: now };
        }
    }

    /// The connection could not be made, or the other end closed it.
    pub fn disconnected(&mut self, now: Millis) {
        if !matches!(self.state, State::Waiting(_) | State::Off) {
            self.disconnect(now, "the connection ended");
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Millis, tools: &mut DeviceTools) {
        match &self.state {
            State::Off => {}
            State::Waiting(until) if now >= *until => {
                self.state = State::Connecting(now);
                self.actions.push_back(TcpAction::Connect);
            }
            State::Connecting(since) | State::Handshaking { since, .. } if now.since(*since) >= STEP_LIMIT => {
                self.disconnect(now, "the handshake timed out");
            }
            State::Waiting(_) | State::Connecting(_) | State::Handshaking { .. } => {}
            State::Online(_) => self.online_timeout(now, tools),
        }
    }

    fn online_timeout(&mut self, now: Millis, tools: &mut DeviceTools) {
        let State::Online(online) = &mut self.state else { return };
        if online.hello_until.is_some_and(|until| now >= until) {
            return self.disconnect(now, "the server said no Hello");
        }
        if online.pinged_at.is_some_and(|at| now.since(at) >= PING_LIMIT) {
            return self.disconnect(now, "ping timeout");
        }
        let slow = |(purpose, _, at): &(Purpose, u16, Millis)| match purpose {
            Purpose::Publish(publish) if now.since(*at) >= PUBLISH_LIMIT => Some(*publish),
            _ => None,
        };
        let failed: Vec<u64> = online.open.iter().filter_map(slow).collect();
        online.open.retain(|open| slow(open).is_none());
        self.events.extend(failed.into_iter().map(|publish| DeviceEvent::Published { publish, accepted: false }));
        if online.pinged_at.is_none() && now.since(online.last_received) >= self.config.keep_alive {
            self.ping(now, tools);
        }
    }

    /// Takes what came over the connection.
    pub fn handle_bytes(&mut self, now: Millis, tools: &mut DeviceTools, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match &mut self.state {
                State::Handshaking { handshake, since } => match handshake.take(&mut bytes, &mut self.entropy) {
                    Ok(Step::Wait) => {}
                    Ok(Step::Send(answer)) => {
                        *since = now;
                        self.actions.push_back(TcpAction::Send(answer));
                    }
                    Ok(Step::Done(secret)) => self.say_hello(now, tools, &secret),
                    Err(_) => self.disconnect(now, "the handshake failed"),
                },
                State::Online(online) => match online.reader.take(&mut tools.cbc, &mut bytes) {
                    Ok(Some(message)) => self.handle_frame(now, tools, &message),
                    Ok(None) => {}
                    Err(_) => self.disconnect(now, "a frame made no sense"),
                },
                State::Waiting(_) | State::Connecting(_) | State::Off => return,
            }
        }
    }

    fn say_hello(&mut self, now: Millis, tools: &mut DeviceTools, secret: &SessionSecret) {
        self.state = State::Online(Box::new(Online::new(secret, now)));
        self.start(
            now,
            tools,
            Purpose::Hello,
            firmware::nameless_hello(Age::default(), self.config.platform, &self.config.app, self.config.id, Kind::NonConfirmable),
        );
    }

    fn handle_frame(&mut self, now: Millis, tools: &mut DeviceTools, bytes: &[u8]) {
        let State::Online(online) = &mut self.state else { return };
        online.last_received = now;
        online.pinged_at = None;
        let Some(message) = Message::decode(bytes) else { return self.disconnect(now, "a message made no sense") };
        match message.kind {
            Kind::Acknowledgement => self.acknowledged(now, tools, &message),
            Kind::Reset => self.disconnect(now, "the server reset a message"),
            Kind::Confirmable | Kind::NonConfirmable => self.asked(now, tools, &message),
        }
    }

    fn acknowledged(&mut self, now: Millis, tools: &mut DeviceTools, message: &Message) {
        if message.code == Code::CONTENT
            && let Ok(seconds) = <[u8; 4]>::try_from(&message.payload[..])
        {
            self.events.push_back(DeviceEvent::ClockSet(u32::from_be_bytes(seconds)));
        }
        let State::Online(online) = &mut self.state else { return };
        match online.acknowledge(message.id) {
            Some(Purpose::DescribeBlock(kind, number)) => self.describe(now, tools, kind, number + 1),
            Some(Purpose::Publish(publish)) => {
                self.events.push_back(DeviceEvent::Published { publish, accepted: message.code.class() < 4 });
            }
            Some(Purpose::Ping) => self.events.push_back(DeviceEvent::PingAnswered),
            Some(Purpose::Hello | Purpose::Connect | Purpose::Other) | None => {}
        }
    }

    /// Does what a server message asks. What needs the id of a message that was received does not know it, and takes one of the device's own;
    /// there are messages whose acknowledgement does not even fit.
    fn asked(&mut self, now: Millis, tools: &mut DeviceTools, message: &Message) {
        let letter = message.values(option::URI_PATH).next().unwrap_or_default().to_vec();
        let confirmable = message.kind == Kind::Confirmable;
        if confirmable && matches!(&letter[..], b"L" | b"M" | b"S") {
            return self.disconnect(now, "an acknowledgement did not fit");
        }
        let acted = self.firmware().act(message);
        self.events.extend(acted.event);
        if let Some(code) = acted.acknowledgement.filter(|_| confirmable && !matches!(&letter[..], b"E" | b"e")) {
            let id = match &letter[..] {
                b"" | b"s" | b"k" => self.take_id(),
                _ => message.id,
            };
            let token: &[u8] = if code == Code::EMPTY { &[] } else { &message.token };
            self.send(tools, &Message::new(Kind::Acknowledgement, code, id, token));
        }
        if let Some(response) = acted.response {
            let kind = if response.is_describe { Kind::Confirmable } else { Kind::NonConfirmable };
            self.start(now, tools, Purpose::Other, response.message(kind, &message.token));
        }
        match acted.end {
            // There is no session to make anew.
            Some((_, false)) | None => {}
            Some((reason, true)) => return self.disconnect(now, reason),
        }
        if letter == b"h" {
            self.greeted(now, tools);
        }
    }

    /// The server has said Hello: everything else follows in one burst, and nothing is waited for.
    fn greeted(&mut self, now: Millis, tools: &mut DeviceTools) {
        let State::Online(online) = &mut self.state else { return };
        if online.hello_until.take().is_none() {
            return;
        }
        self.failures = 0;
        self.describe(now, tools, DescribeKind::System, 0);
        let time = firmware::time(self.next_token());
        self.start(now, tools, Purpose::Connect, time);
        for message in firmware::update_flags(Age::default(), Kind::NonConfirmable) {
            self.start(now, tools, Purpose::Connect, message);
        }
        self.describe(now, tools, DescribeKind::Application, 0);
        for message in self.firmware().subscriptions(Kind::NonConfirmable) {
            self.start(now, tools, Purpose::Connect, message);
        }
        self.events.push_back(DeviceEvent::Connected { resumed: false });
        for (publish, message) in std::mem::take(&mut self.backlog) {
            self.start(now, tools, Purpose::Publish(publish), message);
        }
    }

    fn firmware(&self) -> Firmware<'_> {
        let TcpDeviceConfig { app, system_describe, platform, .. } = &self.config;
        Firmware { app, system_describe, age: Age::default(), platform: *platform }
    }

    fn describe(&mut self, now: Millis, tools: &mut DeviceTools, kind: DescribeKind, number: u32) {
        let token = self.next_token();
        let (message, more) = self.firmware().describe(kind, number, token);
        let purpose = if more { Purpose::DescribeBlock(kind, number) } else { Purpose::Connect };
        self.start(now, tools, purpose, message);
    }

    /// Sends a message under the next id and remembers what its acknowledgement is for.
    fn start(&mut self, now: Millis, tools: &mut DeviceTools, purpose: Purpose, mut message: Message) {
        message.id = self.take_id();
        if let State::Online(online) = &mut self.state
            && message.kind == Kind::Confirmable
        {
            online.open.push((purpose, message.id, now));
        }
        self.send(tools, &message);
    }

    fn send(&mut self, tools: &mut DeviceTools, message: &Message) {
        let State::Online(online) = &mut self.state else { return };
        if let Ok(frame) = online.writer.write(&mut tools.cbc, &message.encode()) {
            self.actions.push_back(TcpAction::Send(frame));
        }
    }

    fn take_id(&mut self) -> u16 {
        match &mut self.state {
            State::Online(online) => online.take_id(),
            _ => 0,
        }
    }

    fn next_token(&mut self) -> u8 {
        self.token = self.token.wrapping_add(1);
        self.token
    }

    fn disconnect(&mut self, now: Millis, reason: &'static str) {
        self.failures = if self.is_connected() { 0 } else { self.failures + 1 };
        if let State::Online(online) = &self.state {
            let failed = online.open.iter().filter_map(|(purpose, ..)| match purpose {
                Purpose::Publish(publish) => Some(*publish),
                _ => None,
            });
            self.events.extend(failed.map(|publish| DeviceEvent::Published { publish, accepted: false }));
        }
        self.actions.push_back(TcpAction::Disconnect);
        self.events.push_back(DeviceEvent::Disconnected { reason, session_kept: false });
        self.state = State::Waiting(now + backoff(self.failures));
    }
}
