//! The key schedule of TLS 1.2 (RFC 5246 §5, §6.3, §8.1), without extended master secret, which devices do not offer.

use std::fmt;

use crate::crypto::Hmac;

/// The TLS 1.2 key block of `TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8`: all that is kept of a handshake.
///
/// 40 bytes, in the order RFC 5246 §6.3 cuts them: client key, server key, client IV, server IV.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyBlock(pub [u8; KeyBlock::LEN]);

/// The key and implicit nonce part of one direction.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DirectionKeys {
    /// AES-128 key.
    pub key: [u8; 16],
    /// First four bytes of every nonce.
    pub iv: [u8; 4],
}

impl KeyBlock {
    /// Length in bytes.
    pub const LEN: usize = 40;

    /// What the device seals with.
    pub fn client(&self) -> DirectionKeys {
        self.direction(0, 32)
    }

    /// What the server seals with.
    pub fn server(&self) -> DirectionKeys {
        self.direction(16, 36)
    }

    fn direction(&self, key: usize, iv: usize) -> DirectionKeys {
        let (mut direction, block) = (DirectionKeys { key: [0; 16], iv: [0; 4] }, &self.0);
        direction.key.copy_from_slice(&block[key..key + 16]);
        direction.iv.copy_from_slice(&block[iv..iv + 4]);
        direction
    }
}

impl fmt::Debug for KeyBlock {
    /// Never shows key bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyBlock(..)")
    }
}

impl fmt::Debug for DirectionKeys {
    /// Never shows key bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DirectionKeys(..)")
    }
}

/// The master secret of one handshake. Lives as long as the handshake.
pub struct MasterSecret(Hmac);

impl fmt::Debug for MasterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterSecret(..)")
    }
}

/// Length of `verify_data` in Finished.
pub const VERIFY_LEN: usize = 12;

impl MasterSecret {
    /// From the shared X coordinate and both randoms.
    pub fn derive(premaster: &[u8; 32], client_random: &[u8; 32], server_random: &[u8; 32]) -> Self {
        let mut master = [0; 48];
        prf(&Hmac::new(premaster), b"master secret", &[client_random, server_random], &mut master);
        Self::new(&master)
    }

    fn new(master: &[u8; 48]) -> Self {
        Self(Hmac::new(master))
    }

    /// A recorded one.
    #[cfg(test)]
    pub(crate) fn recorded(master: &[u8; 48]) -> Self {
        Self::new(master)
    }

    /// The record keys.
    pub fn key_block(&self, client_random: &[u8; 32], server_random: &[u8; 32]) -> KeyBlock {
        let mut block = [0; KeyBlock::LEN];
        prf(&self.0, b"key expansion", &[server_random, client_random], &mut block);
        KeyBlock(block)
    }

    /// `verify_data` of the client's Finished over a transcript with this hash.
    pub fn client_finished(&self, transcript: &[u8; 32]) -> [u8; VERIFY_LEN] {
        self.finished(b"client finished", transcript)
    }

    /// `verify_data` of the server's Finished over a transcript with this hash.
    pub fn server_finished(&self, transcript: &[u8; 32]) -> [u8; VERIFY_LEN] {
        self.finished(b"server finished", transcript)
    }

    fn finished(&self, label: &[u8], transcript: &[u8; 32]) -> [u8; VERIFY_LEN] {
        let mut verify = [0; VERIFY_LEN];
        prf(&self.0, label, &[transcript], &mut verify);
        verify
    }
}

/// `P_SHA256` (RFC 5246 §5) of at most two seeds.
fn prf(secret: &Hmac, label: &[u8], seeds: &[&[u8]], out: &mut [u8]) {
    let (first, second) = (seeds.first().copied().unwrap_or_default(), seeds.get(1).copied().unwrap_or_default());
    let mut a = secret.code(&[label, first, second]);
    for chunk in out.chunks_mut(32) {
        chunk.copy_from_slice(&secret.code(&[&a, label, first, second])[..chunk.len()]);
        a = secret.code(&[&a]);
    }
}
