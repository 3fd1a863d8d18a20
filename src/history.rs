//! What devices said about themselves over time: their vitals for a month, and why they started last.
//!
//! It is a database of its own, made from events that the journal has: nothing is acknowledged here and nothing waits for it. What is lost here
//! is read from the journal again. [`Store`] is the database, [`Feed`] picks what belongs into it from the committed events, and [`Keeper`] is the
//! thread that writes.

mod feed;
mod keeper;
mod keys;
mod store;

pub use feed::Feed;
pub use keeper::{Keeper, Shelf};
pub use store::{HistoryError, Limits, Record, Store};

use std::sync::Arc;

use router::event::{Event, Position};

/// Name of the event with which a device says why it started.
pub const LAST_RESET: &str = "spark/device/last_reset";

/// Whether an event belongs into the history.
fn is_wanted(event: &Event) -> bool {
    event.name == router::vitals::EVENT || event.name == LAST_RESET
}

/// Events with their positions.
type Batch = Vec<(Position, Arc<Event>)>;
