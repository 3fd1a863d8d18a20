//! Tests of single rules.

use firmware_protocol::id::DeviceId;
use firmware_protocol::time::UnixMillis;
use router::event::Position;
use webhooks::dispatcher::Lane;

use super::test_world::*;
use super::*;
use crate::config::Limit;

const HOUR_MS: u64 = 3_600_000;

#[test]
fn what_is_accepted_is_loaded_in_order_and_its_event_is_there_once() {
    let (directory, mut store) = store();
    store.accept(&[accepted(1, &[1, 2, 1]), accepted(2, &[]), accepted(4, &[1])], Position(6)).unwrap();
    assert_eq!((loaded(&store, 1), loaded(&store, 2), store.cursor()), (vec![1, 4], vec![1], Position(6)));
    assert_eq!(store.reader().event(Position(4)).unwrap(), Some(event(4)));
    assert_eq!(store.reader().event(Position(2)).unwrap(), None, "nobody wants it");
    assert_eq!((store.counters(hook(1)).accepted, store.totals().pending), (2, 3));
    let (entries, is_more) = store.reader().load(hook(1), Position(0), 1).unwrap();
    assert!(is_more && entries[0].device == Some(DeviceId([1; 12])) && entries[0].bytes == 1);
    assert_eq!(store.reader().load(hook(1), Position(1), 1).unwrap().0[0].id, id(1, 4));
    assert_eq!(store.reader().oldest_pending(hook(1)).unwrap(), Some((Position(1), at(1))));
    let store = reopen(&directory, store);
    check_numbers(&store);
    check_events(&store);
    assert_eq!((loaded(&store, 1), store.cursor()), (vec![1, 4], Position(6)));
}

#[test]
fn events_up_to_the_cursor_are_accepted_once() {
    let (_directory, mut store) = store();
    store.accept(&[accepted(1, &[1])], Position(3)).unwrap();
    store.accept(&[accepted(1, &[1, 2]), accepted(3, &[1]), accepted(4, &[2])], Position(2)).unwrap();
    assert_eq!((loaded(&store, 1), loaded(&store, 2), store.cursor()), (vec![1], vec![4], Position(4)));
    check_numbers(&store);
}

#[test]
fn what_is_done_is_walked_over_by_nobody_and_recorded_once() {
    let (directory, mut store) = store();
    store.accept(&[accepted(1, &[1]), accepted(2, &[1]), accepted(3, &[1])], Position(3)).unwrap();
    let records = [(id(1, 1), delivered(1)), (id(1, 2), rejected(1, Reason::Gone))];
    assert_eq!(store.record(at(10), &records).unwrap(), 2);
    assert_eq!(store.record(at(11), &records).unwrap(), 0);
    assert_eq!(store.record(at(11), &[(id(1, 1), rejected(2, Reason::Exhausted)), (id(9, 9), delivered(1))]).unwrap(), 0);
    let counters = store.counters(hook(1));
    assert_eq!((counters.delivered, counters.rejected.of(Reason::Gone), counters.pending, counters.attempts), (1, 1, 1, 2));
    assert_eq!((loaded(&store, 1), counters.dead_letters), (vec![3], 1));
    let (delivery, attempts) = store.reader().show(id(1, 2)).unwrap().unwrap();
    assert_eq!((delivery.state, delivery.finished_at, attempts), (State::Rejected(Reason::Gone), at(10), vec![attempt(1, 0)]));
    let store = reopen(&directory, store);
    assert_eq!(store.counters(hook(1)), counters);
    check_numbers(&store);
}

#[test]
fn a_retry_in_order_stays_in_its_place_and_one_out_of_order_comes_when_it_is_due() {
    let (directory, mut store) = store();
    store.accept(&[accepted(1, &[1]), accepted(2, &[1]), accepted(3, &[1])], Position(3)).unwrap();
    store.record(at(10), &[(id(1, 1), retried(1, at(20), false)), (id(1, 2), retried(1, at(30), true))]).unwrap();
    let (entries, _) = store.reader().load(hook(1), Position(0), 9).unwrap();
    assert_eq!(
        entries.iter().map(|entry| (entry.id.position.0, entry.attempts, entry.due)).collect::<Vec<_>>(),
        [(1, 1, at(20)), (3, 0, UnixMillis(0))]
    );
    let retries = |store: &Deliveries, after, max| {
        let (entries, more) = store.reader().retries(hook(1), after, max).unwrap();
        (entries.iter().map(|entry| (entry.id.position.0, entry.due)).collect::<Vec<_>>(), more)
    };
    assert_eq!(retries(&store, RETRIES_START, 9), (vec![(2, at(30))], false));
    // Twice in one batch, the second time for good; and an attempt that is known already.
    let records = [
        (id(1, 2), retried(1, at(99), true)),
        (id(1, 2), retried(2, at(40), true)),
        (id(1, 2), retried(3, at(40), true)),
        (id(1, 1), retried(2, at(35), true)),
    ];
    assert_eq!(store.record(at(31), &records).unwrap(), 3);
    let mut store = reopen(&directory, store);
    check_numbers(&store);
    assert_eq!(retries(&store, RETRIES_START, 1), (vec![(1, at(35))], true));
    assert_eq!(retries(&store, (at(35), Position(1)), 1), (vec![(2, at(40))], false));
    let (due, _) = store.reader().retries(hook(1), RETRIES_START, 1).unwrap();
    assert_eq!((due[0].attempts, due[0].counted, due[0].out_of_order), (2, 2, true));
    assert_eq!(store.record(at(51), &[(id(1, 1), delivered(3)), (id(1, 2), delivered(4))]).unwrap(), 2);
    assert_eq!((retries(&store, RETRIES_START, 9).0, store.counters(hook(1)).delivered), (vec![], 2));
    check_numbers(&store);
}

#[test]
fn the_deliveries_of_one_device_are_found_among_all() {
    let (_directory, mut store) = store();
    let batch: Vec<_> = (1..=9).map(|position| accepted(position, &[1])).collect();
    store.accept(&batch, Position(9)).unwrap();
    let (entries, _) = store.reader().load(hook(1), Position(0), 9).unwrap();
    let device = entries[0].device.expect("a device published it");
    let expected: Vec<_> = entries.iter().filter(|entry| entry.device == Some(device)).map(|entry| entry.id.position).collect();
    let lane = |after, through, max| {
        let (entries, more) = store.reader().load_lane(hook(1), Lane::of(device), (after, through), max).unwrap();
        (entries.iter().map(|entry| entry.id.position).collect::<Vec<_>>(), more)
    };
    assert_eq!(lane(Position(0), Position(9), 9), (expected.clone(), false));
    assert_eq!(lane(expected[0], Position(9), 9), (expected[1..].to_vec(), false));
    assert_eq!(lane(Position(0), Position(9), 1), (expected[..1].to_vec(), expected.len() > 1));
    assert_eq!(lane(Position(0), Position(0), 9), (vec![], false));
}

#[test]
fn attempts_and_answers_are_kept_up_to_a_limit() {
    let (_directory, mut store) = store();
    store.accept(&[accepted(1, &[1])], Position(1)).unwrap();
    for number in 1..=20 {
        let mut recorded = retried(number, at(9), true);
        recorded.attempt = recorded.attempt.map(|attempt| Attempt { answer: vec![7; 5_000], request: "r".repeat(99), ..attempt });
        store.record(at(10), &[(id(1, 1), recorded)]).unwrap();
    }
    let (delivery, attempts) = store.reader().show(id(1, 1)).unwrap().unwrap();
    assert_eq!((delivery.attempts, attempts.len(), attempts[0].number), (20, 16, 5));
    assert_eq!((attempts[15].answer.len(), attempts[15].request.len()), (ANSWER_LEN_MAX, 64));
}

#[test]
fn what_is_not_delivered_in_time_expires() {
    let (directory, mut store) = store();
    let events: Vec<_> = (1..=10).map(|position| accepted(position, &[1, 2])).collect();
    store.accept(&events, Position(10)).unwrap();
    store.record(at(10), &[(id(1, 1), delivered(1)), (id(1, 2), retried(1, at(99_999), true))]).unwrap();
    let limits = Limits { pending_ms: 5_000, ..KEEP_ALL };
    let tidied = store.tidy(at(10), &limits).unwrap();
    assert_eq!((tidied.dropped.len(), tidied.is_more), (7, false));
    let mut store = reopen(&directory, store);
    let counters = store.counters(hook(1));
    assert_eq!((counters.expired, counters.delivered, counters.pending), (3, 1, 6));
    assert_eq!(listed(&store, 2, &Filter { which: Which::Expired, ..Filter::default() }), [4, 3, 2, 1]);
    assert_eq!(store.tidy(at(10), &limits).unwrap(), Tidied::default());
    check_numbers(&store);
    assert_eq!(store.record(at(11), &[(id(1, 3), delivered(1))]).unwrap(), 0, "it came too late");
}

#[test]
fn a_hook_that_has_too_much_waiting_loses_the_oldest() {
    let (_directory, mut store) = store();
    let events: Vec<_> = (80..=89).map(|position| accepted(position, &[1])).collect();
    store.accept(&events, Position(89)).unwrap();
    store.accept(&[accepted(90, &[2])], Position(90)).unwrap();
    let limits = Limits { pending_bytes: Limit::AtMost(300), ..KEEP_ALL };
    let tidied = store.tidy(at(90), &limits).unwrap();
    assert_eq!((tidied.dropped.len(), tidied.dropped[0]), (7, (id(1, 80), State::Rejected(Reason::Overflow))));
    let counters = store.counters(hook(1));
    assert_eq!((counters.rejected.of(Reason::Overflow), counters.pending_bytes, counters.dead_letters), (7, 87 + 88 + 89, 7));
    assert_eq!((loaded(&store, 1), loaded(&store, 2)), (vec![87, 88, 89], vec![90]));
    check_numbers(&store);
}

#[test]
fn finished_deliveries_go_after_a_while_or_when_they_are_too_much_and_events_with_the_last_of_theirs() {
    let (directory, mut store) = store();
    let events: Vec<_> = (1..=3000).map(|position| accepted(position, &[1, 2])).collect();
    store.accept(&events, Position(3000)).unwrap();
    for position in 1..=3000 {
        store.record(at(position), &[(id(1, position), delivered(1))]).unwrap();
    }
    let tidy = |store: &mut Deliveries, now, limits: &Limits| while store.tidy(now, limits).unwrap().is_more {};
    tidy(&mut store, at(3000), &Limits { finished_ms: 1_500_000, ..KEEP_ALL });
    assert_eq!(store.reader().list(hook(1), &Filter::default(), None, 9_999).unwrap().deliveries.len(), 1_000, "a page");
    assert_eq!(store.reader().db().finished.iter().count(), 1_501);
    check_events(&store);
    let half = store.finished_bytes / 2;
    let mut store = reopen(&directory, store);
    tidy(&mut store, at(3000), &Limits { finished_bytes: Limit::AtMost(half), ..KEEP_ALL });
    assert!(store.finished_bytes <= half && store.finished_bytes + 2_000 > half);
    // The other hook still needs all events.
    assert_eq!(store.oldest_event().unwrap(), Some(Position(1)));
    let all: Vec<_> = (1..=3000).map(|position| (id(2, position), delivered(1))).collect();
    store.record(at(3001), &all).unwrap();
    tidy(&mut store, at(3000 + 4 * 3600), &Limits { finished_ms: HOUR_MS, ..KEEP_ALL });
    check_events(&store);
    check_numbers(&store);
    assert_eq!((store.oldest_event().unwrap(), store.finished_bytes, store.totals().delivered), (None, 0, 6000));
    assert_eq!(store.reader().db().attempts.iter().count(), 0);
}

#[test]
fn a_hook_that_is_removed_goes_bit_by_bit_and_stays_counted() {
    let (directory, mut store) = store();
    let events: Vec<_> = (1..=2500).map(|position| accepted(position, &[1, 2])).collect();
    store.accept(&events, Position(2500)).unwrap();
    store.record(at(1), &[(id(1, 1), delivered(1)), (id(1, 2), retried(1, at(9), true)), (id(1, 3), rejected(1, Reason::Gone))]).unwrap();
    store.set_standings(&[(hook(1), Standing::default())]).unwrap();
    let job = store.begin_replay(at(5), hook(1), Selection::FailedSince(0)).unwrap().id;
    store.fill_replay(job).unwrap();
    store.remove_hook(hook(1)).unwrap();
    assert_eq!(store.job(job).unwrap().state, JobState::Cancelled);
    assert!(store.tidy(at(5), &KEEP_ALL).unwrap().is_more);
    let mut store = reopen(&directory, store);
    while store.tidy(at(5), &KEEP_ALL).unwrap().is_more {}
    let totals = store.totals();
    assert_eq!((totals.accepted, totals.delivered, totals.pending, totals.rejected.of(Reason::Removed)), (5000, 1, 2500, 2498));
    assert_eq!((store.counters(hook(1)), store.reader().standing(hook(1)).unwrap()), (Counters::default(), None));
    check_numbers(&store);
    check_events(&store);
}

#[test]
fn owners_find_what_they_look_for() {
    let (_directory, mut store) = store();
    let events: Vec<_> = (1..=12).map(|position| accepted(position, &[1])).collect();
    store.accept(&events, Position(12)).unwrap();
    let records = [(id(1, 1), delivered(1)), (id(1, 4), rejected(1, Reason::Exhausted)), (id(1, 7), retried(1, at(99), true))];
    store.record(at(20), &records).unwrap();
    let list = |filter: Filter| listed(&store, 1, &filter);
    let all = Filter::default;
    assert_eq!(list(all()), (1..=12).rev().collect::<Vec<_>>());
    assert_eq!(list(Filter { which: Which::Pending, ..all() }), [12, 11, 10, 9, 8, 7, 6, 5, 3, 2]);
    assert_eq!(list(Filter { which: Which::Delivered, ..all() }), [1]);
    assert_eq!(list(Filter { which: Which::Rejected, ..all() }), [4]);
    assert_eq!(list(Filter { which: Which::DeadLetters, ..all() }), [4]);
    assert_eq!(list(Filter { device: Some(DeviceId([1; 12])), ..all() }), [10, 7, 4, 1]);
    assert_eq!(list(Filter { event: Some("humid".into()), ..all() }), [11, 9, 7, 5, 3, 1]);
    assert_eq!(list(Filter { from: Some(at(3)), before: Some(at(6)), ..all() }), [5, 4, 3]);
    let page = store.reader().list(hook(1), &all(), None, 5).unwrap();
    assert_eq!((page.deliveries.len(), page.next), (5, Some(Position(8))));
    let page = store.reader().list(hook(1), &all(), page.next, 9).unwrap();
    assert_eq!((page.deliveries[0].id, page.deliveries[0].event.as_ref(), page.next), (id(1, 7), Some(&event(7)), None));
}

#[test]
fn a_list_looks_at_no_more_than_it_may() {
    let (_directory, mut store) = store();
    let events: Vec<_> = (1..=5000).map(|position| accepted(position, &[1])).collect();
    store.accept(&events, Position(5000)).unwrap();
    let filter = Filter { which: Which::Pending, event: Some("nothing".into()), ..Filter::default() };
    let (mut before, mut calls) = (None, 0);
    loop {
        let page = store.reader().list(hook(1), &filter, before, 10).unwrap();
        assert!(page.deliveries.is_empty());
        calls += 1;
        match page.next {
            Some(next) => before = Some(next),
            None => break,
        }
    }
    assert_eq!(calls, 3);
}

#[test]
fn a_replay_makes_what_failed_again_and_only_dead_letters_get_fewer() {
    let (directory, mut store) = store();
    let events: Vec<_> = (1..=6).map(|position| accepted(position, &[1])).collect();
    store.accept(&events, Position(6)).unwrap();
    let records: Vec<_> = (1..=5).map(|position| (id(1, position), rejected(1, Reason::Exhausted))).collect();
    store.record(at(10), &records[..2]).unwrap();
    store.record(at(20), &records[2..]).unwrap();
    let before = store.counters(hook(1));
    let since = Selection::FailedSince(at(15).0);
    assert_eq!(store.reader().count(hook(1), &since, Position(0)).unwrap(), Counted { found: 3, next: None });
    let job = store.begin_replay(at(30), hook(1), since.clone()).unwrap().id;
    assert_eq!(store.fill_replay(job).unwrap().queued(), 3);
    let mut store = reopen(&directory, store);
    let (entries, is_more) = store.load_replay(job, Position(0), 9).unwrap();
    assert!(!is_more && entries.iter().all(|(entry, tries)| (entry.attempts, *tries) == (1, 0)));
    let records = [
        (Position(3), delivered(2)),
        (Position(3), delivered(3)),
        (Position(4), retried(2, at(40), false)),
        (Position(5), rejected(2, Reason::Exhausted)),
        (Position(6), delivered(1)),
    ];
    let after = store.record_replay(job, &records).unwrap();
    assert_eq!((after.state, after.delivered, after.failed, after.queued()), (JobState::Running, 1, 1, 1));
    let (entries, _) = store.load_replay(job, Position(0), 9).unwrap();
    assert_eq!((entries.len(), entries[0].0.due, entries[0].1), (1, at(40), 1));
    assert_eq!(store.record_replay(job, &[(Position(4), delivered(3))]).unwrap().state, JobState::Done);
    let counters = store.counters(hook(1));
    assert_eq!((counters.replayed, counters.dead_letters, counters.rejected, counters.pending), (2, 3, before.rejected, 1));
    assert_eq!(listed(&store, 1, &Filter { which: Which::DeadLetters, ..Filter::default() }), [5, 2, 1]);
    assert!(store.reader().show(id(1, 4)).unwrap().unwrap().0.replayed);
    assert_eq!(store.reader().count(hook(1), &since, Position(0)).unwrap().found, 1);
    check_numbers(&store);
}

#[test]
fn a_replay_finds_by_id_and_by_time_and_can_be_ended() {
    let (directory, mut store) = store();
    let events: Vec<_> = (1..=3000).map(|position| accepted(position, &[1])).collect();
    store.accept(&events, Position(3000)).unwrap();
    let records: Vec<_> = (1..=3000).map(|position| (id(1, position), delivered(1))).collect();
    store.record(at(3000), &records).unwrap();
    let some = store.begin_replay(at(3001), hook(1), Selection::Positions(vec![9, 7, 9, 9_999])).unwrap().id;
    assert_eq!((store.fill_replay(some).unwrap().found, store.job(some).unwrap().state), (2, JobState::Running));
    let span = Selection::Span { from_ms: at(100).0, before_ms: at(2600).0 };
    let all = store.begin_replay(at(3001), hook(1), span).unwrap().id;
    assert_eq!(store.fill_replay(all).unwrap().queued(), QUEUE_MAX as u64);
    assert_eq!(store.fill_replay(all).unwrap().queued(), QUEUE_MAX as u64, "there is no room");
    let mut made = 0;
    while store.job(all).unwrap().state != JobState::Done && made < 2_000 {
        store = reopen(&directory, store);
        let (entries, _) = store.load_replay(all, Position(0), 500).unwrap();
        let records: Vec<_> = entries.iter().map(|(entry, _)| (entry.id.position, delivered(2))).collect();
        made += records.len();
        store.record_replay(all, &records).unwrap();
        store.fill_replay(all).unwrap();
    }
    assert_eq!(store.job(all).unwrap().delivered, 2_000);
    let ended = store.cancel_replay(all).unwrap();
    assert_eq!((ended.state, ended.queued(), store.load_replay(all, Position(0), 9).unwrap().0.len()), (JobState::Cancelled, 0, 0));
    assert!(store.record_replay(all, &[(Position(2200), delivered(3))]).unwrap().delivered == 2_000);
    // What is no longer kept when its turn comes counts as failed.
    while store.tidy(at(9_999), &Limits { finished_ms: 1, ..KEEP_ALL }).unwrap().is_more {}
    assert!(store.load_replay(some, Position(0), 9).unwrap().0.is_empty());
    assert_eq!((store.job(some).unwrap().failed, store.job(some).unwrap().state), (2, JobState::Done));
    assert!(matches!(store.fill_replay(JobId(99)), Err(DeliveriesError::NoSuch("replay"))));
    let many = Selection::Positions(vec![1; POSITIONS_MAX + 1]);
    assert!(matches!(store.begin_replay(at(1), hook(1), many), Err(DeliveriesError::TooMany(_))));
    for _ in 0..JOBS_MAX {
        store.begin_replay(at(1), hook(1), Selection::FailedSince(0)).unwrap();
    }
    assert!(matches!(store.begin_replay(at(1), hook(1), Selection::FailedSince(0)), Err(DeliveriesError::TooMany(_))));
}

#[test]
fn a_journal_that_lost_its_end_gives_positions_out_again_and_nothing_is_mixed_up() {
    let (directory, mut store) = store();
    assert_eq!(store.resume(Position(0)).unwrap(), Resumed { after: Position(0), lost: 0 });
    store.accept(&[accepted(9, &[1]), accepted(10, &[1])], Position(10)).unwrap();
    let mut store = reopen(&directory, store);
    assert_eq!(store.resume(Position(8)).unwrap(), Resumed { after: Position(8), lost: 2 });
    let mut store = reopen(&directory, store);
    assert_eq!(store.resume(Position(8)).unwrap(), Resumed { after: Position(8), lost: 0 });
    let (_, other, hooks) = accepted(77, &[1]);
    store.accept(&[(Position(9), other.clone(), hooks)], Position(9)).unwrap();
    assert_eq!((loaded(&store, 1), store.cursor(), store.position(Position(9))), (vec![9, 10, 11], Position(9), Position(11)));
    assert_eq!(store.reader().event(Position(9)).unwrap(), Some(event(9)));
    assert_eq!(store.reader().event(Position(11)).unwrap(), Some(other));
    check_numbers(&store);
}

#[test]
fn how_a_hook_is_is_there_after_a_restart() {
    let (directory, mut store) = store();
    let failure = LastFailure { at_ms: 7, status: None, phase: Some("dns".into()), error: "no such name".into() };
    let standing = Standing {
        health: webhooks::dispatcher::health::State::Open,
        since_ms: 5,
        why: Some("five in a row".into()),
        last_failure: Some(failure),
        ..Standing::default()
    };
    store.set_standings(&[(hook(1), Standing::default()), (hook(2), Standing::default()), (hook(1), standing.clone())]).unwrap();
    let store = reopen(&directory, store);
    assert_eq!(store.reader().standing(hook(1)).unwrap(), Some(standing));
    assert_eq!((store.reader().standing(hook(2)).unwrap(), store.reader().standing(hook(3)).unwrap()), (Some(Standing::default()), None));
}

#[test]
fn a_database_of_a_newer_version_is_refused_and_one_can_be_moved_aside() {
    let (directory, mut store) = store();
    store.accept(&[accepted(1, &[1])], Position(1)).unwrap();
    store.reader().db().state.insert("format", 2_u64.to_be_bytes()).unwrap();
    store.sync().unwrap();
    drop(store);
    let path = directory.path().join("deliveries");
    let error = Deliveries::open(&path).unwrap_err();
    assert!(matches!(error, DeliveriesError::Format { found: 2, known: 1 }) && error.to_string().contains("Start the version"));
    let aside = Deliveries::set_aside(&path).unwrap();
    assert!(aside.ends_with("deliveries.broken") && aside.exists());
    assert_eq!(Deliveries::open(&path).unwrap().cursor(), Position(0));
}

#[test]
fn a_torn_end_is_cut_and_read_again_from_the_journal() {
    use std::os::unix::fs::FileExt;
    let (directory, mut store) = store();
    store.accept(&[accepted(1, &[1])], Position(1)).unwrap();
    assert_eq!(store.sync().unwrap(), Position(1));
    let big: Vec<_> = (2..=200).map(|position| accepted(position, &[1, 2])).collect();
    store.accept(&big, Position(200)).unwrap();
    drop(store);
    let path = directory.path().join("deliveries");
    let log = std::fs::read_dir(&path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|ending| ending == "jnl"));
    let log = log.unwrap();
    let bytes = std::fs::read(&log).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64;
    // Letters of an event's data that never reached the disk.
    let inside = bytes.windows(40).rposition(|window| window == [b'x'; 40]).unwrap() as u64;
    assert!(inside < end);
    std::fs::OpenOptions::new().write(true).open(&log).unwrap().write_all_at(&[0; 40], inside).unwrap();
    let store = Deliveries::open(&path).unwrap();
    assert_eq!((store.cursor(), loaded(&store, 1)), (Position(1), vec![1]));
    check_numbers(&store);
    check_events(&store);
}
