//! Commands and answers about hooks, as they cross the socket.

use serde::{Deserialize, Serialize};

use crate::hook_view::{
    DeliveryPage, DeliveryQuery, DeliveryView, HookHealth, LogEntry, ReplayCount, ReplayFields, ReplayView, SigningView,
};

/// A command about hooks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case", deny_unknown_fields)]
pub enum HookRequest {
    /// List them.
    List {
        /// Of this account only.
        account: Option<String>,
        /// Of this product only.
        product: Option<u32>,
    },
    /// Show one.
    Show {
        /// Its id.
        id: String,
    },
    /// Let one do something, or nothing.
    Enable {
        /// Its id.
        id: String,
        /// Whether it shall do something.
        enabled: bool,
    },
    /// List deliveries of one.
    Deliveries {
        /// Its id.
        id: String,
        /// Which.
        query: DeliveryQuery,
    },
    /// Show a delivery with its attempts.
    Delivery {
        /// The id of the hook.
        id: String,
        /// The id of the delivery.
        delivery: String,
    },
    /// Make deliveries again, or count them.
    Replay {
        /// The id of the hook.
        id: String,
        /// Which.
        fields: ReplayFields,
    },
    /// List replays.
    Replays {
        /// The id of the hook.
        id: String,
    },
    /// End a replay.
    CancelReplay {
        /// The id of the hook.
        id: String,
        /// The id of the replay.
        replay: String,
    },
    /// Send one request for an event that nobody published.
    Test {
        /// The id of the hook.
        id: String,
        /// The data of the event.
        data: Option<String>,
    },
}

/// An answer about hooks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookAnswer {
    /// Hooks, in order of their ids.
    Hooks(Vec<HookLine>),
    /// One of them.
    Hook(Box<HookReport>),
    /// Deliveries.
    Deliveries(DeliveryPage),
    /// One of them.
    Delivery(DeliveryView),
    /// How many deliveries would be made again.
    Counted(ReplayCount),
    /// A replay has begun, or ended.
    Replay(ReplayView),
    /// Replays, the newest first.
    Replays(Vec<ReplayView>),
    /// What came of a test.
    Tested {
        /// Whether the receiver took it.
        pass: bool,
        /// The status code of its answer, if there was one.
        status: Option<u16>,
        /// What it answered, or why it did not.
        text: String,
        /// How long it took, in milliseconds.
        took_ms: u32,
    },
}

/// A hook in a list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HookLine {
    /// Its id.
    pub id: String,
    /// The address of the account that it belongs to, or `product` and a number.
    pub owner: String,
    /// How the names of its events begin.
    pub event: String,
    /// Where its requests go: no more of the address than the host, since the rest may hold secrets.
    pub target: Option<String>,
    /// `healthy`, `degraded`, `failing`, `open` or `disabled`; without a server that knows only whether it is disabled.
    pub state: Option<String>,
    /// Deliveries that wait.
    pub pending: Option<u64>,
    /// What its owner should know.
    pub warnings: Vec<String>,
}

/// A hook, whole.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HookReport {
    /// What a list says of it.
    #[serde(flatten)]
    pub line: HookLine,
    /// Its name.
    pub name: String,
    /// When it was created.
    pub created_at: String,
    /// When it was replaced last.
    pub updated_at: String,
    /// How its requests are signed.
    pub signing: Option<SigningView>,
    /// How it is, if a server runs that carries it out.
    pub health: Option<HookHealth>,
    /// Its last deliveries whose last attempt failed, the newest first.
    pub errors: Vec<LogEntry>,
}
