//! Message ids and tokens of requests to a device.
//!
//! A device answers a repeated message id within 45 seconds with the acknowledgement it already sent and does nothing (docs/protocol.md), and
//! takes a response for the request whose token it carries. So neither may repeat too early, across restarts either: the start count of the
//! process chooses the range that both come from.

use std::time::Duration;

use crate::session::stored::Generation;
use crate::time::Millis;

/// How long a device remembers a message id.
pub(super) const SPAN: Duration = Duration::from_secs(45);

/// Generations whose ids do not overlap: more than that many restarts in 45 seconds are more than a supervisor allows.
const RANGES: u32 = 32;
const RANGE_LEN: u16 = 2048;
const HALF: u16 = RANGE_LEN / 2;

/// Message ids of one session in one process. At most 1024 are given out in any 45 seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MessageIds {
    base: u16,
    next: u16,
    /// From when on each half of the range may be entered again, in seconds.
    free_at_s: [u32; 2],
}

impl MessageIds {
    pub(crate) fn new(generation: Generation) -> Self {
        let range = u16::try_from(generation.0 % RANGES).unwrap_or_default();
        Self { base: range * RANGE_LEN, next: 0, free_at_s: [0; 2] }
    }

    /// Which quarter of the tokens requests of this process have.
    pub(crate) fn token_quarter(&self) -> u8 {
        u8::try_from(u32::from(self.base / RANGE_LEN) % TOKEN_QUARTERS).unwrap_or_default()
    }

    /// An id that has not been used for 45 seconds, or `None` if there is none just now.
    pub(crate) fn take(&mut self, now: Millis) -> Option<u16> {
        let half = usize::from(self.next / HALF);
        let entering = self.next.is_multiple_of(HALF);
        if entering && now.0 / 1000 < u64::from(self.free_at_s[half]) {
            return None;
        }
        self.free_at_s[half] = u32::try_from((now + SPAN).0.div_ceil(1000)).unwrap_or(u32::MAX);
        let id = self.base + self.next;
        self.next = (self.next + 1) % RANGE_LEN;
        Some(id)
    }
}

/// How long a token stays out of use after its exchange ended without a response, which may still come.
const QUARANTINE: Duration = Duration::from_secs(300);
const TOKENS: u8 = 64;
/// All token values, in parts of [`TOKENS`]. Generations that take turns with them take turns with the ranges of message ids as well.
const TOKEN_QUARTERS: u32 = 4;

/// One-byte tokens of one session in one process (docs/protocol.md: longer ones drop the connection). Two bits name the generation, so that an answer to a
/// former process is not taken for one to this.
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    base: u8,
    next: u8,
    open: u64,
    resting: Vec<(u8, Millis)>,
}

impl Tokens {
    /// Those of one of the four quarters.
    pub(crate) fn new(quarter: u8) -> Self {
        Self { base: quarter % 4 * TOKENS, next: 0, open: 0, resting: Vec::new() }
    }

    /// A token no open or recent exchange has; `None` if all 64 are taken.
    pub(crate) fn take(&mut self, now: Millis) -> Option<u8> {
        self.rest_until(now);
        let slot = (0..TOKENS).map(|step| (self.next + step) % TOKENS).find(|slot| self.open >> slot & 1 == 0)?;
        self.open |= 1 << slot;
        self.next = (slot + 1) % TOKENS;
        Some(self.base + slot)
    }

    /// Ends an exchange whose response came.
    pub(crate) fn free(&mut self, token: u8) {
        self.open &= !(1 << (token % TOKENS));
    }

    /// Ends an exchange whose response may still come.
    pub(crate) fn rest(&mut self, token: u8, now: Millis) {
        self.resting.push((token, now + QUARANTINE));
    }

    fn rest_until(&mut self, now: Millis) {
        let open = &mut self.open;
        self.resting.retain(|(token, until)| {
            let resting = now < *until;
            if !resting {
                *open &= !(1 << (token % TOKENS));
            }
            resting
        });
    }

    /// When the last token that rests comes back.
    pub(crate) fn rested_at(&self) -> Option<Millis> {
        self.resting.iter().map(|(_, until)| *until).max()
    }

    /// Whether nothing has to be remembered.
    pub(crate) fn is_idle(&mut self, now: Millis) -> bool {
        self.rest_until(now);
        self.open == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn no_id_repeats_within_45_seconds_across_many_kills() {
        let mut last_used: HashMap<u16, Millis> = HashMap::new();
        let mut now = Millis(0);
        for generation in 1000..1100 {
            let mut ids = MessageIds::new(Generation(generation));
            for _ in 0..3000 {
                now.0 += 1;
                if let Some(id) = ids.take(now) {
                    let previous = last_used.insert(id, now);
                    assert!(previous.is_none_or(|at| now.since(at) >= SPAN), "id {id} at {now:?} after {previous:?}");
                }
            }
        }
    }

    #[test]
    fn ids_come_back_after_a_rest() {
        let mut ids = MessageIds::new(Generation(7));
        let first: Vec<_> = (0..RANGE_LEN).map(|_| ids.take(Millis(0)).unwrap()).collect();
        assert_eq!(ids.take(Millis(44_999)), None);
        assert_eq!(ids.take(Millis(45_000)), Some(first[0]));
    }

    #[test]
    fn a_token_rests_after_a_timeout_and_generations_differ() {
        let mut tokens = Tokens::new(1);
        let all: Vec<_> = (0..64).map(|_| tokens.take(Millis(0)).unwrap()).collect();
        assert_eq!(tokens.take(Millis(0)), None);
        tokens.free(all[3]);
        assert_eq!(tokens.take(Millis(0)), Some(all[3]));
        tokens.rest(all[9], Millis(0));
        assert_eq!(tokens.take(Millis(299_999)), None);
        assert_eq!(tokens.take(Millis(300_000)), Some(all[9]));
        assert!(!all.contains(&Tokens::new(2).take(Millis(0)).unwrap()));
    }
}
