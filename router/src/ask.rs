//! What an API caller asks of a device, and what comes of it.

use firmware_protocol::session::describe::DescribeKind;
use firmware_protocol::session::request::{Outcome, Request};
use firmware_protocol::session::variable::Value;
use firmware_protocol::time::UnixMillis;
use thiserror::Error;

/// A question to one device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ask {
    /// Call a function.
    Call {
        /// Its name.
        function: String,
        /// The argument, empty if there is none.
        argument: String,
    },
    /// Read a variable.
    Read {
        /// Its name.
        variable: String,
    },
    /// Is it there?
    Ping,
    /// Show yourself, or stop it.
    Signal {
        /// Which.
        on: bool,
    },
    /// Say how you are. Answered with [`Answer::Done`] when the device is being asked; what it says comes as an event.
    Vitals,
}

/// What a device answered.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    /// A function's return value.
    Returned(i32),
    /// A variable's value.
    Value(Value),
    /// Received, and there is nothing more to say.
    Done,
}

/// Why there is no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum AskError {
    /// The device has no session, or its lease has lapsed.
    #[error("the device is offline")]
    Offline,
    /// It said that it would sleep until then.
    #[error("the device sleeps")]
    AsleepUntil(UnixMillis),
    /// Its describe has no such function. The device was not asked.
    #[error("no such function")]
    NoSuchFunction,
    /// Its describe has no such variable, or the device said so.
    #[error("no such variable")]
    NoSuchVariable,
    /// It is online, but has not said yet what functions and variables it has.
    #[error("the device has not described itself yet")]
    NotDescribed,
    /// No answer in time.
    #[error("timed out")]
    TimedOut {
        /// The device received the question: a function may have run.
        received: bool,
    },
    /// The session ended before the answer.
    #[error("the session ended")]
    SessionEnded {
        /// The device received the question: a function may have run.
        received: bool,
    },
    /// Its firmware cannot do what is asked.
    #[error("the firmware of the device cannot do that")]
    NotSupported,
    /// Too many questions to this device are open.
    #[error("too many requests to the device are open")]
    Busy,
    /// Longer than the device takes.
    #[error("longer than the device takes")]
    TooLarge,
    /// The device's answer makes no sense.
    #[error("the device's answer makes no sense")]
    Malformed,
}

impl Ask {
    /// The message it becomes.
    pub fn request(&self) -> Request {
        match self.clone() {
            Self::Call { function, argument } => Request::Call { function, argument },
            Self::Read { variable } => Request::Read { variable },
            Self::Ping => Request::Ping,
            Self::Signal { on } => Request::Signal { on },
            Self::Vitals => Request::Describe(DescribeKind::Metrics),
        }
    }
}

/// What an outcome means to a caller. `decode` knows the type of the variable that was read.
pub(crate) fn answer(outcome: Outcome, decode: impl FnOnce(&[u8]) -> Option<Value>) -> Result<Answer, AskError> {
    match outcome {
        Outcome::Returned(value) => Ok(Answer::Returned(value)),
        Outcome::Value(bytes) => decode(&bytes).map(Answer::Value).ok_or(AskError::Malformed),
        Outcome::Acknowledged => Ok(Answer::Done),
        Outcome::Refused(code) if code.0 == 0x84 => Err(AskError::NoSuchVariable),
        Outcome::TimedOut { received } => Err(AskError::TimedOut { received }),
        Outcome::Closed { received } => Err(AskError::SessionEnded { received }),
        Outcome::Refused(_) | Outcome::Malformed | Outcome::Described(..) => Err(AskError::Malformed),
    }
}
