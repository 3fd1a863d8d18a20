//! Bad networks between a fleet and a server: datagrams are delayed, lost, doubled and reordered, devices change their address as behind a NAT
//! that forgets, TCP streams stall and break.
//!
//! [`Link`] and [`Stream`] decide, from injected time and a seed, for one device each. [`Proxy`] moves the bytes: it listens in place of the server,
//! and speaks to the server from a socket for each device, because the server answers to the address it heard a device from.

mod counts;
mod link;
mod proxy;
mod rules;
mod stream;
mod tcp;
mod udp;
mod witness;

pub use self::counts::Counts;
pub use self::link::{Link, Output};
pub use self::proxy::{Proxy, ProxyPlan};
pub use self::rules::{Chance, Rules, Weather};
pub use self::stream::{Piece, Stream};

/// Which way something goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Direction {
    /// From the device to the server.
    Up,
    /// From the server to the device.
    Down,
}

impl Direction {
    /// Both of them.
    pub const BOTH: [Self; 2] = [Self::Up, Self::Down];
}
