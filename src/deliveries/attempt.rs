//! An attempt as it is kept for the owner of a hook, and how its outcome is written.
//!
//! | part | bytes |
//! |---|---|
//! | outcome | 0; or 1, status u16, whether it said when to come again u8, seconds u64; or 2, phase u8, text |
//! | attempt, version 1 | 1, began u64, took in milliseconds u32, request id text, outcome, answer |
//! | text, answer | length u16, content |

use firmware_protocol::time::UnixMillis;
use webhooks::delivery::{Outcome, Phase};

use super::bytes::{Take, cut, put_short};

/// What is kept of an answer, in bytes.
pub const ANSWER_LEN_MAX: usize = 4096;
/// Attempts that are kept of one delivery; the oldest goes.
pub const ATTEMPTS_KEPT_MAX: u16 = 16;
const VERSION: u8 = 1;
const ERROR_LEN_MAX: usize = 256;
const REQUEST_LEN_MAX: usize = 64;

const NOTHING: u8 = 0;
const ANSWERED: u8 = 1;
const FAILED: u8 = 2;

/// One request, and what came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attempt {
    /// Which of its delivery, from 1. Whoever writes it down may say 0 for the next one.
    pub number: u16,
    /// When it began.
    pub began_at: UnixMillis,
    /// How long it took, in milliseconds.
    pub took_ms: u32,
    /// The name of the request, by which a receiver may find it in its logs; at most 64 bytes are kept.
    pub request: String,
    /// How it ended.
    pub outcome: Outcome,
    /// How the answer began; at most [`ANSWER_LEN_MAX`] bytes are kept.
    pub answer: Vec<u8>,
}

impl Attempt {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut to = vec![VERSION];
        to.extend_from_slice(&self.began_at.0.to_be_bytes());
        to.extend_from_slice(&self.took_ms.to_be_bytes());
        put_short(&mut to, cut(&self.request, REQUEST_LEN_MAX).as_bytes());
        put_outcome(&mut to, Some(&self.outcome));
        put_short(&mut to, &self.answer[..self.answer.len().min(ANSWER_LEN_MAX)]);
        to
    }

    pub(super) fn read(number: u16, bytes: &[u8]) -> Option<Self> {
        let mut take = Take(bytes);
        if take.u8()? != VERSION {
            return None;
        }
        let (began_at, took_ms) = (UnixMillis(take.u64()?), take.u32()?);
        let request = text(&mut take)?;
        let outcome = take_outcome(&mut take)??;
        let answer = take.short()?.to_vec();
        take.end(Self { number, began_at, took_ms, request, outcome, answer })
    }
}

pub(super) fn put_outcome(to: &mut Vec<u8>, outcome: Option<&Outcome>) {
    match outcome {
        None => to.push(NOTHING),
        Some(Outcome::Answered { status, retry_after_s }) => {
            to.push(ANSWERED);
            to.extend_from_slice(&status.to_be_bytes());
            to.push(retry_after_s.is_some().into());
            to.extend_from_slice(&retry_after_s.unwrap_or(0).to_be_bytes());
        }
        Some(Outcome::Failed { phase, error }) => {
            to.extend_from_slice(&[FAILED, phase_code(*phase)]);
            put_short(to, cut(error, ERROR_LEN_MAX).as_bytes());
        }
    }
}

/// The outer `None` is damage, the inner one that there was none yet.
pub(super) fn take_outcome(from: &mut Take<'_>) -> Option<Option<Outcome>> {
    Some(match from.u8()? {
        NOTHING => None,
        ANSWERED => {
            let (status, said, seconds) = (from.u16()?, from.u8()?, from.u64()?);
            Some(Outcome::Answered { status, retry_after_s: (said != 0).then_some(seconds) })
        }
        FAILED => {
            let phase = read_phase(from.u8()?)?;
            Some(Outcome::Failed { phase, error: text(from)? })
        }
        _ => return None,
    })
}

fn text(from: &mut Take<'_>) -> Option<String> {
    String::from_utf8(from.short()?.to_vec()).ok()
}

fn phase_code(phase: Phase) -> u8 {
    match phase {
        Phase::Render => 1,
        Phase::Guard => 2,
        Phase::Dns => 3,
        Phase::Connect => 4,
        Phase::Tls => 5,
        Phase::Write => 6,
        Phase::Wait => 7,
        Phase::Body => 8,
    }
}

fn read_phase(code: u8) -> Option<Phase> {
    Phase::ALL.get(usize::from(code).checked_sub(1)?).copied()
}
