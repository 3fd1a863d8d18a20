//! The keys: how they come about, how they are written, and what they sign.
//!
//! Key material stands in OpenSSL's memory, which it overwrites when it frees it, and is never part of what `Debug` shows.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{Id, PKey, Private, Public};
use openssl::rand::rand_bytes;
use openssl::sign::{Signer, Verifier};
use thiserror::Error;
use zeroize::Zeroizing;

use super::push_base64;

/// How a secret begins.
const SECRET: &str = "whsec_";
/// How the private half of a pair begins.
const PRIVATE: &str = "whsk_";
/// How the public half of a pair begins.
const PUBLIC: &str = "whpk_";
/// Length of secrets that are made here. Standard Webhooks asks for 24 to 64 bytes.
const SECRET_LEN: usize = 32;
const SECRET_LEN_MIN: usize = 24;
const SECRET_LEN_MAX: usize = 64;
/// Length of either half of an Ed25519 pair (RFC 8032 §5.1.5), and of its signatures.
const HALF_LEN: usize = 32;
const ED25519_LEN: usize = 64;
const HMAC_LEN: usize = 32;

/// A key that signs. It is no use to compare two, and none can be copied.
pub enum SigningKey {
    /// A secret that the receiver knows too, for HMAC-SHA256.
    Hmac(PKey<Private>),
    /// The private half of an Ed25519 pair.
    Ed25519(PKey<Private>),
}

/// A key that tells whether a signature is right.
pub enum VerifyingKey {
    /// The secret.
    Hmac(PKey<Private>),
    /// The public half of an Ed25519 pair.
    Ed25519(PKey<Public>),
}

/// How it is signed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Scheme {
    /// `v1`, with a secret.
    Hmac,
    /// `v1a`, with a pair.
    Ed25519,
}

/// A text is no key, or a key could not be made.
#[derive(Debug, Error)]
pub enum KeyError {
    /// It begins as no key of this kind does.
    #[error("a key begins with whsec_, whsk_ or whpk_")]
    Prefix,
    /// What follows is not base64.
    #[error("a key is written in base64")]
    Encoding,
    /// It is too short or too long.
    #[error("a secret has 24 to 64 bytes, each half of a pair 32")]
    Length,
    /// The halves of a pair do not belong together.
    #[error("the halves of the key do not belong together")]
    Mismatch,
    /// The cryptographic library failed.
    #[error("the cryptographic library failed")]
    Library(#[from] ErrorStack),
}

impl Scheme {
    /// How its signatures begin, before the comma.
    pub fn mark(self) -> &'static str {
        match self {
            Self::Hmac => "v1",
            Self::Ed25519 => "v1a",
        }
    }
}

impl SigningKey {
    /// A new key.
    ///
    /// # Errors
    /// If the cryptographic library fails.
    pub fn generate(scheme: Scheme) -> Result<Self, ErrorStack> {
        match scheme {
            Scheme::Hmac => {
                let mut secret = Zeroizing::new([0; SECRET_LEN]);
                rand_bytes(&mut *secret)?;
                Ok(Self::Hmac(PKey::hmac(&*secret)?))
            }
            Scheme::Ed25519 => Ok(Self::Ed25519(PKey::generate_ed25519()?)),
        }
    }

    /// Reads a key: `whsec_` and a secret, or `whsk_` and the private half of a pair, with or without the public half after it.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        if let Some(secret) = text.strip_prefix(SECRET) {
            return Ok(Self::Hmac(secret_key(secret)?));
        }
        let bytes = decode(text.strip_prefix(PRIVATE).ok_or(KeyError::Prefix)?)?;
        if ![HALF_LEN, 2 * HALF_LEN].contains(&bytes.len()) {
            return Err(KeyError::Length);
        }
        let (private, public) = bytes.split_at(HALF_LEN);
        let key = PKey::private_key_from_raw_bytes(private, Id::ED25519)?;
        if public.is_empty() || key.raw_public_key()? == public { Ok(Self::Ed25519(key)) } else { Err(KeyError::Mismatch) }
    }

    /// How it signs.
    pub fn scheme(&self) -> Scheme {
        match self {
            Self::Hmac(_) => Scheme::Hmac,
            Self::Ed25519(_) => Scheme::Ed25519,
        }
    }

    /// The key as [`SigningKey::parse`] reads it, both halves of a pair. Whoever has it can sign.
    ///
    /// # Errors
    /// If the cryptographic library fails.
    pub fn to_text(&self) -> Result<Zeroizing<String>, ErrorStack> {
        let (prefix, key) = match self {
            Self::Hmac(key) => (SECRET, key),
            Self::Ed25519(key) => (PRIVATE, key),
        };
        let mut bytes = Zeroizing::new(Vec::with_capacity(2 * HALF_LEN));
        bytes.extend_from_slice(&Zeroizing::new(key.raw_private_key()?));
        if let Self::Ed25519(key) = self {
            bytes.extend_from_slice(&key.raw_public_key()?);
        }
        // No longer than this, so that no part of it is left behind where it was before it grew.
        let mut text = Zeroizing::new(String::with_capacity(prefix.len() + bytes.len().div_ceil(3) * 4));
        text.push_str(prefix);
        push_base64(&bytes, &mut text);
        Ok(text)
    }

    /// The half that everybody may know, as [`VerifyingKey::parse`] reads it; `None` of a secret.
    ///
    /// # Errors
    /// If the cryptographic library fails.
    pub fn public_text(&self) -> Result<Option<String>, ErrorStack> {
        let Self::Ed25519(key) = self else { return Ok(None) };
        let mut text = PUBLIC.to_owned();
        push_base64(&key.raw_public_key()?, &mut text);
        Ok(Some(text))
    }

    /// The key that tells whether what this one signed is right.
    ///
    /// # Errors
    /// If the cryptographic library fails.
    pub fn verifying(&self) -> Result<VerifyingKey, ErrorStack> {
        Ok(match self {
            Self::Hmac(key) => VerifyingKey::Hmac(key.clone()),
            Self::Ed25519(key) => VerifyingKey::Ed25519(PKey::public_key_from_raw_bytes(&key.raw_public_key()?, Id::ED25519)?),
        })
    }

    /// Appends a signature of `text`, as it stands in the header.
    pub(super) fn sign(&self, text: &[u8], signatures: &mut String) -> Result<(), ErrorStack> {
        let mut bytes = [0; ED25519_LEN];
        let len = match self {
            Self::Hmac(key) => hmac(key, text, &mut bytes)?,
            Self::Ed25519(key) => Signer::new_without_digest(key)?.sign_oneshot(&mut bytes, text)?,
        };
        signatures.push_str(self.scheme().mark());
        signatures.push(',');
        push_base64(&bytes[..len], signatures);
        Ok(())
    }
}

impl VerifyingKey {
    /// Reads a key: `whsec_` and a secret, or `whpk_` and the public half of a pair.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        if let Some(secret) = text.strip_prefix(SECRET) {
            return Ok(Self::Hmac(secret_key(secret)?));
        }
        let bytes = decode(text.strip_prefix(PUBLIC).ok_or(KeyError::Prefix)?)?;
        if bytes.len() != HALF_LEN {
            return Err(KeyError::Length);
        }
        Ok(Self::Ed25519(PKey::public_key_from_raw_bytes(&bytes, Id::ED25519)?))
    }

    /// How its signatures begin, before the comma.
    pub(super) fn scheme(&self) -> Scheme {
        match self {
            Self::Hmac(_) => Scheme::Hmac,
            Self::Ed25519(_) => Scheme::Ed25519,
        }
    }

    /// Whether it is a signature of `text`, in a time that does not depend on how much of it is right.
    pub(super) fn is_right(&self, text: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Hmac(key) => {
                let mut right = [0; ED25519_LEN];
                signature.len() == HMAC_LEN && hmac(key, text, &mut right).is_ok_and(|len| openssl::memcmp::eq(&right[..len], signature))
            }
            Self::Ed25519(key) => {
                Verifier::new_without_digest(key).and_then(|mut verifier| verifier.verify_oneshot(signature, text)).unwrap_or(false)
            }
        }
    }
}

fn hmac(key: &PKey<Private>, text: &[u8], code: &mut [u8]) -> Result<usize, ErrorStack> {
    let mut signer = Signer::new(MessageDigest::sha256(), key)?;
    signer.update(text)?;
    signer.sign(code)
}

fn secret_key(text: &str) -> Result<PKey<Private>, KeyError> {
    let secret = decode(text)?;
    if (SECRET_LEN_MIN..=SECRET_LEN_MAX).contains(&secret.len()) { Ok(PKey::hmac(&secret)?) } else { Err(KeyError::Length) }
}

fn decode(text: &str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    // Four characters for three bytes, and nothing is read that cannot be a key.
    if text.len() > 4 * (2 * HALF_LEN).div_ceil(3) {
        return Err(KeyError::Length);
    }
    let mut bytes = Zeroizing::new(vec![0; 2 * HALF_LEN + 2]);
    let len = BASE64_STANDARD.decode_slice(text, &mut bytes).map_err(|_| KeyError::Encoding)?;
    bytes.truncate(len);
    Ok(bytes)
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({:?})", self.scheme())
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({:?})", self.scheme())
    }
}
