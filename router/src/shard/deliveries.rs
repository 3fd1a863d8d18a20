//! Events that are on their way to subscribed devices, and what has become of each so far. A device gets a few at a time; others wait for their turn.

use std::collections::{HashMap, VecDeque};

use firmware_protocol::error::RequestError;
use firmware_protocol::id::DeviceId;
use firmware_protocol::session::publish::Delivery;
use firmware_protocol::session::request::Outcome;

use crate::event::Position;
use crate::fate::{Fate, Fates};

/// Most events under way to one device: half of what its session takes, so that there is room for calls.
const OPEN_MAX: usize = 32;
/// Most events that wait for one device.
const WAITING_MAX: usize = 256;
/// Most that wait for all devices of a shard together: about a kilobyte each at most.
const WAITING_TOTAL_MAX: usize = 16_384;

/// The events that are on their way. There are never more than the reader of the journal has out.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    open: HashMap<Position, Open>,
    /// Devices that events are under way to.
    devices: HashMap<DeviceId, Queue>,
    /// Events that wait for them, together.
    waiting: usize,
    /// What became of deliveries to single devices, since it was last asked.
    fates: Fates,
}

/// One event on its way to at least one device.
#[derive(Debug)]
struct Open {
    /// Devices that have not answered yet.
    unanswered: usize,
    worst: Fate,
}

/// What goes to one device.
#[derive(Debug, Default)]
struct Queue {
    under_way: usize,
    waiting: VecDeque<(Position, Delivery)>,
}

/// Whether an event goes to a device.
#[derive(Debug)]
pub(super) enum Admitted {
    /// Now.
    Now(Delivery),
    /// When others have gone.
    Later,
    /// Too many wait already.
    Refused,
}

impl Deliveries {
    /// An event for a device that is online.
    pub(super) fn admit(&mut self, device: DeviceId, position: Position, delivery: Delivery) -> Admitted {
        let queue = self.devices.entry(device).or_default();
        if queue.under_way < OPEN_MAX {
            queue.under_way += 1;
            return Admitted::Now(delivery);
        }
        if queue.waiting.len() >= WAITING_MAX || self.waiting >= WAITING_TOTAL_MAX {
            return Admitted::Refused;
        }
        queue.waiting.push_back((position, delivery));
        self.waiting += 1;
        Admitted::Later
    }

    /// One less is under way to a device. What goes to it next, or would, and is under way with that.
    pub(super) fn next(&mut self, device: DeviceId) -> Option<(Position, Delivery)> {
        let queue = self.devices.get_mut(&device)?;
        if let Some(next) = queue.waiting.pop_front() {
            self.waiting -= 1;
            return Some(next);
        }
        queue.under_way = queue.under_way.saturating_sub(1);
        if queue.under_way == 0 {
            self.devices.remove(&device);
        }
        None
    }

    /// The event goes to so many devices.
    pub(super) fn begin(&mut self, position: Position, devices: usize) {
        self.open.insert(position, Open { unanswered: devices, worst: Fate::Delivered });
    }

    /// What became of it for so many devices that are not asked.
    pub(super) fn note(&mut self, fate: Fate, devices: usize) {
        self.fates[fate.index()] += devices as u64;
    }

    /// What became of it for one device. The fate of the event, if that was the last.
    pub(super) fn end(&mut self, position: Position, fate: Fate) -> Option<Fate> {
        self.note(fate, 1);
        let open = self.open.get_mut(&position)?;
        open.worst = open.worst.max(fate);
        open.unanswered = open.unanswered.saturating_sub(1);
        if open.unanswered > 0 {
            return None;
        }
        self.open.remove(&position).map(|open| open.worst)
    }

    /// What became of deliveries since the last call.
    pub(super) fn take_fates(&mut self) -> Fates {
        std::mem::take(&mut self.fates)
    }
}

/// What the end of a request means to the event in it.
pub(super) fn fate_of(outcome: &Result<Outcome, RequestError>) -> Fate {
    match outcome {
        Ok(Outcome::Acknowledged) => Fate::Delivered,
        Ok(Outcome::Closed { .. }) => Fate::Offline,
        Ok(Outcome::TimedOut { .. }) => Fate::Unanswered,
        Ok(Outcome::Refused(_) | Outcome::Malformed | Outcome::Returned(_) | Outcome::Value(_) | Outcome::Described(..)) => Fate::Refused,
        Err(RequestError::Busy) => Fate::Busy,
        Err(RequestError::TooLarge) => Fate::TooLarge,
    }
}
