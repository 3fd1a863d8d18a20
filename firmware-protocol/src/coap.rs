//! CoAP messages (RFC 7252) as Device OS writes and reads them. The grammar is coap-lite's; this module is the only one that knows it.

use coap_lite::{CoapOption, MessageClass, MessageType, Packet};

/// Option numbers.
pub mod option {
    /// ETag.
    pub const ETAG: u16 = 4;
    /// Uri-Path.
    pub const URI_PATH: u16 = 11;
    /// Content-Format.
    pub const CONTENT_FORMAT: u16 = 12;
    /// Max-Age.
    pub const MAX_AGE: u16 = 14;
    /// Uri-Query.
    pub const URI_QUERY: u16 = 15;
    /// Block2: blocks of a response.
    pub const BLOCK2: u16 = 23;
    /// Block1: blocks of a request.
    pub const BLOCK1: u16 = 27;
}

/// Content-Formats.
pub mod format {
    /// text/plain; also what an absent option means.
    pub const TEXT: u16 = 0;
    /// application/octet-stream.
    pub const OCTETS: u16 = 42;
    /// application/cbor: the only form in which a device takes structured data.
    pub const CBOR: u16 = 60;
    /// application/vnd.particle.json+cbor: the form in which a device publishes structured data.
    pub const JSON_CBOR: u16 = 65_001;
}

/// A request method or response code.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(pub u8);

impl Code {
    /// 0.00: an acknowledgement without response, or a ping.
    pub const EMPTY: Code = Code(0);
    /// GET.
    pub const GET: Code = Code(1);
    /// POST.
    pub const POST: Code = Code(2);
    /// PUT.
    pub const PUT: Code = Code(3);
    /// 2.04.
    pub const CHANGED: Code = Code(0x44);
    /// 2.05. Towards a device only the answer to `/t` may carry it.
    pub const CONTENT: Code = Code(0x45);
    /// 2.31.
    pub const CONTINUE: Code = Code(0x5f);
    /// 4.00.
    pub const BAD_REQUEST: Code = Code(0x80);
    /// 4.03.
    pub const FORBIDDEN: Code = Code(0x83);
    /// 4.04.
    pub const NOT_FOUND: Code = Code(0x84);
    /// 4.08.
    pub const INCOMPLETE: Code = Code(0x88);
    /// 4.13.
    pub const TOO_LARGE: Code = Code(0x8d);
    /// 4.29.
    pub const TOO_MANY: Code = Code(0x9d);
    /// 5.01.
    pub const NOT_IMPLEMENTED: Code = Code(0xa1);
    /// 5.03.
    pub const UNAVAILABLE: Code = Code(0xa3);

    /// The digit before the point.
    pub fn class(self) -> u8 {
        self.0 >> 5
    }

    /// Whether this is a request method.
    pub fn is_request(self) -> bool {
        self.class() == 0 && self != Self::EMPTY
    }

    /// Whether this is a response of class 2, 4 or 5.
    pub fn is_response(self) -> bool {
        matches!(self.class(), 2 | 4 | 5)
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:02}", self.class(), self.0 & 0x1f)
    }
}

impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// Message types (RFC 7252 §3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// CON: repeated until acknowledged.
    Confirmable,
    /// NON.
    NonConfirmable,
    /// ACK.
    Acknowledgement,
    /// RST. Only devices send it: one towards a device ends its session.
    Reset,
}

/// A decoded message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Type.
    pub kind: Kind,
    /// Method or response code.
    pub code: Code,
    /// Message id.
    pub id: u16,
    /// Token, at most 8 bytes.
    pub token: Vec<u8>,
    /// Options in ascending order of number; repeated ones in the order they came.
    pub options: Vec<(u16, Vec<u8>)>,
    /// Payload; empty if there is none.
    pub payload: Vec<u8>,
}

impl Message {
    /// A message without options or payload.
    pub fn new(kind: Kind, code: Code, id: u16, token: &[u8]) -> Self {
        Self { kind, code, id, token: token.to_vec(), options: Vec::new(), payload: Vec::new() }
    }

    /// With one more option. Numbers must not descend.
    #[must_use]
    pub fn with(mut self, number: u16, value: impl Into<Vec<u8>>) -> Self {
        debug_assert!(self.options.last().is_none_or(|(last, _)| *last <= number), "options ascend");
        self.options.push((number, value.into()));
        self
    }

    /// With one Uri-Path option per segment.
    #[must_use]
    pub fn path(self, segments: &[&str]) -> Self {
        segments.iter().fold(self, |message, segment| message.with(option::URI_PATH, *segment))
    }

    /// With a payload.
    #[must_use]
    pub fn payload(mut self, payload: impl Into<Vec<u8>>) -> Self {
        self.payload = payload.into();
        self
    }

    /// Decodes one message. `None` if it is malformed, not version 1, or its code is of a class nobody uses.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.first()? >> 6 != 1 {
            return None;
        }
        // RFC 7252 §4.1: an empty message is its header and nothing else.
        if bytes.get(1) == Some(&Code::EMPTY.0) && bytes.len() != 4 {
            return None;
        }
        let packet = Packet::from_bytes(bytes).ok()?;
        let code = Code(u8::from(packet.header.code));
        if code.0 != bytes[1] || matches!(code.class(), 1 | 3 | 6 | 7) {
            return None;
        }
        let kind = match packet.header.get_type() {
            MessageType::Confirmable => Kind::Confirmable,
            MessageType::NonConfirmable => Kind::NonConfirmable,
            MessageType::Acknowledgement => Kind::Acknowledgement,
            MessageType::Reset => Kind::Reset,
        };
        let options = packet.options().flat_map(|(number, values)| values.iter().map(|value| (*number, value.clone()))).collect();
        Some(Self { kind, code, id: packet.header.message_id, token: packet.get_token().to_vec(), options, payload: packet.payload })
    }

    /// The message as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut packet = Packet::new();
        packet.header.set_version(1);
        packet.header.set_type(match self.kind {
            Kind::Confirmable => MessageType::Confirmable,
            Kind::NonConfirmable => MessageType::NonConfirmable,
            Kind::Acknowledgement => MessageType::Acknowledgement,
            Kind::Reset => MessageType::Reset,
        });
        packet.header.code = MessageClass::from(self.code.0);
        packet.header.message_id = self.id;
        packet.set_token(self.token.clone());
        for (number, value) in &self.options {
            packet.add_option(CoapOption::from(*number), value.clone());
        }
        packet.payload.clone_from(&self.payload);
        packet.to_bytes_unlimited().expect("tokens and options of this crate are within the grammar")
    }

    /// Values of one option, in order.
    pub fn values(&self, number: u16) -> impl Iterator<Item = &[u8]> {
        self.options.iter().filter(move |(own, _)| *own == number).map(|(_, value)| &value[..])
    }

    /// An unsigned option value. Leading zeros are accepted, because devices write three-byte numbers as four (docs/protocol.md).
    pub fn uint(&self, number: u16) -> Option<u32> {
        let value = self.values(number).next()?;
        (value.len() <= 4).then(|| value.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
    }

    /// Content-Format; absent means text.
    pub fn content_format(&self) -> u16 {
        self.uint(option::CONTENT_FORMAT).and_then(|number| u16::try_from(number).ok()).unwrap_or(format::TEXT)
    }
}

/// What can be said of a message that does not decode: enough to acknowledge it, so that its sender does not give its session up.
pub fn confirmable_id(bytes: &[u8]) -> Option<u16> {
    let header: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
    (header[0] >> 4 == 0b0100).then(|| u16::from_be_bytes([header[2], header[3]]))
}

/// A Block1 or Block2 value (RFC 7959 §2.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block {
    /// Number of the block, from 0.
    pub number: u32,
    /// Whether more follow.
    pub more: bool,
    /// Size exponent: a block has `1 << (exponent + 4)` bytes.
    pub size_exponent: u8,
}

impl Block {
    /// The block option `number` of `message`; `None` if absent or malformed.
    pub fn of(message: &Message, number: u16) -> Option<Self> {
        let value = message.uint(number).filter(|value| *value < 1 << 24)?;
        let size_exponent = u8::try_from(value & 7).ok().filter(|exponent| *exponent < 7)?;
        Some(Self { number: value >> 4, more: value & 8 != 0, size_exponent })
    }

    /// The option's value in its shortest form.
    pub fn value(self) -> Vec<u8> {
        let number = self.number << 4 | u32::from(self.more) << 3 | u32::from(self.size_exponent);
        let bytes = number.to_be_bytes();
        bytes[bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len())..].to_vec()
    }

    /// Bytes in a full block.
    pub fn size(self) -> usize {
        1 << (self.size_exponent + 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn recorded_messages_decode_and_encode_to_the_same_bytes() {
        for hex in [
            "40001235",
            "60002002",
            "4101000445b174",
            "6145000445ff6553f100",
            "4002000cb145076269672d74746c34000186a0",
            "4002000ab14505747970656412fde9ffa16161",
            "4102200435b16602666e43617267",
            "40010009b165066d792f6576744163",
            "4103200536b1734101",
        ] {
            let bytes = hex::decode(hex).unwrap();
            assert_eq!(hex::encode(Message::decode(&bytes).unwrap().encode()), hex);
        }
    }

    #[test]
    fn other_versions_and_unused_classes_do_not_decode() {
        for bad in [
            &[0x00, 1, 0, 1][..],
            &[0x80, 1, 0, 1],
            &[0xc0, 1, 0, 1],
            &[0x40, 0x20, 0, 1],
            &[0x40, 0xe0, 0, 1],
            &[0x40, 1, 0],
            &[],
            &[0x40, 0, 0, 1, 0xff, 1],
            &[0x41, 0, 0, 1, 7],
        ] {
            assert_eq!(Message::decode(bad), None, "{bad:?}");
        }
        assert_eq!(confirmable_id(&[0x4f, 0xff, 1, 2]), Some(0x0102));
        assert_eq!(confirmable_id(&[0x5f, 0xff, 1, 2]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_not_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(message) = Message::decode(&bytes) {
                let again = Message::decode(&message.encode()).unwrap();
                prop_assert_eq!(message, again);
            }
        }

        #[test]
        fn blocks_round_trip(number in 0u32..1 << 20, more: bool, size_exponent in 0u8..7) {
            let block = Block { number, more, size_exponent };
            let message = Message::new(Kind::Confirmable, Code::GET, 1, &[]).with(option::BLOCK2, block.value());
            prop_assert_eq!(Block::of(&message, option::BLOCK2), Some(block));
        }
    }
}
