//! Events: what a device publishes and what is delivered to it (docs/protocol.md).

use thiserror::Error;

use crate::coap::{Message, format, option};
use crate::session::subscribe::{NAME_MAX, joined_name};

/// Longest event payload, in bytes.
pub const DATA_MAX: usize = 1024;
/// Time to live of an event that says none, in seconds.
pub const TTL_DEFAULT_S: u32 = 60;

/// An event as a device published it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Publish {
    /// Name, 1 to 64 bytes.
    pub name: String,
    /// CoAP Content-Format.
    pub content_format: u16,
    /// Payload, at most [`DATA_MAX`] bytes; `None` when there is none.
    pub data: Option<Vec<u8>>,
    /// Time to live in seconds.
    pub ttl_s: u32,
}

impl Publish {
    /// The event in `POST /E/<name>`.
    pub(crate) fn of(message: &Message, segments: &[&[u8]]) -> Option<Self> {
        (message.payload.len() <= DATA_MAX).then_some(())?;
        Some(Self {
            name: joined_name(segments)?,
            content_format: message.content_format(),
            data: (!message.payload.is_empty()).then(|| message.payload.clone()),
            ttl_s: message.uint(option::MAX_AGE).unwrap_or(TTL_DEFAULT_S),
        })
    }

    /// Whether the name is one of the system's own, which applications may not publish.
    pub fn is_system(&self) -> bool {
        is_system_name(&self.name)
    }
}

/// Whether an event of this name belongs to the system: it starts with `spark` or `particle`, in any case.
pub fn is_system_name(name: &str) -> bool {
    let starts = |prefix: &str| name.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix));
    starts("spark") || starts("particle")
}

/// An event on its way to a device. Cannot hold what harms one (docs/protocol.md).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    name: String,
    content_format: u16,
    data: Option<Vec<u8>>,
}

/// Why an event is not sent to a device.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum Harmful {
    /// The name is empty or longer than 64 bytes, or the data longer than 1024.
    #[error("name or data is longer than devices take")]
    Size,
    /// Without payload the device reads a null pointer.
    #[error("update flags need a payload")]
    UpdateWithoutPayload,
    /// It would restore the factory's server key, or clear a claim code that is not yet used.
    #[error("this event is never sent to a device")]
    Forbidden,
}

impl Delivery {
    /// Checks an event. `content_format` 0 is left out of the message; firmware before 6.2 can take no other, because the option would hide the
    /// payload from it ([`crate::session::hello::Hello::takes_typed_events`]).
    pub fn new(name: &str, content_format: u16, data: Option<&[u8]>) -> Result<Self, Harmful> {
        let data = data.filter(|data| !data.is_empty());
        if !(1..=NAME_MAX).contains(&name.len()) || data.is_some_and(|data| data.len() > DATA_MAX) {
            return Err(Harmful::Size);
        }
        if name.starts_with("particle/device/updates/") && data.is_none() {
            return Err(Harmful::UpdateWithoutPayload);
        }
        if name.starts_with("spark/device/key/restore") || name.starts_with("spark/device/claim/code") {
            return Err(Harmful::Forbidden);
        }
        Ok(Self { name: name.to_owned(), content_format, data: data.map(<[u8]>::to_vec) })
    }

    pub(crate) fn write(&self, message: Message) -> Message {
        let mut message = message.path(&["E", &self.name]);
        if self.content_format != format::TEXT {
            message = message.with(option::CONTENT_FORMAT, minimal(self.content_format));
        }
        message.payload(self.data.clone().unwrap_or_default())
    }
}

/// A 16-bit option value in its shortest form.
pub(crate) fn minimal(value: u16) -> Vec<u8> {
    let [high, low] = value.to_be_bytes();
    match (high, low) {
        (0, 0) => vec![],
        (0, low) => vec![low],
        (high, low) => vec![high, low],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_harms_a_device_cannot_be_made() {
        let new = |name: &str, data: Option<&[u8]>| Delivery::new(name, 0, data).err();
        assert_eq!(new("particle/device/updates/pending", None), Some(Harmful::UpdateWithoutPayload));
        assert_eq!(new("particle/device/updates/forced", Some(b"")), Some(Harmful::UpdateWithoutPayload));
        assert_eq!(new("particle/device/updates/forced", Some(b"true")), None);
        assert_eq!(new("spark/device/key/restore", Some(b"1")), Some(Harmful::Forbidden));
        assert_eq!(new("spark/device/claim/code", Some(b"x")), Some(Harmful::Forbidden));
        assert_eq!(new("spark/device/claim/code\0", Some(b"x")), Some(Harmful::Forbidden), "a device reads names to the first zero");
        assert_eq!(new("spark/device/claim/response", None), None);
        assert_eq!(new("", None), Some(Harmful::Size));
        assert_eq!(new(&"n".repeat(65), None), Some(Harmful::Size));
        assert_eq!(new("a", Some(&[0; 1025])), Some(Harmful::Size));
    }

    #[test]
    fn system_names_are_known_in_any_case() {
        assert!(is_system_name("spark/status") && is_system_name("Particle/x") && is_system_name("sparkle"));
        assert!(!is_system_name("temp") && !is_system_name("spar") && !is_system_name("é"));
    }
}
