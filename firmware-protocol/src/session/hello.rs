//! Hello: the first message after a handshake, and after a resume whose state changed (docs/protocol.md).

use crate::id::DeviceId;
use crate::wire::{Reader, Write};

/// Bits of the flags field.
pub mod flag {
    /// The previous over-the-air update succeeded.
    pub const OTA_SUCCEEDED: u16 = 0x01;
    /// Vitals are supported.
    pub const DIAGNOSTICS: u16 = 0x02;
    /// Immediate updates are supported.
    pub const IMMEDIATE_UPDATES: u16 = 0x04;
    /// The device says goodbye.
    pub const GOODBYE: u16 = 0x10;
    /// The device posts its describes by itself.
    pub const DEVICE_INITIATED_DESCRIBE: u16 = 0x20;
    /// Compressed and combined updates are accepted.
    pub const COMPRESSED_OTA: u16 = 0x40;
    /// Update protocol version 3.
    pub const OTA_V3: u16 = 0x80;
}

/// Size cap in bytes for messages over UDP to firmware whose Hello does not say one (docs/protocol.md).
pub const MESSAGE_MAX_UNKNOWN: u16 = 800;
/// The same over TCP: a frame of 768 bytes (docs/protocol.md), one of which at least is padding.
pub const MESSAGE_MAX_UNKNOWN_TCP: u16 = 767;
/// The version in which firmware learned of typed events: before it, a Content-Format option hides the payload (docs/protocol.md).
const TYPED_EVENTS_SINCE: u16 = 6200;

/// A parsed Hello.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hello {
    /// Product id as the firmware has it: the platform id in 6.x, 0xffff for none. The registry decides the product.
    pub product: u16,
    /// Application version, 0xffff for none.
    pub product_version: u16,
    /// See [`flag`].
    pub flags: u16,
    /// Platform id (docs/protocol.md).
    pub platform: u16,
    /// Device id; absent over TCP.
    pub device: Option<DeviceId>,
    /// Version of the system firmware, e.g. 6200; absent before 3.0.
    pub system_version: Option<u16>,
    /// Longest message the device takes, in bytes; absent before 3.0.
    pub message_max: Option<u16>,
    /// Largest firmware binary, in bytes, 0 for no limit; absent before 3.0.
    pub binary_max: Option<u32>,
    /// Preferred update chunk, in bytes; absent before 3.0.
    pub ota_chunk: Option<u16>,
}

impl Hello {
    /// Parses a payload by its remaining length, as the layouts of different ages demand. `None` if it is cut short inside a field.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(payload);
        let mut hello = Self {
            product: reader.u16()?,
            product_version: reader.u16()?,
            flags: reader.u16()?,
            platform: reader.u16()?,
            device: None,
            system_version: None,
            message_max: None,
            binary_max: None,
            ota_chunk: None,
        };
        if reader.is_empty() {
            return Some(hello);
        }
        hello.device = match reader.u16()? {
            0 => None,
            12 => Some(DeviceId(reader.array()?)),
            _ => return None,
        };
        if !reader.is_empty() {
            hello.system_version = Some(reader.u16()?);
        }
        if !reader.is_empty() {
            hello.message_max = Some(reader.u16()?);
            hello.binary_max = Some(reader.u32()?);
            hello.ota_chunk = Some(reader.u16()?);
        }
        Some(hello)
    }

    /// Longest message that the device may be sent, in bytes. A Hello without id comes over TCP.
    pub fn message_cap(&self) -> u16 {
        let unknown = if self.device.is_some() { MESSAGE_MAX_UNKNOWN } else { MESSAGE_MAX_UNKNOWN_TCP };
        self.message_max.unwrap_or(unknown)
    }

    /// Whether events may be sent to it with their Content-Format.
    pub fn takes_typed_events(&self) -> bool {
        self.system_version.is_some_and(|version| version >= TYPED_EVENTS_SINCE)
    }

    /// Whether it posts its describes by itself. Firmware before 2.0 waits to be asked.
    pub fn posts_describes(&self) -> bool {
        self.flags & flag::DEVICE_INITIATED_DESCRIBE != 0
    }

    /// The payload, as the device's side sends it: in the layout of its age, which is told by what is absent.
    pub fn encode(&self) -> Vec<u8> {
        let mut payload = Vec::with_capacity(32);
        payload.u16(self.product);
        payload.u16(self.product_version);
        payload.u16(self.flags);
        payload.u16(self.platform);
        if (self.device, self.system_version) == (None, None) {
            return payload;
        }
        payload.u16(self.device.map_or(0, |_| 12));
        payload.bytes(self.device.as_ref().map_or(&[], |device| &device.0));
        if let Some(version) = self.system_version {
            payload.u16(version);
        }
        if let (Some(message), Some(binary), Some(chunk)) = (self.message_max, self.binary_max, self.ota_chunk) {
            payload.u16(message);
            payload.bytes(&binary.to_be_bytes());
            payload.u16(chunk);
        }
        payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_hello_parses_and_encodes() {
        let payload = hex::decode("ffffffff0076000d000ce00fce68010203040506070818380480001800000200").unwrap();
        let hello = Hello::parse(&payload).unwrap();
        assert_eq!(hello.device.unwrap().to_string(), "e00fce680102030405060708");
        assert_eq!((hello.platform, hello.flags, hello.system_version), (13, 0x76, Some(6200)));
        assert_eq!((hello.message_max, hello.binary_max, hello.ota_chunk), (Some(1152), Some(0x18_0000), Some(512)));
        assert_eq!(hello.encode(), payload);
    }

    #[test]
    fn the_cap_of_a_message_is_what_the_hello_says_or_what_its_age_and_transport_had() {
        let udp = hex::decode("ffffffff0076000d000ce00fce68010203040506070818380480001800000200").unwrap();
        let tcp = hex::decode("ffffffff00760003000018380480001800000200").unwrap();
        for (payload, len, cap) in [(&udp, 32, 1152), (&udp, 24, 800), (&udp, 22, 800), (&tcp, 20, 1152), (&tcp, 12, 767), (&tcp, 8, 767)] {
            let hello = Hello::parse(&payload[..len]).unwrap();
            assert_eq!((hello.message_cap(), hello.encode()), (cap, payload[..len].to_vec()), "{len}");
        }
    }

    #[test]
    fn a_hello_tells_what_its_firmware_can() {
        let hello = |system_version, flags| {
            let mut hello = Hello::parse(&[0; 8]).unwrap();
            (hello.system_version, hello.flags) = (system_version, flags);
            (hello.takes_typed_events(), hello.posts_describes())
        };
        assert_eq!(hello(None, 0x06), (false, false));
        assert_eq!(hello(Some(6100), 0x36), (false, true));
        assert_eq!(hello(Some(6200), 0x36), (true, true));
    }

    #[test]
    fn every_age_of_layout_parses_and_nothing_cut_inside_a_field() {
        let payload = hex::decode("ffffffff0076000d000ce00fce68010203040506070818380480001800000200").unwrap();
        for (len, ok) in
            [(8, true), (22, true), (24, true), (32, true), (7, false), (9, false), (15, false), (23, false), (26, false), (31, false)]
        {
            assert_eq!(Hello::parse(&payload[..len]).is_some(), ok, "{len}");
        }
    }
}
