//! ClientHello: parsed in place, and built for the device's side.

use crate::dtls::messages::{CIPHER_SUITE, ECDSA_SHA256, HandshakeMessage, RAW_PUBLIC_KEY, SECP256R1, VERSION, extension, kind};
use crate::dtls::record::Record;
use crate::wire::{Reader, Write};

/// A ClientHello that offers what this profile needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientHello<'a> {
    /// Client random.
    pub random: &'a [u8; 32],
    /// Cookie, empty in a first hello.
    pub cookie: &'a [u8],
    /// Whether an empty connection id was offered under extension 254.
    pub offers_connection_id: bool,
    /// `message_seq` of this hello.
    pub message_sequence: u16,
    /// Record sequence it came in.
    pub record_sequence: u64,
    /// Header and body, for the transcript.
    pub raw: &'a [u8],
    /// The body before the cookie's length and after the cookie: what a cookie is bound to.
    pub around_cookie: (&'a [u8], &'a [u8]),
}

impl<'a> ClientHello<'a> {
    /// The hello in `datagram`, which holds nothing else. `None` if it is malformed or offers another profile.
    pub fn parse(datagram: &'a [u8]) -> Option<Self> {
        let (record, rest) = Record::parse(datagram)?;
        let message = HandshakeMessage::alone_in(&record).filter(|message| message.kind == kind::CLIENT_HELLO && rest.is_empty())?;
        let mut reader = Reader::new(message.body);
        if reader.u16()? != VERSION {
            return None;
        }
        let random = reader.take(32)?.try_into().ok()?;
        reader.vec8().filter(|session_id| session_id.len() <= 32)?;
        let before = &message.body[..message.body.len() - reader.rest().len()];
        let cookie = reader.vec8()?;
        let after = reader.rest();
        let suites = reader.vec16()?;
        let compressions = reader.vec8()?;
        let extensions = reader.vec16()?;
        if !reader.is_empty() || !holds_u16(suites, CIPHER_SUITE) || !compressions.contains(&0) {
            return None;
        }
        let offer = Offer::parse(extensions)?;
        Some(Self {
            random,
            cookie,
            offers_connection_id: offer.connection_id,
            message_sequence: message.sequence,
            record_sequence: record.sequence,
            raw: message.raw,
            around_cookie: (before, after),
        })
    }
}

/// What the extensions of a ClientHello come to.
#[derive(Default)]
struct Offer {
    connection_id: bool,
    raw_client_key: bool,
}

impl Offer {
    /// `None` if an extension rules this profile out. Unknown extensions are ignored.
    fn parse(extensions: &[u8]) -> Option<Self> {
        let (mut reader, mut offer) = (Reader::new(extensions), Self::default());
        while !reader.is_empty() {
            let (number, body) = (reader.u16()?, reader.vec16()?);
            let mut list = Reader::new(body);
            let acceptable = match number {
                extension::SIGNATURE_ALGORITHMS => holds_u16(list.vec16()?, ECDSA_SHA256),
                extension::GROUPS => holds_u16(list.vec16()?, SECP256R1),
                extension::CLIENT_CERTIFICATE_TYPE => {
                    offer.raw_client_key = list.vec8()?.contains(&RAW_PUBLIC_KEY);
                    offer.raw_client_key
                }
                extension::SERVER_CERTIFICATE_TYPE => list.vec8()?.contains(&RAW_PUBLIC_KEY),
                extension::CONNECTION_ID => {
                    offer.connection_id = body == [0];
                    offer.connection_id
                }
                _ => true,
            };
            if !acceptable {
                return None;
            }
        }
        offer.raw_client_key.then_some(offer)
    }
}

fn holds_u16(list: &[u8], value: u16) -> bool {
    list.chunks_exact(2).any(|item| item == value.to_be_bytes())
}

/// Body of the ClientHello that Device OS sends, byte for byte (docs/protocol.md). Without connection id it is that of 3.0 and before.
pub(crate) fn device_hello(random: &[u8; 32], cookie: &[u8], connection_id: bool) -> Vec<u8> {
    let mut body = Vec::with_capacity(128);
    body.u16(VERSION);
    body.bytes(random);
    body.vec8(&[]);
    body.vec8(cookie);
    body.bytes(&[0x00, 0x04, 0xc0, 0xae, 0x00, 0xff, 0x01, 0x00]);
    let mut extensions = Vec::with_capacity(45);
    extensions.bytes(&[0x00, 0x0d, 0x00, 0x0a, 0x00, 0x08, 0x04, 0x03, 0x04, 0x01, 0x03, 0x03, 0x03, 0x01]);
    extensions.bytes(&[0x00, 0x0a, 0x00, 0x04, 0x00, 0x02, 0x00, 0x17]);
    extensions.bytes(&[0x00, 0x0b, 0x00, 0x02, 0x01, 0x00]);
    if connection_id {
        extensions.bytes(&[0x00, 0xfe, 0x00, 0x01, 0x00]);
    }
    extensions.bytes(&[0x00, 0x13, 0x00, 0x02, 0x01, 0x02, 0x00, 0x14, 0x00, 0x02, 0x01, 0x02]);
    body.vec16(&extensions);
    body
}
