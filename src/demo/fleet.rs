//! The demo's devices: one thread, a socket each, driven by the device's side of the protocol.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;
use firmware_protocol::crypto::PublicKey;
use firmware_protocol::device::{Age, App, Device, DeviceConfig, DeviceEvent, DeviceTools};
use firmware_protocol::session::subscribe::HandlerKind;
use firmware_protocol::session::variable::Value;
use firmware_protocol::time::Millis;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::demo::{DemoDevice, PLATFORM};

/// How often each device publishes.
const PUBLISH_EVERY: Duration = Duration::from_secs(5);
/// The longest the thread sleeps.
const NAP: Duration = Duration::from_millis(100);

/// What the fleet is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FleetStatus {
    /// Devices whose LED breathes cyan.
    pub(super) online: usize,
    /// Publishes that were acknowledged.
    pub(super) acknowledged: u64,
    /// Function calls that were answered.
    pub(super) calls: u64,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    online: AtomicUsize,
    acknowledged: AtomicU64,
    calls: AtomicU64,
}

/// The running devices.
#[derive(Debug)]
pub(super) struct Fleet {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

struct Member {
    device: Device,
    socket: UdpSocket,
    publish_at: Instant,
    temperature: f64,
}

impl Fleet {
    /// Switches all devices on.
    pub(super) fn start(devices: &[DemoDevice], server: SocketAddr, server_key: PublicKey) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let began = Instant::now();
        let members: Vec<Member> = devices
            .iter()
            .zip(0u32..)
            .map(|(device, number)| Member::new(device, number, server, server_key, began))
            .collect::<io::Result<_>>()?;
        let (tools, seen) = (DeviceTools::new()?, Arc::clone(&shared));
        let thread = thread::Builder::new().name("devices".to_owned()).spawn(move || run(members, tools, began, &seen))?;
        Ok(Self { shared, thread })
    }

    /// What the fleet is doing now.
    pub(super) fn status(&self) -> FleetStatus {
        FleetStatus {
            online: self.shared.online.load(Ordering::Relaxed),
            acknowledged: self.shared.acknowledged.load(Ordering::Relaxed),
            calls: self.shared.calls.load(Ordering::Relaxed),
        }
    }

    /// Switches all devices off.
    pub(super) fn stop(self) {
        self.shared.stop.store(true, Ordering::Release);
        if self.thread.join().is_err() {
            tracing::error!("the devices' thread panicked");
        }
    }
}

fn run(mut members: Vec<Member>, mut tools: DeviceTools, began: Instant, shared: &Shared) {
    while !shared.stop.load(Ordering::Acquire) {
        for member in &mut members {
            member.turn(&mut tools, began, shared);
        }
        shared.online.store(members.iter().filter(|member| member.device.is_connected()).count(), Ordering::Relaxed);
        let mut fds: Vec<PollFd<'_>> = members.iter().map(|member| PollFd::new(member.socket.as_fd(), PollFlags::POLLIN)).collect();
        // An interruption is a wake-up like any other.
        let _ = poll(&mut fds, PollTimeout::try_from(NAP).unwrap_or(PollTimeout::ZERO));
    }
}

impl Member {
    fn new(device: &DemoDevice, number: u32, server: SocketAddr, server_key: PublicKey, began: Instant) -> io::Result<Self> {
        let socket = UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(server)?;
        socket.set_nonblocking(true)?;
        let temperature = 18.0 + f64::from(number % 50) / 10.0;
        let app = App::default()
            .function("led", |argument| i32::from(argument == "on"))
            .function("length", |argument| i32::try_from(argument.len()).unwrap_or(i32::MAX))
            .variable("temperature", Value::Double(temperature))
            .variable("firmware", Value::String("demo 1.0".to_owned()))
            .variable("number", Value::Int(i32::try_from(number).unwrap_or(i32::MAX)))
            .variable("healthy", Value::Bool(true))
            .subscription("announce", HandlerKind::Text);
        let config = DeviceConfig {
            age: Age::default(),
            id: device.id,
            key: device.key.clone(),
            server_key,
            platform: PLATFORM,
            keep_alive: Duration::from_secs(25),
            app,
            system_describe: vec![0x0a, 0x00],
            audit: false,
        };
        // Not all at once: a fleet that was switched on by hand never is.
        let offset = u64::from(number % 100) * 10;
        let publish_at = began + Duration::from_millis(1000 + u64::from(number) * 211 % 5000);
        Ok(Self { device: Device::new(config, u64::from(number), Millis(offset)), socket, publish_at, temperature })
    }

    fn turn(&mut self, tools: &mut DeviceTools, began: Instant, shared: &Shared) {
        let now = || Millis(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
        self.device.handle_timeout(now(), tools);
        let mut buffer = [0; 2048];
        while let Ok(len) = self.socket.recv(&mut buffer) {
            self.device.handle_datagram(now(), tools, &buffer[..len]);
        }
        if self.device.is_connected() && Instant::now() >= self.publish_at {
            self.publish_at += PUBLISH_EVERY;
            self.temperature += if self.temperature > 22.0 { -0.3 } else { 0.2 };
            self.device.app_mut().set("temperature", Value::Double(self.temperature));
            let reading = format!("{{\"temperature\":{:.1}}}", self.temperature);
            self.device.publish(now(), tools, "sensor", 0, reading.as_bytes());
        }
        while let Some(datagram) = self.device.poll_transmit() {
            // What the network does not take is repeated like any other loss.
            let _ = self.socket.send(&datagram);
        }
        while let Some(event) = self.device.poll_event() {
            match event {
                DeviceEvent::Published { accepted: true, .. } => _ = shared.acknowledged.fetch_add(1, Ordering::Relaxed),
                DeviceEvent::Called { .. } => _ = shared.calls.fetch_add(1, Ordering::Relaxed),
                _ => {}
            }
        }
    }
}
