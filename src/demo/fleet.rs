//! The demo's devices: one thread, a line each, driven by the device's side of the protocol.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;
use firmware_protocol::crypto::{PublicKey, ServerPublicKey};
use firmware_protocol::device::tcp::{TcpDevice, TcpDeviceConfig};
use firmware_protocol::device::{Age, App, Device, DeviceConfig, DeviceEvent, DeviceTools};
use firmware_protocol::session::subscribe::HandlerKind;
use firmware_protocol::session::variable::Value;
use firmware_protocol::time::Millis;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::demo::line::Line;
use crate::demo::{DemoDevice, DemoKey};

/// How often each device publishes.
const PUBLISH_EVERY: Duration = Duration::from_secs(5);
/// Silence after which a device pings: on Wi-Fi over UDP, and over TCP.
const KEEP_ALIVE: Duration = Duration::from_secs(25);
const TCP_KEEP_ALIVE: Duration = Duration::from_secs(15);
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

/// Where devices find the server, and the keys of it that they have.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerSeen {
    pub(super) udp: SocketAddr,
    pub(super) key: PublicKey,
    pub(super) tcp: SocketAddr,
    pub(super) tcp_key: ServerPublicKey,
}

struct Member {
    line: Line,
    publish_at: Instant,
    temperature: f64,
}

impl Fleet {
    /// Switches all devices on.
    pub(super) fn start(devices: &[DemoDevice], server: &ServerSeen) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let began = Instant::now();
        let members: Vec<Member> =
            devices.iter().zip(0u32..).map(|(device, number)| Member::new(device, number, server, began)).collect::<Result<_>>()?;
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
        shared.online.store(members.iter().filter(|member| member.line.is_connected()).count(), Ordering::Relaxed);
        let mut fds: Vec<PollFd<'_>> =
            members.iter().filter_map(|member| Some(PollFd::new(member.line.fd()?, PollFlags::POLLIN))).collect();
        // An interruption is a wake-up like any other.
        let _ = poll(&mut fds, PollTimeout::try_from(NAP).unwrap_or(PollTimeout::ZERO));
    }
}

impl Member {
    fn new(device: &DemoDevice, number: u32, server: &ServerSeen, began: Instant) -> Result<Self> {
        let temperature = 18.0 + f64::from(number % 50) / 10.0;
        // Not all at once: a fleet that was switched on by hand never is.
        let start = Millis(u64::from(number % 100) * 10);
        let publish_at = began + Duration::from_millis(1000 + u64::from(number) * 211 % 5000);
        Ok(Self { line: line(device, number, server, app(number, temperature), start)?, publish_at, temperature })
    }

    fn turn(&mut self, tools: &mut DeviceTools, began: Instant, shared: &Shared) {
        let now = Millis(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
        self.line.device().handle_timeout(now, tools);
        self.line.receive(now, tools);
        if self.line.device().is_connected() && Instant::now() >= self.publish_at {
            self.publish_at += PUBLISH_EVERY;
            self.publish(now, tools);
        }
        self.line.send(now);
        while let Some(event) = self.line.device().poll_event() {
            match event {
                DeviceEvent::Published { accepted: true, .. } => _ = shared.acknowledged.fetch_add(1, Ordering::Relaxed),
                DeviceEvent::Called { .. } => _ = shared.calls.fetch_add(1, Ordering::Relaxed),
                _ => {}
            }
        }
    }

    fn publish(&mut self, now: Millis, tools: &mut DeviceTools) {
        self.temperature += if self.temperature > 22.0 { -0.3 } else { 0.2 };
        let reading = format!("{{\"temperature\":{:.1}}}", self.temperature);
        let device = self.line.device();
        device.app_mut().set("temperature", Value::Double(self.temperature));
        device.publish(now, tools, "sensor", 0, reading.as_bytes());
    }
}

fn app(number: u32, temperature: f64) -> App {
    App::default()
        .function("led", |argument| i32::from(argument == "on"))
        .function("length", |argument| i32::try_from(argument.len()).unwrap_or(i32::MAX))
        .variable("temperature", Value::Double(temperature))
        .variable("firmware", Value::String("demo 1.0".to_owned()))
        .variable("number", Value::Int(i32::try_from(number).unwrap_or(i32::MAX)))
        .variable("healthy", Value::Bool(true))
        .subscription("announce", HandlerKind::Text)
}

/// The device on the line that its key is for; it begins to connect at `start`.
fn line(device: &DemoDevice, number: u32, server: &ServerSeen, app: App, start: Millis) -> Result<Line> {
    let (id, platform, system_describe) = (device.id, device.key.platform(), vec![0x0a, 0x00]);
    match device.key.clone() {
        DemoKey::Udp(key) => {
            let (age, server_key, keep_alive, audit) = (Age::default(), server.key, KEEP_ALIVE, false);
            let config = DeviceConfig { age, id, key, server_key, platform, keep_alive, app, system_describe, audit };
            Ok(Line::udp(Device::new(config, number.into(), start), server.udp)?)
        }
        DemoKey::Tcp(key) => {
            let (server_key, shows_key, keep_alive) = (server.tcp_key, true, TCP_KEEP_ALIVE);
            let config = TcpDeviceConfig { id, key, server_key, shows_key, platform, keep_alive, app, system_describe };
            Ok(Line::tcp(TcpDevice::new(config, number.into(), start), server.tcp))
        }
    }
}
