//! Devices that exist in memory only, behind the API's gateway. It keeps the gateway's promises and counts what would have reached a device.

use std::collections::HashMap;
use std::future::ready;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use firmware_protocol::id::DeviceId;
use firmware_protocol::time::UnixMillis;
use holdfast::api::Gateway;
use holdfast::api::gateway::{
    Audience, CallError, HistoryUnavailable, Later, NewEvent, Presence, PublishError, Record, StreamFilter, Value, VariableType,
};
use holdfast::streams::{EventSender, EventStream, event_stream};
use router::event::{Event, EventId, Position, Source};

/// The gateway. A handle: clones are the same.
#[derive(Clone, Default)]
pub(crate) struct FakeGateway {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    presences: HashMap<DeviceId, Presence>,
    answer: Option<CallError>,
    hangs: bool,
    refuses_events: Option<PublishError>,
    touches: Vec<String>,
    published: Vec<NewEvent>,
    streams: Vec<(StreamFilter, EventSender)>,
    position: u64,
    vitals: Vec<(DeviceId, Record)>,
    resets: HashMap<DeviceId, Record>,
}

impl FakeGateway {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panicked")
    }

    /// Puts a device online that has the function `led` and the variables `temp`, `count`, `door` and `label`.
    pub(crate) fn bring_online(&self, device: DeviceId) {
        let variables =
            [("temp", VariableType::Double), ("count", VariableType::Int), ("door", VariableType::Bool), ("label", VariableType::String)];
        let presence = Presence {
            online: true,
            last_heard: Some(UnixMillis(1_795_000_000_500)),
            last_handshake_at: Some(UnixMillis(1_795_000_000_000 + u64::from(device.0[0]))),
            last_ip: Some("::ffff:192.0.2.7".parse().expect("an address")),
            functions: Some(vec!["led".to_owned()].into()),
            variables: Some(variables.map(|(name, kind)| (name.to_owned(), kind)).to_vec().into()),
            platform_id: Some(13),
            system_version: Some("6.2.0".to_owned()),
            firmware_version: Some(3),
            safe_mode: false,
            asleep_until: None,
            left_for: None,
        };
        self.state().presences.insert(device, presence);
    }

    /// Lets every request to a device end so.
    pub(crate) fn fail_with(&self, error: CallError) {
        self.state().answer = Some(error);
    }

    /// Breaks the gateway's word: answers never come.
    pub(crate) fn hang(&self) {
        self.state().hangs = true;
    }

    /// Lets every event be refused so.
    pub(crate) fn refuse_events(&self, error: PublishError) {
        self.state().refuses_events = Some(error);
    }

    /// What would have reached a device, in words.
    pub(crate) fn touches(&self) -> Vec<String> {
        self.state().touches.clone()
    }

    /// Events that callers published.
    pub(crate) fn published(&self) -> Vec<NewEvent> {
        self.state().published.clone()
    }

    /// Notes vitals of a device, later than all before.
    pub(crate) fn report_vitals(&self, device: DeviceId, record: Record) {
        self.state().vitals.push((device, record));
    }

    /// Notes why a device started last.
    pub(crate) fn report_reset(&self, device: DeviceId, record: Record) {
        self.state().resets.insert(device, record);
    }

    /// Changes what is known of a device.
    pub(crate) fn change(&self, device: DeviceId, change: impl FnOnce(&mut Presence)) {
        change(self.state().presences.entry(device).or_default());
    }

    /// Filters of the streams that are open.
    pub(crate) fn filters(&self) -> Vec<StreamFilter> {
        let mut state = self.state();
        state.streams.retain(|(_, sender)| !sender.is_abandoned());
        state.streams.iter().map(|(filter, _)| filter.clone()).collect()
    }

    /// Accepts an event and hands it to the streams that want it.
    pub(crate) fn emit(&self, event: NewEvent) -> Position {
        let mut state = self.state();
        state.position += 1;
        let position = Position(state.position);
        let event = Arc::new(Event {
            id: EventId([0; 16]),
            owner: event.owner,
            product: event.product,
            source: event.source,
            name: event.name,
            content_format: event.content_format,
            data: event.data,
            ttl_s: event.ttl_s,
            published_at: UnixMillis(1_795_000_000_123),
        });
        state.streams.retain(|(filter, sender)| !wants(filter, &event) || sender.send(position, &event).is_ok());
        position
    }

    fn request<T: Send + 'static>(
        &self,
        device: DeviceId,
        what: String,
        missing: Option<CallError>,
        good: T,
    ) -> Later<'static, Result<T, CallError>> {
        let mut state = self.state();
        let result = match (state.presences.get(&device), missing, state.answer) {
            (Some(Presence { online: true, .. }), Some(missing), _) => Err(missing),
            (Some(Presence { online: true, .. }), None, answer) => {
                state.touches.push(what);
                answer.map_or(Ok(good), Err)
            }
            _ => Err(CallError::Offline),
        };
        if state.hangs { Box::pin(std::future::pending()) } else { Box::pin(ready(result)) }
    }
}

fn wants(filter: &StreamFilter, event: &Event) -> bool {
    let by_device = filter.device.is_none_or(|device| event.source == Source::Device(device));
    filter.audience.hears(event) && by_device && event.name.starts_with(&filter.prefix)
}

impl Gateway for FakeGateway {
    fn presences(&self, devices: Vec<DeviceId>) -> Later<'_, Vec<Presence>> {
        let state = self.state();
        let known = devices.iter().map(|device| state.presences.get(device).cloned().unwrap_or_default()).collect();
        Box::pin(ready(known))
    }

    fn call<'a>(&'a self, device: DeviceId, function: &'a str, argument: &'a str, _: Instant) -> Later<'a, Result<i32, CallError>> {
        let missing = (function != "led").then_some(CallError::NoSuchFunction);
        let value = i32::try_from(argument.len()).expect("a short argument");
        self.request(device, format!("call {function}({argument})"), missing, value)
    }

    fn read<'a>(&'a self, device: DeviceId, variable: &'a str, _: Instant) -> Later<'a, Result<Value, CallError>> {
        let value = match variable {
            "temp" => Some(Value::Double(21.5)),
            "count" => Some(Value::Int(-7)),
            "door" => Some(Value::Bool(true)),
            "label" => Some(Value::String("a \"b\"".to_owned())),
            _ => None,
        };
        let missing = value.is_none().then_some(CallError::NoSuchVariable);
        self.request(device, format!("read {variable}"), missing, value.unwrap_or(Value::Int(0)))
    }

    fn ping(&self, device: DeviceId, _: Instant) -> Later<'_, bool> {
        let answer = self.request(device, "ping".to_owned(), None, ());
        Box::pin(async move { answer.await.is_ok() })
    }

    fn signal(&self, device: DeviceId, on: bool, _: Instant) -> Later<'_, Result<(), CallError>> {
        self.request(device, format!("signal {on}"), None, ())
    }

    fn publish(&self, event: NewEvent) -> Later<'_, Result<Position, PublishError>> {
        if let Some(error) = self.state().refuses_events {
            return Box::pin(ready(Err(error)));
        }
        self.state().published.push(event.clone());
        Box::pin(ready(Ok(self.emit(event))))
    }

    fn ask_vitals(&self, device: DeviceId, _: Instant) -> Later<'_, Result<(), CallError>> {
        self.request(device, "vitals".to_owned(), None, ())
    }

    fn vitals(
        &self,
        audience: Audience,
        device: DeviceId,
        span: RangeInclusive<UnixMillis>,
        len_max: usize,
    ) -> Later<'_, Result<Vec<Record>, HistoryUnavailable>> {
        let state = self.state();
        let found =
            state.vitals.iter().rev().filter(|(of, record)| *of == device && audience.hears_of(record.whose) && span.contains(&record.at));
        Box::pin(ready(Ok(found.map(|(_, record)| record.clone()).take(len_max).collect())))
    }

    fn last_vitals(&self, audience: Audience, device: DeviceId) -> Later<'_, Result<Option<Record>, HistoryUnavailable>> {
        let all = self.vitals(audience, device, UnixMillis(0)..=UnixMillis(u64::MAX), 1);
        Box::pin(async move { Ok(all.await?.pop()) })
    }

    fn last_resets(&self, audience: Audience, devices: Vec<DeviceId>) -> Later<'_, Vec<Option<Record>>> {
        let state = self.state();
        let of = |device: &DeviceId| state.resets.get(device).filter(|record| audience.hears_of(record.whose)).cloned();
        Box::pin(ready(devices.iter().map(of).collect()))
    }

    fn stream(&self, filter: StreamFilter) -> EventStream {
        let (sender, stream) = event_stream();
        self.state().streams.push((filter, sender));
        stream
    }
}
