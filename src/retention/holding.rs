//! How large and how old the sealed segments are, and which of them are beyond the limits.

use std::collections::VecDeque;
use std::time::Duration;

use firmware_protocol::time::Millis;
use router::event::Position;

use crate::config::{self, Limit};
use crate::journal::SealedSegment;

/// What is known of a segment when it is first seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Measured {
    pub(super) bytes: u64,
    pub(super) age: Duration,
}

#[derive(Debug)]
struct Held {
    segment: SealedSegment,
    measured: Measured,
    /// When that was.
    seen: Millis,
}

/// The sealed segments, oldest first.
#[derive(Debug, Default)]
pub(super) struct Holding {
    held: VecDeque<Held>,
}

impl Holding {
    /// Takes in those of `sealed` that are new.
    pub(super) fn update(&mut self, sealed: &[SealedSegment], now: Millis, mut measure: impl FnMut(&SealedSegment) -> Measured) {
        let known = self.held.back().map_or(0, |held| held.segment.number());
        let new = sealed.iter().filter(|segment| segment.number() > known);
        self.held.extend(new.map(|segment| Held { segment: *segment, measured: measure(segment), seen: now }));
    }

    /// Forgets segments all of whose events are before `next`.
    pub(super) fn forget_before(&mut self, next: Position) {
        while self.held.front().is_some_and(|held| held.segment.positions().1 <= next) {
            self.held.pop_front();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.held.iter().map(|held| held.measured.bytes).sum()
    }

    /// Before which position everything is beyond `limits`, if anything is; `current` are the bytes of the segment that is being written.
    ///
    /// A segment goes only if all older ones go: whatever clocks have done, what is young by position stays.
    pub(super) fn keep_from(&self, current: u64, limits: config::Journal, now: Millis) -> Option<Position> {
        let mut bytes = self.bytes() + current;
        let mut keep_from = None;
        for held in &self.held {
            let age = held.measured.age + now.since(held.seen);
            let too_old = matches!(limits.keep_for_s, Limit::AtMost(most) if age.as_secs() >= most);
            let too_much = matches!(limits.keep_bytes, Limit::AtMost(most) if bytes > most);
            if !too_old && !too_much {
                break;
            }
            bytes -= held.measured.bytes;
            keep_from = Some(held.segment.positions().1);
        }
        keep_from
    }
}
