//! A small cloud for devices on TCP, made of the protocol crate's own server parts: one thread, and no store but memory. It keeps its promises, and
//! cuts connections when it is told to.

use std::collections::{HashMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use firmware_protocol::coap::Code;
use firmware_protocol::crypto::{Cbc, DevicePublicKey, ServerKeyPair, ServerPublicKey};
use firmware_protocol::dtls::cid::ConnectionId;
use firmware_protocol::entropy::SeededEntropy;
use firmware_protocol::id::DeviceId;
use firmware_protocol::path::Path;
use firmware_protocol::session::Uplink;
use firmware_protocol::session::publish::Delivery;
use firmware_protocol::session::request::{Request, RequestId};
use firmware_protocol::session::stored::Generation;
use firmware_protocol::tcp::handshake::{Greeting, Handshaker};
use firmware_protocol::tcp::session::{Context, Opening, Output, Patience, TcpSession};
use firmware_protocol::time::{Millis, Now, UnixMillis};
use holdfast_load::cli::AcceptedEvent;
use holdfast_load::fleet::text::NEWS_PREFIX;
use holdfast_load::keys::TcpDeviceKey;
use nix::poll::{PollFd, PollFlags, poll};

/// The cloud ends by itself after this.
const LIMIT: Duration = Duration::from_secs(120);
const NAP_MS: u8 = 5;

enum Order {
    /// Closes all connections.
    Cut,
    /// Calls a function on each device, and delivers it an event.
    Talk,
    Stop,
}

/// A running cloud.
pub(crate) struct StreamCloud {
    pub(crate) address: SocketAddr,
    pub(crate) key: ServerPublicKey,
    orders: Sender<Order>,
    thread: JoinHandle<Result<Vec<AcceptedEvent>>>,
}

impl StreamCloud {
    pub(crate) fn start(devices: &[TcpDeviceKey]) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let (address, (orders, mailbox), server_key) = (listener.local_addr()?, channel(), ServerKeyPair::generate()?);
        let cloud = Cloud {
            listener,
            known: devices.iter().map(|device| (device.id, *device.pair.public())).collect(),
            ends: Vec::new(),
            accepted: Vec::new(),
            tools: Tools {
                handshaker: Handshaker::new(server_key.clone()),
                entropy: SeededEntropy::new(99),
                cipher: Cbc::new()?,
                origin: Instant::now(),
            },
        };
        Ok(Self { address, key: *server_key.public(), orders, thread: thread::spawn(move || cloud.run(&mailbox)) })
    }

    pub(crate) fn cut(&self) -> Result<()> {
        self.orders.send(Order::Cut).ok().context("the cloud is gone")
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

struct Tools {
    handshaker: Handshaker,
    entropy: SeededEntropy,
    cipher: Cbc,
    origin: Instant,
}

impl Tools {
    fn now(&self) -> Now {
        let at = Millis(0) + self.origin.elapsed();
        Now { at, unix: UnixMillis(1_800_000_000_000 + at.0) }
    }
}

struct Cloud {
    listener: TcpListener,
    known: HashMap<DeviceId, DevicePublicKey>,
    ends: Vec<End>,
    accepted: Vec<AcceptedEvent>,
    tools: Tools,
}

/// The cloud's end of a connection.
struct End {
    socket: TcpStream,
    stage: Stage,
}

enum Stage {
    Greeting(Greeting),
    Session(DeviceId, Box<TcpSession>),
    Closed,
}

impl Cloud {
    fn run(mut self, mailbox: &Receiver<Order>) -> Result<Vec<AcceptedEvent>> {
        while self.tools.origin.elapsed() < LIMIT {
            match mailbox.try_recv() {
                Ok(Order::Cut) => self.ends.clear(),
                Ok(Order::Talk) => self.talk(),
                Ok(Order::Stop) | Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => {}
            }
            let sockets = self.ends.iter().map(|end| end.socket.as_fd()).chain([self.listener.as_fd()]);
            let mut sockets: Vec<PollFd<'_>> = sockets.map(|socket| PollFd::new(socket, PollFlags::POLLIN)).collect();
            poll(&mut sockets, NAP_MS)?;
            while let Ok((socket, _)) = self.listener.accept() {
                self.ends.push(End::greet(socket, &mut self.tools)?);
            }
            for end in &mut self.ends {
                end.read(&self.known, &mut self.tools, &mut self.accepted);
            }
            self.ends.retain(|end| !matches!(end.stage, Stage::Closed));
        }
        Ok(self.accepted)
    }

    fn talk(&mut self) {
        let call = Request::Call { function: "double".into(), argument: "21".into() };
        let news = Delivery::new(&format!("{NEWS_PREFIX}/today"), 0, Some(b"rain")).map(Request::Deliver);
        let deadline = self.tools.now().at + Duration::from_secs(30);
        for end in &mut self.ends {
            for (id, request) in (1..).map(RequestId).zip([Ok(call.clone()), news.clone()]) {
                let Ok(request) = request else { continue };
                end.with_session(&mut self.tools, &mut self.accepted, |session, cx| {
                    // A device that is busy is not asked.
                    let _ = session.request(cx, id, request, deadline);
                });
            }
        }
    }
}

impl End {
    fn greet(mut socket: TcpStream, tools: &mut Tools) -> Result<Self> {
        let greeting = Greeting::new(&mut tools.entropy);
        socket.set_nonblocking(true)?;
        socket.write_all(greeting.nonce())?;
        Ok(Self { socket, stage: Stage::Greeting(greeting) })
    }

    fn read(&mut self, known: &HashMap<DeviceId, DevicePublicKey>, tools: &mut Tools, accepted: &mut Vec<AcceptedEvent>) {
        let mut buffer = [0; 2048];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(len) if len > 0 => self.receive(&buffer[..len], known, tools, accepted),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                _ => {
                    self.stage = Stage::Closed;
                    return;
                }
            }
        }
    }

    fn receive(
        &mut self,
        mut bytes: &[u8],
        known: &HashMap<DeviceId, DevicePublicKey>,
        tools: &mut Tools,
        accepted: &mut Vec<AcceptedEvent>,
    ) {
        if let Stage::Greeting(greeting) = &mut self.stage {
            bytes = &bytes[greeting.take(bytes)..];
            if greeting.wanted() == 0 {
                self.stage = self.finish(known, tools).unwrap_or(Stage::Closed);
            }
        }
        self.with_session(tools, accepted, |session, cx| session.handle_bytes(cx, bytes));
    }

    fn finish(&mut self, known: &HashMap<DeviceId, DevicePublicKey>, tools: &mut Tools) -> Option<Stage> {
        let Stage::Greeting(greeting) = std::mem::replace(&mut self.stage, Stage::Closed) else { return None };
        let lookup = |device: DeviceId, _: Option<&DevicePublicKey>| Some(((), *known.get(&device)?));
        let established = tools.handshaker.finish(&greeting.answer()?, &mut tools.entropy, lookup).ok()?;
        self.socket.write_all(&established.reply).ok()?;
        let opening = Opening {
            device: established.device,
            owner: None,
            connection: ConnectionId([1; 8]),
            path: Path { peer: self.socket.peer_addr().ok()?, local: None },
            secret: established.secret,
            generation: Generation(100),
            patience: Patience::default(),
        };
        Some(Stage::Session(established.device, Box::new(TcpSession::new(tools.now(), &opening))))
    }

    /// Calls a session and does what it wants done, in that order, because each frame builds on the last; what is received is kept and acknowledged.
    fn with_session(
        &mut self,
        tools: &mut Tools,
        accepted: &mut Vec<AcceptedEvent>,
        action: impl FnOnce(&mut TcpSession, &mut Context<'_>),
    ) {
        let Some(device) = self.device() else { return };
        let mut outputs = VecDeque::from(self.call(tools, action));
        while let Some(output) = outputs.pop_front() {
            match output {
                Output::Transmit(frame) => self.write(&frame),
                Output::Received { receipt, uplink } => {
                    accepted.extend(event(device, accepted.len(), &uplink));
                    outputs.extend(self.call(tools, |session, cx| session.acknowledge(cx, receipt, Code::EMPTY)));
                }
                Output::Closed(_) => self.stage = Stage::Closed,
                _ => {}
            }
        }
    }

    fn device(&self) -> Option<DeviceId> {
        match &self.stage {
            Stage::Session(device, _) => Some(*device),
            Stage::Greeting(_) | Stage::Closed => None,
        }
    }

    fn call(&mut self, tools: &mut Tools, action: impl FnOnce(&mut TcpSession, &mut Context<'_>)) -> Vec<Output> {
        let (now, mut out) = (tools.now(), Vec::new());
        if let Stage::Session(_, session) = &mut self.stage {
            action(session, &mut Context { now, cipher: &mut tools.cipher, entropy: &mut tools.entropy, out: &mut out });
        }
        out
    }

    fn write(&mut self, frame: &[u8]) {
        if self.socket.write_all(frame).is_err() {
            self.stage = Stage::Closed;
        }
    }
}

fn event(source: DeviceId, position: usize, uplink: &Uplink) -> Option<AcceptedEvent> {
    let Uplink::Publish(publish) = uplink else { return None };
    let data = publish.data.as_ref().map(|data| String::from_utf8_lossy(data).into_owned());
    Some(AcceptedEvent { position: position as u64, name: publish.name.clone(), data, source: Some(source.to_string()) })
}
