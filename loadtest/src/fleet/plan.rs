//! What a fleet is made of.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::ValueEnum;
use firmware_protocol::crypto::{DeviceKeyPair, KeyPair, PublicKey, ServerPublicKey};

use super::member::Work;
use crate::keys::DeviceKey;

/// Most devices behind one socket.
pub const PER_SOCKET_MAX: usize = 256;

/// What carries a device's messages.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Debug)]
pub enum Transport {
    /// DTLS over UDP.
    Udp,
    /// Frames over TCP.
    Tcp,
}

impl Transport {
    /// As reports call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }

    /// Devices that come for the first time, each second: a storm is a drill of its own. A handshake over TCP costs the server several times as much.
    pub(super) fn arrivals_per_s(self) -> u64 {
        match self {
            Self::Udp => 2000,
            Self::Tcp => 400,
        }
    }

    /// The address of the socket with this `number`: 250 × 250 of 127.0.0.0/8 for each transport, as devices come from many; or the one there is.
    #[expect(clippy::cast_possible_truncation, reason = "below 250")]
    pub(super) fn source(self, number: usize, server: IpAddr) -> IpAddr {
        let net = match self {
            Self::Udp => 1,
            Self::Tcp => 2,
        };
        match server {
            IpAddr::V4(_) => Ipv4Addr::new(127, net, (number / 250 % 250) as u8, (number % 250 + 1) as u8).into(),
            IpAddr::V6(own) => own.into(),
        }
    }
}

/// Devices of one transport, at least one.
#[derive(Clone, Debug)]
pub struct Devices<Pinned, Pair> {
    /// Where they find the server: a loopback address.
    pub server: SocketAddr,
    /// The server's key that they have pinned.
    pub server_key: Pinned,
    /// Who they are.
    pub keys: Vec<DeviceKey<Pair>>,
}

/// Devices on UDP.
pub type UdpDevices = Devices<PublicKey, KeyPair>;
/// Devices on TCP.
pub type TcpDevices = Devices<ServerPublicKey, DeviceKeyPair>;

/// The devices of a fleet.
#[derive(Clone, Default, Debug)]
pub struct Crew {
    /// Those on UDP.
    pub udp: Option<UdpDevices>,
    /// Those on TCP.
    pub tcp: Option<TcpDevices>,
}

/// What a fleet is made of.
#[derive(Clone, Debug)]
pub struct FleetPlan {
    /// The devices.
    pub crew: Crew,
    /// What they do.
    pub work: Work,
    /// Decides what is random.
    pub seed: u64,
    /// Goes into the text of every publish.
    pub run: u32,
    /// Devices on UDP behind one socket, 1 to [`PER_SOCKET_MAX`]. Each on TCP has a connection of its own.
    pub per_socket: usize,
    /// Whether to remember all record numbers and the fate of all publishes.
    pub audit: bool,
    /// Threads for each transport.
    pub threads: usize,
    /// The fleet stops by itself after this.
    pub lasts: Duration,
}

impl FleetPlan {
    /// How many devices it has.
    pub(super) fn devices(&self) -> usize {
        let Crew { udp, tcp } = &self.crew;
        udp.as_ref().map_or(0, |udp| udp.keys.len()) + tcp.as_ref().map_or(0, |tcp| tcp.keys.len())
    }

    /// How many sockets the fleet takes.
    ///
    /// # Errors
    /// The plan makes no sense, or would leave this machine.
    pub(super) fn check(&self) -> Result<usize> {
        let Crew { udp, tcp } = &self.crew;
        for server in udp.iter().map(|udp| udp.server).chain(tcp.iter().map(|tcp| tcp.server)) {
            ensure!(server.ip().is_loopback(), "{server} is no loopback address: fleets stay on their machine");
        }
        let shares_v6 = self.per_socket > 1 && udp.as_ref().is_some_and(|udp| udp.server.is_ipv6());
        ensure!(!shares_v6, "there is but one loopback address of IPv6, so that devices cannot share sockets there");
        ensure!((1..=PER_SOCKET_MAX).contains(&self.per_socket), "a socket is shared by 1 to {PER_SOCKET_MAX} devices");
        let of_udp = udp.as_ref().map(|udp| udp.keys.len().div_ceil(self.per_socket));
        let sockets = [of_udp, tcp.as_ref().map(|tcp| tcp.keys.len())];
        let peopled = sockets.iter().flatten().all(|count| *count > 0) && sockets.iter().any(Option::is_some);
        ensure!(peopled && self.threads > 0, "a fleet has at least one device and one thread");
        Ok(sockets.into_iter().flatten().sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn devices_come_from_many_addresses() -> Result<()> {
        let server = "127.0.0.1".parse::<IpAddr>()?;
        let both = [Transport::Udp, Transport::Tcp];
        let sources: HashSet<IpAddr> =
            both.iter().flat_map(|transport| (0..62_500).map(|number| transport.source(number, server))).collect();
        assert_eq!(sources.len(), 125_000);
        assert!(sources.iter().all(IpAddr::is_loopback));
        assert_eq!(Transport::Udp.source(9, "::1".parse()?), "::1".parse::<IpAddr>()?);
        Ok(())
    }
}
