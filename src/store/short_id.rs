//! Ids of 24 hex digits, which clients take for text and nobody guesses: those of hooks, which have a type of their own elsewhere, and of requests for devices.

use std::fmt;
use std::str::FromStr;

use openssl::error::ErrorStack;
use openssl::rand::rand_bytes;
use webhooks::hook::HookId;

/// The id of a request for a device.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransferId([u8; 12]);

impl TransferId {
    pub(super) fn random() -> Result<Self, ErrorStack> {
        bytes().map(Self)
    }
}

impl fmt::Display for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TransferId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut id = [0; 12];
        hex::decode_to_slice(text, &mut id).map_err(|_| ())?;
        Ok(Self(id))
    }
}

/// The id of a hook to be.
pub(super) fn random_hook_id() -> Result<HookId, ErrorStack> {
    bytes().map(HookId)
}

fn bytes() -> Result<[u8; 12], ErrorStack> {
    let mut id = [0; 12];
    rand_bytes(&mut id)?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_24_hex_digits() {
        let id = TransferId::random().expect("there is randomness");
        assert_eq!((id.to_string().len(), id.to_string().parse()), (24, Ok(id)));
        for bad in ["", "0123456789abcdef0123456", "0123456789abcdef0123456g", "0123456789abcdef01234567ff"] {
            assert_eq!(bad.parse::<TransferId>(), Err(()), "{bad:?}");
        }
        assert_eq!(random_hook_id().expect("there is randomness").to_string().len(), 24);
    }
}
