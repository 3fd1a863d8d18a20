//! Where a device is reached: its address, and the address of ours that it talks to.

use std::net::{IpAddr, SocketAddr};

/// A pair of addresses. Devices connect their sockets, so a reply must leave from the local address the datagram came to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Path {
    /// The device's address now.
    pub peer: SocketAddr,
    /// The address of ours that its datagrams arrive at, if the socket told.
    pub local: Option<IpAddr>,
}

/// A path as a session keeps it, in a third of the space: almost all are of IPv4.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum KeptPath {
    V4 { peer: [u8; 4], port: u16, local: Option<[u8; 4]> },
    Other(Box<Path>),
}

impl KeptPath {
    pub(crate) fn get(&self) -> Path {
        match self {
            Self::V4 { peer, port, local } => Path { peer: (*peer, *port).into(), local: local.map(IpAddr::from) },
            Self::Other(path) => **path,
        }
    }
}

impl From<Path> for KeptPath {
    fn from(path: Path) -> Self {
        match (path.peer, path.local) {
            (SocketAddr::V4(peer), None) => Self::V4 { peer: peer.ip().octets(), port: peer.port(), local: None },
            (SocketAddr::V4(peer), Some(IpAddr::V4(local))) => {
                Self::V4 { peer: peer.ip().octets(), port: peer.port(), local: Some(local.octets()) }
            }
            _ => Self::Other(Box::new(path)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_kept_as_it_is() {
        let v4 = ["192.0.2.1:5684", "10.0.0.1:0"].map(|peer| peer.parse().unwrap());
        let v6 = ["[2001:db8::1]:5684", "[fe80::1%3]:1"].map(|peer| peer.parse().unwrap());
        for peer in v4.into_iter().chain(v6) {
            for local in [None, Some("198.51.100.7".parse().unwrap()), Some("2001:db8::2".parse().unwrap())] {
                let path = Path { peer, local };
                assert_eq!(KeptPath::from(path).get(), path);
            }
        }
        assert_eq!(size_of::<KeptPath>(), 16);
    }
}
