//! Frames: what one commit writes. The layout is the table in the module documentation of the journal.

use router::event::Position;
use router::journal::Record;

use super::record::{self, BODY_BYTES_MAX};
use super::wire::{Malformed, Take, TooLong};

/// Bytes before the payload.
pub(super) const FRAME_HEADER: usize = 52;
/// The same, as a distance in a file.
pub(super) const FRAME_HEADER_LEN: u64 = 52;
/// The largest payload: a frame is closed at [`FRAME_BYTES_MAX`], one record later at worst.
pub(super) const PAYLOAD_BYTES_MAX: u32 = 32 << 20;
/// The largest size at which a frame may be closed.
pub(super) const FRAME_BYTES_MAX: usize = 8 << 20;
/// The newest version that can be read, and the one that is written.
pub(super) const FRAME_VERSION: u16 = 1;
/// How a frame starts.
pub(super) const FRAME_MAGIC: [u8; 4] = *b"HFfr";
/// Where the salt is.
pub(super) const SALT_AT: std::ops::Range<usize> = 8..16;

const CHECKSUM_AT: usize = 48;

const _: () = assert!(FRAME_BYTES_MAX + record::RECORD_HEADER + BODY_BYTES_MAX <= 32 << 20);

/// The header of a frame, without what only serves to recognise one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct FrameHeader {
    pub(super) version: u16,
    pub(super) salt: u64,
    pub(super) first: Position,
    pub(super) durable_up_to: u64,
    pub(super) payload: u32,
    pub(super) records: u32,
    pub(super) events: u32,
    /// Chain value before this frame.
    pub(super) previous: u32,
    /// Chain value after it.
    pub(super) checksum: u32,
}

impl FrameHeader {
    /// The header in these bytes, if they start like one.
    pub(super) fn parse(bytes: &[u8; FRAME_HEADER]) -> Result<FrameHeader, Malformed> {
        let mut take = Take(bytes);
        if take.array()? != FRAME_MAGIC {
            return Err(Malformed("no frame starts here"));
        }
        let version = take.u16()?;
        take.u16()?;
        let header = FrameHeader {
            version,
            salt: take.u64()?,
            first: Position(take.u64()?),
            durable_up_to: take.u64()?,
            payload: take.u32()?,
            records: take.u32()?,
            events: take.u32()?,
            previous: take.u32()?,
            checksum: take.u32()?,
        };
        Ok(header)
    }

    /// Bytes of the whole frame in the file.
    pub(super) fn frame_len(&self) -> u64 {
        FRAME_HEADER_LEN + u64::from(self.payload)
    }

    /// The position after the last event of the frame.
    pub(super) fn next(&self) -> Position {
        Position(self.first.0.saturating_add(u64::from(self.events)))
    }
}

/// The checksum that a whole frame, header and payload, should carry.
pub(super) fn checksum(frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&frame[..CHECKSUM_AT]), &frame[FRAME_HEADER..])
}

/// Where a batch goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) salt: u64,
    pub(super) first: Position,
    pub(super) durable_up_to: u64,
    pub(super) chain: u32,
}

/// What a batch came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Encoded {
    pub(super) events: u64,
    /// Chain value after its last frame.
    pub(super) chain: u32,
}

/// Puts `batch` into `to` as frames that are closed once their payload reaches `frame_bytes`. An empty batch is one empty frame.
pub(super) fn put_frames(to: &mut Vec<u8>, batch: &[Record], frame_bytes: usize, place: Place) -> Result<Encoded, TooLong> {
    let mut encoded = Encoded { events: 0, chain: place.chain };
    let mut rest = batch;
    loop {
        let start = to.len();
        to.extend_from_slice(&[0; FRAME_HEADER]);
        let (mut records, mut events) = (0u32, 0u32);
        while let [record, after @ ..] = rest {
            record::put_record(to, record)?;
            records += 1;
            events += u32::from(matches!(record, Record::Event { .. }));
            rest = after;
            if to.len() - start - FRAME_HEADER >= frame_bytes {
                break;
            }
        }
        let first = Position(place.first.0 + encoded.events);
        encoded.events += u64::from(events);
        encoded.chain = close(&mut to[start..], Place { first, chain: encoded.chain, ..place }, records, events);
        if rest.is_empty() {
            return Ok(encoded);
        }
    }
}

/// Fills in the header of a frame whose payload is there. Returns the frame's checksum.
fn close(frame: &mut [u8], place: Place, records: u32, events: u32) -> u32 {
    let payload = u32::try_from(frame.len() - FRAME_HEADER).expect("a frame is closed before it gets that large");
    let mut header = [0; FRAME_HEADER];
    header[..4].copy_from_slice(&FRAME_MAGIC);
    header[4..6].copy_from_slice(&FRAME_VERSION.to_le_bytes());
    header[SALT_AT].copy_from_slice(&place.salt.to_le_bytes());
    header[16..24].copy_from_slice(&place.first.0.to_le_bytes());
    header[24..32].copy_from_slice(&place.durable_up_to.to_le_bytes());
    header[32..36].copy_from_slice(&payload.to_le_bytes());
    header[36..40].copy_from_slice(&records.to_le_bytes());
    header[40..44].copy_from_slice(&events.to_le_bytes());
    header[44..48].copy_from_slice(&place.chain.to_le_bytes());
    frame[..FRAME_HEADER].copy_from_slice(&header);
    let checksum = checksum(frame);
    frame[CHECKSUM_AT..FRAME_HEADER].copy_from_slice(&checksum.to_le_bytes());
    checksum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::test_records::one_of_each;

    const PLACE: Place = Place { salt: 7, first: Position(40), durable_up_to: 44, chain: 9 };

    fn headers(mut bytes: &[u8]) -> Vec<FrameHeader> {
        let mut headers = Vec::new();
        while !bytes.is_empty() {
            let header = FrameHeader::parse(bytes.first_chunk().unwrap()).unwrap();
            let (frame, rest) = bytes.split_at(usize::try_from(header.frame_len()).unwrap());
            assert_eq!(checksum(frame), header.checksum);
            headers.push(header);
            bytes = rest;
        }
        headers
    }

    #[test]
    fn a_batch_is_one_frame_unless_it_is_large() {
        let batch = one_of_each();
        let mut bytes = Vec::new();
        let encoded = put_frames(&mut bytes, &batch, 1 << 20, PLACE).unwrap();
        let [only] = headers(&bytes)[..] else { panic!("one frame") };
        assert_eq!((only.records, only.events, only.first, only.previous), (9, 1, Position(40), 9));
        assert_eq!(encoded, Encoded { events: 1, chain: only.checksum });

        bytes.clear();
        put_frames(&mut bytes, &batch, 1, PLACE).unwrap();
        let frames = headers(&bytes);
        assert_eq!(frames.len(), 9);
        assert!(frames.windows(2).all(|pair| pair[1].previous == pair[0].checksum && pair[1].first == pair[0].next()));
        assert!(frames.iter().all(|frame| frame.durable_up_to == 44), "none of the batch is synced before the batch is");
    }

    #[test]
    fn an_empty_batch_is_an_empty_frame() {
        let mut bytes = Vec::new();
        put_frames(&mut bytes, &[], 1, PLACE).unwrap();
        assert_eq!(bytes.len(), FRAME_HEADER);
        assert_eq!(headers(&bytes)[0].records, 0);
    }
}
