//! Deliveries: what of the accepted events goes to which hook, how far each has come, and what became of it.
//!
//! A database of its own. It cannot be made anew from the journal, which does not know what was delivered: nothing in it is given up because it is
//! inconvenient. [`Deliveries`] is the writing end, for one thread; [`Reader`]s look at the same database from any thread.
//!
//! # Invariants
//!
//! * What the events up to the cursor have to go to is stored in the same batch that moves the cursor: both or neither.
//! * For each hook, and for all together, `accepted = delivered + pending + expired + rejected`, in every batch that is written.
//! * A delivery is in exactly one of three places: pending in order, waiting for a retry out of order, or finished.
//! * A process that is killed loses nothing that a call returned for. A power cut may undo what came after the last [`Deliveries::sync`], a whole batch at
//!   a time and from the end. The journal's cursor moves to what that call returns and no further, so that what was undone is read from the journal again.
//!
//! # Positions
//!
//! A delivery is known by its hook and a position, which is that of the event in the journal. A journal that lost its end gives positions out again; events
//! that are stored here keep theirs, and what comes after is numbered on: [`Deliveries::resume`] says from where to read.

mod attempt;
mod bytes;
mod census;
mod change;
mod counters;
mod database;
mod delivery;
mod error;
mod keys;
mod list;
mod mend;
mod reader;
mod record;
mod replay;
mod selection;
mod standing;
mod store;
mod tidy;

pub use attempt::{ANSWER_LEN_MAX, ATTEMPTS_KEPT_MAX, Attempt};
pub use census::Imbalance;
pub use counters::{Counters, Rejected};
pub use delivery::{Delivery, Entry, Reason, State};
pub use error::DeliveriesError;
pub use list::{Filter, Listed, Page, Which};
pub use reader::{RETRIES_START, Reader};
pub use record::{Recorded, Then};
pub use replay::{JOBS_MAX, Job, JobState, QUEUE_MAX};
pub use selection::{Counted, POSITIONS_MAX, Selection};
pub use standing::{LastFailure, Standing};
pub use store::{Accepted, Deliveries, Resumed};
pub use tidy::{Limits, Tidied};
pub use webhooks::dispatcher::JobId;

#[cfg(test)]
mod format_tests;
#[cfg(test)]
mod kill_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod test_world;
#[cfg(test)]
mod tests;
