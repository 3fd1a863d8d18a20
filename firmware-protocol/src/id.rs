//! Identifiers of devices, keys and owners. Newtypes, so that one cannot be passed for another.

use std::fmt;
use std::str::FromStr;

use crate::error::ParseIdError;

/// The 12-byte identifier burned into a device, written as 24 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId(pub [u8; DeviceId::LEN]);

impl DeviceId {
    /// Length in bytes.
    pub const LEN: usize = 12;

    /// The id in `bytes`, if they are exactly twelve.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for DeviceId {
    type Err = ParseIdError;

    /// Accepts either case, because people paste ids in both.
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let mut id = [0; Self::LEN];
        hex::decode_to_slice(text, &mut id).map_err(|_| ParseIdError::Device)?;
        Ok(Self(id))
    }
}

/// SHA-256 over a device's public key in SubjectPublicKeyInfo form: the name under which a key is looked up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyHash(pub [u8; KeyHash::LEN]);

impl KeyHash {
    /// Length in bytes.
    pub const LEN: usize = 32;
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The account a device belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct OwnerId(pub u64);

/// The product a device belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ProductId(pub u32);

impl ProductId {
    /// Where the numbers of products begin: those of kinds of hardware, which devices say in their place, end below.
    pub const FIRST: Self = Self(10_001);
    /// Where they end: a Hello has sixteen bits for one, all of them set being none.
    pub const LAST: Self = Self(65_534);
}

/// What the registry says about the holder of a key: who the device is and whose.
///
/// It travels with the session, so that resuming one asks no registry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The device that holds the key.
    pub device: DeviceId,
    /// Hash of that key.
    pub key: KeyHash,
    /// The owning account, if the device has been claimed.
    pub owner: Option<OwnerId>,
    /// The product, if the device belongs to one.
    pub product: Option<ProductId>,
}

pub(crate) fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_id_is_24_hex_digits_of_either_case() {
        let id: DeviceId = "E00FCE680102030405060708".parse().expect("24 digits");
        assert_eq!(id.to_string(), "e00fce680102030405060708");
        for bad in ["", "e00fce68010203040506070", "e00fce68010203040506070g", "e00fce68010203040506070800"] {
            assert!(bad.parse::<DeviceId>().is_err(), "{bad:?}");
        }
    }
}
