//! How a hook is, as its owner sees it and as whoever decides about it goes on from after a restart.

use firmware_protocol::time::UnixMillis;
use serde::{Deserialize, Serialize};
use webhooks::hook::HookId;

use super::error::{DeliveriesError, Result};
use super::store::Deliveries;

/// How well its deliveries go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// They are made.
    #[default]
    Healthy,
    /// Some are not.
    Degraded,
    /// None are.
    Failing,
    /// Nothing is tried for a while.
    Open,
    /// Nothing is tried until somebody enables it.
    Disabled,
}

/// How a hook is.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Standing {
    /// How well its deliveries go.
    pub health: Health,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
    /// Why, in words for its owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Since when no attempt has succeeded, if the last one did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since_ms: Option<u64>,
    /// When an attempt succeeded last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_at_ms: Option<u64>,
    /// The last attempt that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<LastFailure>,
    /// When its owner was told last that it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noticed_at_ms: Option<u64>,
}

/// An attempt that failed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LastFailure {
    /// When.
    pub at_ms: u64,
    /// The status code, if there was an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// How far it came otherwise: the name of a phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// What went wrong, in words.
    pub error: String,
}

impl Standing {
    /// Since when it is as it is.
    pub fn since(&self) -> UnixMillis {
        UnixMillis(self.since_ms)
    }

    pub(super) fn read(value: &[u8]) -> Result<Self> {
        serde_json::from_slice(value).map_err(|_| DeliveriesError::Damaged("how a hook is"))
    }
}

impl Deliveries {
    /// Stores how hooks are.
    ///
    /// # Errors
    /// The database failed.
    pub fn set_standings(&mut self, standings: &[(HookId, Standing)]) -> Result<()> {
        let mut change = super::change::Change::new(self);
        for (index, (hook, standing)) in standings.iter().enumerate() {
            // Of several that are said of one hook the last holds.
            if standings[index + 1..].iter().all(|(later, _)| later != hook) {
                let value = serde_json::to_vec(standing).map_err(|_| DeliveriesError::Damaged("how a hook is"))?;
                change.batch.insert(&self.db().standings, hook.0, value);
            }
        }
        let changed = change.done();
        self.commit(changed)
    }
}
