//! The keys of a session.

use std::fmt;

/// The TLS 1.2 key block of `TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8`: all that is kept of a handshake.
///
/// 40 bytes, in the order RFC 5246 §6.3 cuts them: client key, server key, client IV, server IV.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyBlock(pub [u8; KeyBlock::LEN]);

impl KeyBlock {
    /// Length in bytes.
    pub const LEN: usize = 40;
}

impl fmt::Debug for KeyBlock {
    /// Never shows key bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyBlock(..)")
    }
}
