//! The cipher of DTLS records.

use openssl::cipher::Cipher;
use openssl::cipher_ctx::CipherCtx;

use crate::error::KeyError;

/// Length of the CCM_8 authentication tag.
pub const TAG_LEN: usize = 8;

/// AES-128-CCM with an 8-byte tag and a 12-byte nonce (RFC 6655). One per thread; keys are set per record, so that sessions stay small.
pub struct Aead {
    seal: CipherCtx,
    open: CipherCtx,
    scratch: Vec<u8>,
}

impl std::fmt::Debug for Aead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Aead(AES-128-CCM-8)")
    }
}

impl Aead {
    /// Looks the cipher up once; the calls below reuse it.
    pub fn new() -> Result<Self, KeyError> {
        let cipher = Cipher::fetch(None, "AES-128-CCM", None)?;
        let mut seal = CipherCtx::new()?;
        seal.encrypt_init(Some(&cipher), None, None)?;
        seal.set_iv_length(12)?;
        seal.set_tag_length(TAG_LEN)?;
        let mut open = CipherCtx::new()?;
        open.decrypt_init(Some(&cipher), None, None)?;
        open.set_iv_length(12)?;
        Ok(Self { seal, open, scratch: Vec::new() })
    }

    /// Appends ciphertext and tag of `plaintext` to `out`. `plaintext` is not empty.
    pub fn seal(&mut self, key: &[u8; 16], nonce: &[u8; 12], aad: &[u8], plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), KeyError> {
        let start = out.len();
        // OpenSSL's bound for a CCM update is the input and a block.
        out.resize(start + plaintext.len() + 16, 0);
        self.seal.encrypt_init(None, Some(key), Some(nonce))?;
        self.seal.set_data_len(plaintext.len())?;
        self.seal.cipher_update(aad, None)?;
        self.seal.cipher_update(plaintext, Some(&mut out[start..]))?;
        out.truncate(start + plaintext.len());
        let mut tag = [0; TAG_LEN];
        self.seal.tag(&mut tag)?;
        out.extend_from_slice(&tag);
        Ok(())
    }

    /// The plaintext of `sealed` (ciphertext and tag), or `None` if the tag is wrong.
    pub fn open(&mut self, key: &[u8; 16], nonce: &[u8; 12], aad: &[u8], sealed: &[u8]) -> Option<&[u8]> {
        let (ciphertext, tag) = sealed.split_at_checked(sealed.len().checked_sub(TAG_LEN)?)?;
        if ciphertext.is_empty() {
            return None;
        }
        self.scratch.resize(ciphertext.len() + 16, 0);
        self.open.set_tag(tag).ok()?;
        self.open.decrypt_init(None, Some(key), Some(nonce)).ok()?;
        self.open.set_data_len(ciphertext.len()).ok()?;
        self.open.cipher_update(aad, None).ok()?;
        self.open.cipher_update(ciphertext, Some(&mut self.scratch)).ok()?;
        Some(&self.scratch[..ciphertext.len()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_and_what_is_changed_does_not() {
        let mut aead = Aead::new().unwrap();
        for len in [1, 15, 16, 17, 64, 1152] {
            let plain: Vec<u8> = (0..=u8::MAX).cycle().take(len).collect();
            let mut sealed = Vec::new();
            aead.seal(&[1; 16], &[2; 12], b"header", &plain, &mut sealed).unwrap();
            assert_eq!(sealed.len(), plain.len() + TAG_LEN);
            assert_eq!(aead.open(&[1; 16], &[2; 12], b"header", &sealed), Some(&plain[..]));
            assert_eq!(aead.open(&[1; 16], &[2; 12], b"Header", &sealed), None);
            assert_eq!(aead.open(&[1; 16], &[3; 12], b"header", &sealed), None);
            sealed[0] ^= 1;
            assert_eq!(aead.open(&[1; 16], &[2; 12], b"header", &sealed), None);
        }
        assert_eq!(aead.open(&[1; 16], &[2; 12], b"", &[0; 8]), None);
        assert_eq!(aead.open(&[1; 16], &[2; 12], b"", &[0; 7]), None);
    }
}
