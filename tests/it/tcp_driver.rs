//! A simulated device on a real connection.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use firmware_protocol::crypto::{DeviceKeyPair, ServerPublicKey};
use firmware_protocol::device::tcp::{TcpAction, TcpDevice, TcpDeviceConfig};
use firmware_protocol::device::{DeviceEvent, DeviceTools};
use firmware_protocol::session::subscribe::HandlerKind;
use firmware_protocol::time::Millis;

use crate::device_driver::{app, id};
use crate::drive::Drive;

/// A device with its connection, its clock, and all that happened to it.
pub(crate) struct TcpDriver {
    pub(crate) device: TcpDevice,
    tools: DeviceTools,
    stream: Option<TcpStream>,
    server: SocketAddr,
    began: Instant,
    pub(crate) events: Vec<DeviceEvent>,
}

impl TcpDriver {
    /// Device `n` with this pair, which shows its key or does not.
    pub(crate) fn new(n: u8, key: DeviceKeyPair, shows_key: bool, server: SocketAddr, server_key: ServerPublicKey) -> Self {
        let config = TcpDeviceConfig {
            id: id(n),
            key,
            server_key,
            shows_key,
            platform: 6,
            keep_alive: Duration::from_secs(15),
            app: app().subscription("news", HandlerKind::Text),
            system_describe: vec![0x0a, 0x00],
        };
        let device = TcpDevice::new(config, n.into(), Millis(0));
        Self { device, tools: DeviceTools::new().unwrap(), stream: None, server, began: Instant::now(), events: Vec::new() }
    }

    fn now(&self) -> Millis {
        Millis(u64::try_from(self.began.elapsed().as_millis()).unwrap())
    }

    fn lost(&mut self) {
        self.stream = None;
        let now = self.now();
        self.device.disconnected(now);
    }

    fn act(&mut self) {
        while let Some(action) = self.device.poll_action() {
            let now = self.now();
            match action {
                TcpAction::Connect => match TcpStream::connect(self.server) {
                    Ok(stream) => {
                        stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
                        self.stream = Some(stream);
                        self.device.connected(now);
                    }
                    Err(_) => self.device.disconnected(now),
                },
                TcpAction::Send(bytes) => {
                    let _ = self.stream.as_mut().map(|stream| stream.write_all(&bytes));
                }
                TcpAction::Disconnect => {
                    let _ = self.stream.take().map(|stream| stream.shutdown(Shutdown::Both));
                }
            }
        }
    }

    pub(crate) fn publish(&mut self, name: &str, data: &[u8]) -> u64 {
        let now = self.now();
        let publish = self.device.publish(now, &mut self.tools, name, 0, data);
        self.act();
        publish
    }
}

impl Drive for TcpDriver {
    fn turn(&mut self) {
        let now = self.now();
        self.device.handle_timeout(now, &mut self.tools);
        self.act();
        let mut buffer = [0; 2048];
        match self.stream.as_mut().map(|stream| stream.read(&mut buffer)) {
            None => std::thread::sleep(Duration::from_millis(5)),
            Some(Ok(0)) => self.lost(),
            Some(Ok(len)) => {
                let now = self.now();
                self.device.handle_bytes(now, &mut self.tools, &buffer[..len]);
            }
            Some(Err(error)) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Some(Err(_)) => self.lost(),
        }
        self.act();
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
