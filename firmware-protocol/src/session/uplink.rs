//! What a device's request means. Everything a device of this profile sends is here; what is not, is answered so that the device can go on.

use crate::coap::{Block, Code, Message, option};
use crate::session::describe::DescribeKind;
use crate::session::goodbye::Goodbye;
use crate::session::hello::Hello;
use crate::session::publish::Publish;
use crate::session::subscribe::Subscription;

/// A message that has an effect beyond the session. It is acknowledged when that effect is durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Uplink {
    /// The device introduces itself and forgets what it said before.
    Hello {
        /// Parsed.
        hello: Hello,
        /// As it came.
        payload: Vec<u8>,
    },
    /// A complete describe.
    Describe {
        /// Which.
        kind: DescribeKind,
        /// All its blocks.
        payload: Vec<u8>,
    },
    /// A subscription.
    Subscribe(Subscription),
    /// An event.
    Publish(Publish),
    /// The device leaves.
    Goodbye {
        /// Parsed.
        goodbye: Goodbye,
        /// As it came.
        payload: Vec<u8>,
    },
}

/// A request taken apart.
#[derive(Debug, PartialEq)]
pub(crate) enum Asked {
    /// Goes on to the shard.
    Uplink(Uplink),
    /// One block of a describe that has several.
    DescribeBlock(DescribeKind, Block),
    /// The time, to be answered with the token.
    Time,
    /// Answered with this code and forgotten.
    Unwanted(Code),
}

/// Takes a request apart.
pub(crate) fn asked(message: &Message) -> Asked {
    let segments: Vec<&[u8]> = message.values(option::URI_PATH).collect();
    let Some((letter, rest)) = segments.split_first() else { return Asked::Unwanted(Code::NOT_FOUND) };
    let parsed = match (message.code, *letter) {
        (Code::POST, b"h") => {
            Hello::parse(&message.payload).map(|hello| Asked::Uplink(Uplink::Hello { hello, payload: message.payload.clone() }))
        }
        (Code::POST, b"d") => describe(message),
        (Code::GET, b"e" | b"E") => Subscription::of(message, rest).map(|subscription| Asked::Uplink(Uplink::Subscribe(subscription))),
        (Code::POST, b"E" | b"e") => Publish::of(message, rest).map(|publish| Asked::Uplink(Uplink::Publish(publish))),
        (Code::GET, b"t") => Some(Asked::Time),
        (Code::POST, b"x") => {
            Goodbye::parse(&message.payload).map(|goodbye| Asked::Uplink(Uplink::Goodbye { goodbye, payload: message.payload.clone() }))
        }
        // Ledgers: a clear "not here" makes the device try again later, an empty acknowledgement would leave it waiting for ever.
        (Code::POST, b"L") => Some(Asked::Unwanted(Code::NOT_IMPLEMENTED)),
        _ => Some(Asked::Unwanted(Code::NOT_FOUND)),
    };
    parsed.unwrap_or(Asked::Unwanted(Code::BAD_REQUEST))
}

fn describe(message: &Message) -> Option<Asked> {
    let [flag] = *message.values(option::URI_QUERY).next()? else { return None };
    let kind = DescribeKind::posted_with(flag)?;
    let several = message.values(option::BLOCK1).next().is_some();
    match Block::of(message, option::BLOCK1) {
        Some(block) => Some(Asked::DescribeBlock(kind, block)),
        None if several => None,
        None => Some(Asked::Uplink(Uplink::Describe { kind, payload: message.payload.clone() })),
    }
}
