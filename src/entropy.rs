//! Randomness for keys, cookies and names, from OpenSSL's generator.

use firmware_protocol::entropy::Entropy;

/// The operating system's randomness as OpenSSL stretches it.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&mut self, bytes: &mut [u8]) {
        openssl::rand::rand_bytes(bytes).expect("OpenSSL aborts by itself when the system has no randomness");
    }
}
