//! A delivery as it is stored.
//!
//! Version 1 of the value: version u8, state u8, flags u8 (1 out of order, 2 delivered in a replay, 4 of a device), attempts u16, bytes of the event u32,
//! bytes of attempts u32, time of the event u64, due u64, finished u64, the device if there is one 12, last outcome. States: 0 pending, 1 delivered,
//! 2 expired, 16 and more rejected for the reason of this code less 16.

use firmware_protocol::id::DeviceId;
use firmware_protocol::time::UnixMillis;
use router::event::{Event, Source};
use webhooks::delivery::{DeliveryId, Outcome};

use super::attempt::{put_outcome, take_outcome};
use super::bytes::Take;

const VERSION: u8 = 1;
const OUT_OF_ORDER: u8 = 1;
const REPLAYED: u8 = 2;
const OF_DEVICE: u8 = 4;
const REJECTED: u8 = 16;

/// Why a delivery was given up before its time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Reason {
    /// Its last attempt failed.
    Exhausted,
    /// The receiver wants no more of it.
    Gone,
    /// No request can be made of the hook and the event, or none that may be sent.
    Unsendable,
    /// The hook was disabled.
    Disabled,
    /// The hook was removed.
    Removed,
    /// The hook had more waiting than it may.
    Overflow,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Exhausted, Self::Gone, Self::Unsendable, Self::Disabled, Self::Removed, Self::Overflow];

    /// Its name: short, for metrics and ledgers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exhausted => "exhausted",
            Self::Gone => "gone",
            Self::Unsendable => "unsendable",
            Self::Disabled => "disabled",
            Self::Removed => "removed",
            Self::Overflow => "overflow",
        }
    }

    pub(super) fn index(self) -> usize {
        self as usize
    }
}

/// How far a delivery has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It will be made.
    Pending,
    /// It was made.
    Delivered,
    /// It was not made in time.
    Expired,
    /// It was given up.
    Rejected(Reason),
}

/// A delivery.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// How far it has come.
    pub state: State,
    /// Its event was to be passed over by those after it.
    pub out_of_order: bool,
    /// It was not delivered in its time, but in a replay.
    pub replayed: bool,
    /// Attempts that ended, those of replays included.
    pub attempts: u16,
    /// How many of them count for when it is tried next, and whether at all.
    pub counted: u8,
    /// Bytes of the event's data.
    pub bytes: u32,
    /// Bytes of its attempts that were stored.
    pub attempts_bytes: u32,
    /// The device that published the event.
    pub device: Option<DeviceId>,
    /// When the event was accepted.
    pub published_at: UnixMillis,
    /// Not to be made before this; 0 if at once.
    pub due: UnixMillis,
    /// When it was done with; 0 while it is pending.
    pub finished_at: UnixMillis,
    /// How its last attempt ended.
    pub last: Option<Outcome>,
}

/// A delivery that is to be made, as far as whoever decides about it has to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Which.
    pub id: DeliveryId,
    /// The device that published the event.
    pub device: Option<DeviceId>,
    /// Bytes of the event's data.
    pub bytes: u32,
    /// Attempts that ended.
    pub attempts: u16,
    /// How many of them count.
    pub counted: u8,
    /// Not to be made before this; 0 if at once.
    pub due: UnixMillis,
    /// It was passed over by those after it.
    pub out_of_order: bool,
    /// When the event was accepted.
    pub published_at: UnixMillis,
}

impl Delivery {
    /// A new one of this event.
    pub(super) fn of(event: &Event) -> Self {
        let device = if let Source::Device(device) = event.source { Some(device) } else { None };
        Self {
            state: State::Pending,
            out_of_order: false,
            replayed: false,
            attempts: 0,
            counted: 0,
            bytes: event.data.as_ref().map_or(0, |data| u32::try_from(data.len()).unwrap_or(u32::MAX)),
            attempts_bytes: 0,
            device,
            published_at: event.published_at,
            due: UnixMillis(0),
            finished_at: UnixMillis(0),
            last: None,
        }
    }

    /// Bytes that are kept on its account, roughly.
    pub(super) fn kept_bytes(&self) -> u32 {
        const OVERHEAD: u32 = 256;
        OVERHEAD.saturating_add(self.bytes).saturating_add(self.attempts_bytes)
    }

    pub(super) fn entry(&self, id: DeliveryId) -> Entry {
        let Self { device, bytes, attempts, counted, due, out_of_order, published_at, .. } = *self;
        Entry { id, device, bytes, attempts, counted, due, out_of_order, published_at }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let flag = |is_set: bool, flag| if is_set { flag } else { 0 };
        let flags = flag(self.out_of_order, OUT_OF_ORDER) | flag(self.replayed, REPLAYED) | flag(self.device.is_some(), OF_DEVICE);
        let mut to = Vec::with_capacity(64);
        to.extend_from_slice(&[VERSION, state_code(self.state), flags]);
        to.extend_from_slice(&self.attempts.to_be_bytes());
        to.push(self.counted);
        to.extend_from_slice(&self.bytes.to_be_bytes());
        to.extend_from_slice(&self.attempts_bytes.to_be_bytes());
        for time in [self.published_at, self.due, self.finished_at] {
            to.extend_from_slice(&time.0.to_be_bytes());
        }
        to.extend(self.device.iter().flat_map(|device| device.0));
        put_outcome(&mut to, self.last.as_ref());
        to
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut take = Take(bytes);
        let [version, state, flags] = take.array()?;
        if version != VERSION {
            return None;
        }
        let (attempts, counted, bytes, attempts_bytes) = (take.u16()?, take.u8()?, take.u32()?, take.u32()?);
        let [published_at, due, finished_at] = [take.u64()?, take.u64()?, take.u64()?].map(UnixMillis);
        let device = if flags & OF_DEVICE != 0 { Some(DeviceId(take.array()?)) } else { None };
        let delivery = Self {
            state: read_state(state)?,
            out_of_order: flags & OUT_OF_ORDER != 0,
            replayed: flags & REPLAYED != 0,
            attempts,
            counted,
            bytes,
            attempts_bytes,
            device,
            published_at,
            due,
            finished_at,
            last: take_outcome(&mut take)?,
        };
        take.end(delivery)
    }
}

fn state_code(state: State) -> u8 {
    match state {
        State::Pending => 0,
        State::Delivered => 1,
        State::Expired => 2,
        State::Rejected(reason) => REJECTED + reason as u8,
    }
}

fn read_state(code: u8) -> Option<State> {
    Some(match code {
        0 => State::Pending,
        1 => State::Delivered,
        2 => State::Expired,
        _ => State::Rejected(*Reason::ALL.get(usize::from(code.checked_sub(REJECTED)?))?),
    })
}
