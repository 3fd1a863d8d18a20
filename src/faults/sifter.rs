//! Where messages stay that a fault befalls.

use std::collections::VecDeque;
use std::time::Duration;

use firmware_protocol::time::Millis;

use super::rule::{Message, Rule, Which};

/// The messages that one stage of a thread holds back.
#[derive(Debug)]
pub struct Sifter<M> {
    /// In the order in which they came, each with when it may go on; `None` if that is not yet said.
    held: VecDeque<(Option<Millis>, M)>,
    /// How many have come of which some are chosen.
    count: u64,
}

impl<M> Default for Sifter<M> {
    fn default() -> Self {
        Self { held: VecDeque::new(), count: 0 }
    }
}

impl<M: Message> Sifter<M> {
    /// Sifts them, if there is a reason for it.
    pub fn sift_if(&mut self, now: Millis, rule: Option<Rule>, messages: &mut Vec<M>) {
        if rule.is_some() || !self.held.is_empty() {
            self.sift(now, rule, messages);
        }
    }

    /// Takes out of `messages` what this befalls, and adds what may go on.
    fn sift(&mut self, now: Millis, rule: Option<Rule>, messages: &mut Vec<M>) {
        let mut passed = Vec::with_capacity(messages.len());
        let waits = matches!(rule, Some(Rule::Hold(_)));
        let (held, going): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.held).into_iter().partition(|(until, _)| until.map_or(waits, |until| until > now));
        self.held = held;
        passed.extend(going.into_iter().map(|(_, message)| message));
        for message in messages.drain(..) {
            match rule {
                Some(Rule::Delay { percent, ms }) if message.is_of(Which::All) && self.is_chosen(percent) => {
                    self.held.push_back((Some(now + Duration::from_millis(ms)), message));
                }
                Some(Rule::Drop { percent }) if message.is_of(Which::All) && self.is_chosen(percent) => drop(message),
                Some(Rule::Hold(which)) if message.is_of(which) => self.held.push_back((None, message)),
                _ => passed.push(message),
            }
        }
        *messages = passed;
    }

    /// So many of a hundred, evenly.
    fn is_chosen(&mut self, percent: u8) -> bool {
        self.count += 1;
        self.count * u64::from(percent) / 100 > (self.count - 1) * u64::from(percent) / 100
    }
}

#[cfg(test)]
mod tests {
    use firmware_protocol::id::DeviceId;

    use super::super::rule::Kind;
    use super::*;

    /// A message of a user, or something else.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Word(u8, bool);

    impl Message for Word {
        fn of_user(&self) -> Option<(Option<DeviceId>, Kind)> {
            self.1.then_some((Some(DeviceId([self.0; 12])), Kind::Event))
        }
    }

    fn words(numbers: impl IntoIterator<Item = u8>) -> Vec<Word> {
        numbers.into_iter().map(|number| Word(number, true)).collect()
    }

    #[test]
    fn what_is_delayed_comes_later_and_what_is_dropped_does_not() {
        let mut sifter = Sifter::default();
        let mut messages = words(0..100);
        messages.push(Word(0, false));
        sifter.sift(Millis(0), Some(Rule::Delay { percent: 20, ms: 500 }), &mut messages);
        assert_eq!((messages.len(), sifter.held.len(), messages.last()), (81, 20, Some(&Word(0, false))));
        let mut none = Vec::new();
        sifter.sift(Millis(499), None, &mut none);
        assert!(none.is_empty());
        sifter.sift(Millis(500), None, &mut none);
        assert!(none.len() == 20 && sifter.held.is_empty());
        let mut messages = words(0..100);
        sifter.sift(Millis(600), Some(Rule::Drop { percent: 5 }), &mut messages);
        assert!(messages.len() == 95 && sifter.held.is_empty());
    }

    #[test]
    fn what_is_held_goes_on_in_order_once_nothing_holds_it() {
        let (mut sifter, mut messages) = (Sifter::default(), words(0..3));
        sifter.sift(Millis(0), Some(Rule::Hold(Which::Kind(Kind::Hello))), &mut messages);
        assert_eq!(messages, words(0..3));
        sifter.sift(Millis(0), Some(Rule::Hold(Which::All)), &mut messages);
        assert!(messages.is_empty());
        let mut more = words(3..5);
        sifter.sift(Millis(1), None, &mut more);
        assert_eq!(more, words(0..5));
    }
}
