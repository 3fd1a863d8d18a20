//! The API's way to devices: it asks shards and waits for what comes of it.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Instant;

use firmware_protocol::id::DeviceId;
use firmware_protocol::session::publish::{DATA_MAX, is_system_name};
use firmware_protocol::session::variable::Value;
use firmware_protocol::time::UnixMillis;
use router::ask::{Answer, Ask, AskError};
use router::device::DeviceView;
use router::event::{Audience, NewEvent, Position, Source};
use router::shard::Input;
use tokio::sync::{Semaphore, oneshot};
use webhooks::response::ANSWER_LEN_MAX;

use crate::api::gateway::{CallError, Gateway, HistoryUnavailable, Later, Presence, PublishError};
use crate::history::{HistoryError, Record, Store};
use crate::metrics::CallMetrics;
use crate::server::{DataPlaneHandle, NoAnswer};
use crate::shards::{Reply, shard_of};
use crate::streams::{EventStream, StreamFilter};

/// Readers of the history at the same time; the others wait.
const HISTORY_READS_MAX: usize = 4;

/// Devices behind shards.
#[derive(Debug)]
pub struct Devices {
    plane: Arc<DataPlaneHandle>,
    metrics: CallMetrics,
    history_places: Semaphore,
}

impl Devices {
    /// The devices of a running data plane.
    pub fn new(plane: Arc<DataPlaneHandle>, metrics: CallMetrics) -> Self {
        Self { plane, metrics, history_places: Semaphore::new(HISTORY_READS_MAX) }
    }

    async fn ask(&self, device: DeviceId, ask: Ask, deadline: Instant) -> Result<Answer, CallError> {
        let kind = kind(&ask);
        let answer = self.ask_shard(device, ask, deadline).await;
        self.metrics.ended(kind, outcome(&answer));
        answer
    }

    async fn ask_shard(&self, device: DeviceId, ask: Ask, deadline: Instant) -> Result<Answer, CallError> {
        let (sender, receiver) = oneshot::channel();
        let deadline = self.plane.clock.at(deadline);
        let shard = shard_of(device, self.plane.shards());
        let question = self.plane.question(shard);
        let asked = self.plane.ask_shard(shard, Input::Ask { device, ask, deadline, reply: Reply::Answer(sender, Some(question)) });
        match asked.ok_or(CallError::Busy)?.answer(receiver).await {
            Ok(answer) => answer.map_err(call_error),
            Err(NoAnswer::Refused) => Err(CallError::Unavailable),
            Err(NoAnswer::TakenOver) => Err(CallError::Interrupted),
        }
    }

    /// Reads on a thread that may wait for the disk, and only on a few of them.
    async fn read_history<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Store) -> Result<T, HistoryError> + Send + 'static,
    ) -> Result<T, HistoryUnavailable> {
        let store = self.plane.history.get().cloned().ok_or(HistoryUnavailable)?;
        let _place = self.history_places.acquire().await.map_err(|_| HistoryUnavailable)?;
        let read = tokio::task::spawn_blocking(move || read(&store)).await.map_err(|_| HistoryUnavailable)?;
        read.inspect_err(|error| tracing::error!(%error, "the history cannot be read")).map_err(|_| HistoryUnavailable)
    }
}

impl Gateway for Devices {
    fn presences(&self, devices: Vec<DeviceId>) -> Later<'_, Vec<Presence>> {
        Box::pin(async move {
            let mut known = self.plane.views(&devices).await;
            devices.iter().map(|device| known.remove(device).map(presence).unwrap_or_default()).collect()
        })
    }

    fn call<'a>(&'a self, device: DeviceId, function: &'a str, argument: &'a str, deadline: Instant) -> Later<'a, Result<i32, CallError>> {
        let ask = Ask::Call { function: function.to_owned(), argument: argument.to_owned() };
        Box::pin(async move {
            match self.ask(device, ask, deadline).await? {
                Answer::Returned(value) => Ok(value),
                Answer::Value(_) | Answer::Done => Err(CallError::Malformed),
            }
        })
    }

    fn read<'a>(&'a self, device: DeviceId, variable: &'a str, deadline: Instant) -> Later<'a, Result<Value, CallError>> {
        let ask = Ask::Read { variable: variable.to_owned() };
        Box::pin(async move {
            match self.ask(device, ask, deadline).await? {
                Answer::Value(value) => Ok(value),
                Answer::Returned(_) | Answer::Done => Err(CallError::Malformed),
            }
        })
    }

    fn ping(&self, device: DeviceId, deadline: Instant) -> Later<'_, bool> {
        Box::pin(async move { self.ask(device, Ask::Ping, deadline).await.is_ok() })
    }

    fn signal(&self, device: DeviceId, on: bool, deadline: Instant) -> Later<'_, Result<(), CallError>> {
        Box::pin(async move { self.ask(device, Ask::Signal { on }, deadline).await.map(drop) })
    }

    fn publish(&self, event: NewEvent) -> Later<'_, Result<Position, PublishError>> {
        Box::pin(async move {
            let is_answer = event.source == Source::Cloud;
            let len_max = if is_answer { ANSWER_LEN_MAX } else { DATA_MAX };
            if event.data.as_ref().is_some_and(|data| data.len() > len_max) {
                return Err(PublishError::TooLarge);
            }
            debug_assert!(!is_system_name(&event.name), "the API refuses reserved names");
            let (sender, receiver) = oneshot::channel();
            let shard = usize::try_from(event.owner.0).unwrap_or_default() % self.plane.shards();
            let _question = self.plane.question(shard);
            let asked = self.plane.ask_shard(shard, Input::Publish { event, reply: Reply::Published(sender) });
            let position = match asked {
                Some(asked) => asked.answer(receiver).await.map_err(|none| match none {
                    NoAnswer::Refused => PublishError::Busy,
                    NoAnswer::TakenOver => PublishError::Interrupted,
                }),
                None => Err(PublishError::Busy),
            };
            // Those of hooks are counted where they are made.
            if !is_answer {
                self.metrics.ended("publish", if position.is_ok() { "ok" } else { "failed" });
            }
            position
        })
    }

    fn ask_vitals(&self, device: DeviceId, deadline: Instant) -> Later<'_, Result<(), CallError>> {
        Box::pin(async move { self.ask(device, Ask::Vitals, deadline).await.map(drop) })
    }

    fn vitals(
        &self,
        audience: Audience,
        device: DeviceId,
        span: RangeInclusive<UnixMillis>,
        len_max: usize,
    ) -> Later<'_, Result<Vec<Record>, HistoryUnavailable>> {
        Box::pin(self.read_history(move |store| store.vitals(audience, device, span, len_max)))
    }

    fn last_vitals(&self, audience: Audience, device: DeviceId) -> Later<'_, Result<Option<Record>, HistoryUnavailable>> {
        Box::pin(self.read_history(move |store| store.last_vitals(audience, device)))
    }

    fn last_resets(&self, audience: Audience, devices: Vec<DeviceId>) -> Later<'_, Vec<Option<Record>>> {
        Box::pin(async move {
            let count = devices.len();
            let read = move |store: &Store| devices.iter().map(|device| store.last_reset(audience, *device)).collect();
            self.read_history(read).await.unwrap_or_else(|_| vec![None; count])
        })
    }

    fn stream(&self, filter: StreamFilter) -> EventStream {
        self.plane.streams.open(filter)
    }
}

/// What a question is called in metrics.
fn kind(ask: &Ask) -> &'static str {
    match ask {
        Ask::Call { .. } => "call",
        Ask::Read { .. } => "read",
        Ask::Ping => "ping",
        Ask::Signal { .. } => "signal",
        Ask::Vitals => "vitals",
    }
}

/// What came of it. Only what is `failed` may be the server's doing: a device that is away or has no such function is nobody's fault.
fn outcome(answer: &Result<Answer, CallError>) -> &'static str {
    match answer {
        Ok(_) => "ok",
        Err(CallError::Offline | CallError::AsleepUntil(_)) => "offline",
        Err(CallError::NoSuchFunction | CallError::NoSuchVariable | CallError::NotDescribed) => "refused",
        Err(CallError::NotSupported | CallError::TooLarge | CallError::Malformed) => "refused",
        Err(CallError::TimedOut { .. }) => "timed_out",
        Err(CallError::Interrupted | CallError::Busy | CallError::Unavailable) => "failed",
    }
}

fn call_error(error: AskError) -> CallError {
    match error {
        AskError::Offline => CallError::Offline,
        AskError::AsleepUntil(until) => CallError::AsleepUntil(until),
        AskError::NoSuchFunction => CallError::NoSuchFunction,
        AskError::NoSuchVariable => CallError::NoSuchVariable,
        AskError::TimedOut { received } | AskError::SessionEnded { received } => CallError::TimedOut { delivered: received },
        AskError::NotSupported => CallError::NotSupported,
        AskError::Busy => CallError::Busy,
        AskError::TooLarge => CallError::TooLarge,
        AskError::NotDescribed => CallError::NotDescribed,
        AskError::Malformed => CallError::Malformed,
    }
}

fn presence(view: DeviceView) -> Presence {
    Presence {
        online: view.online,
        last_heard: view.last_heard,
        last_handshake_at: view.last_handshake,
        last_ip: view.last_ip,
        functions: view.functions.map(Into::into),
        variables: view.variables.map(Into::into),
        platform_id: view.platform,
        system_version: view.system_version.map(version),
        firmware_version: view.firmware_version,
        safe_mode: view.safe_mode,
        asleep_until: view.asleep_until,
        left_for: view.left_for,
    }
}

/// 6201 is 6.2.1.
fn version(number: u16) -> String {
    format!("{}.{}.{}", number / 1000, number / 100 % 10, number % 100)
}
