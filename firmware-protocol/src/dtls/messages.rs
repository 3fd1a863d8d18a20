//! Handshake messages: the 12-byte header, the bodies that devices send, and the bodies that are sent to them. Fragments are refused: the
//! longest message of a device is 119 bytes, and it packs a whole flight into one datagram.

use crate::crypto::{POINT_LEN, PublicKey};
use crate::dtls::cid::ConnectionId;
use crate::dtls::record::{Record, content};
use crate::wire::{Reader, Write};

/// `TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8` (RFC 7251).
pub const CIPHER_SUITE: u16 = 0xc0ae;
/// SHA-256 with ECDSA.
pub const ECDSA_SHA256: u16 = 0x0403;
/// Group secp256r1.
pub const SECP256R1: u16 = 0x0017;
/// Certificate type "raw public key" (RFC 7250).
pub const RAW_PUBLIC_KEY: u8 = 2;

pub(crate) const VERSION: u16 = 0xfefd;
pub(crate) const HEADER_LEN: usize = 12;

/// Handshake message types.
pub mod kind {
    /// ClientHello.
    pub const CLIENT_HELLO: u8 = 1;
    /// ServerHello.
    pub const SERVER_HELLO: u8 = 2;
    /// HelloVerifyRequest.
    pub const HELLO_VERIFY_REQUEST: u8 = 3;
    /// Certificate.
    pub const CERTIFICATE: u8 = 11;
    /// ServerKeyExchange.
    pub const SERVER_KEY_EXCHANGE: u8 = 12;
    /// CertificateRequest.
    pub const CERTIFICATE_REQUEST: u8 = 13;
    /// ServerHelloDone.
    pub const SERVER_HELLO_DONE: u8 = 14;
    /// CertificateVerify.
    pub const CERTIFICATE_VERIFY: u8 = 15;
    /// ClientKeyExchange.
    pub const CLIENT_KEY_EXCHANGE: u8 = 16;
    /// Finished.
    pub const FINISHED: u8 = 20;
}

/// Extension numbers.
pub mod extension {
    /// supported_groups.
    pub const GROUPS: u16 = 10;
    /// ec_point_formats.
    pub const POINT_FORMATS: u16 = 11;
    /// signature_algorithms.
    pub const SIGNATURE_ALGORITHMS: u16 = 13;
    /// client_certificate_type.
    pub const CLIENT_CERTIFICATE_TYPE: u16 = 19;
    /// server_certificate_type.
    pub const SERVER_CERTIFICATE_TYPE: u16 = 20;
    /// connection_id under the number of draft-05; RFC 9146's 54 is another protocol.
    pub const CONNECTION_ID: u16 = 254;
    /// renegotiation_info.
    pub const RENEGOTIATION_INFO: u16 = 0xff01;
}

/// A whole, unfragmented handshake message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HandshakeMessage<'a> {
    /// Its type.
    pub kind: u8,
    /// Its `message_seq`.
    pub sequence: u16,
    /// Its body.
    pub body: &'a [u8],
    /// Header and body: what goes into the transcript.
    pub raw: &'a [u8],
}

impl<'a> HandshakeMessage<'a> {
    /// The first message in `bytes` and what follows it; `None` if it is cut short or a fragment.
    pub fn parse(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let mut reader = Reader::new(bytes);
        let (kind, len, sequence) = (reader.u8()?, reader.u24()?, reader.u16()?);
        let (offset, fragment_len) = (reader.u24()?, reader.u24()?);
        if offset != 0 || fragment_len != len {
            return None;
        }
        let body = reader.take(len)?;
        Some((Self { kind, sequence, body, raw: &bytes[..HEADER_LEN + len] }, reader.rest()))
    }

    /// The only message in a plaintext handshake record of epoch 0.
    pub(crate) fn alone_in(record: &Record<'a>) -> Option<Self> {
        if record.content_type != content::HANDSHAKE || record.epoch != 0 {
            return None;
        }
        Self::parse(record.body).filter(|(_, rest)| rest.is_empty()).map(|(message, _)| message)
    }
}

/// Appends header and body of an unfragmented message.
pub(crate) fn write_message(out: &mut Vec<u8>, kind: u8, sequence: u16, body: &[u8]) {
    out.u8(kind);
    out.u24(body.len());
    out.u16(sequence);
    out.u24(0);
    out.u24(body.len());
    out.bytes(body);
}

fn write_extension(out: &mut Vec<u8>, number: u16, body: &[u8]) {
    out.u16(number);
    out.vec16(body);
}

/// Body of HelloVerifyRequest.
pub(crate) fn hello_verify_request(cookie: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(3 + cookie.len());
    body.u16(VERSION);
    body.vec8(cookie);
    body
}

/// Body of ServerHello. `server_type` is said only where the server's Certificate is sent or the client asked.
pub(crate) fn server_hello(random: &[u8; 32], connection: Option<ConnectionId>) -> Vec<u8> {
    let mut extensions = Vec::with_capacity(40);
    write_extension(&mut extensions, extension::RENEGOTIATION_INFO, &[0]);
    write_extension(&mut extensions, extension::POINT_FORMATS, &[1, 0]);
    if let Some(connection) = connection {
        let mut body = [8; 1 + ConnectionId::LEN];
        body[1..].copy_from_slice(&connection.0);
        write_extension(&mut extensions, extension::CONNECTION_ID, &body);
    }
    write_extension(&mut extensions, extension::CLIENT_CERTIFICATE_TYPE, &[RAW_PUBLIC_KEY]);
    write_extension(&mut extensions, extension::SERVER_CERTIFICATE_TYPE, &[RAW_PUBLIC_KEY]);

    let mut body = Vec::with_capacity(80);
    body.u16(VERSION);
    body.bytes(random);
    body.vec8(&[]);
    body.u16(CIPHER_SUITE);
    body.u8(0);
    body.vec16(&extensions);
    body
}

/// The signed part of ServerKeyExchange: named curve and point (RFC 8422 §5.4).
pub(crate) fn key_exchange_params(point: &[u8; POINT_LEN]) -> Vec<u8> {
    let mut params = Vec::with_capacity(4 + POINT_LEN);
    params.u8(3);
    params.u16(SECP256R1);
    params.vec8(point);
    params
}

/// A signature with its algorithm, as ServerKeyExchange and CertificateVerify end.
pub(crate) fn write_signature(out: &mut Vec<u8>, signature: &[u8]) {
    out.u16(ECDSA_SHA256);
    out.vec16(signature);
}

/// Reads what [`write_signature`] writes; nothing may follow.
pub(crate) fn read_signature(bytes: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader::new(bytes);
    let algorithm = reader.u16()?;
    let signature = reader.vec16()?;
    (algorithm == ECDSA_SHA256 && reader.is_empty()).then_some(signature)
}

/// Body of CertificateRequest: ECDSA keys, one algorithm, no authorities.
pub(crate) const CERTIFICATE_REQUEST: [u8; 8] = [1, 64, 0, 2, 4, 3, 0, 0];

/// Body of Certificate in its RFC 7250 form: one key, no chain.
pub(crate) fn certificate(key: &PublicKey) -> Vec<u8> {
    let mut body = Vec::with_capacity(3 + key.spki().len());
    body.u24(key.spki().len());
    body.bytes(key.spki());
    body
}

/// The key in a Certificate body.
pub(crate) fn read_certificate(body: &[u8]) -> Option<PublicKey> {
    let mut reader = Reader::new(body);
    let len = reader.u24()?;
    let spki = reader.take(len)?;
    PublicKey::from_spki(spki).filter(|_| reader.is_empty())
}

/// The point in a ClientKeyExchange body, or after the curve of a ServerKeyExchange.
pub(crate) fn read_point<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8; POINT_LEN]> {
    reader.vec8()?.try_into().ok()
}
