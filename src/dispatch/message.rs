//! What whoever decides is told.

use std::collections::BTreeSet;
use std::time::Duration;

use firmware_protocol::time::UnixMillis;
use tokio::sync::oneshot;
use webhooks::delivery::{DeliveryId, Outcome};
use webhooks::dispatcher::JobId;
use webhooks::hook::HookId;

use super::book::Listed;
use super::desk::Question;

/// Told when what was said has been taken in. Whoever does not wait for it drops the other end.
pub(super) type Taken = oneshot::Sender<()>;

/// What is told.
#[derive(Debug)]
pub(super) enum Message {
    /// Events were committed.
    Committed,
    /// An attempt ended.
    Ended(Box<Ended>),
    /// This is all that the registry says of hooks.
    Hooks {
        /// Those that can be read.
        listed: Vec<Listed>,
        /// All that there are.
        present: BTreeSet<HookId>,
        /// For whom.
        taken: Vec<Taken>,
    },
    /// This is what the registry says of one of them.
    Hook {
        /// Which.
        id: HookId,
        /// What it says; `None` if it is gone.
        listed: Option<Box<Listed>>,
        /// For whom.
        taken: Taken,
    },
    /// Somebody asks something.
    Question(Question),
}

/// How an attempt ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Ended {
    /// Of which delivery.
    pub(super) delivery: DeliveryId,
    /// In which replay.
    pub(super) job: Option<JobId>,
    /// When it began.
    pub(super) began_at: UnixMillis,
    /// How long the receiver took.
    pub(super) took: Duration,
    /// The name of the message, as the receiver was told it.
    pub(super) request: String,
    /// When the event was accepted.
    pub(super) published_at: UnixMillis,
    /// So.
    pub(super) outcome: Outcome,
    /// How the answer began.
    pub(super) answer: Vec<u8>,
}
