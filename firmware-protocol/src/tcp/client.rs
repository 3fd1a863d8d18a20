//! The device's side of the handshake, as lightssl in Device OS does it.

use crate::crypto::{DeviceKeyPair, DevicePublicKey, ServerPublicKey, equal, hmac_sha1};
use crate::entropy::Entropy;
use crate::id::DeviceId;
use crate::tcp::handshake::{NONCE_LEN, REPLY_LEN, SessionSecret};

/// One handshake from the device's side.
#[derive(Debug)]
pub struct ClientHandshake {
    id: DeviceId,
    key: DeviceKeyPair,
    server_key: ServerPublicKey,
    shows_key: bool,
    waiting: Waiting,
    received: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Waiting {
    Nonce,
    Reply,
}

/// How a handshake goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// More bytes are needed.
    Wait,
    /// The answer to the nonce is to be sent.
    Send(Vec<u8>),
    /// The server has proved itself.
    Done(SessionSecret),
}

/// Why a device closed the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientFailure {
    /// What the server sent was not encrypted for this device.
    Decryption,
    /// The server has not signed with the key that this device has pinned.
    Authentication,
    /// The answer could not be made.
    Encryption,
}

impl ClientHandshake {
    /// On a connection that was just made. The server speaks first. `shows_key` is `false` for old firmware.
    pub fn new(id: DeviceId, key: DeviceKeyPair, server_key: ServerPublicKey, shows_key: bool) -> Self {
        Self { id, key, server_key, shows_key, waiting: Waiting::Nonce, received: Vec::new() }
    }

    /// Takes bytes from the front of `bytes`, as many as this step needs. Call again while any are left, until it is done.
    pub fn take(&mut self, bytes: &mut &[u8], entropy: &mut impl Entropy) -> Result<Step, ClientFailure> {
        let wanted = match self.waiting {
            Waiting::Nonce => NONCE_LEN,
            Waiting::Reply => REPLY_LEN,
        };
        let (head, rest) = bytes.split_at(bytes.len().min(wanted - self.received.len()));
        self.received.extend_from_slice(head);
        *bytes = rest;
        if self.received.len() < wanted {
            return Ok(Step::Wait);
        }
        let received = std::mem::take(&mut self.received);
        match self.waiting {
            Waiting::Nonce => {
                self.waiting = Waiting::Reply;
                self.answer(&received, entropy).map(Step::Send)
            }
            Waiting::Reply => self.conclude(&received).map(Step::Done),
        }
    }

    fn answer(&self, nonce: &[u8], entropy: &mut impl Entropy) -> Result<Vec<u8>, ClientFailure> {
        let mut plaintext = [nonce, &self.id.0].concat();
        if self.shows_key {
            plaintext.extend_from_slice(self.key.public().spki());
        }
        self.server_key.encrypt(&plaintext, entropy).map_err(|_| ClientFailure::Encryption)
    }

    fn conclude(&self, reply: &[u8]) -> Result<SessionSecret, ClientFailure> {
        let (ciphertext, signature) = reply.split_at(DevicePublicKey::MODULUS_LEN);
        let plaintext = self.key.decrypt(ciphertext).map_err(|_| ClientFailure::Decryption)?;
        let secret = SessionSecret(plaintext.try_into().map_err(|_| ClientFailure::Decryption)?);
        let code = hmac_sha1(&secret.0, ciphertext).map_err(|_| ClientFailure::Decryption)?;
        let signed = self.server_key.recover(signature).ok_or(ClientFailure::Authentication)?;
        equal(&signed, &code).then_some(secret).ok_or(ClientFailure::Authentication)
    }
}
