//! Events that are on their way to subscribed devices, and what has become of each so far.

use std::collections::HashMap;

use firmware_protocol::error::RequestError;
use firmware_protocol::session::request::Outcome;

use crate::event::Position;
use crate::fate::{Fate, Fates};

/// The events that are on their way. There are never more than the reader of the journal has out.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    open: HashMap<Position, Open>,
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

impl Deliveries {
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
