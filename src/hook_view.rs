//! How hooks, their deliveries and replays look to whoever owns them: what the API answers and what commands print, as one set of objects.
//!
//! They are made of what the registry, the database of deliveries and the desk say. Nothing is decided here, and nothing shown is a secret but what the
//! receiver itself answered.

mod delivery;
mod health;
mod log;
mod page;
mod replay;
mod signing;
mod warnings;

pub use delivery::{AttemptView, DeliveryLine, DeliveryView, Ended, delivery};
pub use health::{HookCounts, HookHealth, Outcomes, health_of, outcomes, state_of};
pub use log::{LogEntry, LogEvent, LogRequest, LogResponse, Recent, recent};
pub use page::{DeliveryPage, DeliveryQuery, PER_PAGE_MAX, page};
pub use replay::{ReplayCount, ReplayFields, ReplayView, count, replay};
pub use signing::{PreviousKey, SigningView, scheme_of, signing};
pub use warnings::warnings_of;

use firmware_protocol::time::UnixMillis;
use router::event::Position;

use crate::dates::{self, Iso};
use crate::deliveries::JobId;

/// The position that the id of a delivery stands for; `None` if it is none.
pub fn position(id: &str) -> Option<Position> {
    number(id).map(Position)
}

/// The replay that an id stands for; `None` if it is none.
pub fn job(id: &str) -> Option<JobId> {
    number(id).map(JobId)
}

/// Digits and nothing else.
fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A moment as it is shown; none is 0.
fn moment(at: UnixMillis) -> Option<String> {
    (at.0 > 0).then(|| Iso(at).to_string())
}

/// A moment as it is said.
fn said_moment(field: &str, text: Option<&str>) -> Result<Option<UnixMillis>, String> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    dates::parse(text).map(Some).ok_or_else(|| format!("{field} is no time such as 2026-11-21T10:00:00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_digits_and_nothing_else() {
        assert_eq!(position("17"), Some(Position(17)));
        assert_eq!(position(&u64::MAX.to_string()), Some(Position(u64::MAX)));
        for bad in ["", "+1", "-1", "1.5", " 1", "1 ", "0x1", "18446744073709551616", "١"] {
            assert_eq!(position(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_moment_is_shown_as_it_is_said() {
        assert_eq!(moment(UnixMillis(0)), None);
        let shown = moment(UnixMillis(1_795_000_000_500));
        assert_eq!(said_moment("from", shown.as_deref()), Ok(Some(UnixMillis(1_795_000_000_500))));
        assert_eq!(said_moment("from", Some("")), Ok(None));
        assert!(said_moment("from", Some("yesterday")).unwrap_err().starts_with("from is no time"));
    }
}
