//! A gateway without devices: everything is offline and nothing is accepted. It lets the API start before, or without, the rest.

use std::future::ready;
use std::ops::RangeInclusive;
use std::time::Instant;

use firmware_protocol::id::DeviceId;
use firmware_protocol::time::UnixMillis;
use router::event::Position;

use super::gateway::{
    Audience, CallError, EventStream, Gateway, HistoryUnavailable, Later, NewEvent, Presence, PublishError, Record, StreamFilter, Value,
};
use crate::streams::event_stream;

/// No device, ever.
#[derive(Clone, Copy, Debug, Default)]
pub struct Offline;

impl Gateway for Offline {
    fn presences(&self, devices: Vec<DeviceId>) -> Later<'_, Vec<Presence>> {
        Box::pin(ready(vec![Presence::default(); devices.len()]))
    }

    fn call<'a>(&'a self, _: DeviceId, _: &'a str, _: &'a str, _: Instant) -> Later<'a, Result<i32, CallError>> {
        Box::pin(ready(Err(CallError::Offline)))
    }

    fn read<'a>(&'a self, _: DeviceId, _: &'a str, _: Instant) -> Later<'a, Result<Value, CallError>> {
        Box::pin(ready(Err(CallError::Offline)))
    }

    fn ping(&self, _: DeviceId, _: Instant) -> Later<'_, bool> {
        Box::pin(ready(false))
    }

    fn signal(&self, _: DeviceId, _: bool, _: Instant) -> Later<'_, Result<(), CallError>> {
        Box::pin(ready(Err(CallError::Offline)))
    }

    fn publish(&self, _: NewEvent) -> Later<'_, Result<Position, PublishError>> {
        Box::pin(ready(Err(PublishError::Unavailable)))
    }

    fn ask_vitals(&self, _: DeviceId, _: Instant) -> Later<'_, Result<(), CallError>> {
        Box::pin(ready(Err(CallError::Offline)))
    }

    fn vitals(
        &self,
        _: Audience,
        _: DeviceId,
        _: RangeInclusive<UnixMillis>,
        _: usize,
    ) -> Later<'_, Result<Vec<Record>, HistoryUnavailable>> {
        Box::pin(ready(Err(HistoryUnavailable)))
    }

    fn last_vitals(&self, _: Audience, _: DeviceId) -> Later<'_, Result<Option<Record>, HistoryUnavailable>> {
        Box::pin(ready(Err(HistoryUnavailable)))
    }

    fn last_resets(&self, _: Audience, devices: Vec<DeviceId>) -> Later<'_, Vec<Option<Record>>> {
        Box::pin(ready(vec![None; devices.len()]))
    }

    /// Ends at once: a stream that can never carry an event should not look like one that may.
    fn stream(&self, _: StreamFilter) -> EventStream {
        event_stream().1
    }
}
