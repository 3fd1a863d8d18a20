//! Carries datagrams of devices on UDP.

use anyhow::Result;
use firmware_protocol::crypto::KeyPair;
use firmware_protocol::device::{Age, Device, DeviceConfig};
use firmware_protocol::time::Millis;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use super::audit::Audit;
use super::member::{Job, KEEP_ALIVE, SYSTEM_DESCRIBE, app};
use super::plan::{FleetPlan, Transport, UdpDevices};
use super::wire::{DATAGRAM_MAX, Wire};
use super::worker::{BATCH, Carrier, Deck};
use crate::keys::DeviceKey;

/// Platform id of a Boron.
const PLATFORM: u16 = 13;

/// Sockets, each shared by as many members as the plan says.
pub(super) struct UdpSockets {
    wires: Vec<Wire>,
    per_socket: usize,
    audit: Option<Audit>,
}

/// One of `devices`, which begins to connect at `start`.
pub(super) fn device(devices: &UdpDevices, key: &DeviceKey<KeyPair>, job: Job, seed: u64, start: Millis) -> Device {
    let config = DeviceConfig {
        age: Age::default(),
        id: key.id,
        key: key.pair.clone(),
        server_key: devices.server_key,
        platform: PLATFORM,
        keep_alive: KEEP_ALIVE,
        app: app(),
        system_describe: SYSTEM_DESCRIBE.to_vec(),
        audit: job.audit,
    };
    Device::new(config, seed, start)
}

impl UdpSockets {
    /// For `count` members, the first of which is `first` in the whole fleet.
    pub(super) fn open(plan: &FleetPlan, devices: &UdpDevices, first: usize, count: usize) -> Result<Self> {
        let per_socket = plan.per_socket;
        let wires = (0..count).step_by(per_socket).map(|from| {
            let members = from..count.min(from + per_socket);
            Wire::open(first + from, devices.server, members)
        });
        let audit = plan.audit.then(Audit::new).transpose()?;
        Ok(Self { wires: wires.collect::<Result<_>>()?, per_socket, audit })
    }

    fn deliver(&mut self, deck: &mut Deck<Device>, index: usize, datagram: &[u8]) -> Result<()> {
        let before = deck.members[index].device.server_keys();
        self.call(deck, index, |member, turn| member.receive(turn, |device, now, tools| device.handle_datagram(now, tools, datagram)))?;
        if let Some(audit) = &mut self.audit {
            // The keys of a session come and go with a datagram of their own.
            if let Some(keys) = before.or_else(|| deck.members[index].device.server_keys()) {
                audit.check(&keys, datagram, &mut deck.tally);
            }
        }
        Ok(())
    }
}

impl Carrier for UdpSockets {
    type Device = Device;
    const TRANSPORT: Transport = Transport::Udp;

    fn begin(&self, epoll: &Epoll) -> Result<()> {
        for (index, wire) in self.wires.iter().enumerate() {
            epoll.add(&wire.socket, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?;
        }
        Ok(())
    }

    fn ready(&mut self, deck: &mut Deck<Device>, event: EpollEvent) -> Result<()> {
        let (wire, mut buffer) = (usize::try_from(event.data())?, [0; DATAGRAM_MAX]);
        for _ in 0..BATCH {
            let Some((len, recipient)) = self.wires[wire].receive(&mut buffer) else { break };
            deck.tally.datagrams_received += 1;
            match recipient {
                Some(index) => self.deliver(deck, index, &buffer[..len])?,
                None => deck.tally.datagrams_unclaimed += 1,
            }
        }
        Ok(())
    }

    fn carry(&mut self, deck: &mut Deck<Device>, index: usize) -> Result<()> {
        let wire = &self.wires[index / self.per_socket];
        while let Some(datagram) = deck.members[index].device.poll_transmit() {
            match wire.send(index, &datagram) {
                true => deck.tally.datagrams_sent += 1,
                false => deck.tally.datagrams_refused += 1,
            }
        }
        deck.schedule(index);
        Ok(())
    }
}
