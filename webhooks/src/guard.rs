//! Which addresses requests of hooks may go to: public ones, over http and https, on ports that receivers use, and what the operator allows beside.
//!
//! Who writes a hook chooses where this server connects to, so a hook must not reach what only this server can reach. An address is looked at twice: as it
//! is written, when a template was filled in ([`Guard::check_url`]), and as it is resolved, whenever a connection is made ([`Guard::filter`]). The
//! connection then goes to the addresses that were looked at, so that a name that leads elsewhere a moment later leads nowhere.

mod network;
mod range;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use thiserror::Error;
use url::Url;

pub use network::{Allowed, Network, ParseNetworkError};
pub use range::Range;

/// Longest name of a host, without the dot at its end (RFC 1035 §2.3.4).
const NAME_LEN_MAX: usize = 253;
/// Longest part of such a name.
const LABEL_LEN_MAX: usize = 63;

/// What the operator says of where hooks may go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GuardConfig {
    /// Networks that are not public and may be reached all the same. Services of providers that hand out credentials stay refused, and so does what is no
    /// receiver's address, such as multicast and translated forms.
    pub allow: Vec<Allowed>,
    /// Networks that may not be reached although they are public: this server's own, for example. They outrank `allow`.
    pub deny: Vec<Network>,
    /// The ports that receivers may have.
    pub ports: Vec<RangeInclusive<u16>>,
    /// Whether requests may go out without TLS.
    pub plain_http: bool,
    /// The names under which this server is known: it sends nothing to itself.
    pub own_names: Vec<String>,
}

/// Decides.
#[derive(Clone, Debug)]
pub struct Guard {
    config: GuardConfig,
    own: Vec<Host<String>>,
}

/// A host: a name, to be looked up, or an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Host<S> {
    /// A name, as `url` brought it to one spelling; a dot may be at its end.
    Name(S),
    /// An address.
    Address(IpAddr),
}

/// Where a request goes, as its address says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target<'a> {
    /// The host.
    pub host: Host<&'a str>,
    /// The port.
    pub port: u16,
    /// Whether it is https.
    pub tls: bool,
}

/// Why a request may not go there, in words for the owner of the hook.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Refusal {
    /// Neither http nor https.
    #[error("the address must begin with http:// or https://")]
    Scheme,
    /// No TLS.
    #[error("this server sends hooks to https:// addresses only")]
    PlainHttp,
    /// A user name or a password stands in the address.
    #[error("the address must not hold a user name or a password")]
    Credentials,
    /// There is no host, or no name that could be looked up.
    #[error("the host in the address is not a name of a host")]
    Host,
    /// The port is not for receivers.
    #[error("hooks may not go to port {0}")]
    Port(u16),
    /// It is this server.
    #[error("hooks may not go to this server itself")]
    Own,
    /// The address, or one of those that the name has, is not public.
    #[error("the host has a {0} address, and hooks go to public ones only")]
    Address(Range),
    /// The operator refuses it.
    #[error("the operator of this server does not allow hooks to go there")]
    Denied,
    /// The name has no address.
    #[error("the name of the host has no address")]
    NoAddress,
}

impl Default for GuardConfig {
    fn default() -> Self {
        let ports = vec![80..=80, 443..=443, 1024..=u16::MAX];
        Self { allow: Vec::new(), deny: Vec::new(), ports, plain_http: true, own_names: Vec::new() }
    }
}

impl Guard {
    /// A guard that goes by this.
    pub fn new(config: GuardConfig) -> Self {
        let own = config.own_names.iter().filter_map(|name| Some(url::Host::parse(name.trim_end_matches('.')).ok()?.into())).collect();
        Self { config, own }
    }

    /// Looks at an address as it is written, with all templates filled in. A host that is an address is looked at as [`Guard::filter`] does.
    ///
    /// # Errors
    /// If requests may not go there.
    pub fn check_url<'a>(&self, url: &'a Url) -> Result<Target<'a>, Refusal> {
        let (tls, usual_port) = match url.scheme() {
            "https" => (true, 443),
            "http" if self.config.plain_http => (false, 80),
            "http" => return Err(Refusal::PlainHttp),
            _ => return Err(Refusal::Scheme),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refusal::Credentials);
        }
        let target = Target { host: url.host().ok_or(Refusal::Host)?.into(), port: url.port().unwrap_or(usual_port), tls };
        self.check_host(target)?;
        Ok(target)
    }

    fn check_host(&self, target: Target<'_>) -> Result<(), Refusal> {
        let named = |allowed: &Allowed| allowed.port == Some(target.port);
        if !self.is_usual(target.port) && !self.config.allow.iter().any(named) {
            return Err(Refusal::Port(target.port));
        }
        match target.host {
            Host::Name(name) => self.check_name(name),
            Host::Address(address) => self.check_address(address, target.port),
        }
    }

    fn check_name(&self, name: &str) -> Result<(), Refusal> {
        let name = name.strip_suffix('.').unwrap_or(name);
        if name.len() > NAME_LEN_MAX || name.split('.').any(|label| label.is_empty() || label.len() > LABEL_LEN_MAX) {
            return Err(Refusal::Host);
        }
        if self.own.iter().any(|own| own.is(Host::Name(name))) { Err(Refusal::Own) } else { Ok(()) }
    }

    /// Looks at all addresses that a host has, for a request to this port, and gives them back if every one may be reached: a name with one address that
    /// may not is a name to be wary of.
    ///
    /// # Errors
    /// If one of them may not be reached, or there is none.
    pub fn filter(&self, port: u16, addresses: Vec<IpAddr>) -> Result<Vec<IpAddr>, Refusal> {
        if addresses.is_empty() {
            return Err(Refusal::NoAddress);
        }
        addresses.iter().try_for_each(|address| self.check_address(*address, port))?;
        Ok(addresses)
    }

    fn check_address(&self, address: IpAddr, port: u16) -> Result<(), Refusal> {
        if self.own.iter().any(|own| own.is(Host::Address(address))) {
            return Err(Refusal::Own);
        }
        if self.config.deny.iter().any(|network| network.contains(address)) {
            return Err(Refusal::Denied);
        }
        let exceptions = || self.config.allow.iter().filter(|allowed| allowed.allows(address, port));
        match Range::of(address) {
            Some(range) if !range.can_be_allowed() || exceptions().next().is_none() => Err(Refusal::Address(range)),
            _ if self.is_usual(port) || exceptions().any(|allowed| allowed.port.is_some()) => Ok(()),
            _ => Err(Refusal::Port(port)),
        }
    }

    fn is_usual(&self, port: u16) -> bool {
        self.config.ports.iter().any(|ports| ports.contains(&port))
    }
}

impl Host<String> {
    /// Whether it is the same.
    pub fn is(&self, other: Host<&str>) -> bool {
        match (self, other) {
            (Self::Name(own), Host::Name(other)) => own == other,
            (Self::Address(own), Host::Address(other)) => *own == other,
            _ => false,
        }
    }
}

impl From<Host<&str>> for Host<String> {
    fn from(host: Host<&str>) -> Self {
        match host {
            Host::Name(name) => Self::Name(name.to_owned()),
            Host::Address(address) => Self::Address(address),
        }
    }
}

impl<S> From<url::Host<S>> for Host<S> {
    fn from(host: url::Host<S>) -> Self {
        match host {
            url::Host::Domain(name) => Self::Name(name),
            url::Host::Ipv4(address) => Self::Address(address.into()),
            url::Host::Ipv6(address) => Self::Address(address.into()),
        }
    }
}

impl<S: fmt::Display> fmt::Display for Host<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}
