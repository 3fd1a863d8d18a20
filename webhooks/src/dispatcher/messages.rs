//! What the dispatcher is told, and what it says.

use std::num::NonZeroU64;
use std::time::Duration;

use firmware_protocol::id::DeviceId;
use firmware_protocol::time::UnixMillis;
use router::event::Position;
use serde::{Deserialize, Serialize};

use super::health::Health;
use crate::delivery::{DeliveryId, Outcome, Phase};
use crate::hook::HookId;

/// Whoever a hook belongs to, for what is shared between owners: a number the server chooses, the same as long as the dispatcher lives.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct TenantId(pub u64);

/// A replay that somebody asked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub u64);

/// The events of one device at one hook, which keep their order. Two devices that share one by chance only wait for each other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Lane(NonZeroU64);

impl Lane {
    /// The lane of a device.
    pub fn of(device: DeviceId) -> Self {
        let [a, b, c, d, rest @ ..] = device.0;
        let mixed = u64::from(u32::from_be_bytes([a, b, c, d])).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from_be_bytes(rest);
        Self(NonZeroU64::new(mixed).unwrap_or(NonZeroU64::MIN))
    }
}

/// Whether a hook's events keep their order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Ordering {
    /// Events of one device are sent one after another, until one has failed three times.
    #[default]
    PerDevice,
    /// Any event may be sent at any time.
    None,
}

/// What the dispatcher has to know of a hook.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Whose it is.
    pub tenant: TenantId,
    /// Whether its events keep their order.
    pub ordering: Ordering,
    /// Attempts of one delivery; taken as 1 to 12.
    pub attempts_max: u8,
    /// Nothing is sent for it.
    pub is_disabled: bool,
    /// Another number whenever its owner changed anything: what was known of the destination is forgotten then, and it is tried at once.
    pub revision: u64,
}

/// One stored delivery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Of which event.
    pub position: Position,
    /// The device's lane; `None` for an event that has no device.
    pub lane: Option<Lane>,
    /// How large it is; what it costs in fairness.
    pub bytes: u32,
    /// When it was accepted.
    pub accepted: UnixMillis,
    /// Attempts that were made and failed.
    pub attempts: u8,
    /// Not before that; zero for one that was not attempted.
    pub due: UnixMillis,
}

/// Which stored deliveries are meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// Pending ones that are not out of order, by position.
    Queue {
        /// Only what follows this position.
        after: Position,
    },
    /// The same, of one lane only.
    Lane {
        /// Which.
        lane: Lane,
        /// Only what follows this position.
        after: Position,
        /// And nothing that follows this one.
        through: Position,
    },
    /// Pending ones that are out of order, by when they are due and then by position.
    Retries {
        /// Only what follows this one.
        after: (UnixMillis, Position),
    },
    /// What a replay has still to send, by position. A replay holds only deliveries that are not pending.
    Replay {
        /// Which.
        job: JobId,
        /// Only what follows this position.
        after: Position,
    },
}

/// What the dispatcher is told.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// There is such a hook, or it is another now. At the start: every hook, with what was stored of it.
    HookChanged {
        /// Which.
        hook: HookId,
        /// What it says.
        settings: Settings,
        /// How it was when the dispatcher last said so; only taken from a hook that it does not know.
        health: Option<Health>,
        /// Deliveries of it are stored and pending; only taken from a hook that it does not know.
        has_pending: bool,
    },
    /// The hook is no more. Its attempts in flight may end as they like.
    HookRemoved(HookId),
    /// New deliveries were stored: all that follow the last ones, in order.
    Arrived {
        /// Of this hook.
        hook: HookId,
        /// The deliveries.
        entries: &'a [Entry],
    },
    /// The answer to [`Output::Load`].
    Loaded {
        /// Of this hook.
        hook: HookId,
        /// What was asked for.
        source: Source,
        /// The first deliveries of it, in its order, at most as many as were asked for.
        entries: &'a [Entry],
        /// There are others after them; never with no entries.
        more: bool,
    },
    /// A [`Output::Load`] could not be answered.
    LoadFailed(HookId),
    /// An attempt ended.
    Ended {
        /// Of this delivery.
        delivery: DeliveryId,
        /// So.
        outcome: &'a Outcome,
        /// How long it took.
        took: Duration,
    },
    /// The delivery is not pending any more and not to be recorded, because it was cancelled or has expired in the store. If it is in flight, its end will not be told.
    Withdrawn(DeliveryId),
    /// A replay is to be sent. After a start: each one that is not done.
    Replay {
        /// For this hook.
        hook: HookId,
        /// Which.
        job: JobId,
    },
    /// A replay is not to be sent any more. Attempts in flight end, and are recorded.
    Cancelled {
        /// Of this hook.
        hook: HookId,
        /// Which.
        job: JobId,
    },
    /// Time has passed.
    Tick,
}

/// Why a delivery is given up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Dead {
    /// Its last attempt failed.
    Exhausted,
    /// It is older than deliveries are kept.
    Expired,
    /// No request can be made of the hook and the event.
    Unmade,
}

/// What became of a delivery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// It was delivered.
    Done,
    /// It is to be tried again.
    Retry {
        /// Not before that.
        due: UnixMillis,
        /// Attempts that count: that of a probe to which nobody answered does not.
        attempts: u8,
        /// It has left its place in the queue: from now on it is found among the retries.
        out_of_order: bool,
    },
    /// It is given up.
    Dead(Dead),
    /// The replay leaves it out, because it is pending anyway.
    Passed,
}

/// What went wrong last, in short.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Cause {
    /// It answered with this status.
    Status(u16),
    /// It did not answer.
    Phase(Phase),
}

impl Cause {
    /// That of an outcome.
    pub fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Answered { status, .. } => Self::Status(*status),
            Outcome::Failed { phase, .. } => Self::Phase(*phase),
        }
    }
}

/// Why the dispatcher disables a hook.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DisableWhy {
    /// The destination says that it is gone (410).
    Gone,
    /// It has failed for too long.
    LongFailing,
}

/// What the owner is told, by another way than the destination.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Notice {
    /// It has been failing for two minutes.
    Failing,
    /// It refuses the requests (401, 403 or 404): what people have to set right.
    Refused(u16),
    /// It will be disabled if it goes on like that.
    DisableSoon,
    /// It is disabled.
    Disabled(DisableWhy),
    /// All is well again.
    Recovered,
}

/// What the server has to do, in this order: a load sees every record before it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Send it.
    Begin {
        /// Which.
        delivery: DeliveryId,
        /// Which attempt it is, from 1.
        attempt: u8,
        /// For this replay.
        job: Option<JobId>,
    },
    /// Answer with stored deliveries.
    Load {
        /// Of this hook.
        hook: HookId,
        /// These.
        source: Source,
        /// At most so many.
        max: usize,
    },
    /// Make durable what became of a delivery.
    Record {
        /// Which.
        delivery: DeliveryId,
        /// As part of this replay.
        job: Option<JobId>,
        /// This.
        step: Step,
    },
    /// Make durable how a hook is.
    State {
        /// Which.
        hook: HookId,
        /// So.
        health: Health,
    },
    /// Tell its owner.
    Notice {
        /// Of this hook.
        hook: HookId,
        /// This.
        notice: Notice,
    },
    /// Disable it. Nothing is sent for it any more.
    Disable {
        /// Which.
        hook: HookId,
        /// Why.
        why: DisableWhy,
    },
    /// A replay is not begun, because too many of this hook wait already.
    JobRefused {
        /// Of this hook.
        hook: HookId,
        /// Which.
        job: JobId,
    },
    /// Everything of a replay was sent, or given up.
    JobDone {
        /// Of this hook.
        hook: HookId,
        /// Which.
        job: JobId,
    },
}
