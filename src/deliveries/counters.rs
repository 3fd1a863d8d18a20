//! What became of all deliveries of a hook, in numbers that always add up.

use super::bytes::Take;
use super::delivery::{Delivery, Reason, State};

const VERSION: u8 = 1;

/// How many were given up, by reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rejected([u64; Reason::ALL.len()]);

/// The numbers: `accepted = delivered + pending + expired + rejected`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// All there ever were.
    pub accepted: u64,
    /// Those that were made.
    pub delivered: u64,
    /// Those that are to be made.
    pub pending: u64,
    /// Bytes of the events of these.
    pub pending_bytes: u64,
    /// Those that were not made in time.
    pub expired: u64,
    /// Those that were given up.
    pub rejected: Rejected,
    /// Attempts that ended.
    pub attempts: u64,
    /// Deliveries that were made in replays.
    pub replayed: u64,
    /// Expired and given up ones that are kept and were not delivered in a replay.
    pub dead_letters: u64,
}

impl Rejected {
    /// For this reason.
    pub fn of(&self, reason: Reason) -> u64 {
        self.0[reason.index()]
    }

    /// For all reasons.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Each reason with its number.
    pub fn each(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.into_iter().zip(self.0)
    }
}

impl Counters {
    /// Whether they add up.
    pub fn is_balanced(&self) -> bool {
        self.accepted == self.delivered + self.pending + self.expired + self.rejected.total()
    }

    pub(super) fn accept(&mut self, delivery: &Delivery) {
        self.accepted += 1;
        self.pending += 1;
        self.pending_bytes += u64::from(delivery.bytes);
    }

    /// One that was pending is in another state now.
    pub(super) fn finish(&mut self, delivery: &Delivery) {
        match delivery.state {
            State::Pending => return,
            State::Delivered => self.delivered += 1,
            State::Expired => self.expired += 1,
            State::Rejected(reason) => self.rejected.0[reason.index()] += 1,
        }
        self.pending = self.pending.saturating_sub(1);
        self.pending_bytes = self.pending_bytes.saturating_sub(delivery.bytes.into());
    }

    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut to = vec![VERSION];
        let numbers = [
            self.accepted,
            self.delivered,
            self.pending,
            self.pending_bytes,
            self.expired,
            self.attempts,
            self.replayed,
            self.dead_letters,
        ];
        for number in numbers.into_iter().chain(self.rejected.0) {
            to.extend_from_slice(&number.to_be_bytes());
        }
        to
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut take = Take(bytes);
        if take.u8()? != VERSION {
            return None;
        }
        let mut next = || take.u64();
        let mut counters = Self {
            accepted: next()?,
            delivered: next()?,
            pending: next()?,
            pending_bytes: next()?,
            expired: next()?,
            attempts: next()?,
            replayed: next()?,
            dead_letters: next()?,
            rejected: Rejected::default(),
        };
        for number in &mut counters.rejected.0 {
            *number = next()?;
        }
        take.end(counters)
    }
}
