//! What tests of deliveries have in common.

use std::sync::Arc;

use firmware_protocol::id::{DeviceId, OwnerId};
use firmware_protocol::time::UnixMillis;
use router::event::{Event, EventId, Position, Source};
use tempfile::TempDir;
use webhooks::delivery::{DeliveryId, Outcome, Phase};
use webhooks::hook::HookId;

use super::*;
use crate::config::Limit;

/// The time of the event at position 0; each after it comes a second later.
pub(super) const BEGIN_MS: u64 = 1_767_225_600_000;

pub(super) const KEEP_ALL: Limits =
    Limits { pending_ms: u64::MAX, pending_bytes: Limit::Unlimited, finished_ms: u64::MAX, finished_bytes: Limit::Unlimited };

pub(super) fn hook(number: u8) -> HookId {
    HookId([number; 12])
}

pub(super) fn id(number: u8, position: u64) -> DeliveryId {
    DeliveryId { hook: hook(number), position: Position(position) }
}

pub(super) fn at(position: u64) -> UnixMillis {
    UnixMillis(BEGIN_MS + position * 1_000)
}

/// The event at a position: `number mod 3` says of which device.
pub(super) fn event(number: u64) -> Arc<Event> {
    let mut name = [0x70; 16];
    name[8..].copy_from_slice(&number.to_be_bytes());
    Arc::new(Event {
        id: EventId(name),
        owner: OwnerId(1),
        product: None,
        source: if number % 3 == 2 { Source::Api } else { Source::Device(DeviceId([u8::try_from(number % 3).unwrap(); 12])) },
        name: format!("{}/{number}", ["temperature", "humidity"][usize::try_from(number % 2).unwrap()]),
        content_format: 0,
        data: Some(vec![b'x'; usize::try_from(number % 100).unwrap()]),
        ttl_s: 60,
        published_at: at(number),
    })
}

pub(super) fn accepted(position: u64, hooks: &[u8]) -> Accepted {
    (Position(position), event(position), hooks.iter().copied().map(hook).collect())
}

/// Attempt `number`, whose outcome is `status`, or that nobody took the connection if that is 0.
pub(super) fn attempt(number: u16, status: u16) -> Attempt {
    let outcome = match status {
        0 => Outcome::Failed { phase: Phase::Connect, error: "nobody is there".to_owned() },
        status => Outcome::Answered { status, retry_after_s: (status == 429).then_some(7) },
    };
    Attempt { number, began_at: at(number.into()), took_ms: 12, request: format!("request-{number}"), outcome, answer: b"well".to_vec() }
}

pub(super) fn delivered(number: u16) -> Recorded {
    Recorded { attempt: Some(attempt(number, 200)), then: Then::Delivered }
}

pub(super) fn retried(number: u16, due: UnixMillis, out_of_order: bool) -> Recorded {
    Recorded { attempt: Some(attempt(number, 500)), then: Then::Retry { at: due, counted: u8::try_from(number).unwrap(), out_of_order } }
}

pub(super) fn rejected(number: u16, reason: Reason) -> Recorded {
    Recorded { attempt: Some(attempt(number, 0)), then: Then::Rejected(reason) }
}

pub(super) fn store() -> (TempDir, Deliveries) {
    let directory = tempfile::tempdir().unwrap();
    let store = Deliveries::open(&directory.path().join("deliveries")).unwrap();
    (directory, store)
}

pub(super) fn reopen(directory: &TempDir, store: Deliveries) -> Deliveries {
    drop(store);
    Deliveries::open(&directory.path().join("deliveries")).unwrap()
}

/// Positions of the deliveries that are to be made in order.
pub(super) fn loaded(store: &Deliveries, number: u8) -> Vec<u64> {
    let (entries, is_more) = store.reader().load(hook(number), Position(0), usize::MAX).unwrap();
    assert!(!is_more);
    entries.into_iter().map(|entry| entry.id.position.0).collect()
}

/// Positions in a list, the newest first.
pub(super) fn listed(store: &Deliveries, number: u8, filter: &Filter) -> Vec<u64> {
    let page = store.reader().list(hook(number), filter, None, 1_000).unwrap();
    assert_eq!(page.next, None);
    page.deliveries.into_iter().map(|listed| listed.id.position.0).collect()
}

/// The numbers add up, in memory as on the disk, and say what is stored.
pub(super) fn check_numbers(store: &Deliveries) {
    let mut sum = Counters::default();
    for (hook, counters) in store.hooks() {
        assert!(counters.is_balanced(), "{hook}: {counters:?}");
        assert_eq!(store.reader().counters(hook).unwrap(), counters);
        let db = store.reader().db();
        let pending = db.pending.prefix(hook.0).count() + db.waiting.prefix(hook.0).count();
        assert_eq!(counters.pending, pending as u64, "{hook}");
        assert_eq!(db.retries.prefix(hook.0).count(), db.waiting.prefix(hook.0).count(), "{hook}");
        assert_eq!(counters.dead_letters, db.dead.prefix(hook.0).count() as u64, "{hook}");
        sum.accepted += counters.accepted;
        sum.pending += counters.pending;
    }
    let totals = store.totals();
    assert!(totals.is_balanced() && totals.accepted >= sum.accepted, "{totals:?}");
    assert_eq!((store.reader().totals().unwrap(), totals.pending), (totals, sum.pending));
    let db = store.reader().db();
    let bytes: u64 = db.by_finish.iter().map(|row| u64::from(u32::from_be_bytes(row.value().unwrap()[..].try_into().unwrap()))).sum();
    assert_eq!((bytes, db.by_finish.iter().count()), (store.finished_bytes, db.finished.iter().count()));
}

/// Each event is kept as long as a delivery of it is, and no longer.
pub(super) fn check_events(store: &Deliveries) {
    let db = store.reader().db();
    let mut held: Vec<u64> = db.holders.iter().map(|row| keys::read_holder(&row.key().unwrap()).unwrap().position.0).collect();
    let places = [&db.pending, &db.waiting, &db.finished];
    assert_eq!(held.len(), places.into_iter().map(|place| place.iter().count()).sum::<usize>());
    held.dedup();
    let kept: Vec<u64> = db.events.iter().map(|row| keys::read_number(&row.key().unwrap()).unwrap()).collect();
    assert_eq!(kept, held);
}
