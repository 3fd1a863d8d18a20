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
