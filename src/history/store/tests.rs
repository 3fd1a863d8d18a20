//! Tests of the history's database against what it is meant to say.

use firmware_protocol::id::{OwnerId, ProductId};
use router::event::NewEvent;
use tempfile::TempDir;

use super::*;

const OWNER: OwnerId = OwnerId(1);
const MINE: Audience = Audience::Owner(OWNER);
const THEIRS: Audience = Audience::Owner(OwnerId(2));
const DEVICE: DeviceId = DeviceId([1; 12]);
const ALL: RangeInclusive<UnixMillis> = UnixMillis(0)..=UnixMillis(u64::MAX);

fn store() -> (TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("history")).unwrap();
    (directory, store)
}

fn event(position: u64, at: u64, name: &str, data: &str) -> (Position, Arc<Event>) {
    let new = NewEvent {
        owner: OWNER,
        product: None,
        source: Source::Device(DEVICE),
        name: name.into(),
        content_format: 0,
        data: Some(data.into()),
        ttl_s: 60,
    };
    (Position(position), Arc::new(new.accept(UnixMillis(at), [0; 10])))
}

fn vitals(position: u64, at: u64, data: &str) -> (Position, Arc<Event>) {
    event(position, at, router::vitals::EVENT, data)
}

fn texts(store: &Store, span: RangeInclusive<UnixMillis>, len_max: usize) -> Vec<String> {
    let records = store.vitals(MINE, DEVICE, span, len_max).unwrap();
    records.into_iter().map(|record| String::from_utf8(record.payload).unwrap()).collect()
}

#[test]
fn vitals_are_found_by_time_and_only_by_their_owner() {
    let (_directory, store) = store();
    store.add(&[vitals(1, 100, "a"), vitals(2, 200, "b"), vitals(3, 200, "c"), vitals(4, 300, "d")], None).unwrap();
    assert_eq!(texts(&store, ALL, 10), ["d", "c", "b", "a"]);
    assert_eq!(texts(&store, UnixMillis(200)..=UnixMillis(299), 10), ["c", "b"]);
    assert_eq!(texts(&store, ALL, 2), ["d", "c"]);
    assert_eq!(texts(&store, UnixMillis(300)..=UnixMillis(200), 2), [""; 0]);
    assert_eq!(store.vitals(THEIRS, DEVICE, ALL, 10).unwrap(), []);
    assert_eq!(store.vitals(MINE, DeviceId([2; 12]), ALL, 10).unwrap(), []);
    assert_eq!(store.last_vitals(MINE, DEVICE).unwrap().unwrap().payload, b"d");
    assert_eq!(store.last_vitals(THEIRS, DEVICE).unwrap(), None);
}

#[test]
fn what_a_device_says_in_a_product_is_found_by_both() {
    let (_directory, store) = store();
    let in_product =
        |event: (Position, Arc<Event>), number| (event.0, Arc::new(Event { product: Some(ProductId(number)), ..(*event.1).clone() }));
    let events = [
        vitals(1, 100, "before"),
        in_product(vitals(2, 200, "in it"), 7),
        in_product(vitals(3, 300, "in another"), u32::MAX),
        in_product(event(4, 300, LAST_RESET, "user"), 7),
    ];
    store.add(&events, None).unwrap();
    let found = |audience| {
        let records = store.vitals(audience, DEVICE, ALL, 10).unwrap();
        records.into_iter().map(|record| String::from_utf8(record.payload).unwrap()).collect::<Vec<_>>()
    };
    let product = |number| Audience::Product(ProductId(number));
    assert_eq!(found(MINE), ["in another", "in it", "before"]);
    assert_eq!((found(product(7)), found(product(u32::MAX)), found(product(1))), (vec!["in it".into()], vec!["in another".into()], vec![]));
    assert_eq!((store.last_vitals(product(7), DEVICE).unwrap(), store.bytes()), (None, 21));
    let last = store.last_vitals(product(u32::MAX), DEVICE).unwrap().unwrap();
    assert_eq!(last.whose, Whose { owner: OWNER, product: Some(ProductId(u32::MAX)) });
    assert_eq!(store.last_reset(product(7), DEVICE).unwrap(), store.last_reset(MINE, DEVICE).unwrap());
    assert_eq!(store.last_reset(product(7), DEVICE).unwrap().unwrap().payload, b"user");
}

/// Values as version 1 wrote them, byte by byte.
#[test]
fn what_was_written_before_there_were_products_is_read() {
    let (directory, store) = store();
    let (owner, position, at) = ([0, 0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0, 9], [0, 0, 0, 0, 0, 0, 0, 100]);
    store.records.insert([&DEVICE.0[..], &at, &position].concat(), [&owner[..], b"vitals"].concat()).unwrap();
    store.latest.insert(DEVICE.0, [&position[..], &at, &owner, b"vitals"].concat()).unwrap();
    store.resets.insert(DEVICE.0, [&position[..], &at, &owner, b"user"].concat()).unwrap();
    store.state.insert("format", 1_u64.to_be_bytes()).unwrap();
    store.sync().unwrap();
    drop(store);
    let store = Store::open(&directory.path().join("history")).unwrap();
    let record = |payload: &[u8]| Record { whose: Whose { owner: OWNER, product: None }, at: UnixMillis(100), payload: payload.to_vec() };
    assert_eq!(store.vitals(MINE, DEVICE, ALL, 10).unwrap(), [record(b"vitals")]);
    assert_eq!(store.last_vitals(MINE, DEVICE).unwrap(), Some(record(b"vitals")));
    assert_eq!(store.last_reset(MINE, DEVICE).unwrap(), Some(record(b"user")));
    assert_eq!(store.vitals(Audience::Product(ProductId(1)), DEVICE, ALL, 10).unwrap(), []);
    assert_eq!(store.number("format").unwrap(), Some(FORMAT), "an older program is told that it may not know all");
}

#[test]
fn what_is_there_already_changes_nothing() {
    let (_directory, store) = store();
    let events = [vitals(1, 100, "first"), event(2, 100, LAST_RESET, "user"), vitals(3, 200, "second")];
    store.add(&events, Some(Position(3))).unwrap();
    store.add(&events[..2], None).unwrap();
    assert_eq!((store.bytes(), store.cursor().unwrap()), (11, Position(3)));
    assert_eq!(texts(&store, ALL, 10), ["second", "first"]);
    assert_eq!(store.last_vitals(MINE, DEVICE).unwrap().unwrap().payload, b"second");
    assert_eq!(store.last_reset(MINE, DEVICE).unwrap().unwrap().payload, b"user");
}

#[test]
fn what_is_too_old_or_too_much_goes_and_the_last_stays() {
    let (_directory, store) = store();
    let events: Vec<_> = (1..=3000).map(|n| vitals(n, n, "12345678")).collect();
    store.add(&events, None).unwrap();
    let expire = |now, age_ms, bytes| {
        let limits = Limits { age_ms, bytes };
        while store.expire(UnixMillis(now), limits).unwrap() {}
        (texts(&store, ALL, 10_000).len(), store.bytes())
    };
    assert_eq!(expire(3000, 5000, Limit::Unlimited), (3000, 24_000));
    assert_eq!(expire(3000, 1500, Limit::Unlimited), (1501, 12_008));
    assert_eq!(expire(3000, 1500, Limit::AtMost(8_004)), (1000, 8_000));
    assert_eq!(expire(99_999, 0, Limit::Unlimited), (0, 0));
    assert_eq!(store.last_vitals(MINE, DEVICE).unwrap().unwrap().at, UnixMillis(3000));
}

#[test]
fn it_is_there_again_after_a_restart() {
    let (directory, store) = store();
    store.add(&[vitals(7, 100, "a")], Some(Position(9))).unwrap();
    store.sync().unwrap();
    drop(store);
    let store = Store::open(&directory.path().join("history")).unwrap();
    assert_eq!((texts(&store, ALL, 9), store.bytes(), store.cursor().unwrap()), (vec!["a".to_owned()], 1, Position(9)));
}

#[test]
fn a_database_that_cannot_be_opened_is_moved_aside() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history");
    for is_condemned in [false, true] {
        let store = Store::open(&path).unwrap();
        store.add(&[vitals(7, 100, "a")], Some(Position(9))).unwrap();
        match is_condemned {
            true => store.condemn().unwrap(),
            false => store.state.insert("format", 99_u64.to_be_bytes()).unwrap(),
        }
        store.sync().unwrap();
        drop(store);
        let store = Store::open(&path).unwrap();
        assert_eq!((texts(&store, ALL, 9).len(), store.cursor().unwrap()), (0, Position(0)));
        assert!(directory.path().join("history.broken").exists());
    }
}
