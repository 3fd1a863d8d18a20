//! Faults that befall messages while heartbeats go on.

use firmware_protocol::id::DeviceId;
use firmware_protocol::session::Uplink;
use firmware_protocol::session::describe::DescribeKind;
use router::journal::Record;
use router::progress::Stage;
use router::shard::{Input, Output, Then};

/// What happens to messages of users at one stage of a shard, or beside them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// So many percent are held back for so many milliseconds.
    Delay {
        /// How many.
        percent: u8,
        /// For how long.
        ms: u64,
    },
    /// So many percent are thrown away.
    Drop {
        /// How many.
        percent: u8,
    },
    /// These are held back until the thread is thawed.
    Hold(Which),
    /// Nothing but heartbeats is taken from the mailbox.
    Full,
    /// What is due is not done.
    Timers,
    /// It notes nothing of what it sees.
    Evidence,
}

/// Which messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    /// All.
    All,
    /// Those of half of the devices.
    Half,
    /// Those of one kind.
    Kind(Kind),
}

/// What a message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// An event of a device.
    Event,
    /// A Hello.
    Hello,
    /// A describe.
    Describe,
    /// Vitals.
    Vitals,
    /// A subscription.
    Subscribe,
    /// A farewell.
    Goodbye,
    /// A question of the API to a device.
    Call,
    /// A question of the API about devices.
    View,
    /// An event of the API.
    Publish,
}

impl Kind {
    const ALL: [(&'static str, Self); 9] = [
        ("event", Self::Event),
        ("hello", Self::Hello),
        ("describe", Self::Describe),
        ("vitals", Self::Vitals),
        ("subscribe", Self::Subscribe),
        ("goodbye", Self::Goodbye),
        ("call", Self::Call),
        ("view", Self::View),
        ("publish", Self::Publish),
    ];
}

impl Which {
    fn named(name: &str) -> Option<Self> {
        match name {
            "all" => Some(Self::All),
            "half" => Some(Self::Half),
            _ => Kind::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, kind)| Self::Kind(kind)),
        }
    }
}

impl Rule {
    /// What the words say that follow the name of a part.
    pub(super) fn parse(fault: &str, words: &[&str]) -> Option<(Stage, Self)> {
        let percent = |word: &str| word.parse().ok().filter(|percent| (1..=100).contains(percent));
        Some(match (fault, words) {
            ("delay", [stage, share, ms]) => (sieve(stage)?, Self::Delay { percent: percent(share)?, ms: ms.parse().ok()? }),
            ("drop", [stage, share]) => (sieve(stage)?, Self::Drop { percent: percent(share)? }),
            ("hold", [stage, which]) => (sieve(stage)?, Self::Hold(Which::named(which)?)),
            ("full", ["mailbox"]) => (Stage::Mailbox, Self::Full),
            ("stop", ["timers"]) => (Stage::Timers, Self::Timers),
            ("stick", ["evidence"]) => (Stage::Receive, Self::Evidence),
            _ => return None,
        })
    }
}

/// Where messages can be told from heartbeats.
fn sieve(stage: &str) -> Option<Stage> {
    Stage::named(stage).filter(|stage| matches!(stage, Stage::Mailbox | Stage::Apply | Stage::Output))
}

/// What may be befallen.
pub trait Message {
    /// Which device it is of, if it is of one, and what it is; `None` if it is none of a user.
    fn of_user(&self) -> Option<(Option<DeviceId>, Kind)>;

    /// Whether this is what happens to it.
    fn is_of(&self, which: Which) -> bool {
        self.of_user().is_some_and(|(device, kind)| match which {
            Which::All => true,
            Which::Half => device.is_some_and(is_even),
            Which::Kind(wanted) => kind == wanted,
        })
    }
}

/// By something else than what chooses the shard, which all devices of one have in common.
fn is_even(device: DeviceId) -> bool {
    device.0.iter().map(|byte| byte.count_ones()).sum::<u32>().is_multiple_of(2)
}

impl<R> Message for Input<R> {
    fn of_user(&self) -> Option<(Option<DeviceId>, Kind)> {
        match self {
            Self::Received { device, uplink, .. } => Some((Some(*device), kind_of(uplink))),
            Self::Ask { device, .. } => Some((Some(*device), Kind::Call)),
            Self::View { .. } => Some((None, Kind::View)),
            Self::Publish { .. } => Some((None, Kind::Publish)),
            _ => None,
        }
    }
}

fn kind_of(uplink: &Uplink) -> Kind {
    match uplink {
        Uplink::Hello { .. } => Kind::Hello,
        Uplink::Describe { kind: DescribeKind::Metrics, .. } => Kind::Vitals,
        Uplink::Describe { .. } => Kind::Describe,
        Uplink::Subscribe(_) => Kind::Subscribe,
        Uplink::Publish(_) => Kind::Event,
        Uplink::Goodbye { .. } => Kind::Goodbye,
    }
}

impl<R> Message for Output<R> {
    fn of_user(&self) -> Option<(Option<DeviceId>, Kind)> {
        match self {
            Self::Append { record, then: Then::Acknowledge { .. } } => match record {
                Record::Hello { device, .. } => Some((Some(*device), Kind::Hello)),
                Record::Describe { device, .. } => Some((Some(*device), Kind::Describe)),
                Record::Subscribed { device, .. } => Some((Some(*device), Kind::Subscribe)),
                Record::Goodbye { device, .. } => Some((Some(*device), Kind::Goodbye)),
                _ => Some((None, Kind::Event)),
            },
            Self::Append { then: Then::Tell(_), .. } => Some((None, Kind::Publish)),
            Self::Acknowledge { .. } => Some((None, Kind::Event)),
            Self::Request { .. } | Self::Answer { .. } => Some((None, Kind::Call)),
            Self::Views { .. } => Some((None, Kind::View)),
            _ => None,
        }
    }
}
