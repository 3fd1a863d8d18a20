//! How a hook is: well or not, since when, why, and what became of its deliveries.

use std::collections::BTreeMap;

use firmware_protocol::time::UnixMillis;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::delivery::Ended;
use super::moment;
use crate::deliveries::{Counters, LastFailure, Reason, Standing};
use crate::dispatch::HookStatus;

/// What is said of a hook that does nothing because its owner wants it so.
const DISABLED: &str = "disabled";

/// How a hook is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HookHealth {
    /// `healthy`, `degraded`, `failing`, `open` (nothing is tried for a while) or `disabled`.
    pub state: String,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The last attempt that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
    /// When an attempt succeeded last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_at: Option<String>,
    /// When the event of the oldest delivery that waits was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_pending: Option<String>,
    /// Requests under way.
    pub in_flight: usize,
    /// What became of its deliveries since it was created.
    pub counts: HookCounts,
}

/// An attempt that failed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastError {
    /// When.
    pub at: String,
    /// How.
    #[serde(flatten)]
    pub ended: Ended,
}

/// What became of the deliveries of a hook: `accepted` is the sum of `delivered`, `pending`, `expired` and all that were rejected.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HookCounts {
    /// All there ever were.
    pub accepted: u64,
    /// Those that were made.
    pub delivered: u64,
    /// Those that wait.
    pub pending: u64,
    /// Bytes of their events.
    pub pending_bytes: u64,
    /// Those that were not made in time.
    pub expired: u64,
    /// Those that were given up, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Attempts that ended, those of replays included.
    pub attempts: u64,
    /// Expired and rejected ones that are kept and were not made in a replay.
    pub dead_letters: u64,
    /// Deliveries that were made in replays.
    pub replayed: u64,
}

/// The numbers by the names that clients know.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Outcomes {
    /// From when they are counted: the creation of the hook.
    pub since: String,
    /// Attempts that succeeded.
    pub success: u64,
    /// Attempts that failed.
    pub error: u64,
    /// Deliveries that wait. None is skipped on this server.
    pub sleep: u64,
}

/// How a hook is, by what the desk says of it.
pub fn health_of(is_enabled: bool, status: &HookStatus) -> HookHealth {
    let HookStatus { standing, counters, oldest_pending, view } = status;
    HookHealth {
        state: state_of(is_enabled, standing),
        since: moment(standing.since()),
        why: standing.why.clone(),
        last_error: standing.last_failure.as_ref().map(last_error),
        delivered_at: standing.delivered_at_ms.and_then(|at| moment(UnixMillis(at))),
        oldest_pending: oldest_pending.and_then(moment),
        in_flight: view.as_ref().map_or(0, |view| view.in_flight),
        counts: counts(counters),
    }
}

/// The state of a hook, in a word.
pub fn state_of(is_enabled: bool, standing: &Standing) -> String {
    if !is_enabled {
        return DISABLED.to_owned();
    }
    standing.health.name().to_owned()
}

/// The numbers of a hook that was created then, by the names that clients know.
pub fn outcomes(created_at: &str, counters: &HookCounts) -> Outcomes {
    let success = counters.delivered + counters.replayed;
    Outcomes { since: created_at.to_owned(), success, error: counters.attempts.saturating_sub(success), sleep: counters.pending }
}

fn last_error(failure: &LastFailure) -> LastError {
    let LastFailure { at_ms, status, phase, error } = failure;
    let ended = Ended { status: *status, retry_after_s: None, phase: phase.clone(), error: Some(error.clone()) };
    LastError { at: moment(UnixMillis(*at_ms)).unwrap_or_default(), ended }
}

fn counts(counters: &Counters) -> HookCounts {
    let rejected = counters.rejected.each().map(|(reason, count): (Reason, u64)| (reason.name().to_owned(), count));
    HookCounts {
        accepted: counters.accepted,
        delivered: counters.delivered,
        pending: counters.pending,
        pending_bytes: counters.pending_bytes,
        expired: counters.expired,
        rejected: rejected.filter(|(_, count)| *count > 0).collect(),
        attempts: counters.attempts,
        dead_letters: counters.dead_letters,
        replayed: counters.replayed,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status() -> HookStatus {
        let last_failure = Some(LastFailure { at_ms: 2_000, status: Some(503), phase: None, error: "busy".into() });
        let standing = Standing { since_ms: 1_000, last_failure, ..Standing::default() };
        let counters = Counters { accepted: 9, delivered: 5, pending: 4, attempts: 8, replayed: 1, ..Counters::default() };
        HookStatus { standing, counters, oldest_pending: Some(UnixMillis(3_000)), view: None }
    }

    #[test]
    fn an_owner_sees_state_last_error_and_numbers() {
        let shown = serde_json::to_value(health_of(true, &status())).unwrap();
        assert_eq!(shown["state"], "healthy");
        assert_eq!(shown["since"], "1970-01-01T00:00:01.000Z");
        assert_eq!(shown["lastError"], json!({ "at": "1970-01-01T00:00:02.000Z", "status": 503, "error": "busy" }));
        assert_eq!((&shown["oldestPending"], &shown["counts"]["rejected"]), (&json!("1970-01-01T00:00:03.000Z"), &json!({})));
        assert_eq!(health_of(false, &status()).state, "disabled");
    }

    #[test]
    fn attempts_that_did_not_succeed_are_errors() {
        let counts = health_of(true, &status()).counts;
        let Outcomes { success, error, sleep, .. } = outcomes("now", &counts);
        assert_eq!((success, error, sleep), (6, 2, 4));
    }
}
