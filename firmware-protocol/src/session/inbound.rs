//! Messages of a device that wait for something durable, or were acknowledged a moment ago.
//!
//! A device repeats what is not acknowledged, for at most 45 seconds; the repetition must get the same answer and have no second effect. It is
//! recognised by the whole message, because an id alone may come again with other content after the device restarted.

use std::collections::VecDeque;
use std::time::Duration;

use crate::coap::Code;
use crate::time::Millis;

/// A device gives a message up after 60 to 90 seconds.
const REMEMBERED: Duration = Duration::from_secs(90);
/// Most messages that are remembered of one session: 90 seconds at the four publishes a second that firmware allows itself.
const REMEMBERED_MAX: usize = 384;

/// What the acknowledgement of a message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// Not yet: its content is being made durable.
    Waiting,
    /// This code, and the token if it is not empty.
    Given(Code),
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    id: u16,
    digest: u64,
    answer: Answer,
    at: Millis,
}

/// The messages remembered of one session, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inbound {
    seen: VecDeque<Seen>,
}

impl Inbound {
    /// The answer to a message that was received before; `None` if it is new.
    pub(crate) fn recognise(&self, id: u16, digest: u64) -> Option<Answer> {
        self.seen.iter().rev().find(|seen| seen.id == id && seen.digest == digest).map(|seen| seen.answer)
    }

    /// Remembers a new message. The oldest makes room, an unanswered one last of all.
    pub(crate) fn remember(&mut self, now: Millis, id: u16, digest: u64, answer: Answer) {
        self.forget_old(now);
        if self.seen.len() >= REMEMBERED_MAX {
            let oldest = self.seen.iter().position(|seen| seen.answer != Answer::Waiting).unwrap_or(0);
            self.seen.remove(oldest);
        }
        self.seen.push_back(Seen { id, digest, answer, at: now });
    }

    /// Notes the answer of a remembered message. `false` if it is not remembered or has an answer already.
    pub(crate) fn answer(&mut self, id: u16, digest: u64, code: Code) -> bool {
        let waiting = |seen: &&mut Seen| seen.id == id && seen.digest == digest && seen.answer == Answer::Waiting;
        match self.seen.iter_mut().rev().find(waiting) {
            Some(seen) => {
                seen.answer = Answer::Given(code);
                true
            }
            None => false,
        }
    }

    /// Forgets a message that was not taken, so that its repetition is new.
    pub(crate) fn forget(&mut self, id: u16, digest: u64) {
        self.seen.retain(|seen| seen.id != id || seen.digest != digest);
    }

    pub(crate) fn forget_old(&mut self, now: Millis) {
        while self.seen.front().is_some_and(|seen| now.since(seen.at) >= REMEMBERED) {
            self.seen.pop_front();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// When something will be forgotten.
    pub(crate) fn timeout_at(&self) -> Option<Millis> {
        self.seen.front().map(|seen| seen.at + REMEMBERED)
    }
}
