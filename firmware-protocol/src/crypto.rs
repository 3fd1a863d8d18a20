//! The cryptographic primitives this crate uses, all of them OpenSSL's, behind the few calls it needs.
//!
//! Over UDP: P-256, AES-CCM, HMAC-SHA-256. Over TCP: RSA, AES-CBC, HMAC-SHA-1, because that is what those devices have in their flash.

mod aead;
mod cbc;
mod ec;
mod hmac;
mod rsa;

use openssl::sha::sha256;

pub use self::aead::{Aead, TAG_LEN};
pub use self::cbc::{BLOCK_LEN, Cbc};
pub use self::ec::{Curve, Ephemeral, KeyPair, POINT_LEN, PublicKey, SPKI_LEN};
pub use self::hmac::{Hmac, hmac_sha1};
pub use self::rsa::{DeviceKeyPair, DevicePublicKey, ServerKeyPair, ServerPublicKey};

/// First 64 bits of SHA-256 over `bytes`: tells one message from another.
pub fn digest64(bytes: &[u8]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = sha256(bytes);
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// Whether two byte strings are equal, in time that depends on their length only.
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && openssl::memcmp::eq(a, b)
}
