//! One attempt: what is sent, and what comes back.

use std::time::Duration;

use bytes::Bytes;
use hyper::{HeaderMap, Method};
use url::Url;

use crate::delivery::{Outcome, Phase};
use crate::hook::HookId;

/// Most of a body that is read, if it is wanted: the first 100 kB are what events of an answer hold.
pub const BODY_READ_MAX: usize = 100_000;
/// Longest text of a failure.
const ERROR_LEN_MAX: usize = 256;

/// One attempt.
#[derive(Clone, Debug)]
pub struct Attempt<'a> {
    /// Of which hook. No two share a connection.
    pub hook: HookId,
    /// The method.
    pub method: Method,
    /// Where to, with all templates filled in.
    pub url: &'a Url,
    /// All headers, but for those that belong to the connection and the length of the body: these are set here, whatever is among them.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Whether the certificate of the other side must be good.
    pub verify_tls: bool,
    /// For all of it together.
    pub timeout: Duration,
    /// How much of the body of the answer is wanted, at most [`BODY_READ_MAX`].
    pub keep_max: usize,
}

/// What came back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// How long to wait before the next attempt, if it says so.
    pub retry_after_s: Option<u64>,
    /// What the body is said to be, at most 128 bytes.
    pub content_type: Option<String>,
    /// The body, or its beginning.
    pub body: Vec<u8>,
    /// Whether there was more of it.
    pub is_cut: bool,
}

/// Why nothing came back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// How far it came.
    pub phase: Phase,
    /// What went wrong, in words for the owner of the hook.
    pub error: String,
}

impl Failure {
    pub(super) fn new(phase: Phase, error: impl Into<String>) -> Self {
        let mut error = error.into();
        error.truncate(error.floor_char_boundary(ERROR_LEN_MAX));
        Self { phase, error }
    }
}

impl From<&Result<Answer, Failure>> for Outcome {
    fn from(result: &Result<Answer, Failure>) -> Self {
        match result {
            Ok(answer) => Self::Answered { status: answer.status, retry_after_s: answer.retry_after_s },
            Err(failure) => Self::Failed { phase: failure.phase, error: failure.error.clone() },
        }
    }
}
