//! Replays: which deliveries are to be made again as it is said, how many those are, and how far a replay has come.

use firmware_protocol::time::UnixMillis;
use router::event::Position;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use webhooks::hook::HookId;

use super::{moment, said_moment};
use crate::dates::Iso;
use crate::deliveries::{DeliveriesError, Job, POSITIONS_MAX, Reader, Selection};

/// How often the database is asked to count on. Each time it looks at a bounded number of deliveries.
const LOOKS_MAX: usize = 32;

/// Which deliveries are to be made again: those that are named, or those of events of a span of time, or those that failed since a time.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ReplayFields {
    /// Ids of deliveries that are done with, at most 1000.
    pub deliveries: Option<Vec<String>>,
    /// Of events that were accepted at this time or later.
    pub from: Option<String>,
    /// Of events that were accepted before this time; now if it is not said.
    pub before: Option<String>,
    /// That expired or were rejected at this time or later, and were not made in a replay since.
    pub failed_since: Option<String>,
    /// Only say how many that are.
    pub dry_run: bool,
}

/// How many deliveries would be made again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplayCount {
    /// So many were found.
    pub count: u64,
    /// Not all were looked at: there may be more.
    pub at_least: bool,
}

/// A replay.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplayView {
    /// Its id, which requests carry as `webhook-replay`.
    pub id: String,
    /// `finding` (not all deliveries are found yet), `running`, `done` or `cancelled`.
    pub state: String,
    /// When it was asked for.
    pub created_at: String,
    /// How many deliveries were named, if they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub named: Option<usize>,
    /// Since when its events were accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Before when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Since when its deliveries failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_since: Option<String>,
    /// Deliveries that were found so far.
    pub found: u64,
    /// Those that were made.
    pub delivered: u64,
    /// Those that failed again, or were no longer kept.
    pub failed: u64,
    /// Those that wait.
    pub waiting: u64,
}

impl ReplayFields {
    /// What the database is asked for.
    ///
    /// # Errors
    /// It is not said which, or in more than one way, or a field is not what it must be: in words.
    pub fn selection(&self, now: UnixMillis) -> Result<Selection, String> {
        let from = said_moment("from", self.from.as_deref())?;
        let before = said_moment("before", self.before.as_deref())?;
        let failed_since = said_moment("failed_since", self.failed_since.as_deref())?;
        match (self.deliveries.as_deref(), from, before, failed_since) {
            (Some(ids), None, None, None) => named(ids),
            (None, Some(from), before, None) => span(from, before.unwrap_or(UnixMillis(now.0.saturating_add(1)))),
            (None, None, None, Some(since)) => Ok(Selection::FailedSince(since.0)),
            _ => Err("Say which: deliveries, or from and perhaps before, or failed_since".to_owned()),
        }
    }
}

fn named(ids: &[String]) -> Result<Selection, String> {
    if !(1..=POSITIONS_MAX).contains(&ids.len()) {
        return Err(format!("deliveries are from 1 to {POSITIONS_MAX} ids"));
    }
    let positions: Option<Vec<u64>> = ids.iter().map(|id| super::position(id).map(|Position(position)| position)).collect();
    positions.map(Selection::Positions).ok_or_else(|| "deliveries must be ids of deliveries".to_owned())
}

fn span(from: UnixMillis, before: UnixMillis) -> Result<Selection, String> {
    if from >= before {
        return Err("from must be earlier than before".to_owned());
    }
    Ok(Selection::Span { from_ms: from.0, before_ms: before.0 })
}

/// How many deliveries of a hook would be made again, as far as is looked.
///
/// # Errors
/// The database cannot be read.
pub fn count(reader: &Reader, hook: HookId, selection: &Selection) -> Result<ReplayCount, DeliveriesError> {
    let (mut count, mut after) = (0, Some(Position(0)));
    for _ in 0..LOOKS_MAX {
        let Some(position) = after else { break };
        let counted = reader.count(hook, selection, position)?;
        count += counted.found;
        after = counted.next;
    }
    Ok(ReplayCount { count, at_least: after.is_some() })
}

/// How far a replay has come.
pub fn replay(job: &Job) -> ReplayView {
    let (named, from, before, failed_since) = match &job.selection {
        Selection::Positions(positions) => (Some(positions.len()), None, None, None),
        Selection::Span { from_ms, before_ms } => (None, moment(UnixMillis(*from_ms)), moment(UnixMillis(*before_ms)), None),
        Selection::FailedSince(since) => (None, None, None, Some(Iso(UnixMillis(*since)).to_string())),
    };
    let state = serde_json::to_value(job.state).ok();
    ReplayView {
        id: job.id.0.to_string(),
        state: state.as_ref().and_then(|state| state.as_str()).unwrap_or_default().to_owned(),
        created_at: Iso(UnixMillis(job.created_at_ms)).to_string(),
        named,
        from,
        before,
        failed_since,
        found: job.found,
        delivered: job.delivered,
        failed: job.failed,
        waiting: job.queued(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(10_000);

    fn fields(set: impl FnOnce(&mut ReplayFields)) -> ReplayFields {
        let mut fields = ReplayFields::default();
        set(&mut fields);
        fields
    }

    fn at(second: u8) -> Option<String> {
        Some(format!("1970-01-01T00:00:{second:02}Z"))
    }

    #[test]
    fn what_is_made_again_is_said_in_one_of_three_ways() {
        let selection = |set: fn(&mut ReplayFields)| fields(set).selection(NOW);
        assert_eq!(selection(|it| it.deliveries = Some(vec!["7".into(), "3".into()])), Ok(Selection::Positions(vec![7, 3])));
        assert_eq!(selection(|it| it.from = at(1)), Ok(Selection::Span { from_ms: 1_000, before_ms: 10_001 }));
        assert_eq!(selection(|it| (it.from, it.before) = (at(1), at(2))), Ok(Selection::Span { from_ms: 1_000, before_ms: 2_000 }));
        assert_eq!(selection(|it| it.failed_since = at(3)), Ok(Selection::FailedSince(3_000)));
        for refused in [
            selection(|_| {}),
            selection(|it| it.before = at(1)),
            selection(|it| (it.from, it.failed_since) = (at(1), at(1))),
            selection(|it| (it.deliveries, it.from) = (Some(vec!["1".into()]), at(1))),
        ] {
            assert!(refused.unwrap_err().starts_with("Say which"));
        }
        for refused in [
            selection(|it| it.deliveries = Some(Vec::new())),
            selection(|it| it.deliveries = Some(vec!["1".into(); 1_001])),
            selection(|it| it.deliveries = Some(vec!["x".into()])),
            selection(|it| (it.from, it.before) = (at(2), at(2))),
            selection(|it| it.from = Some("soon".into())),
        ] {
            assert!(refused.is_err());
        }
    }
}
