//! Networks that an operator names: those that hooks may go to although they are not public, and those that they may not go to although they are.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use thiserror::Error;

use super::range::{starts_v4, starts_v6};

/// An address and how many of its leading bits count: `10.0.0.0/8`, or one address alone. What it prints as can be read again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    address: IpAddr,
    prefix_len: u8,
}

/// A network that hooks may go to, on any port that they may use anywhere, or on one named port, which may be any: `192.168.1.0/24`, `192.168.1.5:25`,
/// `[fd00::/8]:81`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Allowed {
    /// Which addresses.
    pub network: Network,
    /// Which port, if only one.
    pub port: Option<u16>,
}

/// A text is neither.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("is neither an address nor a network such as 192.168.1.0/24, 192.168.1.5:8080 or [fd00::/8]:8080")]
pub struct ParseNetworkError;

impl Network {
    /// Whether an address lies inside. One IPv4 address in the form of an IPv6 address is an IPv6 address here.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => starts_v4(address, network, self.prefix_len),
            (IpAddr::V6(network), IpAddr::V6(address)) => starts_v6(address, network, self.prefix_len),
            _ => false,
        }
    }
}

impl Allowed {
    /// Whether it allows this.
    pub fn allows(&self, address: IpAddr, port: u16) -> bool {
        self.port.is_none_or(|only| only == port) && self.network.contains(address)
    }
}

impl FromStr for Network {
    type Err = ParseNetworkError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| ParseNetworkError)?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix_len = prefix.map_or(Ok(width), str::parse).map_err(|_| ParseNetworkError)?;
        if prefix_len <= width { Ok(Self { address, prefix_len }) } else { Err(ParseNetworkError) }
    }
}

impl FromStr for Allowed {
    type Err = ParseNetworkError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(network) = text.parse() {
            return Ok(Self { network, port: None });
        }
        let (network, port) = text.rsplit_once(':').ok_or(ParseNetworkError)?;
        let bare = network.strip_prefix('[').and_then(|network| network.strip_suffix(']'));
        let network: Network = bare.unwrap_or(network).parse()?;
        if network.address.is_ipv6() && bare.is_none() {
            return Err(ParseNetworkError);
        }
        let port = port.parse().map_err(|_| ParseNetworkError)?;
        Ok(Self { network, port: Some(port) })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            None => self.network.fmt(f),
            Some(port) if self.network.address.is_ipv6() => write!(f, "[{}]:{port}", self.network),
            Some(port) => write!(f, "{}:{port}", self.network),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_is_read_with_and_without_a_port() {
        for (text, shown) in [
            ("192.168.1.0/24", "192.168.1.0/24"),
            ("192.168.1.5", "192.168.1.5/32"),
            ("192.168.1.5:25", "192.168.1.5/32:25"),
            ("192.168.1.0/24:25", "192.168.1.0/24:25"),
            ("fd00::/8", "fd00::/8"),
            ("fd00::1", "fd00::1/128"),
            ("[fd00::1]:81", "[fd00::1/128]:81"),
            ("[fd00::/8]:81", "[fd00::/8]:81"),
        ] {
            let allowed: Allowed = text.parse().unwrap();
            assert_eq!(allowed.to_string(), shown);
            assert_eq!(shown.parse(), Ok(allowed));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for bad in [
            "",
            ":",
            "10.0.0.0/33",
            "::/129",
            "10.0.0/8",
            "10.0.0.1:",
            "10.0.0.1:65536",
            "fd00::/8:81",
            "[fd00::1",
            "example.com",
            "10.0.0.1:-1",
        ] {
            assert!(bad.parse::<Allowed>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_port_narrows_what_is_allowed() {
        let allows = |text: &str, address: &str, port| text.parse::<Allowed>().unwrap().allows(address.parse().unwrap(), port);
        assert!(allows("10.0.0.0/8", "10.1.2.3", 443) && allows("10.0.0.0/8:25", "10.1.2.3", 25) && allows("::/0", "fd00::1", 80));
        assert!(!allows("10.0.0.0/8", "11.1.2.3", 443) && !allows("10.0.0.0/8:25", "10.1.2.3", 26) && !allows("0.0.0.0/0", "fd00::1", 80));
        assert!(!allows("10.0.0.0/8", "::ffff:10.1.2.3", 443), "another form of an address is another address");
    }
}
