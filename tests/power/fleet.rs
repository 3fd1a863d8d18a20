//! Devices that publish as fast as they are answered, and hear of what some of that says. Their clock stands still while the server is down.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use firmware_protocol::crypto::{Curve, KeyPair, PublicKey};
use firmware_protocol::device::{Age, App, Device, DeviceConfig, DeviceEvent, DeviceTools};
use firmware_protocol::dtls::cid::ConnectionId;
use firmware_protocol::entropy::SeededEntropy;
use firmware_protocol::id::DeviceId;
use firmware_protocol::session::subscribe::HandlerKind;
use firmware_protocol::session::variable::Value;
use firmware_protocol::time::Millis;

/// Names of what devices publish: nobody has asked for the first, and every device for the second.
pub(crate) const NAMES: [&str; 2] = ["power", "news"];
/// Of so many publishes one is of the second name.
const NEWS_EVERY: u64 = 8;
/// Publishes that a device has open at once.
const OPEN: usize = 3;
/// Longer than a device waits before it repeats a message for the first time.
const LEAP: Duration = Duration::from_secs(7);
/// How often it leaps in one run: it gives a message up after the fourth time.
const LEAPS: u32 = 3;

/// The key pair of the device with number `n`.
pub(crate) fn key(n: u8) -> KeyPair {
    KeyPair::generate(&mut Curve::new().unwrap(), &mut SeededEntropy::new(n.into())).unwrap()
}

/// The id of the device with number `n`.
pub(crate) fn id(n: u8) -> DeviceId {
    DeviceId([0xe0, 0, n, n, n, n, n, n, n, n, n, n])
}

/// How far the devices of a running server are.
#[derive(Default)]
pub(crate) struct Progress {
    /// No more.
    pub(crate) stop: AtomicBool,
    /// Devices that are connected and have no publish open from before this run.
    pub(crate) caught_up: AtomicUsize,
    /// Devices come back with a reset and from another port, so that any worker of the server may be the one that hears them.
    pub(crate) reset: bool,
    /// All have subscribed: news that are published now, all must hear.
    pub(crate) all_listen: bool,
    /// What they must have heard when they are through.
    pub(crate) news: Vec<String>,
}

/// A device and all that happened to it.
pub(crate) struct Publisher {
    n: u8,
    device: Device,
    tools: DeviceTools,
    socket: UdpSocket,
    server: SocketAddr,
    now: Millis,
    next: u64,
    /// Number of each publish that has no answer, by the device's own.
    open: BTreeMap<u64, u64>,
    had_session: bool,
    /// News that came to it.
    pub(crate) heard: BTreeSet<String>,
    /// What it was told is kept.
    pub(crate) acknowledged: Vec<String>,
    /// What must not happen.
    pub(crate) faults: Vec<String>,
}

impl Publisher {
    pub(crate) fn new(n: u8, server: SocketAddr, server_key: PublicKey) -> Self {
        let app = App::default().variable("temperature", Value::Double(21.5)).subscription(NAMES[1], HandlerKind::Text);
        let config = DeviceConfig {
            age: Age::default(),
            id: id(n),
            key: key(n),
            server_key,
            platform: 32,
            keep_alive: Duration::from_secs(23 * 60),
            app,
            system_describe: vec![0x0a, 0x00],
            audit: true,
        };
        Self {
            n,
            device: Device::new(config, n.into(), Millis(0)),
            tools: DeviceTools::new().unwrap(),
            socket: connected(server),
            server,
            now: Millis(0),
            next: 0,
            open: BTreeMap::new(),
            had_session: false,
            heard: BTreeSet::new(),
            acknowledged: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// The session that the server must know from now on.
    pub(crate) fn connection(&self) -> Option<ConnectionId> {
        self.device.connection()
    }

    /// Whether it is connected, which it is when it has subscribed.
    pub(crate) fn listens(&self) -> bool {
        self.device.is_connected()
    }

    /// What is left open from one run to the next, for a complaint.
    pub(crate) fn open(&self) -> usize {
        self.open.len()
    }

    /// Publishes until it is told to stop.
    pub(crate) fn run(&mut self, progress: &Progress) {
        if progress.reset {
            self.reset();
        }
        let earlier = self.next;
        let (began, base) = (Instant::now(), self.now + LEAP);
        let (mut leaps, mut caught_up) = (1, false);
        while !progress.stop.load(Ordering::Acquire) {
            let waited = began.elapsed();
            let answered = self.open.values().all(|number| *number >= earlier);
            if !caught_up && answered && self.device.is_connected() && progress.news.iter().all(|news| self.heard.contains(news)) {
                caught_up = true;
                progress.caught_up.fetch_add(1, Ordering::AcqRel);
            }
            if !caught_up && leaps < LEAPS && waited > Duration::from_millis(500) * leaps {
                leaps += 1;
            }
            self.now = base + LEAP * (leaps - 1) + waited;
            self.device.handle_timeout(self.now, &mut self.tools);
            while self.device.is_connected() && self.open.len() < OPEN {
                self.publish(progress.all_listen);
            }
            self.turn();
        }
        // What the server sent before it was killed counts.
        while self.turn() {}
    }

    /// What is open is forgotten, the session is not.
    fn reset(&mut self) {
        self.socket = connected(self.server);
        self.open.clear();
        self.device.power_off();
        self.device.power_on(self.now);
    }

    fn publish(&mut self, all_listen: bool) {
        let name = NAMES[usize::from(all_listen && self.next.is_multiple_of(NEWS_EVERY))];
        let padding = "x".repeat(usize::try_from(self.next * 37 % 500).unwrap());
        let text = format!("{}-{}-{padding}", self.n, self.next);
        let publish = self.device.publish(self.now, &mut self.tools, name, 0, text.as_bytes());
        self.open.insert(publish, self.next);
        self.next += 1;
    }

    /// Sends, receives once, and takes note. `true` if something came.
    fn turn(&mut self) -> bool {
        self.send();
        let mut buffer = [0; 2048];
        let received = self.socket.recv(&mut buffer);
        if let Ok(len) = received {
            self.device.handle_datagram(self.now, &mut self.tools, &buffer[..len]);
            self.send();
        }
        while let Some(event) = self.device.poll_event() {
            self.take_note(&event);
        }
        self.had_session |= self.device.connection().is_some();
        received.is_ok()
    }

    fn send(&mut self) {
        while let Some(datagram) = self.device.poll_transmit() {
            // The server may be gone.
            let _ = self.socket.send(&datagram);
        }
    }

    fn take_note(&mut self, event: &DeviceEvent) {
        match event {
            DeviceEvent::Published { publish, accepted } => {
                if let Some(number) = self.open.remove(publish).filter(|_| *accepted) {
                    self.acknowledged.push(format!("{}-{number}", self.n));
                }
            }
            DeviceEvent::EventReceived { data, .. } => drop(self.heard.insert(subject(data))),
            DeviceEvent::HandshakeStarted if self.had_session => self.fault("a second handshake"),
            DeviceEvent::Disconnected { reason, .. } if self.had_session => self.fault(reason),
            DeviceEvent::SequenceRepeated(number) => self.fault(&format!("record number {number:#x} was used twice under one key")),
            _ => {}
        }
    }

    fn fault(&mut self, what: &str) {
        self.faults.push(format!("device {}: {what}", self.n));
    }
}

/// Whose publish it is, and which: what a text has before its padding.
pub(crate) fn subject(text: &[u8]) -> String {
    String::from_utf8_lossy(text).rsplit_once('-').unwrap_or_default().0.to_owned()
}

fn connected(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
    socket
}
