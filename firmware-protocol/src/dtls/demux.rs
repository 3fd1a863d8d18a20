//! What a datagram is, by its first bytes. Costs a few comparisons and allocates nothing, because anyone can send anything.

use crate::dtls::cid::ConnectionId;
use crate::dtls::hello::ClientHello;
use crate::dtls::probe;
use crate::dtls::record::{DATAGRAM_MAX, Record, content};

/// What to do with a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Datagram<'a> {
    /// A ClientHello: answered without state, or admitted if its cookie is right.
    Hello(ClientHello<'a>),
    /// The rest of a handshake, ending in a record of this connection.
    Flight {
        /// The id that was given out for this handshake.
        connection: ConnectionId,
    },
    /// A record of an established session.
    Record {
        /// Whose session.
        connection: ConnectionId,
    },
    /// A reachability probe, to be returned unchanged within limits.
    Probe,
    /// Not for us, and why.
    Junk(Junk),
}

/// Why a datagram is dropped before anything looks inside.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Junk {
    /// At most one byte: an address keep-alive of some firmware, without identity.
    KeepAlive,
    /// Longer than any device sends.
    TooLong,
    /// Not a record, a probe, or cut short.
    Malformed,
    /// A handshake of another profile, a fragment, or a message no client sends first.
    Handshake,
    /// A protected record without connection id: firmware that this server does not serve.
    NoConnectionId,
}

/// Classifies one datagram.
pub fn demux(datagram: &[u8]) -> Datagram<'_> {
    if datagram.len() <= 1 {
        return Datagram::Junk(Junk::KeepAlive);
    }
    if datagram.len() > DATAGRAM_MAX {
        return Datagram::Junk(Junk::TooLong);
    }
    if datagram[0] == probe::PROBE {
        return if probe::is_probe(datagram) { Datagram::Probe } else { Datagram::Junk(Junk::Malformed) };
    }
    let Some((record, rest)) = Record::parse(datagram) else {
        return Datagram::Junk(Junk::Malformed);
    };
    match record.connection {
        Some(connection) => Datagram::Record { connection },
        None if record.content_type == content::HANDSHAKE && record.epoch == 0 => {
            if let Some(hello) = ClientHello::parse(datagram) {
                return Datagram::Hello(hello);
            }
            last_connection(rest).map_or(Datagram::Junk(Junk::Handshake), |connection| Datagram::Flight { connection })
        }
        None if record.epoch == 0 => Datagram::Junk(Junk::Handshake),
        None => Datagram::Junk(Junk::NoConnectionId),
    }
}

/// The connection of the last record, if all records parse.
fn last_connection(mut rest: &[u8]) -> Option<ConnectionId> {
    let mut connection = None;
    while !rest.is_empty() {
        let (record, tail) = Record::parse(rest)?;
        connection = record.connection;
        rest = tail;
    }
    connection
}
