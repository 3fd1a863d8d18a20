//! What the cloud asks of a device, and what comes of it. Only requests that every device understands can be expressed: a device keeps a CON
//! that it does not understand and gives its session up 45 seconds later (docs/protocol.md).

use crate::coap::{Block, Code, Kind, Message, option};
use crate::error::RequestError;
use crate::session::describe::DescribeKind;
use crate::session::publish::Delivery;

/// Longest function argument and name that a device reads whole, in bytes.
pub const ARGUMENT_MAX: usize = 1024;
const NAME_MAX: usize = crate::session::subscribe::NAME_MAX;

/// A request to a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// Calls a function. The describe should have been asked first: a device never answers a call of a function it does not have.
    Call {
        /// Name, 1 to 64 bytes.
        function: String,
        /// Argument, at most [`ARGUMENT_MAX`] bytes.
        argument: String,
    },
    /// Reads a variable.
    Read {
        /// Name, 1 to 64 bytes.
        variable: String,
    },
    /// Fetches a describe, block by block if need be.
    Describe(DescribeKind),
    /// Asks for a sign of life.
    Ping,
    /// Makes the device show itself by its LED, or stop it.
    Signal {
        /// Whether to show.
        on: bool,
    },
    /// Delivers an event.
    Deliver(Delivery),
    /// Tells the device to drop its session and make a new one.
    ChangeKey,
}

/// Names a request while it is open. Chosen by the caller.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct RequestId(pub u64);

/// How a request ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The device received it; there is nothing more to come. Of an event over TCP: it was written to the connection, which is all there is.
    Acknowledged,
    /// A function returned.
    Returned(i32),
    /// A variable's value, to be read by its type in the describe.
    Value(Vec<u8>),
    /// A describe, whole.
    Described(DescribeKind, Vec<u8>),
    /// The device refused with this code: 4.04 for an unknown variable.
    Refused(Code),
    /// No answer within the time given. `received` says whether the device has it, and may still act on it.
    TimedOut {
        /// The request was acknowledged.
        received: bool,
    },
    /// The session ended first.
    Closed {
        /// The request was acknowledged.
        received: bool,
    },
    /// The answer is not what such a request is answered with.
    Malformed,
}

impl Request {
    /// Checks what a device cannot take. `message_max` is what its Hello allows, in bytes.
    pub(crate) fn check(&self, message_max: u16) -> Result<(), RequestError> {
        let named = |name: &str| (1..=NAME_MAX).contains(&name.len());
        let fits = match self {
            Self::Call { function, argument } => named(function) && argument.len() <= ARGUMENT_MAX,
            Self::Read { variable } => named(variable),
            Self::Describe(_) | Self::Ping | Self::Signal { .. } | Self::Deliver(_) | Self::ChangeKey => true,
        };
        let len = self.message(0, Some(0), None).encode().len();
        (fits && len <= usize::from(message_max)).then_some(()).ok_or(RequestError::TooLarge)
    }

    /// Whether the answer carries a token.
    pub(crate) fn has_token(&self) -> bool {
        !matches!(self, Self::Ping | Self::Deliver(_) | Self::ChangeKey)
    }

    /// Whether devices on TCP do not acknowledge it (docs/protocol.md): there it is sent without asking for that.
    pub(crate) fn is_told_only(&self) -> bool {
        matches!(self, Self::Deliver(_))
    }

    /// The message. `block` continues a describe.
    pub(crate) fn message(&self, id: u16, token: Option<u8>, block: Option<Block>) -> Message {
        let token = token.filter(|_| self.has_token());
        let new = |code| Message::new(Kind::Confirmable, code, id, token.as_slice());
        match self {
            // The query is always there: without it the device takes whatever its buffer holds for the argument.
            Self::Call { function, argument } => new(Code::POST).path(&["f", function]).with(option::URI_QUERY, argument.as_str()),
            Self::Read { variable } => new(Code::GET).path(&["v", variable]),
            Self::Describe(kind) => {
                let message = new(Code::GET).path(&["d"]).with(option::URI_QUERY, [kind.flag()]);
                match block {
                    Some(block) => message.with(option::BLOCK2, block.value()),
                    None => message,
                }
            }
            Self::Ping => new(Code::EMPTY),
            Self::Signal { on } => new(Code::PUT).path(&["s"]).with(option::URI_QUERY, [u8::from(*on)]),
            Self::Deliver(delivery) => delivery.write(new(Code::POST)),
            Self::ChangeKey => new(Code::PUT).path(&["k"]).with(option::URI_QUERY, [1]),
        }
    }

    /// What an acknowledgement without response means: `Some` if nothing more will come.
    pub(crate) fn acknowledged(&self) -> Option<Outcome> {
        (!self.has_token()).then_some(Outcome::Acknowledged)
    }

    /// What a response means.
    pub(crate) fn answered(&self, response: &Message) -> Outcome {
        if response.code.class() != 2 {
            return Outcome::Refused(response.code);
        }
        match self {
            Self::Call { .. } => match <[u8; 4]>::try_from(&response.payload[..]) {
                Ok(value) if response.code == Code::CHANGED => Outcome::Returned(i32::from_be_bytes(value)),
                _ => Outcome::Malformed,
            },
            Self::Read { .. } if response.code == Code::CONTENT => Outcome::Value(response.payload.clone()),
            Self::Describe(kind) if response.code == Code::CONTENT => Outcome::Described(*kind, response.payload.clone()),
            Self::Signal { .. } => Outcome::Acknowledged,
            Self::Ping | Self::Deliver(_) | Self::ChangeKey => Outcome::Acknowledged,
            Self::Read { .. } | Self::Describe(_) => Outcome::Malformed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_the_bytes_devices_parse_at_fixed_offsets() {
        let call = |argument: &str| Request::Call { function: "fn".into(), argument: argument.into() };
        let cases = [
            (call("Carg"), "4102200435b16602666e4443617267"),
            (call(""), "4102200435b16602666e40"),
            (Request::Read { variable: "d".into() }, "4101200435b1760164"),
            (Request::Signal { on: true }, "4103200435b1734101"),
            (Request::Signal { on: false }, "4103200435b1734100"),
            (Request::Describe(DescribeKind::System), "4101200435b1644101"),
            (Request::Describe(DescribeKind::Metrics), "4101200435b1644104"),
            (Request::Ping, "40002004"),
            (Request::ChangeKey, "40032004b16b4101"),
        ];
        for (request, expected) in cases {
            assert_eq!(hex::encode(request.message(0x2004, Some(0x35), None).encode()), expected, "{request:?}");
            assert_eq!(request.check(1152), Ok(()));
        }
    }

    #[test]
    fn what_is_too_large_is_refused_before_it_is_sent() {
        let call = |function: usize, argument: usize| Request::Call { function: "f".repeat(function), argument: "a".repeat(argument) };
        assert_eq!(call(64, 1024).check(1152), Ok(()));
        for (request, max) in [(call(65, 0), 1152), (call(0, 0), 1152), (call(1, 1025), 1152), (call(64, 1024), 1099)] {
            assert_eq!(request.check(max), Err(RequestError::TooLarge));
        }
    }
}
