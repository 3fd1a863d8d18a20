//! How messages of one demo device come and go: a UDP socket, or a TCP connection that its device makes and closes.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use firmware_protocol::device::tcp::{TcpAction, TcpDevice};
use firmware_protocol::device::{Device, DeviceTools, Simulated};
use firmware_protocol::time::Millis;

/// The server is on this machine: it takes a connection at once, or there is none.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// A device with its line to the server.
pub(super) enum Line {
    Udp { device: Box<Device>, socket: UdpSocket },
    Tcp { device: Box<TcpDevice>, server: SocketAddr, stream: Option<TcpStream> },
}

impl Line {
    /// Over UDP.
    pub(super) fn udp(device: Device, server: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(server)?;
        socket.set_nonblocking(true)?;
        Ok(Self::Udp { device: Box::new(device), socket })
    }

    /// Over TCP.
    pub(super) fn tcp(device: TcpDevice, server: SocketAddr) -> Self {
        Self::Tcp { device: Box::new(device), server, stream: None }
    }

    /// The device, whatever its line.
    pub(super) fn device(&mut self) -> &mut dyn Simulated {
        match self {
            Self::Udp { device, .. } => &mut **device,
            Self::Tcp { device, .. } => &mut **device,
        }
    }

    /// Whether the device's LED breathes cyan.
    pub(super) fn is_connected(&self) -> bool {
        match self {
            Self::Udp { device, .. } => device.is_connected(),
            Self::Tcp { device, .. } => device.is_connected(),
        }
    }

    /// What tells that something came, if there is something to ask.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Udp { socket, .. } => Some(socket.as_fd()),
            Self::Tcp { stream, .. } => stream.as_ref().map(AsFd::as_fd),
        }
    }

    /// Gives the device what came.
    pub(super) fn receive(&mut self, now: Millis, tools: &mut DeviceTools) {
        let mut buffer = [0; 2048];
        match self {
            Self::Udp { device, socket } => {
                while let Ok(len) = socket.recv(&mut buffer) {
                    device.handle_datagram(now, tools, &buffer[..len]);
                }
            }
            Self::Tcp { device, stream, .. } => {
                while let Some(own) = stream {
                    match own.read(&mut buffer) {
                        Ok(len) if len > 0 => device.handle_bytes(now, tools, &buffer[..len]),
                        Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                        _ => {
                            *stream = None;
                            device.disconnected(now);
                        }
                    }
                }
            }
        }
    }

    /// Does what the device wants done.
    pub(super) fn send(&mut self, now: Millis) {
        match self {
            Self::Udp { device, socket } => {
                while let Some(datagram) = device.poll_transmit() {
                    // What the network does not take is repeated like any other loss.
                    let _ = socket.send(&datagram);
                }
            }
            Self::Tcp { device, server, stream } => {
                while let Some(action) = device.poll_action() {
                    match action {
                        TcpAction::Connect => {
                            *stream = connect(*server).ok();
                            match stream {
                                Some(_) => device.connected(now),
                                None => device.disconnected(now),
                            }
                        }
                        // The socket holds far more than a device sends before it hears something.
                        TcpAction::Send(bytes) => {
                            if stream.as_mut().is_some_and(|stream| stream.write_all(&bytes).is_err()) {
                                *stream = None;
                                device.disconnected(now);
                            }
                        }
                        TcpAction::Disconnect => *stream = None,
                    }
                }
            }
        }
    }
}

fn connect(server: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&server, CONNECT_LIMIT)?;
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
