//! A second pair of eyes on record numbers: every server record on the wire is opened with its key and remembered by (key, number), however the
//! device that it was for takes it. A device forgets with its session; this does not, and it sees the last flight of a handshake as well.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use firmware_protocol::crypto::{Aead, digest64};
use firmware_protocol::dtls::keys::DirectionKeys;
use firmware_protocol::dtls::record::Record;
use firmware_protocol::error::KeyError;

use super::tally::Tally;

/// Most records that one worker remembers: half a gigabyte.
const RECORDS_MAX: usize = 10_000_000;

#[derive(Debug)]
pub(super) struct Audit {
    aead: Aead,
    /// Digest of each record's bytes, by digest of the key and by number.
    seen: HashMap<(u64, u64), u64>,
}

impl Audit {
    pub(super) fn new() -> Result<Self, KeyError> {
        Ok(Self { aead: Aead::new()?, seen: HashMap::new() })
    }

    /// Compares the records in `datagram` that `keys` open with what was seen under their numbers before.
    pub(super) fn check(&mut self, keys: &DirectionKeys, datagram: &[u8], tally: &mut Tally) {
        let key = digest64(&[&keys.key[..], &keys.iv].concat());
        let mut rest = datagram;
        while let Some((record, tail)) = Record::parse(rest) {
            let bytes = &rest[..rest.len() - tail.len()];
            if record.epoch == 1 && record.open(&mut self.aead, keys).is_some() {
                self.remember((key, record.sequence), digest64(bytes), tally);
            }
            rest = tail;
        }
    }

    fn remember(&mut self, name: (u64, u64), digest: u64, tally: &mut Tally) {
        let full = self.seen.len() >= RECORDS_MAX;
        match self.seen.entry(name) {
            Entry::Occupied(known) => tally.wire_sequences_repeated += u64::from(*known.get() != digest),
            Entry::Vacant(_) if full => tally.records_unaudited += 1,
            Entry::Vacant(unknown) => {
                unknown.insert(digest);
                tally.records_audited += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firmware_protocol::dtls::record::{content, write_plain, write_sealed};

    fn sealed(keys: &DirectionKeys, sequence: u64, text: &[u8]) -> Result<Vec<u8>, KeyError> {
        let mut datagram = Vec::new();
        write_sealed(&mut datagram, &mut Aead::new()?, keys, None, content::APPLICATION, sequence, text)?;
        Ok(datagram)
    }

    #[test]
    fn a_number_with_two_contents_is_found_and_a_repeated_datagram_is_not() -> Result<(), KeyError> {
        let (one, other) = (DirectionKeys { key: [1; 16], iv: [1; 4] }, DirectionKeys { key: [2; 16], iv: [1; 4] });
        let (mut audit, mut tally) = (Audit::new()?, Tally::default());
        let first = sealed(&one, 5, b"a")?;
        audit.check(&one, &first, &mut tally);
        audit.check(&one, &first, &mut tally);
        audit.check(&one, &sealed(&one, 6, b"a")?, &mut tally);
        audit.check(&other, &sealed(&other, 5, b"b")?, &mut tally);
        audit.check(&one, &sealed(&other, 5, b"b")?, &mut tally);
        assert_eq!((tally.records_audited, tally.wire_sequences_repeated), (3, 0));
        audit.check(&one, &sealed(&one, 5, b"b")?, &mut tally);
        assert_eq!((tally.records_audited, tally.wire_sequences_repeated), (3, 1));
        Ok(())
    }

    #[test]
    fn the_record_behind_a_plaintext_one_is_looked_at() -> Result<(), KeyError> {
        let keys = DirectionKeys { key: [1; 16], iv: [1; 4] };
        let (mut audit, mut tally, mut flight) = (Audit::new()?, Tally::default(), Vec::new());
        write_plain(&mut flight, content::CHANGE_CIPHER_SPEC, 4, &[1]);
        flight.extend(sealed(&keys, 0, b"finished")?);
        audit.check(&keys, &flight, &mut tally);
        audit.check(&keys, &sealed(&keys, 0, b"something else")?, &mut tally);
        assert_eq!((tally.records_audited, tally.wire_sequences_repeated), (1, 1));
        Ok(())
    }
}
