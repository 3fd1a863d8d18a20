//! The stateless answer to a first ClientHello (RFC 6347 §4.2.1). Nothing is kept and nothing expensive is done for an address that has not
//! shown that it receives what is sent to it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::crypto::{Hmac, equal};
use crate::dtls::hello::ClientHello;
use crate::dtls::messages::{hello_verify_request, kind, write_message};
use crate::dtls::record::{content, write_plain};
use crate::entropy::Entropy;
use crate::time::Millis;

/// Length of a cookie.
pub const COOKIE_LEN: usize = 16;
/// A cookie stays valid at least this long and at most twice as long.
pub const COOKIE_LIFE: Duration = Duration::from_secs(120);

/// Makes and checks cookies: a code over address and hello, under one of two keys that change places.
#[derive(Debug)]
pub struct Cookies {
    current: Hmac,
    previous: Hmac,
    rotated_at: Millis,
}

impl Cookies {
    /// Fresh keys. Cookies of another process are not valid here; its devices repeat their hello.
    pub fn new(now: Millis, entropy: &mut impl Entropy) -> Self {
        Self { current: Hmac::new(&entropy.array::<32>()), previous: Hmac::new(&entropy.array::<32>()), rotated_at: now }
    }

    /// Changes keys when it is time.
    pub fn rotate(&mut self, now: Millis, entropy: &mut impl Entropy) {
        if now.since(self.rotated_at) >= COOKIE_LIFE {
            let fresh = Hmac::new(&entropy.array::<32>());
            self.previous = std::mem::replace(&mut self.current, fresh);
            self.rotated_at = now;
        }
    }

    /// Whether `hello` repeats a cookie that was sent to `peer` for just this hello.
    pub fn proves(&self, peer: SocketAddr, hello: &ClientHello<'_>) -> bool {
        [&self.current, &self.previous].iter().any(|key| equal(&cookie(key, peer, hello), hello.cookie))
    }

    /// The HelloVerifyRequest for `hello`, as a datagram that is shorter than the hello was.
    pub fn challenge(&self, peer: SocketAddr, hello: &ClientHello<'_>) -> Vec<u8> {
        let body = hello_verify_request(&cookie(&self.current, peer, hello));
        let (mut message, mut datagram) = (Vec::with_capacity(32), Vec::with_capacity(48));
        write_message(&mut message, kind::HELLO_VERIFY_REQUEST, hello.message_sequence, &body);
        write_plain(&mut datagram, content::HANDSHAKE, hello.record_sequence, &message);
        datagram
    }
}

fn cookie(key: &Hmac, peer: SocketAddr, hello: &ClientHello<'_>) -> [u8; COOKIE_LEN] {
    let ip = match peer.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let (before, after) = hello.around_cookie;
    let code = key.code(&[&ip.octets(), &peer.port().to_be_bytes(), before, after]);
    let mut cookie = [0; COOKIE_LEN];
    cookie.copy_from_slice(&code[..COOKIE_LEN]);
    cookie
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtls::hello::device_hello;
    use crate::dtls::record::Record;
    use crate::entropy::SeededEntropy;

    fn hello_datagram(random: u8, cookie: &[u8], sequence: u16) -> Vec<u8> {
        let (mut message, mut datagram) = (Vec::new(), Vec::new());
        write_message(&mut message, kind::CLIENT_HELLO, sequence, &device_hello(&[random; 32], cookie, true));
        write_plain(&mut datagram, content::HANDSHAKE, sequence.into(), &message);
        datagram
    }

    fn cookie_in(challenge: &[u8]) -> Vec<u8> {
        let (record, _) = Record::parse(challenge).unwrap();
        record.body[15..].to_vec()
    }

    #[test]
    fn a_cookie_is_good_for_its_address_and_hello_and_for_two_minutes() {
        let mut entropy = SeededEntropy::new(1);
        let mut cookies = Cookies::new(Millis(0), &mut entropy);
        let (here, there) = ("[2001:db8::1]:5000".parse().unwrap(), "[2001:db8::1]:5001".parse().unwrap());
        let first = hello_datagram(1, &[], 0);
        let challenge = cookies.challenge(here, &ClientHello::parse(&first).unwrap());
        assert!(challenge.len() < first.len());
        let (answer, other) = (hello_datagram(1, &cookie_in(&challenge), 1), hello_datagram(2, &cookie_in(&challenge), 1));
        let (answer, other) = (ClientHello::parse(&answer).unwrap(), ClientHello::parse(&other).unwrap());
        assert!(cookies.proves(here, &answer));
        assert!(!cookies.proves(there, &answer) && !cookies.proves(here, &other));
        assert!(!cookies.proves(here, &ClientHello::parse(&first).unwrap()), "an empty cookie proves nothing");

        cookies.rotate(Millis(119_999), &mut entropy);
        cookies.rotate(Millis(120_000), &mut entropy);
        assert!(cookies.proves(here, &answer), "valid under the previous key");
        cookies.rotate(Millis(240_000), &mut entropy);
        assert!(!cookies.proves(here, &answer));
    }
}
