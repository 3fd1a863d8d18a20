//! Signatures, as Standard Webhooks 1.0 describes them: who receives a request can tell that this server sent it, when, and that nobody changed it.
//!
//! What is signed is the name of the message, the time of the attempt in seconds and the body, with dots between. A secret that both sides know makes a
//! `v1` signature (HMAC-SHA256), a pair of keys a `v1a` one (Ed25519). While keys are changed there are two signatures, one with each key, so receivers
//! can change theirs at any time in between.

mod key;
#[cfg(test)]
mod tests;
mod verify;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use openssl::error::ErrorStack;
use router::event::EventId;
use thiserror::Error;

use crate::hook::HookId;

pub use key::{KeyError, Scheme, SigningKey, VerifyingKey};
pub use verify::{Signed, TOLERANCE_S, VerifyError, verify};

/// The name of a message: the same in every attempt, which is how receivers know what they have seen already.
pub const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
/// When the attempt was made, in seconds since 1970.
pub const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
/// The signatures.
pub const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
/// Which attempt it is, from 1.
pub const WEBHOOK_ATTEMPT: HeaderName = HeaderName::from_static("webhook-attempt");
/// The replay that an attempt belongs to, if it is one.
pub const WEBHOOK_REPLAY: HeaderName = HeaderName::from_static("webhook-replay");

/// Longest name of a replay in a header.
const REPLAY_LEN_MAX: usize = 64;

/// A request could not be signed.
#[derive(Debug, Error)]
pub enum SignError {
    /// The cryptographic library failed.
    #[error("the request could not be signed")]
    Library(#[from] ErrorStack),
    /// The name of the message or of the replay has bytes that names do not have.
    #[error("a name in the headers is not one")]
    Name,
}

/// The keys of a hook that are in use: one, or two while they are changed.
#[derive(Debug)]
pub struct SigningKeys {
    current: SigningKey,
    previous: Option<(SigningKey, u64)>,
}

/// What stands in the headers of an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Envelope<'a> {
    /// The name of the message ([`message_id`]).
    pub id: &'a str,
    /// When the attempt is made, in seconds since 1970.
    pub timestamp_s: u64,
    /// Which attempt it is, from 1.
    pub attempt: u32,
    /// The replay that it belongs to.
    pub replay: Option<&'a str>,
}

impl SigningKeys {
    /// The one key of a hook.
    pub fn new(current: SigningKey) -> Self {
        Self { current, previous: None }
    }

    /// Signs with `previous` too, until that moment, in seconds since 1970.
    pub fn with_previous(self, previous: SigningKey, until_s: u64) -> Self {
        Self { previous: Some((previous, until_s)), ..self }
    }

    /// The key that stays.
    pub fn current(&self) -> &SigningKey {
        &self.current
    }

    /// The signatures of a message, with a space between, the current key's first.
    ///
    /// # Errors
    /// If the cryptographic library fails.
    pub fn signatures(&self, id: &str, timestamp_s: u64, body: &[u8]) -> Result<String, ErrorStack> {
        let text = signed_text(id, timestamp_s, body);
        let mut signatures = String::with_capacity(192);
        self.current.sign(&text, &mut signatures)?;
        if let Some((previous, until_s)) = &self.previous
            && timestamp_s < *until_s
        {
            signatures.push(' ');
            previous.sign(&text, &mut signatures)?;
        }
        Ok(signatures)
    }
}

impl Envelope<'_> {
    /// Puts all headers of an attempt among those of its request, in place of any of the same name. Without keys it is not signed; the other headers are the
    /// same, because a receiver that checks no signature has use for the name too.
    ///
    /// # Errors
    /// If it cannot be signed.
    pub fn write(&self, headers: &mut HeaderMap, body: &[u8], keys: Option<&SigningKeys>) -> Result<(), SignError> {
        if self.id.is_empty() || self.id.contains('.') {
            return Err(SignError::Name);
        }
        headers.reserve(5);
        headers.insert(WEBHOOK_ID, HeaderValue::from_str(self.id).map_err(|_| SignError::Name)?);
        headers.insert(WEBHOOK_TIMESTAMP, HeaderValue::from(self.timestamp_s));
        headers.insert(WEBHOOK_ATTEMPT, HeaderValue::from(self.attempt));
        headers.remove(WEBHOOK_REPLAY);
        if let Some(replay) = self.replay {
            let value = HeaderValue::from_str(replay).ok().filter(|value| value.len() <= REPLAY_LEN_MAX);
            headers.insert(WEBHOOK_REPLAY, value.ok_or(SignError::Name)?);
        }
        headers.remove(WEBHOOK_SIGNATURE);
        if let Some(keys) = keys {
            let signatures = keys.signatures(self.id, self.timestamp_s, body)?;
            headers.insert(WEBHOOK_SIGNATURE, HeaderValue::try_from(signatures).map_err(|_| SignError::Name)?);
        }
        Ok(())
    }
}

/// The name of what is sent for an event of a hook: `<event>_<hook>`. It has no dot, which is what keeps name and time apart in the signed text.
pub fn message_id(event: EventId, hook: HookId) -> String {
    let (mut digits, mut hook_digits) = ([0; 32], [0; 24]);
    hex::encode_to_slice(event.0, &mut digits).expect("two digits for each byte");
    hex::encode_to_slice(hook.0, &mut hook_digits).expect("two digits for each byte");
    let mut id = String::with_capacity(61);
    for (index, digit) in digits.into_iter().enumerate() {
        if matches!(index, 8 | 12 | 16 | 20) {
            id.push('-');
        }
        id.push(char::from(digit));
    }
    id.push('_');
    id.extend(hook_digits.map(char::from));
    id
}

fn signed_text(id: &str, timestamp_s: u64, body: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(id.len() + 22 + body.len());
    text.extend_from_slice(id.as_bytes());
    text.push(b'.');
    text.extend_from_slice(timestamp_s.to_string().as_bytes());
    text.push(b'.');
    text.extend_from_slice(body);
    text
}

fn push_base64(bytes: &[u8], text: &mut String) {
    BASE64_STANDARD.encode_string(bytes, text);
}
