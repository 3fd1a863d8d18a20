//! Secrets that the server makes and keeps only the hash of: what resets a password, what an OAuth client proves itself with.

use std::fmt;

use openssl::error::ErrorStack;
use openssl::memcmp;
use openssl::rand::rand_bytes;
use openssl::sha::sha256;

/// Bits that nobody can guess, so that a plain hash protects them.
const BYTES: usize = 20;
/// Longest text that is looked at at all.
const LEN_MAX: usize = 128;

/// A secret as its holder has it: 40 hex digits. It can be handed out on purpose, and cannot slip into a log.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    /// A new one.
    ///
    /// # Errors
    /// OpenSSL has no randomness.
    pub fn random() -> Result<Self, ErrorStack> {
        let mut bytes = [0; BYTES];
        rand_bytes(&mut bytes)?;
        Ok(Self(hex::encode(bytes)))
    }

    /// The text, for handing it to its holder.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Its hash.
    pub fn hash(&self) -> SecretHash {
        SecretHash(sha256(self.0.as_bytes()))
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(..)")
    }
}

/// SHA-256 of a secret's text. Two of them are compared by [`SecretHash::is`], which takes as long whatever they are.
#[derive(Clone, Copy)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// The hash of what somebody sent, unless that is too long to be a secret.
    pub fn of(text: &str) -> Option<Self> {
        (text.len() <= LEN_MAX).then(|| Self(sha256(text.as_bytes())))
    }

    /// The hash in these bytes, if they are one.
    pub(super) fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The hash, for the database.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether both are of the same secret.
    pub fn is(&self, other: &Self) -> bool {
        memcmp::eq(&self.0, &other.0)
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_known_by_its_hash_and_never_shown() {
        let (one, other) = (SecretText::random().expect("there is randomness"), SecretText::random().expect("there is randomness"));
        assert_eq!(one.reveal().len(), 40);
        let sent = SecretHash::of(one.reveal()).expect("short enough");
        assert!(sent.is(&one.hash()) && !sent.is(&other.hash()));
        assert!(SecretHash::of(&"a".repeat(129)).is_none());
        assert!(SecretHash::from_slice(sent.bytes()).is_some_and(|read| read.is(&sent)) && SecretHash::from_slice(&[0; 31]).is_none());
        assert!(!format!("{one:?} {sent:?}").contains(&one.reveal()[..8]));
    }
}
