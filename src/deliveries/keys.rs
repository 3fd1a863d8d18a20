//! Keys of the database. Numbers are big-endian, so that keys sort by them.
//!
//! | keyspace | key | value |
//! |---|---|---|
//! | `events` | position u64 | the event, as a record of the journal |
//! | `holders` | position u64, hook 12 | time of the event u64: which hooks have a delivery of it |
//! | `pending` | hook 12, position u64 | delivery that is due in order |
//! | `waiting` | hook 12, position u64 | delivery that is retried out of order |
//! | `retries` | hook 12, due u64, position u64 | nothing: those of `waiting` by the time they are due |
//! | `finished` | hook 12, position u64 | delivery that is done with |
//! | `by_finish` | time u64, hook 12, position u64 | bytes that are kept for it u32 |
//! | `dead` | hook 12, position u64 | time u64: those of `finished` that were not delivered, and not in a replay either |
//! | `attempts` | hook 12, position u64, number u16 | attempt |
//! | `counters` | hook 12 | counters |
//! | `standings` | hook 12 | how the hook is, as JSON |
//! | `jobs` | job u64 | replay, as JSON |
//! | `replays` | job u64, position u64 | attempts u16, due u64: deliveries that are to be made again |
//! | `state` | `format`, `cursor`, `shift`, `expired_upto`, `finished_bytes`, `last_job` | u64 |
//! | | `totals` | counters |
//! | | `removing` and hook 12 | nothing: hooks whose deliveries are being removed |

use firmware_protocol::time::UnixMillis;
use router::event::Position;
use webhooks::delivery::DeliveryId;
use webhooks::hook::HookId;

use super::bytes::Take;

/// Length of a hook's id.
const HOOK_LEN: usize = 12;
/// Before a hook that is being removed, in `state`.
pub(super) const REMOVING: &[u8] = b"removing";

/// Key of a delivery.
pub(super) fn delivery(id: DeliveryId) -> [u8; 20] {
    let mut key = [0; 20];
    key[..HOOK_LEN].copy_from_slice(&id.hook.0);
    key[HOOK_LEN..].copy_from_slice(&id.position.0.to_be_bytes());
    key
}

/// What such a key says; `None` if it is none.
pub(super) fn read_delivery(key: &[u8]) -> Option<DeliveryId> {
    let mut take = Take(key);
    let id = DeliveryId { hook: HookId(take.array()?), position: Position(take.u64()?) };
    take.end(id)
}

/// Key of an attempt.
pub(super) fn attempt(id: DeliveryId, number: u16) -> [u8; 22] {
    let mut key = [0; 22];
    key[..20].copy_from_slice(&delivery(id));
    key[20..].copy_from_slice(&number.to_be_bytes());
    key
}

/// Key of a delivery by the time it is due.
pub(super) fn retry(id: DeliveryId, due: UnixMillis) -> [u8; 28] {
    let mut key = [0; 28];
    key[..HOOK_LEN].copy_from_slice(&id.hook.0);
    key[HOOK_LEN..20].copy_from_slice(&due.0.to_be_bytes());
    key[20..].copy_from_slice(&id.position.0.to_be_bytes());
    key
}

/// What such a key says; `None` if it is none.
pub(super) fn read_retry(key: &[u8]) -> Option<(DeliveryId, UnixMillis)> {
    let mut take = Take(key);
    let (hook, due, position) = (HookId(take.array()?), UnixMillis(take.u64()?), Position(take.u64()?));
    take.end((DeliveryId { hook, position }, due))
}

/// Key of a delivery by the time it was done with.
pub(super) fn by_finish(at: UnixMillis, id: DeliveryId) -> [u8; 28] {
    let mut key = [0; 28];
    key[..8].copy_from_slice(&at.0.to_be_bytes());
    key[8..].copy_from_slice(&delivery(id));
    key
}

/// What such a key says; `None` if it is none.
pub(super) fn read_by_finish(key: &[u8]) -> Option<(UnixMillis, DeliveryId)> {
    let mut take = Take(key);
    let at = UnixMillis(take.u64()?);
    Some((at, read_delivery(take.0)?))
}

/// Key of a hook that holds an event.
pub(super) fn holder(id: DeliveryId) -> [u8; 20] {
    let mut key = [0; 20];
    key[..8].copy_from_slice(&id.position.0.to_be_bytes());
    key[8..].copy_from_slice(&id.hook.0);
    key
}

/// What such a key says; `None` if it is none.
pub(super) fn read_holder(key: &[u8]) -> Option<DeliveryId> {
    let mut take = Take(key);
    let (position, hook) = (Position(take.u64()?), HookId(take.array()?));
    take.end(DeliveryId { hook, position })
}

/// Key of a number.
pub(super) fn number(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// What such a key, or a value that is a number, says; `None` if it is none.
pub(super) fn read_number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

/// Key of a delivery that is made again.
pub(super) fn replay(job: u64, position: Position) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&job.to_be_bytes());
    key[8..].copy_from_slice(&position.0.to_be_bytes());
    key
}

/// What such a key says; `None` if it is none.
pub(super) fn read_replay(key: &[u8]) -> Option<(u64, Position)> {
    let mut take = Take(key);
    let read = (take.u64()?, Position(take.u64()?));
    take.end(read)
}

/// Key of a hook that is being removed.
pub(super) fn removing(hook: HookId) -> Vec<u8> {
    [REMOVING, &hook.0].concat()
}

/// What such a key says; `None` if it is none.
pub(super) fn read_removing(key: &[u8]) -> Option<HookId> {
    key.strip_prefix(REMOVING)?.try_into().ok().map(HookId)
}
