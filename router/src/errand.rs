//! What a shard has done for it: things that need the registry, which a shard never waits for.

use firmware_protocol::id::{DeviceId, Identity};
use firmware_protocol::session::Receipt;
use firmware_protocol::session::stored::Floor;
use firmware_protocol::time::Millis;

use crate::device::Link;

/// An errand. It is answered with the same device and link by [`crate::shard::Input::ErrandDone`], whatever comes of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Errand {
    /// For which device.
    pub device: DeviceId,
    /// Over which session it asked.
    pub link: Link,
    /// By when the answer is of use.
    pub deadline: Millis,
    /// What.
    pub task: Task,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Task {
    /// The device presents a claim code.
    Claim(Claim),
    /// The device wants its name.
    Name {
        /// Name of the event that answers.
        event: String,
    },
    /// The device wants randomness.
    Random {
        /// Name of the event that answers.
        event: String,
    },
}

/// A claim code that a device presents. The message waits for its acknowledgement meanwhile.
#[derive(Clone, PartialEq, Eq)]
pub struct Claim {
    /// The code.
    pub code: Vec<u8>,
    /// To acknowledge the message with.
    pub receipt: Receipt,
    /// What identifies it.
    pub floor: Floor,
}

/// What came of an errand.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// A claim code was looked at.
    Claimed(Claim, Verdict),
    /// Text for the device.
    Text {
        /// Name of the event.
        event: String,
        /// The text.
        text: String,
    },
    /// Nothing, and the device need not know.
    Nothing,
}

/// What a claim code came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The device belongs to whoever made the code, as the registry says now.
    Owned(Identity),
    /// No such code, or the device belongs to somebody else.
    Refused,
    /// The registry could not say.
    Failed,
}

/// A claim code is as good as a password.
impl std::fmt::Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claim").field("floor", &self.floor).finish_non_exhaustive()
    }
}

impl Task {
    /// What is said when the errand could not be run.
    pub fn failed(self) -> Outcome {
        match self {
            Self::Claim(claim) => Outcome::Claimed(claim, Verdict::Failed),
            Self::Name { .. } | Self::Random { .. } => Outcome::Nothing,
        }
    }
}
