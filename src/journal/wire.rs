//! The common parts of record bodies and snapshot entries. Little-endian; nothing here allocates by a length it has not checked.
//!
//! | part | bytes |
//! |---|---|
//! | option | u8 0 or 1, then the value; in a fixed-size entry zeros stand for a missing value |
//! | text, short bytes | u16 length, content |
//! | bytes | u32 length, content |
//! | floor | connection id 8, sequence u64, message id u16, digest u64 |
//! | peer | u8 4 or 6, address 16 (IPv4: 4 and zeros), port u16, flow info u32, scope id u32 |
//! | local address | u8 0, 4 or 6, address 16 |
//! | path | peer, local address |
//! | session, as if its id were on the wire | connection id 8, device 12, key hash 32, owner option u64, product option u32, keys 40, birth u32, established u64, path, final flight |
//! | final flight | verify data 12, message sequence u16, record sequence u32 |

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use firmware_protocol::dtls::cid::ConnectionId;
use firmware_protocol::dtls::keys::KeyBlock;
use firmware_protocol::dtls::server::FinalFlight;
use firmware_protocol::id::{DeviceId, Identity, KeyHash, OwnerId, ProductId};
use firmware_protocol::path::Path;
use firmware_protocol::session::stored::{Floor, Generation, StoredSession};
use firmware_protocol::time::UnixMillis;

/// Bytes of a path.
pub(super) const PATH_BYTES: usize = 27 + 17;
/// Bytes of a session.
pub(super) const SESSION_BYTES: usize = 8 + 12 + 32 + 9 + 5 + 40 + 4 + 8 + PATH_BYTES + 18;

/// What does not hold in bytes that should be one of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Malformed(pub(super) &'static str);

/// A field is longer than its length prefix can say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TooLong {
    pub(super) bytes: usize,
    pub(super) limit: usize,
}

/// What is left to decode.
pub(super) struct Take<'a>(pub(super) &'a [u8]);

impl<'a> Take<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn end(&self) -> Result<(), Malformed> {
        if self.is_empty() { Ok(()) } else { Err(Malformed("more bytes than the entry needs")) }
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed("fewer bytes than the entry needs"))?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn slice(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed("fewer bytes than the entry needs"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn bool(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed("neither yes nor no")),
        }
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.u32()?;
        self.slice(usize::try_from(len).map_err(|_| Malformed("a length beyond this machine"))?)
    }

    pub(super) fn text(&mut self) -> Result<String, Malformed> {
        let len = self.u16()?;
        let text = std::str::from_utf8(self.slice(len.into())?).map_err(|_| Malformed("text that is not UTF-8"))?;
        Ok(text.to_owned())
    }

    pub(super) fn time(&mut self) -> Result<UnixMillis, Malformed> {
        self.u64().map(UnixMillis)
    }

    pub(super) fn device(&mut self) -> Result<DeviceId, Malformed> {
        self.array().map(DeviceId)
    }

    pub(super) fn connection(&mut self) -> Result<ConnectionId, Malformed> {
        self.array().map(ConnectionId)
    }

    pub(super) fn floor(&mut self) -> Result<Floor, Malformed> {
        Ok(Floor { connection: self.connection()?, sequence: self.u64()?, message_id: self.u16()?, digest: self.u64()? })
    }

    pub(super) fn owner(&mut self) -> Result<Option<OwnerId>, Malformed> {
        let (present, value) = (self.bool()?, self.u64()?);
        Ok(present.then_some(OwnerId(value)))
    }

    pub(super) fn product(&mut self) -> Result<Option<ProductId>, Malformed> {
        let (present, value) = (self.bool()?, self.u32()?);
        Ok(present.then_some(ProductId(value)))
    }

    fn address(&mut self) -> Result<Option<IpAddr>, Malformed> {
        let (family, octets) = (self.u8()?, self.array::<16>()?);
        match family {
            0 => Ok(None),
            4 => Ok(Some(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]).into())),
            6 => Ok(Some(Ipv6Addr::from(octets).into())),
            _ => Err(Malformed("an address family other than 4 and 6")),
        }
    }

    pub(super) fn path(&mut self) -> Result<Path, Malformed> {
        let address = self.address()?.ok_or(Malformed("a peer without an address"))?;
        let (port, flow, scope) = (self.u16()?, self.u32()?, self.u32()?);
        let peer = match address {
            IpAddr::V4(address) => SocketAddr::from((address, port)),
            IpAddr::V6(address) => SocketAddrV6::new(address, port, flow, scope).into(),
        };
        Ok(Path { peer, local: self.address()? })
    }

    pub(super) fn session(&mut self) -> Result<StoredSession, Malformed> {
        Ok(StoredSession {
            connection: self.connection()?,
            id_on_wire: true,
            identity: Identity { device: self.device()?, key: KeyHash(self.array()?), owner: self.owner()?, product: self.product()? },
            keys: KeyBlock(self.array()?),
            birth: Generation(self.u32()?),
            established_at: self.time()?,
            path: self.path()?,
            final_flight: FinalFlight { verify: self.array()?, message_sequence: self.u16()?, record_sequence: self.u32()? },
        })
    }
}

pub(super) fn put_u16(to: &mut Vec<u8>, value: u16) {
    to.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn put_u32(to: &mut Vec<u8>, value: u32) {
    to.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn put_u64(to: &mut Vec<u8>, value: u64) {
    to.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) -> Result<(), TooLong> {
    let limit = super::record::BODY_BYTES_MAX;
    let len = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= limit);
    put_u32(to, len.ok_or(TooLong { bytes: bytes.len(), limit })?);
    to.extend_from_slice(bytes);
    Ok(())
}

pub(super) fn put_text(to: &mut Vec<u8>, text: &str) -> Result<(), TooLong> {
    let len = u16::try_from(text.len()).map_err(|_| TooLong { bytes: text.len(), limit: u16::MAX.into() })?;
    put_u16(to, len);
    to.extend_from_slice(text.as_bytes());
    Ok(())
}

pub(super) fn put_floor(to: &mut Vec<u8>, floor: &Floor) {
    to.extend_from_slice(&floor.connection.0);
    put_u64(to, floor.sequence);
    put_u16(to, floor.message_id);
    put_u64(to, floor.digest);
}

pub(super) fn put_owner(to: &mut Vec<u8>, owner: Option<OwnerId>) {
    to.push(owner.is_some().into());
    put_u64(to, owner.map_or(0, |owner| owner.0));
}

pub(super) fn put_product(to: &mut Vec<u8>, product: Option<ProductId>) {
    to.push(product.is_some().into());
    put_u32(to, product.map_or(0, |product| product.0));
}

fn put_address(to: &mut Vec<u8>, address: Option<IpAddr>) {
    let mut octets = [0; 16];
    to.push(match address {
        None => 0,
        Some(IpAddr::V4(address)) => {
            octets[..4].copy_from_slice(&address.octets());
            4
        }
        Some(IpAddr::V6(address)) => {
            octets = address.octets();
            6
        }
    });
    to.extend_from_slice(&octets);
}

pub(super) fn put_path(to: &mut Vec<u8>, path: &Path) {
    put_address(to, Some(path.peer.ip()));
    put_u16(to, path.peer.port());
    let (flow, scope) = match path.peer {
        SocketAddr::V4(_) => (0, 0),
        SocketAddr::V6(peer) => (peer.flowinfo(), peer.scope_id()),
    };
    put_u32(to, flow);
    put_u32(to, scope);
    put_address(to, path.local);
}

pub(super) fn put_session(to: &mut Vec<u8>, session: &StoredSession) {
    to.extend_from_slice(&session.connection.0);
    to.extend_from_slice(&session.identity.device.0);
    to.extend_from_slice(&session.identity.key.0);
    put_owner(to, session.identity.owner);
    put_product(to, session.identity.product);
    to.extend_from_slice(&session.keys.0);
    put_u32(to, session.birth.0);
    put_u64(to, session.established_at.0);
    put_path(to, &session.path);
    to.extend_from_slice(&session.final_flight.verify);
    put_u16(to, session.final_flight.message_sequence);
    put_u32(to, session.final_flight.record_sequence);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::test_records::session;

    #[test]
    fn a_session_has_its_fixed_size_and_comes_back() {
        for number in 0..8 {
            let session = session(number);
            let mut bytes = Vec::new();
            put_session(&mut bytes, &session);
            assert_eq!(bytes.len(), SESSION_BYTES);
            let mut take = Take(&bytes);
            assert_eq!(take.session(), Ok(session));
            assert_eq!(take.end(), Ok(()));
        }
    }

    #[test]
    fn a_length_beyond_the_input_is_refused_before_anything_is_allocated() {
        let mut bytes = Vec::new();
        put_u32(&mut bytes, u32::MAX);
        assert!(Take(&bytes).bytes().is_err());
        assert!(Take(&[0xff, 0xff, b'a']).text().is_err());
    }
}
