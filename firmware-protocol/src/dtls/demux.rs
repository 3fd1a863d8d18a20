//! What a datagram is, by its first bytes. Costs a few comparisons and allocates nothing, because anyone can send anything.

use crate::dtls::cid::ConnectionId;
use crate::dtls::hello::ClientHello;
use crate::dtls::probe;
use crate::dtls::record::{self, DATAGRAM_MAX, Record, content};
use crate::id::DeviceId;

/// What to do with a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Datagram<'a> {
    /// A ClientHello: answered without state, or admitted if its cookie is right.
    Hello(ClientHello<'a>),
    /// The rest of a handshake, ending in a record of this connection.
    Flight {
        /// The id that was given out for this handshake, if its device knows of such.
        connection: Option<ConnectionId>,
    },
    /// A record of an established session.
    Record {
        /// Whose session.
        connection: ConnectionId,
    },
    /// A protected record without connection id: of a session whose device is at the sender's address, if there is one.
    Unlabelled,
    /// The same from a device that resumed its session and may be at another address. Nothing proves the id but the record.
    Resumed {
        /// Whose session.
        device: DeviceId,
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
            flight_end(rest).map_or(Datagram::Junk(Junk::Handshake), |end| Datagram::Flight { connection: end.connection })
        }
        None if record.epoch == 0 => Datagram::Junk(Junk::Handshake),
        None if record.epoch > 1 => Datagram::Junk(Junk::Malformed),
        None if record.content_type == content::MOVED_UNLABELLED => {
            record::moved_device(rest).map_or(Datagram::Junk(Junk::Malformed), |device| Datagram::Resumed { device })
        }
        None => Datagram::Unlabelled,
    }
}

/// The last record of a flight, if all parse and it is a protected one: Finished.
fn flight_end(mut rest: &[u8]) -> Option<Record<'_>> {
    let mut last = None;
    while !rest.is_empty() {
        let (record, tail) = Record::parse(rest)?;
        (last, rest) = (Some(record), tail);
    }
    last.filter(|record| record.connection.is_some() || record.is_unlabelled() && record.content_type == content::HANDSHAKE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Write;

    fn record(content_type: u8, epoch: u16, behind: &[u8]) -> Vec<u8> {
        let mut bytes = vec![content_type, 0xfe, 0xfd];
        bytes.u16(epoch);
        bytes.u48(7);
        bytes.vec16(&[5; 24]);
        bytes.bytes(behind);
        bytes
    }

    #[test]
    fn a_resumed_record_has_a_device_id_behind_it_and_nothing_else() {
        let trailer = [&[0xe0; 12][..], &[12]].concat();
        let is = |behind: &[u8]| demux(&record(254, 1, behind)) == Datagram::Resumed { device: DeviceId([0xe0; 12]) };
        assert!(is(&trailer));
        let long = [&[0xe0; 13][..], &[12]].concat();
        for other in [&[][..], &trailer[..12], &trailer[1..], &[0xe0; 13], &long, &[&trailer[..], &trailer[..]].concat()] {
            assert_eq!(demux(&record(254, 1, other)), Datagram::Junk(Junk::Malformed), "{other:?}");
        }
        assert_eq!(demux(&record(254, 0, &trailer)), Datagram::Junk(Junk::Handshake));
        assert_eq!(demux(&record(254, 2, &trailer)), Datagram::Junk(Junk::Malformed));
    }

    #[test]
    fn records_without_connection_id_are_told_by_their_epoch() {
        assert_eq!(demux(&record(23, 1, &[])), Datagram::Unlabelled);
        assert_eq!(demux(&record(21, 1, &[])), Datagram::Unlabelled);
        assert_eq!(demux(&record(23, 0, &[])), Datagram::Junk(Junk::Handshake));
        assert_eq!(demux(&record(23, 2, &[])), Datagram::Junk(Junk::Malformed));
    }
}
