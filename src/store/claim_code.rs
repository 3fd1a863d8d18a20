//! Claim codes: with one a device that belongs to nobody can be made its account's. The text goes to the account's program and from there into the
//! device; the registry keeps its hash.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use firmware_protocol::id::{OwnerId, ProductId};
use firmware_protocol::time::UnixMillis;
use openssl::error::ErrorStack;
use openssl::rand::rand_bytes;
use openssl::sha::sha256;

/// How long a code is good.
pub(super) const LIFE_MS: u64 = 3_600_000;
/// Characters of a code: as many as a device has room for.
const LEN: usize = 63;

/// A claim code as it is handed out.
#[derive(Clone, PartialEq, Eq)]
pub struct ClaimCode(String);

impl ClaimCode {
    /// A new one.
    ///
    /// # Errors
    /// OpenSSL has no randomness.
    pub fn random() -> Result<Self, ErrorStack> {
        let mut bytes = [0; 48];
        rand_bytes(&mut bytes)?;
        let mut text = STANDARD.encode(bytes);
        text.truncate(LEN);
        Ok(Self(text))
    }

    /// The text, for handing it to its holder.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Its hash.
    pub fn hash(&self) -> ClaimHash {
        ClaimHash(sha256(self.0.as_bytes()))
    }
}

impl fmt::Debug for ClaimCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClaimCode(..)")
    }
}

/// SHA-256 of a claim code.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClaimHash(pub [u8; 32]);

impl ClaimHash {
    /// The hash of what a device presented, unless that cannot be a code.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        (bytes.len() == LEN).then(|| Self(sha256(bytes)))
    }
}

impl fmt::Debug for ClaimHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClaimHash(..)")
    }
}

/// What a claim code is good for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ClaimRecord {
    /// Whose devices become.
    pub(super) user: OwnerId,
    /// The product that they go into.
    pub(super) product: Option<ProductId>,
    /// When it ends.
    pub(super) expires_at: UnixMillis,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_63_characters_and_is_never_shown() {
        let code = ClaimCode::random().expect("there is randomness");
        assert_eq!(code.reveal().len(), 63);
        assert_ne!(code, ClaimCode::random().expect("there is randomness"));
        assert!(!format!("{code:?} {:?}", code.hash()).contains(&code.reveal()[..8]));
    }

    #[test]
    fn what_a_device_presents_hashes_like_the_code() {
        let code = ClaimCode::random().expect("there is randomness");
        assert_eq!(ClaimHash::of(code.reveal().as_bytes()), Some(code.hash()));
        assert_eq!((ClaimHash::of(b""), ClaimHash::of(&[b'a'; 64])), (None, None));
    }
}
