//! Webhooks as people outside know them: accounts that make hooks over REST, and the receivers that hooks go to.

mod arrival;
mod certificates;
mod desk;
mod owner;
mod receivers;

pub(crate) use self::arrival::Arrival;
#[cfg(test)]
pub(crate) use self::arrival::MessageId;
pub(crate) use self::certificates::{Authority, Validity};
pub(crate) use self::desk::{Book, Desk, Mood};
pub(crate) use self::owner::{HookView, Owner};
pub(crate) use self::receivers::{Handler, Identity, Post, Receivers, now};
