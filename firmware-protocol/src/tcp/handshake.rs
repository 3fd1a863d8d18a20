//! The server's side of the handshake, from an accepted connection to the keys of its frames.
//!
//! ```text
//! server ─▶ nonce (40)                                          Greeting
//! device ─▶ RSA-2048(nonce, device id, public key) (256)        Greeting::take … Greeting::answer
//! server ─▶ RSA-1024(K) (128), signature of its code (256)      Handshaker::finish
//! ```
//!
//! A [`Greeting`] costs no cryptography and belongs where the socket is. [`Handshaker::finish`] costs two private-key operations and belongs on
//! a thread that established sessions do not wait for.
//!
//! Whoever is refused gets no byte and a closed connection, whatever the reason: a [`Refusal`] is for counting. Up to the key lookup every
//! answer is the same work, one private-key operation; wrong padding yields bytes that nobody chose (see [`crate::crypto`]), which fail like any
//! wrong nonce. Only who has the nonce encrypted under the server's key and names a known device gets further, and learns that from the reply
//! itself. That a device holds its private key is proved by its first frame, which must be a Hello.

use crate::crypto::{BLOCK_LEN, DevicePublicKey, ServerKeyPair, equal, hmac_sha1};
use crate::entropy::Entropy;
use crate::id::DeviceId;
use crate::wire::Reader;

/// Length of the nonce that a connection begins with.
pub const NONCE_LEN: usize = 40;
/// Length of the device's answer.
pub const ANSWER_LEN: usize = 256;
/// Length of the server's reply.
pub const REPLY_LEN: usize = 384;

/// What both sides keep of a handshake: 40 bytes that the server chose. AES key, first initial vector of both directions, salt.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SessionSecret(pub [u8; SessionSecret::LEN]);

impl SessionSecret {
    /// Length in bytes.
    pub const LEN: usize = 40;

    /// The AES-128 key of both directions.
    pub(crate) fn key(&self) -> [u8; 16] {
        self.part(0)
    }

    /// Initial vector of the first frame of each direction.
    pub(crate) fn initial_vector(&self) -> [u8; BLOCK_LEN] {
        self.part(16)
    }

    /// What the device counts its message ids from.
    pub(crate) fn first_id(&self) -> u16 {
        u16::from_le_bytes([self.0[32], self.0[33]])
    }

    fn part(&self, from: usize) -> [u8; 16] {
        let mut part = [0; 16];
        part.copy_from_slice(&self.0[from..from + 16]);
        part
    }
}

impl std::fmt::Debug for SessionSecret {
    /// Never shows key bytes.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionSecret(..)")
    }
}

/// A connection from its first byte to the last of the device's answer.
#[derive(Debug)]
pub struct Greeting {
    nonce: [u8; NONCE_LEN],
    answer: Vec<u8>,
}

/// A device's answer to the nonce it was sent. Nothing of it is checked yet.
#[derive(Clone, Debug)]
pub struct Answer {
    nonce: [u8; NONCE_LEN],
    ciphertext: Vec<u8>,
}

impl Greeting {
    /// Begins. What [`Greeting::nonce`] says is to be sent at once.
    pub fn new(entropy: &mut impl Entropy) -> Self {
        Self { nonce: entropy.array(), answer: Vec::new() }
    }

    /// The first bytes of the connection.
    pub fn nonce(&self) -> &[u8; NONCE_LEN] {
        &self.nonce
    }

    /// How many bytes of the answer are missing. A device sends no more until it has the reply.
    pub fn wanted(&self) -> usize {
        ANSWER_LEN - self.answer.len()
    }

    /// Takes what came, at most what is wanted; says how many bytes that was.
    pub fn take(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.wanted());
        self.answer.extend_from_slice(&bytes[..taken]);
        taken
    }

    /// The answer, once nothing is wanted any more; `None` before.
    pub fn answer(self) -> Option<Answer> {
        (self.wanted() == 0).then_some(Answer { nonce: self.nonce, ciphertext: self.answer })
    }
}

/// What a proved answer leaves.
#[derive(Clone, Debug)]
pub struct Established<T> {
    /// What the lookup said.
    pub holder: T,
    /// Who the device says it is; its key is known to be that device's.
    pub device: DeviceId,
    /// The device's key. That the device holds the other half is proved by its Hello.
    pub public_key: DevicePublicKey,
    /// Keys of the frames.
    pub secret: SessionSecret,
    /// To be sent: [`REPLY_LEN`] bytes.
    pub reply: Vec<u8>,
}

/// Why an answer was refused: for counting. The device sees a closed connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Refusal {
    /// Not encrypted for the nonce that was sent, or not with the server's key, or not in either known form: one cannot tell which.
    Malformed,
    /// Nobody is registered under this id, or there is no key to use.
    UnknownKey,
    /// The device shows another key than the one registered.
    WrongKey,
    /// OpenSSL failed.
    Crypto,
}

/// Does handshakes, one at a time, and keeps nothing of them. One per thread.
#[derive(Clone, Debug)]
pub struct Handshaker {
    key: ServerKeyPair,
}

impl Handshaker {
    /// With the key that devices have pinned.
    pub fn new(key: ServerKeyPair) -> Self {
        Self { key }
    }

    /// Judges an answer. `lookup` gets the device's id and the key it shows, which old firmware does not send; it says who holds it and which
    /// key is the device's. A shown key that is another is refused.
    pub fn finish<T>(
        &self,
        answer: &Answer,
        entropy: &mut impl Entropy,
        lookup: impl FnOnce(DeviceId, Option<&DevicePublicKey>) -> Option<(T, DevicePublicKey)>,
    ) -> Result<Established<T>, Refusal> {
        let plaintext = self.key.decrypt(&answer.ciphertext).map_err(|_| Refusal::Malformed)?;
        let (device, shown) = parse(&answer.nonce, &plaintext).ok_or(Refusal::Malformed)?;
        let (holder, public_key) = lookup(device, shown.as_ref()).ok_or(Refusal::UnknownKey)?;
        if shown.is_some_and(|shown| shown != public_key) {
            return Err(Refusal::WrongKey);
        }
        let secret = SessionSecret(entropy.array());
        let reply = self.reply(&secret, &public_key, entropy).ok_or(Refusal::Crypto)?;
        Ok(Established { holder, device, public_key, secret, reply })
    }

    /// `C ‖ Sig`: the secret under the device's key, and the signature of its code under the secret.
    fn reply(&self, secret: &SessionSecret, device: &DevicePublicKey, entropy: &mut impl Entropy) -> Option<Vec<u8>> {
        let mut reply = device.encrypt(&secret.0, entropy).ok()?;
        let signature = self.key.sign(&hmac_sha1(&secret.0, &reply).ok()?).ok()?;
        reply.extend_from_slice(&signature);
        Some(reply)
    }
}

/// `nonce ‖ device id ‖ public key`, or without the key.
fn parse(nonce: &[u8; NONCE_LEN], plaintext: &[u8]) -> Option<(DeviceId, Option<DevicePublicKey>)> {
    let mut reader = Reader::new(plaintext);
    if !equal(reader.take(NONCE_LEN)?, nonce) {
        return None;
    }
    let device = DeviceId(reader.array()?);
    match reader.rest() {
        [] => Some((device, None)),
        key => Some((device, Some(DevicePublicKey::from_spki(key)?))),
    }
}

#[cfg(test)]
#[path = "vectors.rs"]
mod vectors;
