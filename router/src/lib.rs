//! What a shard does with each message of its devices. Decisions only: a [`shard::Shard`] is a synchronous state machine that takes `now` and
//! an input and appends outputs; threads, queues and files are the server's.
//!
//! An event goes terminator → shard → [`journal`] port → fan-out, and is acknowledged when the journal has it.

pub mod ask;
pub mod content;
pub mod dates;
pub mod delivery;
pub mod device;
pub mod epoch;
pub mod errand;
pub mod event;
pub mod evidence;
pub mod fate;
pub mod gray;
mod in_common;
pub mod journal;
pub mod presence;
pub mod progress;
pub mod rate;
pub mod shard;
mod shared;
pub mod short;
pub mod table;
pub mod takeover;
pub mod verdict;
pub mod vitals;
