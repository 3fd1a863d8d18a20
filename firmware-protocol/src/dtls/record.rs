//! The record layer: headers, protection, and the padding that connection-id records carry.
//!
//! Epoch 0 is plaintext, epoch 1 is the only protected one. A device's protected records carry its connection id (type 25, or 253 while it
//! resumes a session; both are authenticated as 25); ours never do, because devices chose an empty one. Firmware before 3.1 knows no connection
//! ids: its records look like ours, and while it resumes a session they have type 254, authenticated as 23, with the device's id behind them.

use crate::crypto::{Aead, TAG_LEN};
use crate::dtls::cid::ConnectionId;
use crate::dtls::keys::DirectionKeys;
use crate::dtls::messages::kind;
use crate::error::KeyError;
use crate::id::DeviceId;
use crate::wire::{Reader, Write};

/// Length of a record header without connection id.
pub const HEADER_LEN: usize = 13;
/// Where in a record of type [`content::CID`] or [`content::MOVED`] the byte is that [`ConnectionId::bucket`] returns.
pub const BUCKET_AT: u32 = 13;
/// Most bytes of plaintext a device takes or sends in a record (`MBEDTLS_SSL_MAX_CONTENT_LEN`).
pub const PLAINTEXT_MAX: usize = 1152;
/// Nothing longer than this is a datagram of a device: header, connection id, nonce, padded plaintext and tag.
pub const DATAGRAM_MAX: usize = HEADER_LEN + ConnectionId::LEN + NONCE_LEN + PLAINTEXT_MAX + 16 + TAG_LEN;

const VERSION: u16 = 0xfefd;
/// DTLS 1.0: what a client that supports several versions writes before it knows which one is spoken.
const VERSION_UNKNOWN: u16 = 0xfeff;
const NONCE_LEN: usize = 8;
/// The length byte behind a device id.
const TRAILER_ID_LEN: u8 = 0x0c;

/// Record content types. `CID` and `MOVED` stand for the type inside.
pub mod content {
    /// ChangeCipherSpec.
    pub const CHANGE_CIPHER_SPEC: u8 = 20;
    /// Alert.
    pub const ALERT: u8 = 21;
    /// Handshake.
    pub const HANDSHAKE: u8 = 22;
    /// Application data: one CoAP message.
    pub const APPLICATION: u8 = 23;
    /// A record with a connection id.
    pub const CID: u8 = 25;
    /// The same from a device that resumed its session and has heard nothing yet (Device OS 4.0 and later).
    pub const MOVED: u8 = 253;
    /// `APPLICATION` from a device that did so and knows no connection ids (before 3.1). Its id and a length byte follow the record.
    pub const MOVED_UNLABELLED: u8 = 254;
}

/// A record as it stands in a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// Content type from the wire; `MOVED` is told apart from `CID` here and nowhere else.
    pub content_type: u8,
    /// 0 before ChangeCipherSpec, 1 after.
    pub epoch: u16,
    /// 48-bit sequence number.
    pub sequence: u64,
    /// Present in records of types `CID` and `MOVED`.
    pub connection: Option<ConnectionId>,
    /// What follows the length.
    pub body: &'a [u8],
}

impl<'a> Record<'a> {
    /// The first record of `datagram` and what follows it, or `None` if it is no DTLS 1.2 record or cut short.
    pub fn parse(datagram: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let mut reader = Reader::new(datagram);
        let content_type = reader.u8()?;
        let version = reader.u16()?;
        if version != VERSION && version != VERSION_UNKNOWN {
            return None;
        }
        let (epoch, sequence) = (reader.u16()?, reader.u48()?);
        let connection = match content_type {
            content::CID | content::MOVED => Some(ConnectionId(reader.array()?)),
            content::CHANGE_CIPHER_SPEC..=content::APPLICATION | content::MOVED_UNLABELLED => None,
            _ => return None,
        };
        let body = reader.vec16()?;
        // RFC 5246 appendix E.1: the record version of a ClientHello does not count, its own does.
        let is_hello = content_type == content::HANDSHAKE && epoch == 0 && body.first() == Some(&kind::CLIENT_HELLO);
        if version != VERSION && !is_hello {
            return None;
        }
        Some((Self { content_type, epoch, sequence, connection, body }, reader.rest()))
    }

    /// Whether it is a protected record without connection id.
    pub fn is_unlabelled(&self) -> bool {
        self.connection.is_none() && self.epoch == 1
    }

    /// The type and content inside, if the record is authentic under `keys`.
    pub fn open<'k>(&self, aead: &'k mut Aead, keys: &DirectionKeys) -> Option<(u8, &'k [u8])> {
        let (explicit, sealed) = self.body.split_at_checked(NONCE_LEN)?;
        let inner_len = sealed.len().checked_sub(TAG_LEN).filter(|len| *len > 0)?;
        let explicit = explicit.try_into().ok()?;
        let content_type = if self.content_type == content::MOVED_UNLABELLED { content::APPLICATION } else { self.content_type };
        let (aad, len) = aad(self.epoch, self.sequence, content_type, self.connection, inner_len)?;
        let inner = aead.open(&keys.key, &nonce(keys, explicit), &aad[..len], sealed)?;
        match self.connection {
            None => Some((content_type, inner)),
            Some(_) => {
                let end = inner.iter().rposition(|byte| *byte != 0)?;
                Some((inner[end], &inner[..end]))
            }
        }
    }
}

/// Appends a plaintext record of epoch 0.
pub fn write_plain(out: &mut Vec<u8>, content_type: u8, sequence: u64, body: &[u8]) {
    write_header(out, content_type, 0, sequence);
    out.vec16(body);
}

/// Appends a protected record of epoch 1. With a connection id it is what a device sends, without one what a server sends.
pub fn write_sealed(
    out: &mut Vec<u8>,
    aead: &mut Aead,
    keys: &DirectionKeys,
    connection: Option<ConnectionId>,
    content_type: u8,
    sequence: u64,
    plaintext: &[u8],
) -> Result<(), KeyError> {
    let (mut explicit, mut padded) = ([0; NONCE_LEN], Vec::new());
    explicit.copy_from_slice(&(1u64 << 48 | sequence).to_be_bytes());
    let (wire_type, inner) = match connection {
        None => (content_type, plaintext),
        Some(_) => {
            padded.reserve(plaintext.len() + 16);
            padded.extend_from_slice(plaintext);
            padded.push(content_type);
            padded.resize(padded.len().next_multiple_of(16), 0);
            (content::CID, &padded[..])
        }
    };
    write_header(out, wire_type, 1, sequence);
    if let Some(connection) = connection {
        out.bytes(&connection.0);
    }
    let body_len = NONCE_LEN + inner.len() + TAG_LEN;
    out.u16(u16::try_from(body_len).expect("messages are bounded far below"));
    out.bytes(&explicit);
    let (aad, len) = aad(1, sequence, wire_type, connection, inner.len()).expect("messages are bounded far below");
    aead.seal(&keys.key, &nonce(keys, explicit), &aad[..len], inner, out)
}

/// Makes of a device's application record what it sends while it resumes a session and has heard nothing yet. Without connection id its own id
/// goes behind the record, and the id's length.
pub(crate) fn mark_moved(datagram: &mut Vec<u8>, connection: Option<ConnectionId>, device: DeviceId) {
    datagram[0] = match connection {
        Some(_) => content::MOVED,
        None => {
            datagram.bytes(&device.0);
            datagram.u8(TRAILER_ID_LEN);
            content::MOVED_UNLABELLED
        }
    };
}

/// The device id behind a record of type `MOVED_UNLABELLED`; `None` if what follows it is anything else.
pub(crate) fn moved_device(behind: &[u8]) -> Option<DeviceId> {
    let (length, id) = behind.split_last()?;
    DeviceId::from_slice(id).filter(|_| *length == TRAILER_ID_LEN)
}

fn write_header(out: &mut Vec<u8>, content_type: u8, epoch: u16, sequence: u64) {
    out.u8(content_type);
    out.u16(VERSION);
    out.u16(epoch);
    out.u48(sequence);
}

fn nonce(keys: &DirectionKeys, explicit: [u8; NONCE_LEN]) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[..4].copy_from_slice(&keys.iv);
    nonce[4..].copy_from_slice(&explicit);
    nonce
}

/// Additional data: RFC 5246 §6.2.3.3, or draft-05 §5.3 with a connection id (not RFC 9146, whose order differs).
fn aad(epoch: u16, sequence: u64, content_type: u8, connection: Option<ConnectionId>, inner_len: usize) -> Option<([u8; 22], usize)> {
    let mut aad = [0; 22];
    aad[..8].copy_from_slice(&(u64::from(epoch) << 48 | sequence).to_be_bytes());
    aad[8] = if connection.is_some() { content::CID } else { content_type };
    aad[9..11].copy_from_slice(&VERSION.to_be_bytes());
    let mut end = 11;
    if let Some(connection) = connection {
        aad[11..19].copy_from_slice(&connection.0);
        aad[19] = 8;
        end = 20;
    }
    aad[end..end + 2].copy_from_slice(&u16::try_from(inner_len).ok()?.to_be_bytes());
    Some((aad, end + 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_is_where_it_is_said_to_be() {
        let mut record = vec![content::CID, 0xfe, 0xfd];
        record.extend([0; 8]);
        record.extend([1, 2, 3, 4, 5, 6, 7, 8, 0, 0]);
        let connection = Record::parse(&record).and_then(|(record, _)| record.connection);
        assert_eq!(connection.map(ConnectionId::bucket), record.get(BUCKET_AT as usize).copied());
    }

    #[test]
    fn only_the_record_of_a_client_hello_may_claim_an_older_version() {
        let record = |content_type, version: u16, epoch, first| {
            let mut bytes = Vec::new();
            write_header(&mut bytes, content_type, epoch, 7);
            bytes[1..3].copy_from_slice(&version.to_be_bytes());
            bytes.vec16(&[first, 0]);
            Record::parse(&bytes).is_some()
        };
        assert!(record(content::HANDSHAKE, 0xfefd, 0, kind::CLIENT_HELLO) && record(content::HANDSHAKE, 0xfeff, 0, kind::CLIENT_HELLO));
        assert!(record(content::APPLICATION, 0xfefd, 1, 0) && record(content::HANDSHAKE, 0xfefd, 0, kind::CERTIFICATE));
        for (content_type, version, epoch, first) in [
            (content::HANDSHAKE, 0xfeff, 0, kind::CERTIFICATE),
            (content::HANDSHAKE, 0xfeff, 1, kind::CLIENT_HELLO),
            (content::APPLICATION, 0xfeff, 0, kind::CLIENT_HELLO),
            (content::ALERT, 0xfeff, 0, 2),
            (content::HANDSHAKE, 0xfefc, 0, kind::CLIENT_HELLO),
            (content::HANDSHAKE, 0x0303, 0, kind::CLIENT_HELLO),
        ] {
            assert!(!record(content_type, version, epoch, first), "{content_type} {version:x} {epoch} {first}");
        }
    }
}
