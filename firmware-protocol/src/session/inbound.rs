//! Messages of a device that wait for something durable, or were acknowledged a moment ago.
//!
//! None waits so long that its device gives its session up: what is not answered in time is answered 5.03, and whatever comes of it later is not told.
//!
//! A device repeats what is not acknowledged, for at most 45 seconds; the repetition must get the same answer and have no second effect. It is
//! recognised by the whole message, because an id alone may come again with other content after the device restarted.

use std::collections::VecDeque;
use std::time::Duration;

use crate::coap::Code;
use crate::time::Millis;

/// A message is answered by then, well before its device gives it and the whole session up, which is after 60 seconds at the earliest.
pub(crate) const ANSWERED_WITHIN: Duration = Duration::from_secs(38);
/// A device gives a message up after 60 to 90 seconds.
const REMEMBERED: Duration = Duration::from_secs(90);
/// Most messages that are remembered of one session: 90 seconds at the four publishes a second that firmware allows itself.
const REMEMBERED_MAX: usize = 384;

/// What the acknowledgement of a message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// Not yet: its content is being made durable.
    Waiting,
    /// Not yet: nobody could take it, so that its repetition is as good as new.
    NotTaken,
    /// This code, and the token if it is not empty.
    Given(Code),
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    id: u16,
    digest: u64,
    token: Option<u8>,
    answer: Answer,
    /// When it first came.
    at: Millis,
}

/// A message that has to be answered now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Overdue {
    pub(crate) id: u16,
    pub(crate) token: Option<u8>,
}

/// The messages remembered of one session, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inbound {
    seen: VecDeque<Seen>,
    /// How many have no answer yet.
    unanswered: usize,
    /// None of these came before this.
    unanswered_since: Millis,
}

impl Inbound {
    /// The answer to a message that was received before; `None` if it is new.
    pub(crate) fn recognise(&self, id: u16, digest: u64) -> Option<Answer> {
        self.seen.iter().rev().find(|seen| seen.id == id && seen.digest == digest).map(|seen| seen.answer)
    }

    /// Whether there is no room for another message that waits.
    pub(crate) fn is_full(&self) -> bool {
        self.unanswered >= REMEMBERED_MAX
    }

    /// Remembers a message with its answer. The oldest that has one makes room.
    pub(crate) fn remember(&mut self, now: Millis, id: u16, digest: u64, answer: Answer) {
        self.insert(Seen { id, digest, token: None, answer, at: now });
    }

    /// A message waits for its answer from now on, which may carry `token`. One that nobody could take before waits since it first came. There
    /// must be room for it: [`Inbound::is_full`].
    pub(crate) fn wait(&mut self, now: Millis, id: u16, digest: u64, token: Option<u8>) {
        match self.find(id, digest, Answer::NotTaken) {
            Some(seen) => seen.answer = Answer::Waiting,
            None => self.insert(Seen { id, digest, token, answer: Answer::Waiting, at: now }),
        }
    }

    fn insert(&mut self, seen: Seen) {
        self.forget_old(seen.at);
        if self.seen.len() >= REMEMBERED_MAX {
            let oldest = self.seen.iter().position(Seen::is_answered).unwrap_or(0);
            self.unanswered -= usize::from(self.seen.remove(oldest).is_some_and(|seen| !seen.is_answered()));
        }
        if !seen.is_answered() {
            self.unanswered_since = if self.unanswered == 0 { seen.at } else { self.unanswered_since };
            self.unanswered += 1;
        }
        self.seen.push_back(seen);
    }

    fn find(&mut self, id: u16, digest: u64, answer: Answer) -> Option<&mut Seen> {
        self.seen.iter_mut().rev().find(|seen| seen.id == id && seen.digest == digest && seen.answer == answer)
    }

    /// Notes the answer of a message that waits. `false` if it does not wait any more.
    pub(crate) fn answer(&mut self, id: u16, digest: u64, code: Code) -> bool {
        let Some(seen) = self.find(id, digest, Answer::Waiting) else { return false };
        seen.answer = Answer::Given(code);
        self.unanswered -= 1;
        true
    }

    /// Ends the waiting of a message that nobody will repeat: the one that came first, if several are alike. `false` if none waits.
    pub(crate) fn settle(&mut self, id: u16, digest: u64) -> bool {
        let waiting = |seen: &Seen| seen.id == id && seen.digest == digest && seen.answer == Answer::Waiting;
        let Some(index) = self.seen.iter().position(waiting) else { return false };
        self.seen.remove(index);
        self.unanswered -= 1;
        true
    }

    /// Nobody could take a message: its repetition shall be as good as new.
    pub(crate) fn not_taken(&mut self, id: u16, digest: u64) {
        if let Some(seen) = self.find(id, digest, Answer::Waiting) {
            seen.answer = Answer::NotTaken;
        }
    }

    /// Whoever was to answer what waits is gone: the repetition of each is as good as new.
    pub(crate) fn disown(&mut self) {
        let waiting = self.seen.iter_mut().filter(|seen| seen.answer == Answer::Waiting);
        waiting.for_each(|seen| seen.answer = Answer::NotTaken);
    }

    /// Whether any message has no answer yet.
    pub(crate) fn is_waiting(&self) -> bool {
        self.unanswered > 0
    }

    /// The next message that has waited long enough. It counts as answered with `code`.
    pub(crate) fn pop_overdue(&mut self, now: Millis, code: Code) -> Option<Overdue> {
        if self.unanswered == 0 || now.since(self.unanswered_since) < ANSWERED_WITHIN {
            return None;
        }
        let seen = self.seen.iter_mut().find(|seen| !seen.is_answered())?;
        self.unanswered_since = seen.at;
        if now.since(seen.at) < ANSWERED_WITHIN {
            return None;
        }
        seen.answer = Answer::Given(code);
        self.unanswered -= 1;
        Some(Overdue { id: seen.id, token: seen.token })
    }

    pub(crate) fn forget_old(&mut self, now: Millis) {
        while self.seen.front().is_some_and(|seen| seen.is_answered() && now.since(seen.at) >= REMEMBERED) {
            self.seen.pop_front();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// When something has to be answered or will be forgotten.
    pub(crate) fn timeout_at(&self) -> Option<Millis> {
        let answer = (self.unanswered > 0).then(|| self.unanswered_since + ANSWERED_WITHIN);
        let forget = self.seen.front().filter(|seen| seen.is_answered()).map(|seen| seen.at + REMEMBERED);
        answer.into_iter().chain(forget).min()
    }
}

impl Seen {
    fn is_answered(&self) -> bool {
        matches!(self.answer, Answer::Given(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Millis {
        Millis(seconds * 1000)
    }

    #[test]
    fn each_message_is_answered_in_time_and_once() {
        let mut inbound = Inbound::default();
        for second in 0..20 {
            inbound.wait(at(second), 7, second, Some(9));
        }
        assert!(inbound.answer(7, 0, Code::EMPTY) && inbound.answer(7, 4, Code::EMPTY));
        let mut late = 0;
        while let Some(due) = inbound.timeout_at().filter(|due| *due < at(60)) {
            while let Some(overdue) = inbound.pop_overdue(due, Code::UNAVAILABLE) {
                assert_eq!(overdue, Overdue { id: 7, token: Some(9) });
                late += 1;
            }
            assert!(inbound.timeout_at() > Some(due));
        }
        assert_eq!((late, inbound.unanswered), (18, 0));
        assert!(!inbound.answer(7, 1, Code::EMPTY), "it has an answer");
        assert_eq!(inbound.recognise(7, 1), Some(Answer::Given(Code::UNAVAILABLE)));
    }

    #[test]
    fn a_message_that_nobody_took_waits_since_it_first_came() {
        let mut inbound = Inbound::default();
        inbound.wait(at(0), 7, 1, None);
        inbound.not_taken(7, 1);
        assert_eq!(inbound.recognise(7, 1), Some(Answer::NotTaken));
        inbound.wait(at(30), 7, 1, None);
        assert_eq!((inbound.recognise(7, 1), inbound.timeout_at()), (Some(Answer::Waiting), Some(at(38))));
        assert!(inbound.pop_overdue(at(38), Code::UNAVAILABLE).is_some());
        assert!(inbound.pop_overdue(at(38), Code::UNAVAILABLE).is_none());
    }

    #[test]
    fn what_is_disowned_is_new_when_it_comes_again_and_answered_in_time_if_it_does_not() {
        let mut inbound = Inbound::default();
        inbound.wait(at(0), 7, 1, None);
        inbound.wait(at(1), 8, 2, None);
        inbound.wait(at(2), 9, 3, None);
        assert!(inbound.answer(8, 2, Code::EMPTY));
        inbound.disown();
        let recognised = [(7, 1), (8, 2), (9, 3)].map(|(id, digest)| inbound.recognise(id, digest));
        assert_eq!(recognised, [Some(Answer::NotTaken), Some(Answer::Given(Code::EMPTY)), Some(Answer::NotTaken)]);
        assert!(inbound.is_waiting() && !inbound.answer(7, 1, Code::EMPTY), "nobody is left who could answer it");
        inbound.wait(at(4), 7, 1, None);
        assert!(inbound.answer(7, 1, Code::EMPTY));
        assert_eq!(inbound.pop_overdue(at(40), Code::UNAVAILABLE), Some(Overdue { id: 9, token: None }));
        assert!(!inbound.is_waiting());
    }

    #[test]
    fn what_waits_makes_no_room_and_has_a_limit() {
        let mut inbound = Inbound::default();
        for digest in 0..REMEMBERED_MAX as u64 {
            assert!(!inbound.is_full());
            inbound.wait(at(0), 1, digest, None);
        }
        assert!(inbound.is_full());
        assert!(inbound.answer(1, 5, Code::EMPTY) && !inbound.is_full());
        inbound.wait(at(1), 1, 1_000, None);
        assert_eq!((inbound.recognise(1, 5), inbound.recognise(1, 0), inbound.seen.len()), (None, Some(Answer::Waiting), REMEMBERED_MAX));
    }
}
