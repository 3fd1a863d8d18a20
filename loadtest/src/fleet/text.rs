//! The text that every publish carries: no two are the same, so that a lost or doubled event can be named wherever it ends up.

use std::fmt;
use std::str::FromStr;

use firmware_protocol::id::DeviceId;

/// Name of the events that a fleet publishes.
pub const EVENT_NAME: &str = "fleet/count";
/// Name of the events that it sends without acknowledgement.
pub const LOUD_NAME: &str = "loud/count";
/// Prefix that a fleet's devices subscribe to. The fleet publishes nothing under it: with N devices each event would become N. Others publish news
/// under it, whose text is their number, from 0.
pub const NEWS_PREFIX: &str = "fleet/news";

/// Device, run of the fleet, and count.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EventText {
    /// Who publishes.
    pub device: DeviceId,
    /// Tells one run of a fleet from the next with the same devices.
    pub run: u32,
    /// The device's events are counted from 0.
    pub count: u32,
}

impl fmt::Display for EventText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:08x} {}", self.device, self.run, self.count)
    }
}

/// A text is not one of a fleet's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotOurs;

impl FromStr for EventText {
    type Err = NotOurs;

    fn from_str(text: &str) -> Result<Self, NotOurs> {
        let mut words = text.split(' ');
        let (Some(device), Some(run), Some(count), None) = (words.next(), words.next(), words.next(), words.next()) else {
            return Err(NotOurs);
        };
        Ok(Self {
            device: device.parse().map_err(|_| NotOurs)?,
            run: u32::from_str_radix(run, 16).map_err(|_| NotOurs)?,
            count: count.parse().map_err(|_| NotOurs)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_comes_back_from_its_words() {
        let text = EventText { device: DeviceId([0xa5; 12]), run: 0xbeef, count: 42 };
        assert_eq!(text.to_string(), "a5a5a5a5a5a5a5a5a5a5a5a5 0000beef 42");
        assert_eq!(text.to_string().parse(), Ok(text));
        for bad in ["", "true", "a5a5a5a5a5a5a5a5a5a5a5a5 0000beef", "a5a5a5a5a5a5a5a5a5a5a5a5 0000beef 42 ", "a5 0000beef 42"] {
            assert_eq!(bad.parse::<EventText>(), Err(NotOurs), "{bad:?}");
        }
    }
}
