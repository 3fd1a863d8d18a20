//! The journal's port: what a shard or a terminator asks to be written down. How that is done is the server's business.

use std::sync::Arc;

use firmware_protocol::dtls::cid::ConnectionId;
use firmware_protocol::id::DeviceId;
use firmware_protocol::path::Path;
pub use firmware_protocol::session::describe::DescribeKind;
use firmware_protocol::session::stored::{Floor, StoredSession};
pub use firmware_protocol::session::subscribe::{HandlerKind, Subscription};
use firmware_protocol::time::UnixMillis;

use crate::event::Event;

/// Why a session ended on our side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RetireReason {
    /// A newer session of the same device was proved.
    Replaced,
    /// The device's key was revoked or its registration removed.
    Revoked,
    /// The device closed it.
    ClosedByDevice,
    /// The Hello named another device than the one that holds the key.
    WrongDevice,
    /// The server no longer had what the device will not send again.
    StateLost,
}

/// One fact of the acknowledgement path. A device or caller is told "yes" after the fact is durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record {
    /// A handshake was proved; the device's Finished is answered after this.
    SessionOpened(StoredSession),
    /// A session will not be used again.
    SessionRetired {
        /// Which one.
        connection: ConnectionId,
        /// Whose it was.
        device: DeviceId,
        /// Why.
        reason: RetireReason,
        /// When.
        at: UnixMillis,
    },
    /// A device answered a ping at a new address.
    SessionMoved {
        /// Which session.
        connection: ConnectionId,
        /// Where it is now.
        path: Path,
    },
    /// A Hello: the device forgets and re-sends subscriptions and describes after it.
    Hello {
        /// Where it came in.
        floor: Floor,
        /// From whom.
        device: DeviceId,
        /// Its payload as it came (docs/protocol.md).
        payload: Vec<u8>,
        /// When.
        at: UnixMillis,
    },
    /// A complete describe.
    Describe {
        /// The message that completed it, if the device sent it by itself.
        floor: Option<Floor>,
        /// From whom.
        device: DeviceId,
        /// Which of the three.
        kind: DescribeKind,
        /// All blocks joined.
        payload: Vec<u8>,
        /// When.
        at: UnixMillis,
    },
    /// A subscription.
    Subscribed {
        /// Where it came in.
        floor: Floor,
        /// From whom.
        device: DeviceId,
        /// To what.
        subscription: Subscription,
    },
    /// The device said that it leaves.
    Goodbye {
        /// Where it came in.
        floor: Floor,
        /// From whom.
        device: DeviceId,
        /// Its payload as it came (docs/protocol.md).
        payload: Vec<u8>,
        /// When.
        at: UnixMillis,
    },
    /// An event. The only record that gets a position.
    Event {
        /// Where it came in, if a device sent it.
        floor: Option<Floor>,
        /// The event.
        event: Arc<Event>,
    },
    /// A message of a device was received and answered, and nothing of it is kept but that.
    Seen {
        /// Where it came in.
        floor: Floor,
    },
}
