//! How a hook is, as its owner sees it and as whoever decides about it goes on from after a restart.

use firmware_protocol::time::UnixMillis;
use serde::{Deserialize, Serialize};
use webhooks::delivery::Phase;
use webhooks::dispatcher::health::{Health, State, Told};
use webhooks::dispatcher::messages::Cause;
use webhooks::hook::HookId;

use super::error::{DeliveriesError, Result};
use super::store::Deliveries;

/// How a hook is.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Standing {
    /// How well its deliveries go.
    pub health: State,
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
    /// When its owner was told that it fails, if that still holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noticed_at_ms: Option<u64>,
    /// When its owner was told that it will be disabled, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disable_noticed_at_ms: Option<u64>,
    /// Its owner was told that requests are refused.
    #[serde(default, skip_serializing_if = "is_false")]
    pub refusal_noticed: bool,
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

    /// What the dispatcher goes on with.
    pub fn to_health(&self) -> Health {
        let told = match (self.disable_noticed_at_ms, self.noticed_at_ms) {
            (Some(at), _) => Told::DisableSoon(UnixMillis(at)),
            (None, Some(_)) => Told::Failing,
            (None, None) => Told::Nothing,
        };
        Health {
            state: self.health,
            since: self.since(),
            cause: self.last_failure.as_ref().and_then(LastFailure::cause),
            failing_since: self.failing_since_ms.map(UnixMillis),
            told,
            is_refusal_told: self.refusal_noticed,
        }
    }

    /// Takes over what the dispatcher says at this time. What went wrong last is told apart from it.
    pub fn follow(&mut self, now: UnixMillis, health: &Health) {
        (self.health, self.since_ms) = (health.state, health.since.0);
        self.failing_since_ms = health.failing_since.map(|since| since.0);
        self.refusal_noticed = health.is_refusal_told;
        (self.noticed_at_ms, self.disable_noticed_at_ms) = match health.told {
            Told::Nothing => (None, None),
            Told::Failing => (self.noticed_at_ms.or(Some(now.0)), None),
            Told::DisableSoon(at) => (self.noticed_at_ms.or(Some(at.0)), Some(at.0)),
        };
    }

    pub(super) fn read(value: &[u8]) -> Result<Self> {
        serde_json::from_slice(value).map_err(|_| DeliveriesError::Damaged("how a hook is"))
    }
}

impl LastFailure {
    fn cause(&self) -> Option<Cause> {
        let phase = || Phase::ALL.into_iter().find(|phase| self.phase.as_deref() == Some(&phase.to_string()));
        self.status.map(Cause::Status).or_else(|| phase().map(Cause::Phase))
    }
}

fn is_false(value: &bool) -> bool {
    !value
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
