//! Carries frames of devices on TCP: a connection for each, made and closed when its device says so.

use std::time::Duration;

use anyhow::Result;
use firmware_protocol::crypto::DeviceKeyPair;
use firmware_protocol::device::tcp::{TcpAction, TcpDevice, TcpDeviceConfig};
use firmware_protocol::time::Millis;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use super::line::{Attempt, Line, parts};
use super::member::{SYSTEM_DESCRIBE, app};
use super::plan::{TcpDevices, Transport};
use super::worker::{BATCH, Carrier, Deck};
use crate::keys::DeviceKey;

/// Platform id of a Photon.
const PLATFORM: u16 = 6;
/// Silence of the server after which a device pings.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Bytes read at a time.
const READ_LEN: usize = 2048;

/// The connections, by member.
pub(super) struct TcpLines {
    lines: Vec<Line>,
}

/// One of `devices`, which begins to connect at `start`.
pub(super) fn device(devices: &TcpDevices, key: &DeviceKey<DeviceKeyPair>, seed: u64, start: Millis) -> TcpDevice {
    let config = TcpDeviceConfig {
        id: key.id,
        key: key.pair.clone(),
        server_key: devices.server_key,
        shows_key: true,
        platform: PLATFORM,
        keep_alive: KEEP_ALIVE,
        app: app(),
        system_describe: SYSTEM_DESCRIBE.to_vec(),
    };
    TcpDevice::new(config, seed, start)
}

impl TcpLines {
    /// For `count` members, the first of which is `first` in the whole fleet.
    pub(super) fn new(devices: &TcpDevices, first: usize, count: usize) -> Self {
        let line = |number| Line::new(devices.server, Transport::Tcp.source(number, devices.server.ip()));
        Self { lines: (first..first + count).map(line).collect() }
    }

    /// The socket that was being connected has something to say.
    fn attempted(&mut self, deck: &mut Deck<TcpDevice>, index: usize) -> Result<()> {
        match self.lines[index].attempt() {
            Attempt::Made => {
                deck.tally.connections_made += 1;
                self.call(deck, index, |member, turn| member.receive(turn, |device, now, _| device.connected(now)))
            }
            Attempt::Refused => {
                deck.tally.connections_refused += 1;
                self.lost(deck, index);
                self.carry(deck, index)
            }
            Attempt::None => Ok(()),
        }
    }

    /// The connection is gone, and not by its device's will.
    fn lost(&mut self, deck: &mut Deck<TcpDevice>, index: usize) {
        self.lines[index].close();
        deck.act(index, |member, turn| member.receive(turn, |device, now, _| device.disconnected(now)));
    }

    fn read(&mut self, deck: &mut Deck<TcpDevice>, index: usize) -> Result<()> {
        let mut buffer = [0; READ_LEN];
        for _ in 0..BATCH {
            match self.lines[index].receive(&mut buffer) {
                Some(0) => break,
                Some(len) => {
                    deck.tally.bytes_received += len as u64;
                    let bytes = &buffer[..len];
                    self.call(deck, index, |member, turn| {
                        member.receive(turn, |device, now, tools| device.handle_bytes(now, tools, bytes));
                    })?;
                }
                None => {
                    self.lost(deck, index);
                    return self.carry(deck, index);
                }
            }
        }
        Ok(())
    }
}

impl Carrier for TcpLines {
    type Device = TcpDevice;
    const TRANSPORT: Transport = Transport::Tcp;

    fn begin(&self, _: &Epoll) -> Result<()> {
        Ok(())
    }

    fn ready(&mut self, deck: &mut Deck<TcpDevice>, event: EpollEvent) -> Result<()> {
        let (index, serial) = parts(event)?;
        if !self.lines[index].is_of(serial) {
            return Ok(());
        }
        self.attempted(deck, index)?;
        if event.events().contains(EpollFlags::EPOLLOUT) && !self.lines[index].flush() {
            self.lost(deck, index);
            return self.carry(deck, index);
        }
        self.read(deck, index)?;
        self.lines[index].watch(index, &deck.epoll)
    }

    fn carry(&mut self, deck: &mut Deck<TcpDevice>, index: usize) -> Result<()> {
        while let Some(action) = deck.members[index].device.poll_action() {
            let line = &mut self.lines[index];
            let well = match action {
                TcpAction::Connect => {
                    let begun = line.connect();
                    deck.tally.connections_refused += u64::from(!begun);
                    begun
                }
                TcpAction::Send(bytes) => {
                    deck.tally.bytes_sent += bytes.len() as u64;
                    line.send(&bytes)
                }
                TcpAction::Disconnect => {
                    line.close();
                    true
                }
            };
            if !well {
                self.lost(deck, index);
            }
        }
        self.lines[index].watch(index, &deck.epoll)?;
        deck.schedule(index);
        Ok(())
    }
}
