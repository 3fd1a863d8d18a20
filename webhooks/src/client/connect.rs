//! How a connection comes about: names are looked up, and the addresses tried in turn.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hyper::header::HeaderValue;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::resolve::Resolve;
use super::{Failure, words};
use crate::delivery::Phase;
use crate::guard::{Host, Target};

/// Most addresses of a name that are tried.
const ADDRESSES_MAX: usize = 4;

/// What a connection was made for: another request may have it only if it goes to the same place under the same terms.
#[derive(Debug)]
pub(super) struct Origin {
    host: Host<String>,
    port: u16,
    tls: bool,
    verify_tls: bool,
    /// The place, as it stands in the header of each request.
    pub(super) header: HeaderValue,
}

impl Origin {
    pub(super) fn new(target: Target<'_>, verify_tls: bool) -> Self {
        let usual_port = if target.tls { 443 } else { 80 };
        let text = if target.port == usual_port { target.host.to_string() } else { format!("{}:{}", target.host, target.port) };
        let header = HeaderValue::try_from(text).expect("hosts of addresses are ASCII without spaces");
        Self { host: target.host.into(), port: target.port, tls: target.tls, verify_tls, header }
    }

    /// Whether a request to `target` may go over it.
    pub(super) fn is(&self, target: Target<'_>, verify_tls: bool) -> bool {
        self.host.is(target.host) && (self.port, self.tls, self.verify_tls) == (target.port, target.tls, verify_tls)
    }

    /// The name that the certificate of the other side must have: without the dot at its end, or brackets.
    pub(super) fn tls_name(&self) -> String {
        match &self.host {
            Host::Name(name) => name.strip_suffix('.').unwrap_or(name).to_owned(),
            Host::Address(address) => address.to_string(),
        }
    }

    /// Whether that certificate must be good.
    pub(super) fn verify_tls(&self) -> bool {
        self.verify_tls
    }
}

/// All addresses of a host.
pub(super) async fn look_up(resolver: &dyn Resolve, host: Host<&str>, limit: Duration) -> Result<Vec<IpAddr>, Failure> {
    match host {
        Host::Address(address) => Ok(vec![address]),
        Host::Name(name) => match timeout(limit, resolver.resolve(name)).await {
            Ok(found) => found.map_err(|error| Failure::new(Phase::Dns, error.to_string())),
            Err(_) => Err(Failure::new(Phase::Dns, words::within("the name of the host was not looked up", limit))),
        },
    }
}

/// Connects to one of the addresses: IPv6 and IPv4 in turn, each with its share of the time that is left.
pub(super) async fn dial(addresses: &[IpAddr], port: u16, limit: Duration) -> Result<TcpStream, Failure> {
    let (end, tried) = (Instant::now() + limit, in_turn(addresses));
    let mut error = words::within("there was no connection", limit);
    for (index, address) in tried.iter().enumerate() {
        let left = u32::try_from(tried.len() - index).unwrap_or(1);
        let share = end.saturating_duration_since(Instant::now()) / left;
        match timeout(share, TcpStream::connect(SocketAddr::new(*address, port))).await {
            Ok(Ok(stream)) => {
                // Without it, a request is only later.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(cause)) => words::io(&cause).clone_into(&mut error),
            Err(_) => {}
        }
    }
    Err(Failure::new(Phase::Connect, error))
}

/// The first addresses of either kind, in turn.
fn in_turn(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let (mut v6, mut v4) = (addresses.iter().filter(|address| address.is_ipv6()), addresses.iter().filter(|address| address.is_ipv4()));
    let pairs = std::iter::from_fn(|| {
        let pair = [v6.next(), v4.next()];
        pair.iter().any(Option::is_some).then_some(pair)
    });
    pairs.flatten().flatten().copied().take(ADDRESSES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_kinds_are_tried_in_turn() {
        let turn = |texts: &[&str]| {
            in_turn(&texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>()).iter().map(IpAddr::to_string).collect::<Vec<_>>()
        };
        assert_eq!(turn(&["1.1.1.1", "1.1.1.2", "::1", "::2", "::3"]), ["::1", "1.1.1.1", "::2", "1.1.1.2"]);
        assert_eq!(turn(&["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4", "1.1.1.5"]).len(), ADDRESSES_MAX);
        assert_eq!(turn(&["::1", "1.1.1.1"]), ["::1", "1.1.1.1"]);
        assert!(turn(&[]).is_empty());
    }
}
