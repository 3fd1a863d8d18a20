//! Records to bytes and back.
//!
//! | kind | record | body |
//! |---|---|---|
//! | 1 | session opened | session; in version 2 one whose id the device does not know |
//! | 2 | session retired | connection id 8, device 12, reason u8, time u64 |
//! | 3 | session moved | connection id 8, path |
//! | 4 | hello | floor, device 12, time u64, payload bytes |
//! | 5 | describe | option floor, device 12, time u64, which u8, payload bytes |
//! | 6 | subscribed | floor, device 12, handler u8, prefix text; in version 2 also publisher 12 |
//! | 7 | goodbye | floor, device 12, time u64, payload bytes |
//! | 8 | event | option floor, id 16, owner u64, product option u32, source u8 (1: and device 12), name text, content format u16, ttl u32, time u64, option data bytes |
//! | 9 | seen | floor |
//!
//! Reasons: 1 replaced, 2 revoked, 3 closed by the device, 4 wrong device, 5 state lost. Describes: 1 system, 2 application, 4 metrics.
//! Handlers: 1 text, 2 binary, 3 CBOR. Sources: 1 device, 2 API, 3 cloud.
//!
//! All kinds have version 1. Version 2 is written only of what version 1 cannot say.

use std::sync::Arc;

use firmware_protocol::id::{DeviceId, OwnerId};
use firmware_protocol::session::stored::{Floor, StoredSession};
use firmware_protocol::time::UnixMillis;
use router::event::{Event, EventId, Source, Whose};
use router::journal::{DescribeKind, HandlerKind, Record, RetireReason, Subscription};

use super::wire::{self, Malformed, Take, TooLong};

/// Bytes before the body.
pub(super) const RECORD_HEADER: usize = 10;
/// The largest body.
pub(super) const BODY_BYTES_MAX: usize = 16 << 20;
/// The first version of every kind.
pub(super) const RECORD_VERSION: u8 = 1;
/// What [`Record::SessionOpened`] has when the device puts no connection id into its records.
const UNLABELLED: u8 = 2;
/// What [`Record::Subscribed`] has when it says whose events are wanted.
const NARROWED: u8 = 2;

const OPENED: u8 = 1;
const RETIRED: u8 = 2;
const MOVED: u8 = 3;
const HELLO: u8 = 4;
const DESCRIBE: u8 = 5;
const SUBSCRIBED: u8 = 6;
const GOODBYE: u8 = 7;
const EVENT: u8 = 8;
const SEEN: u8 = 9;

/// Why bytes are not a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RecordError {
    Malformed(&'static str),
    UnknownKind(u8),
    NewerVersion(u8),
}

impl From<Malformed> for RecordError {
    fn from(Malformed(what): Malformed) -> Self {
        RecordError::Malformed(what)
    }
}

/// Appends `record` to `to`. After an error what was appended is incomplete.
pub(super) fn put_record(to: &mut Vec<u8>, record: &Record) -> Result<(), TooLong> {
    let start = to.len();
    to.extend_from_slice(&[kind_of(record), version_of(record), 0, 0, 0, 0, 0, 0, 0, 0]);
    put_body(to, record)?;
    let bytes = to.len() - start - RECORD_HEADER;
    let len = u32::try_from(bytes).ok().filter(|_| bytes <= BODY_BYTES_MAX).ok_or(TooLong { bytes, limit: BODY_BYTES_MAX })?;
    to[start + 2..start + 6].copy_from_slice(&len.to_le_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&to[start..start + 6]), &to[start + RECORD_HEADER..]);
    to[start + 6..start + RECORD_HEADER].copy_from_slice(&checksum.to_le_bytes());
    Ok(())
}

/// Takes the record at the front of `from`.
pub(super) fn take_record(from: &mut Take<'_>) -> Result<Record, RecordError> {
    let header = from.array::<6>()?;
    let checksum = from.u32()?;
    let [kind, version, len @ ..] = header;
    let len = usize::try_from(u32::from_le_bytes(len)).ok().filter(|len| *len <= BODY_BYTES_MAX);
    let body = from.slice(len.ok_or(Malformed("a record longer than any may be"))?)?;
    if crc32c::crc32c_append(crc32c::crc32c(&header), body) != checksum {
        return Err(RecordError::Malformed("the checksum of a record does not fit"));
    }
    if !(OPENED..=SEEN).contains(&kind) {
        return Err(RecordError::UnknownKind(kind));
    }
    if version != RECORD_VERSION && !matches!((kind, version), (OPENED, UNLABELLED) | (SUBSCRIBED, NARROWED)) {
        return Err(RecordError::NewerVersion(version));
    }
    let mut body = Take(body);
    let record = take_body(&mut body, kind, version)?;
    body.end()?;
    Ok(record)
}

/// What a record is to somebody who wants some events, by whose they are.
pub(super) enum Sifted {
    /// An event that is wanted.
    Event(Arc<Event>),
    /// Another event.
    Unwanted,
    /// Not an event.
    Other,
}

/// Takes the record at the front of `from`, of a payload whose checksum was right, and reads no more of it than is needed to see that it is
/// not wanted.
pub(super) fn sift_record(from: &mut Take<'_>, wants: impl FnOnce(Whose) -> bool) -> Result<Sifted, RecordError> {
    let mut whole = Take(from.0);
    let [kind, version, len @ ..] = from.array::<6>()?;
    from.u32()?;
    let len = usize::try_from(u32::from_le_bytes(len)).map_err(|_| Malformed("a length beyond this machine"))?;
    let mut body = Take(from.slice(len)?);
    if kind != EVENT {
        return Ok(Sifted::Other);
    }
    if version != RECORD_VERSION {
        return Err(RecordError::NewerVersion(version));
    }
    take_optional_floor(&mut body)?;
    body.array::<16>()?;
    if !wants(Whose { owner: OwnerId(body.u64()?), product: body.product()? }) {
        return Ok(Sifted::Unwanted);
    }
    let Record::Event { event, .. } = take_record(&mut whole)? else { return Ok(Sifted::Other) };
    Ok(Sifted::Event(event))
}

/// Takes the record at the front of `from`, of a payload whose checksum was right: whether it is an event. Nothing else of it is read.
pub(super) fn pass_record(from: &mut Take<'_>) -> Result<bool, Malformed> {
    let [kind, _, len @ ..] = from.array::<6>()?;
    from.u32()?;
    let len = usize::try_from(u32::from_le_bytes(len)).map_err(|_| Malformed("a length beyond this machine"))?;
    from.slice(len)?;
    Ok(kind == EVENT)
}

/// The bytes of an event outside of the journal: a record like any other, without a floor. `None` if no record can hold it.
pub(crate) fn event_bytes(event: &Arc<Event>) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(RECORD_HEADER + 96 + event.name.len() + event.data.as_ref().map_or(0, Vec::len));
    put_record(&mut bytes, &Record::Event { floor: None, event: Arc::clone(event) }).ok()?;
    Some(bytes)
}

/// The event in such bytes; `None` if there is none.
pub(crate) fn event_in(bytes: &[u8]) -> Option<Arc<Event>> {
    let mut bytes = Take(bytes);
    match take_record(&mut bytes) {
        Ok(Record::Event { event, .. }) if bytes.is_empty() => Some(event),
        _ => None,
    }
}

fn kind_of(record: &Record) -> u8 {
    match record {
        Record::SessionOpened(_) => OPENED,
        Record::SessionRetired { .. } => RETIRED,
        Record::SessionMoved { .. } => MOVED,
        Record::Hello { .. } => HELLO,
        Record::Describe { .. } => DESCRIBE,
        Record::Subscribed { .. } => SUBSCRIBED,
        Record::Goodbye { .. } => GOODBYE,
        Record::Event { .. } => EVENT,
        Record::Seen { .. } => SEEN,
    }
}

fn version_of(record: &Record) -> u8 {
    match record {
        Record::SessionOpened(session) if !session.id_on_wire => UNLABELLED,
        Record::Subscribed { subscription: Subscription { publisher: Some(_), .. }, .. } => NARROWED,
        _ => RECORD_VERSION,
    }
}

fn put_body(to: &mut Vec<u8>, record: &Record) -> Result<(), TooLong> {
    match record {
        Record::SessionOpened(session) => wire::put_session(to, session),
        Record::SessionRetired { connection, device, reason, at } => {
            to.extend_from_slice(&connection.0);
            to.extend_from_slice(&device.0);
            to.push(reason_code(*reason));
            wire::put_u64(to, at.0);
        }
        Record::SessionMoved { connection, path } => {
            to.extend_from_slice(&connection.0);
            wire::put_path(to, path);
        }
        Record::Hello { floor, device, payload, at } | Record::Goodbye { floor, device, payload, at } => {
            put_origin(to, floor, *device, *at);
            wire::put_bytes(to, payload)?;
        }
        Record::Describe { floor, device, kind, payload, at } => {
            put_optional_floor(to, floor.as_ref());
            to.extend_from_slice(&device.0);
            wire::put_u64(to, at.0);
            to.push(describe_code(*kind));
            wire::put_bytes(to, payload)?;
        }
        Record::Subscribed { floor, device, subscription } => {
            wire::put_floor(to, floor);
            to.extend_from_slice(&device.0);
            put_subscription(to, subscription)?;
            to.extend_from_slice(subscription.publisher.as_ref().map_or(&[], |publisher| &publisher.0));
        }
        Record::Event { floor, event } => put_event(to, floor.as_ref(), event)?,
        Record::Seen { floor } => wire::put_floor(to, floor),
    }
    Ok(())
}

fn take_body(from: &mut Take<'_>, kind: u8, version: u8) -> Result<Record, Malformed> {
    Ok(match kind {
        OPENED => Record::SessionOpened(StoredSession { id_on_wire: version != UNLABELLED, ..from.session()? }),
        RETIRED => {
            let (connection, device) = (from.connection()?, from.device()?);
            Record::SessionRetired { connection, device, reason: take_reason(from)?, at: from.time()? }
        }
        MOVED => Record::SessionMoved { connection: from.connection()?, path: from.path()? },
        HELLO => {
            let (floor, device, at) = take_origin(from)?;
            Record::Hello { floor, device, payload: from.bytes()?.to_vec(), at }
        }
        DESCRIBE => {
            let floor = take_optional_floor(from)?;
            let (device, at) = (from.device()?, from.time()?);
            let kind = take_describe(from)?;
            Record::Describe { floor, device, kind, payload: from.bytes()?.to_vec(), at }
        }
        SUBSCRIBED => {
            let (floor, device, mut subscription) = (from.floor()?, from.device()?, take_subscription(from)?);
            if version == NARROWED {
                subscription.publisher = Some(from.device()?);
            }
            Record::Subscribed { floor, device, subscription }
        }
        GOODBYE => {
            let (floor, device, at) = take_origin(from)?;
            Record::Goodbye { floor, device, payload: from.bytes()?.to_vec(), at }
        }
        EVENT => take_event(from)?,
        _ => Record::Seen { floor: from.floor()? },
    })
}

fn put_origin(to: &mut Vec<u8>, floor: &Floor, device: DeviceId, at: UnixMillis) {
    wire::put_floor(to, floor);
    to.extend_from_slice(&device.0);
    wire::put_u64(to, at.0);
}

fn take_origin(from: &mut Take<'_>) -> Result<(Floor, DeviceId, UnixMillis), Malformed> {
    Ok((from.floor()?, from.device()?, from.time()?))
}

/// All but the publisher.
pub(super) fn put_subscription(to: &mut Vec<u8>, subscription: &Subscription) -> Result<(), TooLong> {
    to.push(match subscription.handler {
        HandlerKind::Text => 1,
        HandlerKind::Binary => 2,
        HandlerKind::Cbor => 3,
    });
    wire::put_text(to, &subscription.prefix)
}

pub(super) fn take_subscription(from: &mut Take<'_>) -> Result<Subscription, Malformed> {
    let handler = match from.u8()? {
        1 => HandlerKind::Text,
        2 => HandlerKind::Binary,
        3 => HandlerKind::Cbor,
        _ => return Err(Malformed("an unknown kind of handler")),
    };
    Ok(Subscription::new(from.text()?, handler))
}

fn put_optional_floor(to: &mut Vec<u8>, floor: Option<&Floor>) {
    to.push(floor.is_some().into());
    if let Some(floor) = floor {
        wire::put_floor(to, floor);
    }
}

fn take_optional_floor(from: &mut Take<'_>) -> Result<Option<Floor>, Malformed> {
    from.bool()?.then(|| from.floor()).transpose()
}

fn put_event(to: &mut Vec<u8>, floor: Option<&Floor>, event: &Event) -> Result<(), TooLong> {
    put_optional_floor(to, floor);
    to.extend_from_slice(&event.id.0);
    wire::put_u64(to, event.owner.0);
    wire::put_product(to, event.product);
    match event.source {
        Source::Device(device) => {
            to.push(1);
            to.extend_from_slice(&device.0);
        }
        Source::Api => to.push(2),
        Source::Cloud => to.push(3),
    }
    wire::put_text(to, &event.name)?;
    wire::put_u16(to, event.content_format);
    wire::put_u32(to, event.ttl_s);
    wire::put_u64(to, event.published_at.0);
    to.push(event.data.is_some().into());
    event.data.as_ref().map_or(Ok(()), |data| wire::put_bytes(to, data))
}

fn take_event(from: &mut Take<'_>) -> Result<Record, Malformed> {
    let floor = take_optional_floor(from)?;
    let id = EventId(from.array()?);
    let owner = OwnerId(from.u64()?);
    let product = from.product()?;
    let source = match from.u8()? {
        1 => Source::Device(from.device()?),
        2 => Source::Api,
        3 => Source::Cloud,
        _ => return Err(Malformed("an unknown kind of publisher")),
    };
    let name = from.text()?;
    let (content_format, ttl_s, published_at) = (from.u16()?, from.u32()?, from.time()?);
    let data = from.bool()?.then(|| from.bytes()).transpose()?.map(<[u8]>::to_vec);
    let event = Event { id, owner, product, source, name, content_format, data, ttl_s, published_at };
    Ok(Record::Event { floor, event: Arc::new(event) })
}

pub(super) fn reason_code(reason: RetireReason) -> u8 {
    match reason {
        RetireReason::Replaced => 1,
        RetireReason::Revoked => 2,
        RetireReason::ClosedByDevice => 3,
        RetireReason::WrongDevice => 4,
        RetireReason::StateLost => 5,
    }
}

pub(super) fn take_reason(from: &mut Take<'_>) -> Result<RetireReason, Malformed> {
    Ok(match from.u8()? {
        1 => RetireReason::Replaced,
        2 => RetireReason::Revoked,
        3 => RetireReason::ClosedByDevice,
        4 => RetireReason::WrongDevice,
        5 => RetireReason::StateLost,
        _ => return Err(Malformed("an unknown reason")),
    })
}

fn describe_code(kind: DescribeKind) -> u8 {
    match kind {
        DescribeKind::System => 1,
        DescribeKind::Application => 2,
        DescribeKind::Metrics => 4,
    }
}

fn take_describe(from: &mut Take<'_>) -> Result<DescribeKind, Malformed> {
    Ok(match from.u8()? {
        1 => DescribeKind::System,
        2 => DescribeKind::Application,
        4 => DescribeKind::Metrics,
        _ => return Err(Malformed("an unknown kind of describe")),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::journal::test_records::{any_record, one_of_each, only_in_version_2};

    fn encoded(record: &Record) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_record(&mut bytes, record).unwrap();
        bytes
    }

    #[test]
    fn every_kind_comes_back_and_no_part_of_it_passes_for_the_whole() {
        for record in one_of_each() {
            let bytes = encoded(&record);
            assert_eq!(take_record(&mut Take(&bytes)), Ok(record));
            for len in 0..bytes.len() {
                assert!(take_record(&mut Take(&bytes[..len])).is_err());
            }
        }
    }

    #[test]
    fn version_2_is_written_only_of_what_version_1_cannot_say() {
        let [first, .., last] = only_in_version_2();
        for (old, new) in [(&one_of_each()[0], &first), (&one_of_each()[5], &last)] {
            assert_eq!((encoded(old)[1], encoded(new)[1]), (1, 2));
            let bytes = encoded(new);
            assert_eq!(take_record(&mut Take(&bytes)).as_ref(), Ok(new));
            assert!((0..bytes.len()).all(|len| take_record(&mut Take(&bytes[..len])).is_err()));
        }
    }

    #[test]
    fn unknown_kinds_and_newer_versions_are_told_apart() {
        let mut bytes = encoded(&one_of_each()[8]);
        let mut patch = |at: usize, value: u8| {
            bytes[at] = value;
            let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..6]), &bytes[RECORD_HEADER..]);
            bytes[6..RECORD_HEADER].copy_from_slice(&checksum.to_le_bytes());
            take_record(&mut Take(&bytes))
        };
        assert_eq!(patch(1, 2), Err(RecordError::NewerVersion(2)));
        assert_eq!(patch(0, 10), Err(RecordError::UnknownKind(10)));
        assert_eq!(patch(0, 0), Err(RecordError::UnknownKind(0)));
    }

    #[test]
    fn what_no_field_can_hold_is_refused() {
        let Record::Hello { floor, device, at, .. } = one_of_each()[3].clone() else { unreachable!() };
        let record = Record::Hello { floor, device, payload: vec![0; BODY_BYTES_MAX + 1], at };
        assert!(put_record(&mut Vec::new(), &record).is_err());
        let subscription = Subscription::new("x".repeat(65_536), HandlerKind::Text);
        assert!(put_record(&mut Vec::new(), &Record::Subscribed { floor, device, subscription }).is_err());
    }

    proptest! {
        #[test]
        fn any_record_comes_back(record in any_record()) {
            prop_assert_eq!(take_record(&mut Take(&encoded(&record))), Ok(record));
        }

        #[test]
        fn hostile_bodies_never_panic(kind in 0u8..12, version in 1u8..3, body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = vec![kind, version];
            bytes.extend_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
            let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes), &body);
            bytes.extend_from_slice(&checksum.to_le_bytes());
            bytes.extend_from_slice(&body);
            let _ = take_record(&mut Take(&bytes));
            let _ = take_record(&mut Take(&body));
            let _ = sift_record(&mut Take(&body), |_| true);
            let _ = sift_record(&mut Take(&bytes), |_| true);
        }
    }
}
