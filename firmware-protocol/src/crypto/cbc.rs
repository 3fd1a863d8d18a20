//! The cipher of TCP frames.

use openssl::cipher::Cipher;
use openssl::cipher_ctx::CipherCtx;

use crate::error::KeyError;

/// Length of a cipher block and of an initial vector, in bytes.
pub const BLOCK_LEN: usize = 16;

/// AES-128-CBC with PKCS#7 padding (RFC 5652 §6.3). One per thread; keys are set per frame, so that sessions stay small.
pub struct Cbc {
    seal: CipherCtx,
    open: CipherCtx,
}

impl std::fmt::Debug for Cbc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cbc(AES-128-CBC)")
    }
}

impl Cbc {
    /// Looks the cipher up once; the calls below reuse it.
    pub fn new() -> Result<Self, KeyError> {
        let cipher = Cipher::fetch(None, "AES-128-CBC", None)?;
        let (mut seal, mut open) = (CipherCtx::new()?, CipherCtx::new()?);
        seal.encrypt_init(Some(&cipher), None, None)?;
        open.decrypt_init(Some(&cipher), None, None)?;
        Ok(Self { seal, open })
    }

    /// Appends the ciphertext of `plaintext` to `out`: 1 to 16 bytes longer, in whole blocks.
    pub fn seal(&mut self, key: &[u8; 16], iv: &[u8; BLOCK_LEN], plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), KeyError> {
        self.seal.encrypt_init(None, Some(key), Some(iv))?;
        self.seal.cipher_update_vec(plaintext, out)?;
        self.seal.cipher_final_vec(out)?;
        Ok(())
    }

    /// The plaintext of `ciphertext`, or `None` if that is not whole blocks or its padding is wrong.
    pub fn open(&mut self, key: &[u8; 16], iv: &[u8; BLOCK_LEN], ciphertext: &[u8]) -> Option<Vec<u8>> {
        let mut plaintext = Vec::with_capacity(ciphertext.len() + BLOCK_LEN);
        self.open.decrypt_init(None, Some(key), Some(iv)).ok()?;
        self.open.cipher_update_vec(ciphertext, &mut plaintext).ok()?;
        self.open.cipher_final_vec(&mut plaintext).ok()?;
        Some(plaintext)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_and_what_is_cut_or_badly_padded_does_not() {
        let mut cbc = Cbc::new().unwrap();
        for len in [0, 1, 15, 16, 17, 1119] {
            let plain: Vec<u8> = (0..=u8::MAX).cycle().take(len).collect();
            let mut sealed = Vec::new();
            cbc.seal(&[1; 16], &[2; 16], &plain, &mut sealed).unwrap();
            assert_eq!(sealed.len(), (len / BLOCK_LEN + 1) * BLOCK_LEN);
            assert_eq!(cbc.open(&[1; 16], &[2; 16], &sealed), Some(plain));
            assert_eq!(cbc.open(&[1; 16], &[2; 16], &sealed[..sealed.len() - 1]), None);
        }
        assert_eq!(cbc.open(&[1; 16], &[2; 16], &[]), None);
        let forged = (0..=u8::MAX).filter(|byte| cbc.open(&[1; 16], &[*byte; 16], &[9; 16]).is_some()).count();
        assert!(forged < 8, "{forged} of 256 are padded rightly by chance");
    }
}
