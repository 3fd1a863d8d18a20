//! Which finished deliveries of a hook are to be made again, found a bounded number at a time.

use firmware_protocol::time::UnixMillis;
use router::event::Position;
use serde::{Deserialize, Serialize};
use webhooks::delivery::DeliveryId;
use webhooks::hook::HookId;

use super::delivery::Delivery;
use super::error::{DeliveriesError, Result};
use super::keys;
use super::reader::{Reader, read_row};

/// Deliveries that can be named one by one.
pub const POSITIONS_MAX: usize = 1_000;
/// Deliveries that one call looks at.
const LOOKED_AT_MAX: usize = 4_096;

/// Which.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// These, at most [`POSITIONS_MAX`], in whatever state they ended.
    Positions(Vec<u64>),
    /// Those of events that were accepted in a span of time, in whatever state they ended. Milliseconds since 1970.
    Span {
        /// From this time on.
        from_ms: u64,
        /// Before this time.
        before_ms: u64,
    },
    /// Those that expired or were given up at this time or later and were not delivered in a replay since. Milliseconds since 1970.
    FailedSince(u64),
}

/// How many there are, as far as was looked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counted {
    /// How many were found.
    pub found: u64,
    /// Look on after this position; `None` if that was all.
    pub next: Option<Position>,
}

/// What was found.
pub(super) struct Found {
    pub(super) deliveries: Vec<(DeliveryId, Delivery)>,
    /// All up to here were looked at.
    pub(super) upto: Position,
    /// There are no more.
    pub(super) is_all: bool,
}

impl Reader {
    /// Counts the deliveries of a hook that would be made again, a part at a time: first after position 0, then after what the call before said.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn count(&self, hook: HookId, selection: &Selection, after: Position) -> Result<Counted> {
        let found = self.find(hook, selection, after, usize::MAX)?;
        Ok(Counted { found: found.deliveries.len() as u64, next: (!found.is_all).then_some(found.upto) })
    }

    /// Deliveries of a hook after a position, in order and at most `len_max`.
    pub(super) fn find(&self, hook: HookId, selection: &Selection, after: Position, len_max: usize) -> Result<Found> {
        let mut found = Found { deliveries: Vec::new(), upto: after, is_all: true };
        let mut looked_at = 0;
        for candidate in self.candidates(hook, selection, after) {
            let (id, delivery) = candidate?;
            if looked_at == LOOKED_AT_MAX || found.deliveries.len() == len_max {
                found.is_all = false;
                break;
            }
            (looked_at, found.upto) = (looked_at + 1, id.position);
            if selection.fits(&delivery) {
                found.deliveries.push((id, delivery));
            }
        }
        Ok(found)
    }

    fn candidates<'a>(&'a self, hook: HookId, selection: &'a Selection, after: Position) -> Candidates<'a> {
        let id = move |position| DeliveryId { hook, position };
        let bounds = || keys::delivery(id(after.next()))..=keys::delivery(id(Position(u64::MAX)));
        match selection {
            Selection::Positions(positions) => {
                let mut wanted: Vec<_> = positions.iter().copied().map(Position).filter(|position| *position > after).collect();
                wanted.sort_unstable();
                wanted.dedup();
                let finished = move |position| Ok(self.finished(id(position))?.map(|delivery| (id(position), delivery)));
                Box::new(wanted.into_iter().filter_map(move |position| finished(position).transpose()))
            }
            Selection::Span { .. } => Box::new(self.db().finished.range(bounds()).map(read_row)),
            Selection::FailedSince(_) => {
                let finished = |row: fjall::Guard| {
                    let id = keys::read_delivery(&row.key()?).ok_or(DeliveriesError::Damaged("a key"))?;
                    // It may have gone since the index was read.
                    Ok(self.finished(id)?.map(|delivery| (id, delivery)))
                };
                Box::new(self.db().dead.range(bounds()).filter_map(move |row| finished(row).transpose()))
            }
        }
    }
}

type Candidates<'a> = Box<dyn Iterator<Item = Result<(DeliveryId, Delivery)>> + 'a>;

impl Selection {
    fn fits(&self, delivery: &Delivery) -> bool {
        match *self {
            Self::Positions(_) => true,
            Self::Span { from_ms, before_ms } => (from_ms..before_ms).contains(&delivery.published_at.0),
            Self::FailedSince(since) => delivery.finished_at >= UnixMillis(since),
        }
    }
}
