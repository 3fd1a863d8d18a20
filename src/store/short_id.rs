//! Ids of 24 hex digits, which clients take for text: nobody guesses one, and each kind has a type of its own.

use std::fmt;
use std::str::FromStr;

use openssl::error::ErrorStack;
use openssl::rand::rand_bytes;

/// Makes the type of a kind.
macro_rules! short_id {
    ($name:ident, $what:literal) => {
        #[doc = $what]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; 12]);

        impl $name {
            pub(super) fn random() -> Result<Self, ErrorStack> {
                let mut id = [0; 12];
                rand_bytes(&mut id)?;
                Ok(Self(id))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ();

            fn from_str(text: &str) -> Result<Self, ()> {
                let mut id = [0; 12];
                hex::decode_to_slice(text, &mut id).map_err(|_| ())?;
                Ok(Self(id))
            }
        }
    };
}

short_id!(HookId, "The id of a hook.");
short_id!(TransferId, "The id of a request for a device.");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_24_hex_digits() {
        let id = HookId::random().expect("there is randomness");
        assert_eq!((id.to_string().len(), id.to_string().parse()), (24, Ok(id)));
        for bad in ["", "0123456789abcdef0123456", "0123456789abcdef0123456g", "0123456789abcdef01234567ff"] {
            assert_eq!(bad.parse::<HookId>(), Err(()), "{bad:?}");
        }
    }
}
