//! The networks that are told apart: what one customer of a network operator has at least, and nobody cheaply has many of.

use std::net::IpAddr;

/// A network: 24 bits of an IPv4 address, 48 of an IPv6 address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Prefix(u64);

/// Bits of an IPv6 address that tell networks apart.
const V6_BITS: u32 = 48;
/// Says that the rest is of an IPv4 address: above all bits of the other kind.
const V4: u64 = 1 << V6_BITS;

impl Prefix {
    pub(super) fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self(V4 | u64::from(ip.to_bits() >> 8)),
            IpAddr::V6(ip) => Self((ip.to_bits() >> 64) as u64 >> (64 - V6_BITS)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_share_a_prefix_and_strangers_do_not() {
        let prefix = |text: &str| Prefix::of(text.parse().unwrap());
        assert_eq!(prefix("192.0.2.1"), prefix("192.0.2.255"));
        assert_eq!(prefix("192.0.2.1"), prefix("::ffff:192.0.2.7"));
        assert_ne!(prefix("192.0.2.1"), prefix("192.0.3.1"));
        assert_eq!(prefix("2001:db8:1:2::3"), prefix("2001:db8:1:ffff::"));
        assert_ne!(prefix("2001:db8:1::"), prefix("2001:db8:2::"));
        assert_ne!(prefix("0.0.2.1"), prefix("::2:0:0:0:0"));
    }
}
