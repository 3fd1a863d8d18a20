//! A network of addresses, to say whose word about a client's address is believed.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use thiserror::Error;
use webhooks::guard;

/// An address and how many of its leading bits count: `10.0.0.0/8`, or one address alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network(guard::Network);

/// A text is no network.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("is neither an address nor a network such as 10.0.0.0/8")]
pub struct ParseNetworkError;

impl Network {
    /// Whether `address` lies inside. An IPv4 address that came in over IPv6 counts as the IPv4 address that it is.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(address.to_canonical())
    }
}

impl FromStr for Network {
    type Err = ParseNetworkError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| ParseNetworkError)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
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
