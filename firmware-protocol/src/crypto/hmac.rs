//! Message authentication codes: the one that TLS derives everything with, and the one that TCP servers sign.

use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sha::{Sha256, sha256};
use openssl::sign::Signer;

use crate::error::KeyError;

/// HMAC-SHA-256 (RFC 2104) with its two key pads absorbed once: the PRF of a handshake needs a dozen codes under few keys, and setting up
/// OpenSSL's own HMAC object costs more than the code itself.
#[derive(Clone)]
pub struct Hmac {
    inner: Sha256,
    outer: Sha256,
}

impl Hmac {
    /// For `key` of any length.
    pub fn new(key: &[u8]) -> Self {
        let mut block = [0; 64];
        if key.len() > block.len() {
            block[..32].copy_from_slice(&sha256(key));
        } else {
            block[..key.len()].copy_from_slice(key);
        }
        let (mut inner, mut outer) = (Sha256::new(), Sha256::new());
        inner.update(&block.map(|byte| byte ^ 0x36));
        outer.update(&block.map(|byte| byte ^ 0x5c));
        Self { inner, outer }
    }

    /// The code of the joined `parts`.
    pub fn code(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut inner = self.inner.clone();
        parts.iter().for_each(|part| inner.update(part));
        let mut outer = self.outer.clone();
        outer.update(&inner.finish());
        outer.finish()
    }
}

impl std::fmt::Debug for Hmac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hmac(..)")
    }
}

/// HMAC-SHA-1 of `text`: what a TCP server signs (docs/protocol.md).
pub fn hmac_sha1(key: &[u8], text: &[u8]) -> Result<[u8; 20], KeyError> {
    let key = PKey::hmac(key)?;
    let mut code = [0; 20];
    Signer::new(MessageDigest::sha1(), &key)?.sign_oneshot(&mut code, text)?;
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_is_openssls() {
        for (key_len, text_len) in [(1, 0), (16, 5), (32, 64), (64, 1), (65, 200), (200, 1000)] {
            let (key, text) = (vec![0xa5; key_len], vec![0x3c; text_len]);
            let reference = PKey::hmac(&key).unwrap();
            let mut signer = Signer::new(MessageDigest::sha256(), &reference).unwrap();
            signer.update(&text).unwrap();
            let (head, tail) = text.split_at(text_len / 2);
            assert_eq!(Hmac::new(&key).code(&[head, tail])[..], signer.sign_to_vec().unwrap());
        }
    }
}
