//! What the owner of a fleet and each of its threads tell each other.

use std::sync::atomic::{AtomicU64, Ordering};

use super::plan::Transport;
use super::tally::Gauges;

/// Where a worker finds its orders and shows its counts.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) transport: Transport,
    pub(super) gauges: Gauges,
    given: AtomicU64,
    followed: AtomicU64,
}

/// A running number of orders, with the last order in its two lowest bits.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Orders(u64);

impl Orders {
    pub(super) const REST: u64 = 0;
    pub(super) const WORK: u64 = 1;
    const STOP: u64 = 2;

    pub(super) fn working(self) -> bool {
        self.0 & 3 == Self::WORK
    }

    pub(super) fn stop(self) -> bool {
        self.0 & 3 == Self::STOP
    }
}

impl Post {
    /// For a worker with devices on `transport`.
    pub(super) fn new(transport: Transport) -> Self {
        Self { transport, gauges: Gauges::default(), given: AtomicU64::default(), followed: AtomicU64::default() }
    }

    /// Gives an order; only the fleet's owner does.
    pub(super) fn order(&self, kind: u64) -> Orders {
        let number = (self.given.load(Ordering::Acquire) >> 2) + 1;
        self.given.store(number << 2 | kind, Ordering::Release);
        Orders(number << 2 | kind)
    }

    pub(super) fn stop(&self) {
        self.order(Orders::STOP);
    }

    pub(super) fn orders(&self) -> Orders {
        Orders(self.given.load(Ordering::Acquire))
    }

    pub(super) fn have_followed(&self, orders: Orders) {
        self.followed.store(orders.0, Ordering::Release);
    }

    pub(super) fn followed(&self) -> Orders {
        Orders(self.followed.load(Ordering::Acquire))
    }
}
