//! Keys and values of the history's database. Numbers are big-endian, so that keys sort by them.
//!
//! | keyspace | key | value |
//! |---|---|---|
//! | `records` | device 12, time u64, position u64 | whose, payload |
//! | `by_time` | time u64, position u64, device 12 | length of the payload u32 |
//! | `latest` | device 12 | position u64, time u64, whose, payload |
//! | `resets` | device 12 | position u64, time u64, whose, reason |
//! | `state` | `format`, `cursor`, `bytes` | u64 |
//!
//! Whose: owner u64; if its highest bit is set, which no owner's number has, product u32 follows. Format version 1 had no products.

use firmware_protocol::id::{DeviceId, OwnerId, ProductId};
use firmware_protocol::time::UnixMillis;
use router::event::{Position, Whose};

use super::Record;

/// The bit that says that a product follows.
const HAS_PRODUCT: u64 = 1 << 63;

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
pub(super) fn value(record: &Record) -> Vec<u8> {
    let mut value = Vec::with_capacity(12 + record.payload.len());
    put_whose(&mut value, record.whose);
    value.extend_from_slice(&record.payload);
    value
}

/// A record from its key and value; `None` if they are none.
pub(super) fn read_record(key: &[u8], value: &[u8]) -> Option<Record> {
    let (at, _) = number(key.get(DeviceId::LEN..)?)?;
    let (whose, payload) = whose(value)?;
    Some(Record { whose, at: UnixMillis(at), payload: payload.to_vec() })
}

/// Value that knows its time and position.
pub(super) fn placed(position: Position, record: &Record) -> Vec<u8> {
    [&position.0.to_be_bytes()[..], &record.at.0.to_be_bytes(), &value(record)].concat()
}

/// What such a value says; `None` if it is none.
pub(super) fn read_placed(value: &[u8]) -> Option<(Position, Record)> {
    let (position, rest) = number(value)?;
    let (at, rest) = number(rest)?;
    let (whose, payload) = whose(rest)?;
    Some((Position(position), Record { whose, at: UnixMillis(at), payload: payload.to_vec() }))
}

fn put_whose(to: &mut Vec<u8>, Whose { owner, product }: Whose) {
    let flag = if product.is_some() { HAS_PRODUCT } else { 0 };
    to.extend_from_slice(&(owner.0 & !HAS_PRODUCT | flag).to_be_bytes());
    to.extend(product.into_iter().flat_map(|product| product.0.to_be_bytes()));
}

/// Whose something is, and what follows.
fn whose(bytes: &[u8]) -> Option<(Whose, &[u8])> {
    let (number, rest) = number(bytes)?;
    let owner = OwnerId(number & !HAS_PRODUCT);
    if number & HAS_PRODUCT == 0 {
        return Some((Whose { owner, product: None }, rest));
    }
    let (product, rest) = rest.split_first_chunk()?;
    Some((Whose { owner, product: Some(ProductId(u32::from_be_bytes(*product))) }, rest))
}

/// A number, and what follows it.
pub(super) fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u64::from_be_bytes(*number), rest))
}
