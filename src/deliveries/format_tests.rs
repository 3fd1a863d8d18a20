//! The form of what is stored, against files that were written once and never change.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use firmware_protocol::id::DeviceId;
use firmware_protocol::time::UnixMillis;
use proptest::prelude::*;
use router::event::Position;
use webhooks::delivery::{Outcome, Phase};

use super::test_world::*;
use super::*;

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/deliveries/rows-1.txt")
}

/// Rows of every keyspace and kind, as they are written now.
fn rows() -> BTreeMap<String, String> {
    let (_directory, mut store) = store();
    store.accept(&[accepted(1, &[1, 2]), accepted(2, &[1]), accepted(3, &[1]), accepted(4, &[1]), accepted(5, &[1])], Position(7)).unwrap();
    let limited = Recorded { attempt: Some(attempt(1, 429)), then: Then::Retry { at: at(40), counted: 0, out_of_order: false } };
    let records = [
        (id(1, 1), delivered(1)),
        (id(1, 2), rejected(1, Reason::Exhausted)),
        (id(1, 3), retried(1, at(50), true)),
        (id(1, 4), limited),
        (id(2, 1), Recorded { attempt: None, then: Then::Expired }),
    ];
    store.record(at(20), &records).unwrap();
    let failure = LastFailure { at_ms: 7, status: Some(500), phase: None, error: "no".into() };
    let standing = Standing {
        health: webhooks::dispatcher::health::State::Failing,
        since_ms: 5,
        why: Some("why".into()),
        last_failure: Some(failure),
        ..Standing::default()
    };
    store.set_standings(&[(hook(1), standing)]).unwrap();
    let job = store.begin_replay(at(30), hook(1), Selection::FailedSince(3)).unwrap();
    store.fill_replay(job.id).unwrap();
    store.begin_replay(at(30), hook(2), Selection::Span { from_ms: 1, before_ms: 2 }).unwrap();
    store.begin_replay(at(30), hook(3), Selection::Positions(vec![4, 5])).unwrap();
    store.resume(Position(6)).unwrap();
    store.remove_hook(hook(3)).unwrap();
    let db = store.reader().db();
    let keyspaces = [
        ("events", &db.events),
        ("holders", &db.holders),
        ("pending", &db.pending),
        ("waiting", &db.waiting),
        ("retries", &db.retries),
        ("finished", &db.finished),
        ("by_finish", &db.by_finish),
        ("dead", &db.dead),
        ("attempts", &db.attempts),
        ("counters", &db.counters),
        ("standings", &db.standings),
        ("jobs", &db.jobs),
        ("replays", &db.replays),
        ("state", &db.state),
    ];
    let mut rows = BTreeMap::new();
    for (name, keyspace) in keyspaces {
        for row in keyspace.iter() {
            let (key, value) = row.into_inner().unwrap();
            rows.insert(format!("{name} {}", hex::encode(&key)), hex::encode(&value));
        }
    }
    rows
}

#[test]
fn rows_are_written_as_they_always_were() {
    let text: String = rows().into_iter().map(|(key, value)| format!("{key} {value}\n")).collect();
    if std::env::var_os("HOLDFAST_TEST_WRITE_GOLDEN").is_some() {
        fs::create_dir_all(golden().parent().unwrap()).unwrap();
        fs::write(golden(), &text).unwrap();
    }
    assert_eq!(fs::read_to_string(golden()).unwrap(), text);
}

#[test]
fn a_database_of_rows_that_were_written_once_is_read() {
    let (directory, store) = store();
    for line in fs::read_to_string(golden()).unwrap().lines() {
        let [keyspace, key, value] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let db = store.reader().db();
        let keyspace = match keyspace {
            "events" => &db.events,
            "holders" => &db.holders,
            "pending" => &db.pending,
            "waiting" => &db.waiting,
            "retries" => &db.retries,
            "finished" => &db.finished,
            "by_finish" => &db.by_finish,
            "dead" => &db.dead,
            "attempts" => &db.attempts,
            "counters" => &db.counters,
            "standings" => &db.standings,
            "jobs" => &db.jobs,
            "replays" => &db.replays,
            _ => &db.state,
        };
        keyspace.insert(hex::decode(key).unwrap(), hex::decode(value).unwrap()).unwrap();
    }
    let store = reopen(&directory, store);
    check_numbers(&store);
    check_events(&store);
    assert_eq!((store.cursor(), store.totals().accepted, store.jobs().count()), (Position(6), 6, 3));
    assert_eq!((loaded(&store, 1), store.reader().event(Position(5)).unwrap()), (vec![4, 5], Some(event(5))));
    let (delivery, attempts) = store.reader().show(id(1, 2)).unwrap().unwrap();
    assert_eq!((delivery.state, attempts), (State::Rejected(Reason::Exhausted), vec![attempt(1, 0)]));
    let (delivery, _) = store.reader().show(id(1, 4)).unwrap().unwrap();
    assert_eq!((delivery.due, delivery.last), (at(40), Some(Outcome::Answered { status: 429, retry_after_s: Some(7) })));
    assert_eq!(store.reader().standing(hook(1)).unwrap().unwrap().health, webhooks::dispatcher::health::State::Failing);
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    let phases = [Phase::Render, Phase::Guard, Phase::Dns, Phase::Connect, Phase::Tls, Phase::Write, Phase::Wait, Phase::Body];
    prop_oneof![
        (any::<u16>(), any::<Option<u64>>()).prop_map(|(status, retry_after_s)| Outcome::Answered { status, retry_after_s }),
        (0..phases.len(), ".{0,80}").prop_map(move |(phase, error)| Outcome::Failed { phase: phases[phase], error }),
    ]
}

fn any_delivery() -> impl Strategy<Value = Delivery> {
    let state = prop_oneof![
        Just(State::Pending),
        Just(State::Delivered),
        Just(State::Expired),
        (0..Reason::ALL.len()).prop_map(|index| State::Rejected(Reason::ALL[index])),
    ];
    let numbers = (any::<(u16, u8)>(), any::<u32>(), any::<u32>(), any::<u64>(), any::<u64>(), any::<u64>());
    (state, any::<(bool, bool)>(), numbers, any::<Option<[u8; 12]>>(), proptest::option::of(any_outcome())).prop_map(
        |(state, (out_of_order, replayed), ((attempts, counted), bytes, attempts_bytes, published, due, finished), device, last)| {
            Delivery {
                state,
                out_of_order,
                replayed,
                attempts,
                counted,
                bytes,
                attempts_bytes,
                device: device.map(DeviceId),
                published_at: UnixMillis(published),
                due: UnixMillis(due),
                finished_at: UnixMillis(finished),
                last,
            }
        },
    )
}

proptest! {
    #[test]
    fn any_delivery_and_attempt_comes_back_and_no_part_of_it_passes_for_the_whole(
        delivery in any_delivery(),
        outcome in any_outcome(),
        answer in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let bytes = delivery.to_bytes();
        prop_assert!((0..bytes.len()).all(|len| Delivery::read(&bytes[..len]).is_none()));
        prop_assert_eq!(Delivery::read(&bytes), Some(delivery));
        let attempt = Attempt { outcome, answer, ..attempt(3, 200) };
        let bytes = attempt.to_bytes();
        prop_assert!((0..bytes.len()).all(|len| Attempt::read(3, &bytes[..len]).is_none()));
        prop_assert_eq!(Attempt::read(3, &bytes), Some(attempt));
    }

    #[test]
    fn hostile_values_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for version in [0, 1] {
            bytes.iter_mut().take(1).for_each(|byte| *byte = version);
            let _ = (Delivery::read(&bytes), Attempt::read(1, &bytes), Counters::read(&bytes));
        }
    }
}
