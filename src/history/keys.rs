//! Keys and values of the history's database. Numbers are big-endian, so that keys sort by them.
//!
//! | keyspace | key | value |
//! |---|---|---|
//! | `records` | device 12, time u64, position u64 | owner u64, payload |
//! | `by_time` | time u64, position u64, device 12 | length of the payload u32 |
//! | `latest` | device 12 | position u64, time u64, owner u64, payload |
//! | `resets` | device 12 | position u64, time u64, owner u64, reason |
//! | `state` | `format`, `cursor`, `bytes` | u64 |

use firmware_protocol::id::{DeviceId, OwnerId};
use firmware_protocol::time::UnixMillis;
use router::event::Position;

use super::Record;

/// Key of a record.
pub(super) fn record(device: DeviceId, at: UnixMillis, position: Position) -> Vec<u8> {
    [&device.0[..], &at.0.to_be_bytes(), &position.0.to_be_bytes()].concat()
}

/// Key of the same record in order of time.
pub(super) fn by_time(device: DeviceId, at: UnixMillis, position: Position) -> Vec<u8> {
    [&at.0.to_be_bytes()[..], &position.0.to_be_bytes(), &device.0].concat()
}

/// What a key in order of time says; `None` if it is none.
pub(super) fn read_by_time(key: &[u8]) -> Option<(UnixMillis, Position, DeviceId)> {
    let (at, rest) = number(key)?;
    let (position, rest) = number(rest)?;
    Some((UnixMillis(at), Position(position), DeviceId::from_slice(rest)?))
}

/// Value of a record.
pub(super) fn value(owner: OwnerId, payload: &[u8]) -> Vec<u8> {
    [&owner.0.to_be_bytes()[..], payload].concat()
}

/// A record from its key and value; `None` if they are none.
pub(super) fn read_record(key: &[u8], value: &[u8]) -> Option<Record> {
    let (at, _) = number(key.get(DeviceId::LEN..)?)?;
    let (owner, payload) = number(value)?;
    Some(Record { owner: OwnerId(owner), at: UnixMillis(at), payload: payload.to_vec() })
}

/// Value that knows its time and position.
pub(super) fn placed(position: Position, record: &Record) -> Vec<u8> {
    let Record { owner, at, payload } = record;
    [&position.0.to_be_bytes()[..], &at.0.to_be_bytes(), &owner.0.to_be_bytes(), payload].concat()
}

/// What such a value says; `None` if it is none.
pub(super) fn read_placed(value: &[u8]) -> Option<(Position, Record)> {
    let (position, rest) = number(value)?;
    let (at, rest) = number(rest)?;
    let (owner, payload) = number(rest)?;
    Some((Position(position), Record { owner: OwnerId(owner), at: UnixMillis(at), payload: payload.to_vec() }))
}

/// A number, and what follows it.
pub(super) fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u64::from_be_bytes(*number), rest))
}
