//! A delivery: one event for one hook, and how an attempt of it ended.

use std::fmt;

use router::event::Position;

use crate::hook::HookId;

/// Which delivery.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct DeliveryId {
    /// Whose.
    pub hook: HookId,
    /// Of which event.
    pub position: Position,
}

/// How far an attempt came, in the order of what happens.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Phase {
    /// What is to be sent could not be made of the hook and the event.
    Render,
    /// The address was not allowed.
    Guard,
    /// The name has no address.
    Dns,
    /// Nobody took the connection.
    Connect,
    /// The two did not agree on TLS.
    Tls,
    /// The request could not be written whole.
    Write,
    /// It was written, and no answer began.
    Wait,
    /// The answer began and did not end.
    Body,
}

/// How an attempt ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// There was an answer.
    Answered {
        /// Its status code.
        status: u16,
        /// What it said of when to come again, in seconds from now.
        retry_after_s: Option<u64>,
    },
    /// There was none.
    Failed {
        /// How far it came.
        phase: Phase,
        /// What went wrong, in words for the owner of the hook: no secrets, at most 256 bytes.
        error: String,
    },
}

impl Outcome {
    /// Whether the receiver took it.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Answered { status, .. } if (200..300).contains(status))
    }
}

impl Phase {
    /// All of them, in order.
    pub const ALL: [Self; 8] = [Self::Render, Self::Guard, Self::Dns, Self::Connect, Self::Tls, Self::Write, Self::Wait, Self::Body];
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Render => "render",
            Self::Guard => "guard",
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Write => "write",
            Self::Wait => "wait",
            Self::Body => "body",
        })
    }
}
