//! How old a simulated device's firmware is, as far as the wire shows it (docs/protocol.md).

use serde_json::json;

use super::App;
use crate::coap::{Message, option};
use crate::id::DeviceId;
use crate::session::hello::{Hello, MESSAGE_MAX_UNKNOWN, flag};
use crate::session::subscribe::Subscription;

/// A generation of firmware.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Age {
    /// 2.x on UDP. Knows no connection ids: while it resumes a session, its id stands behind its records. One describe for firmware and
    /// application, in one message. Its Hello ends after the device id.
    V2,
    /// 3.3. Knows connection ids, and resumes without a mark. Describes are JSON and come in blocks.
    V3,
    /// 6.2.
    #[default]
    V6,
}

impl Age {
    /// Whether it offers a connection id.
    pub fn knows_connection_ids(self) -> bool {
        self != Self::V2
    }

    /// Whether its records say that it resumes a session.
    pub(super) fn marks_moves(self) -> bool {
        self != Self::V3
    }

    pub(super) fn has_typed_events(self) -> bool {
        self == Self::V6
    }

    pub(super) fn combines_describes(self) -> bool {
        self == Self::V2
    }

    /// Longest message that it takes, in bytes.
    pub(super) fn message_max(self) -> u16 {
        match self {
            Self::V2 => MESSAGE_MAX_UNKNOWN,
            Self::V3 | Self::V6 => 1152,
        }
    }

    /// Longest describe that goes out in one message, in bytes.
    pub(super) fn block(self) -> usize {
        match self {
            Self::V2 => usize::MAX,
            Self::V3 | Self::V6 => 1024,
        }
    }

    /// First segment of the path that events are published under.
    pub(super) fn event_letter(self) -> &'static str {
        match self {
            Self::V2 => "e",
            Self::V3 | Self::V6 => "E",
        }
    }

    pub(super) fn hello(self, device: DeviceId, platform: u16) -> Hello {
        let old = flag::DIAGNOSTICS | flag::IMMEDIATE_UPDATES | flag::GOODBYE | flag::DEVICE_INITIATED_DESCRIBE;
        let hello = Hello {
            product: platform,
            product_version: 0xffff,
            flags: old,
            platform,
            device: Some(device),
            system_version: None,
            message_max: None,
            binary_max: None,
            ota_chunk: None,
        };
        let system_version = match self {
            Self::V2 => return hello,
            Self::V3 => 3300,
            Self::V6 => 6200,
        };
        Hello {
            flags: old | flag::OTA_V3,
            system_version: Some(system_version),
            message_max: Some(self.message_max()),
            binary_max: Some(0),
            ota_chunk: Some(512),
            ..hello
        }
    }

    /// What it says of its firmware: `protobuf` if it is of the age that can.
    pub(super) fn system_describe(self, platform: u16, protobuf: &[u8]) -> Vec<u8> {
        match self {
            Self::V6 => protobuf.to_vec(),
            Self::V2 | Self::V3 => json!({ "p": platform, "m": modules() }).to_string().into_bytes(),
        }
    }

    /// What it says of firmware and application together.
    pub(super) fn combined_describe(platform: u16, app: &App) -> Vec<u8> {
        let mut all: serde_json::Value = serde_json::from_slice(&app.describe().encode()).unwrap_or_default();
        (all["p"], all["m"]) = (platform.into(), modules());
        all.to_string().into_bytes()
    }

    /// The request for `subscription`: before 6.2 to "my devices", or to one of them.
    pub(super) fn subscribe(self, message: Message, subscription: &Subscription) -> Message {
        let message = message.path(&["e", &subscription.prefix]);
        if self.has_typed_events() {
            return match subscription.query() {
                Some(query) => message.with(option::URI_QUERY, query),
                None => message,
            };
        }
        let publisher = subscription.publisher.map(|device| device.to_string()).unwrap_or_default();
        message.with(option::URI_QUERY, "u").payload(publisher)
    }
}

fn modules() -> serde_json::Value {
    json!([{ "s": 671_744, "l": "m", "vc": 30, "vv": 30, "f": "s", "n": "1", "v": 2302, "d": [] },
           { "s": 131_072, "l": "m", "vc": 30, "vv": 30, "u": "5A".repeat(32), "f": "u", "n": "1", "v": 6,
             "d": [{ "f": "s", "n": "1", "v": 2302, "_": "" }] }])
}
