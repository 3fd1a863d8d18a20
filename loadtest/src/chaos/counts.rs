//! What a proxy counts.

use serde::Serialize;

/// Everything that a proxy did to what passed through it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Serialize, Debug)]
pub struct Counts {
    /// Devices, or TCP connections, that came.
    pub links: u64,
    /// Those that were turned away because there were too many, or no socket for them.
    pub links_refused: u64,
    /// Datagrams, or pieces of a stream, that were taken.
    pub taken: u64,
    /// Those that were passed on, copies included.
    pub delivered: u64,
    /// Datagrams lost on purpose.
    pub lost: u64,
    /// Datagrams passed on twice.
    pub duplicated: u64,
    /// Datagrams held back so that others overtake them.
    pub reordered: u64,
    /// Datagrams dropped because too many of their device were on the way.
    pub overflowed: u64,
    /// Datagrams that the kernel did not take.
    pub undeliverable: u64,
    /// Devices' changes to another source port. Over TCP they are cuts as well.
    pub rebinds: u64,
    /// Such changes that were left out because there was no socket.
    pub rebinds_refused: u64,
    /// Times that a direction of a stream stood still.
    pub stalls: u64,
    /// Streams that were cut.
    pub cuts: u64,
    /// Bytes of streams that a cut took with it.
    pub bytes_cut: u64,
    /// Devices with a session that began a new handshake although the link had not harmed them enough to explain it.
    pub sessions_lost: u64,
    /// Devices with a session that began a new handshake after the link had harmed them as often as a device repeats a message.
    pub sessions_given_up: u64,
}
