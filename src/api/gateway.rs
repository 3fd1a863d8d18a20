//! What the API asks of the part that talks to devices, and nothing else: the API reaches devices through this trait only.

use std::future::Future;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use firmware_protocol::id::DeviceId;
use firmware_protocol::time::UnixMillis;
use router::event::Position;
pub use router::event::{Audience, NewEvent, Whose};
use thiserror::Error;

pub use firmware_protocol::session::variable::{Value, VariableType};

pub use crate::history::Record;
pub use crate::streams::{Cut, EventStream, Gap, Item, StreamFilter};

/// An answer that comes later.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The way to devices, events included.
///
/// Every answer comes by the deadline at the latest, and at once where it is known without asking the device: a call to a device that is
/// offline, or of a function or variable that its describe does not list, sends it nothing. Dropping an answer before it comes is allowed;
/// whatever was sent stays sent.
pub trait Gateway: Send + Sync + 'static {
    /// What is known about devices now, in the order they were asked for. Never asks the devices.
    fn presences(&self, devices: Vec<DeviceId>) -> Later<'_, Vec<Presence>>;

    /// Calls a function; its return value.
    fn call<'a>(&'a self, device: DeviceId, function: &'a str, argument: &'a str, deadline: Instant) -> Later<'a, Result<i32, CallError>>;

    /// Reads a variable.
    fn read<'a>(&'a self, device: DeviceId, variable: &'a str, deadline: Instant) -> Later<'a, Result<Value, CallError>>;

    /// Asks the device for a sign of life.
    fn ping(&self, device: DeviceId, deadline: Instant) -> Later<'_, bool>;

    /// Makes the device show itself by its LED, or stop it.
    fn signal(&self, device: DeviceId, on: bool, deadline: Instant) -> Later<'_, Result<(), CallError>>;

    /// Accepts an event of a caller, or one that the cloud makes of what a hook was answered. The answer means that it is durable.
    fn publish(&self, event: NewEvent) -> Later<'_, Result<Position, PublishError>>;

    /// Asks a device for its vitals. The answer means that it is being asked; what it says comes as an event.
    fn ask_vitals(&self, device: DeviceId, deadline: Instant) -> Later<'_, Result<(), CallError>>;

    /// The vitals of a device in a span of time in which `audience` heard of it, the newest first and at most `len_max`.
    fn vitals(
        &self,
        audience: Audience,
        device: DeviceId,
        span: RangeInclusive<UnixMillis>,
        len_max: usize,
    ) -> Later<'_, Result<Vec<Record>, HistoryUnavailable>>;

    /// The last vitals of a device, if `audience` heard of it then.
    fn last_vitals(&self, audience: Audience, device: DeviceId) -> Later<'_, Result<Option<Record>, HistoryUnavailable>>;

    /// Why devices started last, in the order they were asked for; only of those that `audience` heard of then. What cannot be
    /// read now is left out.
    fn last_resets(&self, audience: Audience, devices: Vec<DeviceId>) -> Later<'_, Vec<Option<Record>>>;

    /// Opens a stream of accepted events.
    fn stream(&self, filter: StreamFilter) -> EventStream;
}

/// What is known about a device's session and describe.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Presence {
    /// It has a session that is alive.
    pub online: bool,
    /// When anything came from it last.
    pub last_heard: Option<UnixMillis>,
    /// When its latest session began.
    pub last_handshake_at: Option<UnixMillis>,
    /// Where it spoke from last.
    pub last_ip: Option<IpAddr>,
    /// Its functions, as described; `None` if it has described nothing yet.
    pub functions: Option<Arc<[String]>>,
    /// Its variables and their types, as described.
    pub variables: Option<Arc<[(String, VariableType)]>>,
    /// The kind of hardware, as its Hello says.
    pub platform_id: Option<u16>,
    /// The version of its Device OS, such as `6.2.0`.
    pub system_version: Option<String>,
    /// The version of its application, as its Hello says.
    pub firmware_version: Option<u16>,
    /// It lacks something that its application needs, and runs without it.
    pub safe_mode: bool,
    /// When it means to wake, if it said that it sleeps.
    pub asleep_until: Option<UnixMillis>,
    /// Why it left, in a word, if it said so.
    pub left_for: Option<&'static str>,
}

/// Why a device did not do what it was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum CallError {
    /// It has no session.
    #[error("the device is offline")]
    Offline,
    /// It said that it sleeps until then.
    #[error("the device is asleep")]
    AsleepUntil(UnixMillis),
    /// Its describe lists no such function.
    #[error("the device has no such function")]
    NoSuchFunction,
    /// Its describe lists no such variable, or it said so itself.
    #[error("the device has no such variable")]
    NoSuchVariable,
    /// It is online, and has not said yet what functions and variables it has. It was not asked.
    #[error("the device has not said yet what it can do")]
    NotDescribed,
    /// It did not answer in time.
    #[error("the device did not answer in time")]
    TimedOut {
        /// It has the request, and may still act on it.
        delivered: bool,
    },
    /// The part of the server that asked it has stalled. The device may have the request, and act on it.
    #[error("the server was interrupted; the request may have been carried out")]
    Interrupted,
    /// It answered, and the answer makes no sense. What was asked of it may have been done.
    #[error("the answer of the device makes no sense")]
    Malformed,
    /// Its firmware cannot do it.
    #[error("the firmware of the device cannot do that")]
    NotSupported,
    /// Too many requests to it are waiting.
    #[error("too many requests to the device are waiting")]
    Busy,
    /// A name or an argument is longer than it takes.
    #[error("longer than the device takes")]
    TooLarge,
    /// The part of the server that holds its session cannot serve now.
    #[error("the server cannot reach the device now")]
    Unavailable,
}

impl CallError {
    /// What became of the request, in a word that programs can rely on.
    pub fn outcome(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::AsleepUntil(_) => "asleep",
            Self::NoSuchFunction => "no_such_function",
            Self::NoSuchVariable => "no_such_variable",
            Self::TimedOut { delivered: true } => "delivered_without_reply",
            Self::TimedOut { delivered: false } => "not_delivered",
            Self::Interrupted => "may_have_run",
            Self::NotSupported => "not_supported",
            Self::Busy => "busy",
            Self::TooLarge => "too_large",
            Self::NotDescribed => "not_described",
            Self::Malformed => "malformed",
            Self::Unavailable => "unavailable",
        }
    }
}

/// The history cannot be read now. Everything else is served.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("the history cannot be read now")]
pub struct HistoryUnavailable;

/// Why an event was not accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum PublishError {
    /// More than the journal takes in one event.
    #[error("the event is too large")]
    TooLarge,
    /// The journal takes no more for now: too much is waiting, or the disk is full.
    #[error("the server accepts no events now")]
    Busy,
    /// The part of the server that had the event has stalled.
    #[error("the server was interrupted; the event may have been accepted")]
    Interrupted,
    /// The journal is out of order.
    #[error("the server cannot accept events")]
    Unavailable,
}
