//! The receiver's side: whether a request is what this server sent, and not long ago.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::HeaderMap;
use hyper::header::HeaderName;
use thiserror::Error;

use super::{VerifyingKey, WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP, signed_text};

/// How far the sender's clock may be from the receiver's, in seconds.
pub const TOLERANCE_S: u64 = 300;
/// Longest header that is looked at.
const HEADER_LEN_MAX: usize = 4096;
/// Most signatures that are tried.
const SIGNATURES_MAX: usize = 16;
/// Longest signature.
const SIGNATURE_LEN_MAX: usize = 64;

/// What the headers of a request say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signed<'a> {
    /// The name of the message.
    pub id: &'a str,
    /// When the attempt was made, as digits.
    pub timestamp: &'a str,
    /// The signatures.
    pub signatures: &'a str,
}

/// A request is not to be believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum VerifyError {
    /// A header is missing, or is too long.
    #[error("a header of the signature is missing or no header of one")]
    Headers,
    /// The time is not a number.
    #[error("the time of the signature is not a time")]
    Time,
    /// It was made more than five minutes ago.
    #[error("the signature is too old")]
    Old,
    /// It was made more than five minutes from now.
    #[error("the signature is of the future")]
    Future,
    /// No signature is right.
    #[error("no signature is right")]
    Signature,
}

impl<'a> Signed<'a> {
    /// Takes them from the headers of a request.
    ///
    /// # Errors
    /// If one is missing, or is not one.
    pub fn read(headers: &'a HeaderMap) -> Result<Self, VerifyError> {
        let text = |name: HeaderName| {
            let value = headers.get(name).filter(|value| !value.is_empty() && value.len() <= HEADER_LEN_MAX);
            value.and_then(|value| value.to_str().ok()).ok_or(VerifyError::Headers)
        };
        Ok(Self { id: text(WEBHOOK_ID)?, timestamp: text(WEBHOOK_TIMESTAMP)?, signatures: text(WEBHOOK_SIGNATURE)? })
    }
}

/// Whether one of the signatures is by one of the keys, over exactly these bytes. `now_s` is the receiver's time in seconds since 1970. Signatures of unknown
/// kinds are passed over. A receiver also keeps the names of messages for a week, since one that was answered too late comes again.
///
/// # Errors
/// If none is, or the time is too far from now.
pub fn verify(keys: &[VerifyingKey], signed: Signed<'_>, body: &[u8], now_s: u64) -> Result<(), VerifyError> {
    let is_digits = !signed.timestamp.is_empty() && signed.timestamp.bytes().all(|byte| byte.is_ascii_digit());
    let timestamp_s: u64 = signed.timestamp.parse().ok().filter(|_| is_digits).ok_or(VerifyError::Time)?;
    if timestamp_s.saturating_add(TOLERANCE_S) < now_s {
        return Err(VerifyError::Old);
    }
    if timestamp_s > now_s.saturating_add(TOLERANCE_S) {
        return Err(VerifyError::Future);
    }
    if signed.signatures.len() > HEADER_LEN_MAX {
        return Err(VerifyError::Headers);
    }
    let text = signed_text(signed.id, timestamp_s, body);
    let mut signatures = signed.signatures.split(' ').take(SIGNATURES_MAX);
    if signatures.any(|signature| is_by_one(keys, signature, &text)) { Ok(()) } else { Err(VerifyError::Signature) }
}

fn is_by_one(keys: &[VerifyingKey], signature: &str, text: &[u8]) -> bool {
    let Some((mark, signature)) = signature.split_once(',') else { return false };
    let mut bytes = [0; SIGNATURE_LEN_MAX + 2];
    let Ok(len) = BASE64_STANDARD.decode_slice(signature, &mut bytes) else { return false };
    keys.iter().filter(|key| key.scheme().mark() == mark).any(|key| key.is_right(text, &bytes[..len]))
}
