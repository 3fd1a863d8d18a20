//! What is written down of a session, so that another process can go on with it.

use crate::dtls::cid::ConnectionId;
use crate::dtls::keys::KeyBlock;
use crate::dtls::server::FinalFlight;
use crate::id::Identity;
use crate::path::Path;
use crate::time::UnixMillis;

/// The count of process starts that the upper bits of a send sequence come from. Never goes back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Generation(pub u32);

/// An established session as it is stored: written before the device is told that it has one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredSession {
    /// The session's id.
    pub connection: ConnectionId,
    /// Whether the device puts the id into every record. Firmware before 3.1 does not know of it: such a session is found by its address or device.
    pub id_on_wire: bool,
    /// Who holds the other end.
    pub identity: Identity,
    /// Record keys.
    pub keys: KeyBlock,
    /// The generation in which the session was made; its send sequence counts generations from here.
    pub birth: Generation,
    /// When the handshake ended.
    pub established_at: UnixMillis,
    /// Where the device was last proved to be.
    pub path: Path,
    /// Our last flight, should the device still wait for it.
    pub final_flight: FinalFlight,
}

/// What identifies one accepted record of a device. Stored inside what it carried, so that recovery knows how far a session had come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Floor {
    /// The session it came in.
    pub connection: ConnectionId,
    /// Its 48-bit DTLS sequence number.
    pub sequence: u64,
    /// Message id of the CoAP message in it.
    pub message_id: u16,
    /// First 64 bits of SHA-256 over that whole message: a repeat of the message has the same, another message with the same id has not.
    pub digest: u64,
}
