//! Goodbye: a device that leaves on purpose says why and for how long (docs/protocol.md).

use std::time::Duration;

use crate::wire::Reader;

/// A parsed Goodbye. Fields that were not flagged are absent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Goodbye {
    /// Why the cloud connection ends: 1 error, 2 user, 3 network disconnect, 4 listening mode, 5 system reset, 6 sleep, 7 unknown, 8 server moved.
    pub cloud_reason: Option<u32>,
    /// Why the system resets (services/inc/system_defs.h).
    pub reset_reason: Option<u32>,
    /// How long the device means to sleep.
    pub sleep: Option<Duration>,
    /// Why the network goes.
    pub network_reason: Option<u32>,
}

/// Reasons for the end of a cloud connection, by number; 0 is none.
const CLOUD_REASONS: [&str; 9] =
    ["", "error", "user", "network_disconnect", "listening", "system_reset", "sleep", "unknown", "server_moved"];

impl Goodbye {
    /// Why the cloud connection ends, in a word; `None` if it was not said.
    pub fn reason(&self) -> Option<&'static str> {
        let number = usize::try_from(self.cloud_reason?).ok()?;
        CLOUD_REASONS.get(number).copied().filter(|reason| !reason.is_empty())
    }

    /// Parses LEB128 fields in the order of their flags; `None` if cut short.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(payload);
        let flags = varint(&mut reader)?;
        let mut field = |bit: u32| (flags & bit != 0).then(|| varint(&mut reader)).map_or(Some(None), |value| value.map(Some));
        Some(Self {
            cloud_reason: field(0x01)?,
            reset_reason: field(0x02)?,
            sleep: field(0x04)?.map(|seconds| Duration::from_secs(seconds.into())),
            network_reason: field(0x08)?,
        })
    }
}

fn varint(reader: &mut Reader<'_>) -> Option<u32> {
    let mut value = 0u32;
    for shift in (0..35).step_by(7) {
        let byte = reader.u8()?;
        value |= u32::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_goodbyes_parse() {
        let sleep = Goodbye::parse(&[0x05, 0x06, 0x90, 0x1c]).unwrap();
        assert_eq!((sleep.cloud_reason, sleep.sleep), (Some(6), Some(Duration::from_secs(3600))));
        let user = Goodbye::parse(&[0x01, 0x02]).unwrap();
        assert_eq!(user, Goodbye { cloud_reason: Some(2), ..Goodbye::default() });
        assert_eq!((sleep.reason(), user.reason(), Goodbye::default().reason()), (Some("sleep"), Some("user"), None));
        assert_eq!(Goodbye::parse(&[1, 99]).unwrap().reason(), None);
        assert_eq!(Goodbye::parse(&[]), None);
        assert_eq!(Goodbye::parse(&[0x05, 0x06, 0x90]), None);
        assert_eq!(Goodbye::parse(&[0xff; 9]), None);
    }
}
