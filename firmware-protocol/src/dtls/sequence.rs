//! Record sequence numbers: which we may use, and which of the device's we have seen.

use crate::session::stored::Generation;

const COUNTER_BITS: u32 = 23;
const GENERATION_BITS: u32 = 25;

/// Our next send sequence: 25 bits of generation over 23 bits of counter.
///
/// Generations count from the session's birth. As every process start has a generation of its own, no number is used twice with a key although
/// none is ever written down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SendSequence {
    next: u64,
}

impl SendSequence {
    /// For a session born in `birth`, in a process that runs in `current`. `None` if the span no longer fits, which takes 33 million starts.
    pub fn new(birth: Generation, current: Generation) -> Option<Self> {
        let span = current.0.checked_sub(birth.0)?;
        (span < 1 << GENERATION_BITS).then_some(Self { next: u64::from(span) << COUNTER_BITS })
    }

    /// The next number, or `None` when this generation's eight million are used up and [`SendSequence::renew`] must come first.
    pub fn take(&mut self) -> Option<u64> {
        let number = self.next;
        if number & Self::LAST == Self::LAST {
            return None;
        }
        self.next += 1;
        Some(number)
    }

    /// Whether a fresh generation should be fetched now, well before [`SendSequence::take`] would refuse.
    pub fn is_running_out(&self) -> bool {
        self.next & Self::LAST >= Self::LAST / 2
    }

    /// Goes on in a fresh generation, which nothing else in this data directory has used.
    pub fn renew(&mut self, birth: Generation, fresh: Generation) {
        if let Some(renewed) = Self::new(birth, fresh).filter(|renewed| renewed.next > self.next) {
            *self = renewed;
        }
    }

    const LAST: u64 = (1 << COUNTER_BITS) - 1;
}

/// The device's sequence numbers that have been accepted: the highest, and which of the 64 below it (RFC 6347 §4.1.2.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReplayWindow {
    /// One above the highest accepted number.
    next: u64,
    /// Bit `i`: number `next - 1 - i` was accepted.
    seen: u64,
}

impl ReplayWindow {
    /// A window in which `floor` and everything below it counts as seen: what recovery knows.
    pub fn above(floor: u64) -> Self {
        Self { next: floor + 1, seen: u64::MAX }
    }

    /// Whether `number` has not been accepted yet and is not too old to tell.
    pub fn is_fresh(&self, number: u64) -> bool {
        match self.next.checked_sub(number + 1) {
            None => true,
            Some(age) => age < 64 && self.seen >> age & 1 == 0,
        }
    }

    /// Whether `number` is above all that were accepted.
    pub fn is_newest(&self, number: u64) -> bool {
        number >= self.next
    }

    /// Marks `number`; only to be called when its record was authentic.
    pub fn accept(&mut self, number: u64) {
        match self.next.checked_sub(number + 1) {
            None => {
                let shift = number + 1 - self.next;
                self.seen = if shift < 64 { self.seen << shift | 1 } else { 1 };
                self.next = number + 1;
            }
            Some(age) if age < 64 => self.seen |= 1 << age,
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn generations_never_share_a_number() {
        let birth = Generation(1_000);
        let mut first = SendSequence::new(birth, birth).unwrap();
        assert_eq!((first.take(), first.take()), (Some(0), Some(1)));
        let mut second = SendSequence::new(birth, Generation(1_001)).unwrap();
        assert_eq!(second.take(), Some(1 << 23));
        assert_eq!(SendSequence::new(birth, Generation(999)), None);
        assert_eq!(SendSequence::new(Generation(0), Generation(1 << 25)), None);
    }

    #[test]
    fn a_used_up_generation_stops_before_the_next_one_begins() {
        let birth = Generation(5);
        let mut sequence = SendSequence { next: (1 << 23) - 2 };
        assert!(sequence.is_running_out());
        assert_eq!(sequence.take(), Some((1 << 23) - 2));
        assert_eq!(sequence.take(), None);
        sequence.renew(birth, Generation(5));
        assert_eq!(sequence.take(), None, "not a fresh generation");
        sequence.renew(birth, Generation(7));
        assert_eq!(sequence.take(), Some(2 << 23));
    }

    proptest! {
        #[test]
        fn a_number_is_fresh_once(numbers in prop::collection::vec(0u64..200, 0..400)) {
            let (mut window, mut accepted, mut top) = (ReplayWindow::default(), HashSet::new(), None);
            for number in numbers {
                let too_old = top.is_some_and(|top: u64| top >= number + 64);
                prop_assert_eq!(window.is_fresh(number), !accepted.contains(&number) && !too_old);
                prop_assert_eq!(window.is_newest(number), top.is_none_or(|top| number > top));
                if window.is_fresh(number) {
                    window.accept(number);
                    accepted.insert(number);
                    top = top.max(Some(number));
                }
            }
        }

        #[test]
        fn nothing_below_a_floor_is_fresh(floor in 0u64..1 << 47, number in 0u64..1 << 48) {
            prop_assert_eq!(ReplayWindow::above(floor).is_fresh(number), number > floor);
        }
    }
}
