//! A network of addresses, to say whose word about a client's address is believed.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use thiserror::Error;

/// An address and how many of its leading bits count: `10.0.0.0/8`, or one address alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    address: IpAddr,
    prefix_len: u8,
}

/// A text is no network.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("is neither an address nor a network such as 10.0.0.0/8")]
pub struct ParseNetworkError;

impl Network {
    /// Whether `address` lies inside. An IPv4 address that came in over IPv6 counts as the IPv4 address that it is.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                same_start(network.to_bits().into(), address.to_bits().into(), 32, self.prefix_len)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => same_start(network.to_bits(), address.to_bits(), 128, self.prefix_len),
            _ => false,
        }
    }
}

fn same_start(a: u128, b: u128, width: u8, prefix_len: u8) -> bool {
    let ignored = u32::from(width - prefix_len);
    // Shifting by the whole width is not defined; then everything matches.
    (a ^ b).checked_shr(ignored).unwrap_or(0) == 0
}

impl FromStr for Network {
    type Err = ParseNetworkError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| ParseNetworkError)?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix_len = prefix.map_or(Ok(width), str::parse).map_err(|_| ParseNetworkError)?;
        if prefix_len > width {
            return Err(ParseNetworkError);
        }
        Ok(Network { address, prefix_len })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().expect("a network")
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_network_holds_the_addresses_that_share_its_start() {
        for (inside, text) in [
            ("10.1.2.3", "10.0.0.0/8"),
            ("192.0.2.7", "192.0.2.7"),
            ("8.8.8.8", "0.0.0.0/0"),
            ("::ffff:10.1.2.3", "10.0.0.0/8"),
            ("fd00::1", "fd00::/8"),
            ("2001:db8::1", "::/0"),
        ] {
            assert!(network(text).contains(address(inside)), "{inside} in {text}");
        }
        for (outside, text) in [("11.0.0.1", "10.0.0.0/8"), ("192.0.2.8", "192.0.2.7"), ("fe80::1", "fd00::/8"), ("fd00::1", "0.0.0.0/0")] {
            assert!(!network(text).contains(address(outside)), "{outside} in {text}");
        }
    }

    #[test]
    fn other_texts_are_no_networks() {
        for bad in ["", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0/8", "10.0.0.0/-1", "example.com"] {
            assert!(bad.parse::<Network>().is_err(), "{bad:?}");
        }
    }
}
