//! Hooks at work: which accepted events go to which of them, sending, and what becomes of it.
//!
//! ```text
//!  journal ──► intake ──► deliveries (database) ──► dispatcher ──► couriers ──► receivers
//!                ▲                   ▲                  ▲             │
//!              book                  └──── worker ◄─────┴─────────────┘ how attempts ended
//!                ▲
//!            registry (keeper of the book)                            API ──► desk ──► worker
//! ```
//!
//! One thread, the `worker`, decides: it alone writes the database, asks the dispatcher, and knows the book. What takes time, which is every request, is
//! done by `courier`s on threads of their own. Nothing that serves devices waits for any of them; a database that hangs or a registry that is gone
//! leaves events in the journal.
//!
//! # Invariants
//!
//! * A delivery is stored before its first attempt begins, and an attempt that ended is stored before the next of the same delivery begins.
//! * What is published of an answer is in the journal before its delivery is done with.
//! * The journal's cursor is never ahead of what would outlive a power cut.

mod book;
mod chores;
mod courier;
mod desk;
mod intake;
mod keeper;
mod launch;
mod message;
mod notices;
mod synthetic;
mod worker;

pub use desk::{Desk, DeskError, HookStatus, Tested};
pub use intake::SINK;
pub use launch::Dispatch;
