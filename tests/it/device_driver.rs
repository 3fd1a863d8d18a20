//! A simulated device on a real socket.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use firmware_protocol::crypto::{Curve, KeyPair, PublicKey};
use firmware_protocol::device::{Age, App, Device, DeviceConfig, DeviceEvent, DeviceTools};
use firmware_protocol::entropy::SeededEntropy;
use firmware_protocol::id::DeviceId;
use firmware_protocol::session::subscribe::HandlerKind;
use firmware_protocol::session::variable::Value;
use firmware_protocol::time::Millis;

use crate::drive::Drive;

/// A device with its socket, its clock, and all that happened to it.
pub(crate) struct Driver {
    pub(crate) device: Device,
    tools: DeviceTools,
    socket: UdpSocket,
    server: SocketAddr,
    began: Instant,
    pub(crate) events: Vec<DeviceEvent>,
    received: usize,
}

/// The key pair of the device with number `n`.
pub(crate) fn key(n: u8) -> KeyPair {
    KeyPair::generate(&mut Curve::new().unwrap(), &mut SeededEntropy::new(n.into())).unwrap()
}

/// The id of the device with number `n`.
pub(crate) fn id(n: u8) -> DeviceId {
    DeviceId([0xe0, 0, n, n, n, n, n, n, n, n, n, n])
}

/// A function and two variables.
pub(crate) fn app() -> App {
    App::default()
        .function("length", |argument| i32::try_from(argument.len()).unwrap())
        .variable("temperature", Value::Double(21.5))
        .variable("name", Value::String("kelp".into()))
}

impl Driver {
    /// Device `n`, which will speak to `server` from any local address.
    pub(crate) fn new(n: u8, server: SocketAddr, server_key: PublicKey) -> Self {
        Self::with_app(n, server, server_key, Age::default(), app().subscription("news", HandlerKind::Text))
    }

    /// The same with firmware of this age, and what is on it.
    pub(crate) fn with_app(n: u8, server: SocketAddr, server_key: PublicKey, age: Age, app: App) -> Self {
        let config = DeviceConfig {
            age,
            id: id(n),
            key: key(n),
            server_key,
            platform: 32,
            keep_alive: Duration::from_secs(25),
            app,
            system_describe: vec![0x0a, 0x00],
            audit: true,
        };
        let device = Device::new(config, n.into(), Millis(0));
        let mut driver = Self {
            device,
            tools: DeviceTools::new().unwrap(),
            socket: connected(server),
            server,
            began: Instant::now(),
            events: Vec::new(),
            received: 0,
        };
        driver.turn();
        driver
    }

    fn now(&self) -> Millis {
        Millis(u64::try_from(self.began.elapsed().as_millis()).unwrap())
    }

    fn send(&mut self) {
        while let Some(datagram) = self.device.poll_transmit() {
            let _ = self.socket.send(&datagram);
        }
    }

    pub(crate) fn publish(&mut self, name: &str, data: &[u8]) -> u64 {
        self.publish_typed(name, 0, data)
    }

    pub(crate) fn publish_typed(&mut self, name: &str, content_format: u16, data: &[u8]) -> u64 {
        let now = self.now();
        let publish = self.device.publish(now, &mut self.tools, name, content_format, data);
        self.send();
        publish
    }

    pub(crate) fn publish_vitals(&mut self) -> u64 {
        let now = self.now();
        let publish = self.device.publish_vitals(now, &mut self.tools);
        self.send();
        publish
    }

    /// Says that it will restart, and stays quiet.
    pub(crate) fn say_goodbye(&mut self) {
        let now = self.now();
        self.device.goodbye(now, &mut self.tools, 4);
        self.send();
    }

    /// Names and payloads of the events that came.
    pub(crate) fn heard(&self) -> Vec<(String, Vec<u8>)> {
        let heard = |event: &DeviceEvent| match event {
            DeviceEvent::EventReceived { name, data, .. } => Some((name.clone(), data.clone())),
            _ => None,
        };
        self.events.iter().filter_map(heard).collect()
    }

    pub(crate) fn handshakes(&self) -> usize {
        self.events.iter().filter(|event| **event == DeviceEvent::HandshakeStarted).count()
    }

    /// Datagrams that came from the server.
    pub(crate) fn records_seen(&self) -> usize {
        self.received
    }

    /// The network loses what has come and was not read.
    pub(crate) fn lose_what_came(&mut self) {
        let mut buffer = [0; 2048];
        // Until a time-out: a refusal while the server is down is none.
        while self.socket.recv(&mut buffer).map_or_else(|error| error.kind() == ErrorKind::ConnectionRefused, |_| true) {}
    }

    /// Another socket, from which the session goes on as after a reset.
    pub(crate) fn restart(&mut self) {
        self.socket = connected(self.server);
        self.device.power_off();
        let now = self.now();
        self.device.power_on(now);
    }
}

impl Drive for Driver {
    fn turn(&mut self) {
        let now = self.now();
        self.device.handle_timeout(now, &mut self.tools);
        self.send();
        let mut buffer = [0; 2048];
        // A time-out, or a refusal while the server is down.
        if let Ok(len) = self.socket.recv(&mut buffer) {
            let now = self.now();
            self.received += 1;
            self.device.handle_datagram(now, &mut self.tools, &buffer[..len]);
        }
        self.send();
        while let Some(event) = self.device.poll_event() {
            self.events.push(event);
        }
    }

    fn events(&self) -> &[DeviceEvent] {
        &self.events
    }

    fn is_connected(&self) -> bool {
        self.device.is_connected()
    }
}

/// A device connects its socket: it hears nothing from any other address.
fn connected(server: SocketAddr) -> UdpSocket {
    let any: SocketAddr = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().unwrap();
    let socket = UdpSocket::bind(any).unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    socket
}
