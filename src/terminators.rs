//! Terminators: workers that own sockets and sessions, one for each UDP socket and one for all of TCP. Each decrypts, recognises repetitions and answers what needs no
//! routing by itself; typed messages go to shards, proven hellos to the handshake thread, sessions to the journal.
//!
//! A session belongs to the worker its connection id names. A datagram that reaches another worker's socket is handed over. Firmware before 3.1
//! puts no id into its records: its sessions have one all the same, and [`Unlabelled`] knows which by address and by device.

mod attendance;
mod awaited;
pub mod cid_keys;
mod kernel_drops;
mod limits;
mod liveness;
mod newcomers;
mod noisy;
mod reserved;
mod sessions;
mod steering;
pub mod tcp;
mod timers;
mod udp;
mod unlabelled;
mod worker;

use std::sync::Arc;

use firmware_protocol::coap::Code;
use firmware_protocol::dtls::cid::{ConnectionId, ConnectionIds};
use firmware_protocol::dtls::server::Established;
use firmware_protocol::id::{DeviceId, Identity, OwnerId};
use firmware_protocol::path::Path;
use firmware_protocol::session::Receipt;
use firmware_protocol::session::request::{Request, RequestId};
use firmware_protocol::time::Millis;
use router::journal::RetireReason;
use router::progress::{Heartbeat, Part};

use crate::admission::{Backlog, Settling};
use crate::clock::Clock;
use crate::generations::Generations;
use crate::handshakes::WaitingHello;
use crate::metrics::TerminatorMetrics;
use crate::orphans::Orphans;
use crate::strangers::Strangers;
use crate::takeover::Handover;
use crate::watchdog::Watch;

pub use self::kernel_drops::{KernelDrops, SocketName};
pub use self::limits::{Limits, Over};
pub use self::noisy::{Noisy, Refusals, Who};
pub use self::udp::{BindError, Udp, bind_group};
pub use self::unlabelled::{Candidates, Unlabelled};
pub use self::worker::{Worker, WorkerLanes};

/// Which worker owns a connection id's bucket.
pub fn owner_of(connection: ConnectionId, workers: usize) -> usize {
    usize::from(connection.bucket()) % workers
}

/// What all terminators share, and some of it with others.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Names of sessions.
    pub ids: ConnectionIds,
    /// Numbers of process starts.
    pub generations: Arc<Generations>,
    /// Unknown devices.
    pub strangers: Arc<Strangers>,
    /// Devices that talk with keys we no longer hold.
    pub orphans: Arc<Orphans>,
    /// How much devices may send.
    pub limits: Limits,
    /// Who is refused most.
    pub noisy: Arc<Noisy>,
    /// What they count.
    pub metrics: Arc<TerminatorMetrics>,
    /// Who watches them.
    pub watch: Watch,
    /// Which of them are behind.
    pub backlog: Arc<Backlog>,
    /// The clocks.
    pub clock: Clock,
}

impl Shared {
    /// An event was over a limit.
    fn event_refused(&self, now: Millis, over: Over, device: DeviceId, owner: Option<OwnerId>) {
        self.metrics.event_refused(over);
        let who = match (over, owner) {
            (Over::Owner, Some(owner)) => Who::Account(owner),
            _ => Who::Device(device),
        };
        self.noisy.refused(now, who);
    }
}

/// Who stands behind a key that was proved.
#[derive(Clone, Copy, Debug)]
pub enum Holder {
    /// A registered device.
    Known(Identity),
    /// A stranger, let through to its Hello so that the operator sees it. Nothing else of it counts.
    Stranger,
}

/// Something a terminator is told.
#[derive(Debug)]
pub enum ToTerminator {
    /// Its own, or one of a shard that has come this far.
    Heartbeat {
        /// Whose.
        of: Part,
        /// The heartbeat.
        heartbeat: Heartbeat,
    },
    /// A datagram for one of its sessions that came to another worker.
    Datagram {
        /// Where it came from.
        path: Path,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// A datagram without connection id, the first of whose candidates is one of its sessions.
    Unlabelled {
        /// Where it came from.
        path: Path,
        /// Its bytes.
        bytes: Vec<u8>,
        /// Sessions that it may belong to.
        candidates: Candidates,
        /// If it is a second flight: whether a handshake waits for one from there.
        awaited: bool,
    },
    /// Send this as it is: a handshake flight.
    Flight {
        /// To whom.
        path: Path,
        /// The bytes.
        datagram: Vec<u8>,
    },
    /// A handshake was proved.
    Established {
        /// From where.
        path: Path,
        /// The id reserved for the session.
        connection: ConnectionId,
        /// What it left.
        established: Box<Established<Holder>>,
        /// Held until the session is durable.
        settling: Settling,
    },
    /// A handshake over TCP was proved.
    Proved {
        /// Which connection.
        serial: u64,
        /// What it left.
        established: Box<tcp::Proved>,
    },
    /// A handshake over TCP was refused.
    Unproved {
        /// Which connection.
        serial: u64,
    },
    /// A new session is durable: the device may be told.
    Opened {
        /// Which.
        connection: ConnectionId,
    },
    /// A new session was not written down: there is none.
    NotOpened {
        /// Which.
        connection: ConnectionId,
    },
    /// What a message asked for is durable, or was refused.
    Acknowledge {
        /// Which session.
        connection: ConnectionId,
        /// Which message.
        receipt: Receipt,
        /// Empty, or why not.
        code: Code,
    },
    /// Send a request.
    Request {
        /// Over which session.
        connection: ConnectionId,
        /// Under which name.
        id: RequestId,
        /// What.
        request: Request,
        /// Until when.
        deadline: Millis,
    },
    /// The session is over on our side.
    Retire {
        /// Which.
        connection: ConnectionId,
        /// Why.
        reason: RetireReason,
    },
    /// The registry's new word about a session's holder.
    Identify {
        /// Which.
        connection: ConnectionId,
        /// Who.
        identity: Identity,
    },
    /// Another thread takes a shard over.
    TakeOver(Box<Handover<ToTerminator>>),
}

/// What a terminator sends to the handshake thread.
#[derive(Debug)]
pub enum ToHandshakes {
    /// A hello whose cookie was right.
    Hello(Box<WaitingHello>),
    /// A device's second flight.
    Flight {
        /// The id that was given out for the handshake, if the device knows of such: its address may have changed since.
        connection: Option<ConnectionId>,
        /// From where.
        path: Path,
        /// The datagram.
        datagram: Vec<u8>,
    },
}

/// A stranger that proved a key and said Hello while the operator looked.
#[derive(Clone, Debug)]
pub struct StrangerSeen {
    /// Its key, as SubjectPublicKeyInfo.
    pub spki: Vec<u8>,
    /// The device id it claims.
    pub device: DeviceId,
    /// Platform id.
    pub platform: u16,
    /// System firmware version.
    pub system_version: Option<u16>,
}
