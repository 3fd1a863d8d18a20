//! What the owner of a fleet and each of its threads tell each other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::plan::Transport;
use super::tally::Gauges;
use crate::stats::Latencies;

/// Where a worker finds its orders and shows its counts.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) transport: Transport,
    pub(super) gauges: Gauges,
    given: AtomicU64,
    followed: AtomicU64,
    latencies: Mutex<Latencies>,
}

/// A running number of orders, with the last order in its four lowest bits.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Orders(u64);

impl Orders {
    pub(super) const REST: u64 = 0;
    pub(super) const WORK: u64 = 1;
    const STOP: u64 = 2;
    /// Goes with working and resting.
    const HAND_OVER: u64 = 4;
    /// Goes with them, too.
    const ROLL_CALL: u64 = 8;
    const BITS: u32 = 4;

    pub(super) fn working(self) -> bool {
        self.0 & Self::WORK != 0
    }

    pub(super) fn stop(self) -> bool {
        self.0 & Self::STOP != 0
    }

    pub(super) fn hand_over(self) -> bool {
        self.0 & Self::HAND_OVER != 0
    }

    pub(super) fn roll_call(self) -> bool {
        self.0 & Self::ROLL_CALL != 0
    }
}

impl Post {
    /// For a worker with devices on `transport`.
    pub(super) fn new(transport: Transport) -> Self {
        let (given, followed) = (AtomicU64::default(), AtomicU64::default());
        Self { transport, gauges: Gauges::default(), given, followed, latencies: Mutex::default() }
    }

    /// Gives an order; only the fleet's owner does.
    pub(super) fn order(&self, kind: u64) -> Orders {
        let number = (self.given.load(Ordering::Acquire) >> Orders::BITS) + 1;
        let orders = number << Orders::BITS | kind;
        self.given.store(orders, Ordering::Release);
        Orders(orders)
    }

    /// Orders to go on, and to leave latencies here.
    pub(super) fn order_latencies(&self) -> Orders {
        self.order(Orders::HAND_OVER | self.orders().0 & Orders::WORK)
    }

    /// Orders to go on, and to count anew which devices are served.
    pub(super) fn order_roll_call(&self) -> Orders {
        self.order(Orders::ROLL_CALL | self.orders().0 & Orders::WORK)
    }

    /// Leaves latencies here; the worker does.
    pub(super) fn leave(&self, latencies: &Latencies) {
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner).merge(latencies);
    }

    /// Takes what was left.
    pub(super) fn take_latencies(&self) -> Latencies {
        std::mem::take(&mut self.latencies.lock().unwrap_or_else(PoisonError::into_inner))
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
