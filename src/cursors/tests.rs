use std::sync::atomic::AtomicUsize;
use std::thread;

use firmware_protocol::id::OwnerId;
use firmware_protocol::time::UnixMillis;
use proptest::prelude::*;
use router::journal::Record;

use super::*;
use crate::journal::test_records::event_of;
use crate::journal::{CompactionOptions, Journal, Options, Tail, TailRead, compact, remove_segments};

const OPTIONS: Options = Options { segment_bytes: 4_000, frame_bytes: 2_000, headroom_bytes: 1_024, reserve_bytes: 0, salt: 11 };
const HOUR_MS: u64 = 3_600_000;

fn batch(owner: u64, times: &[u64]) -> Vec<Record> {
    times.iter().map(|at| event_of(OwnerId(owner), UnixMillis(*at), None)).collect()
}

fn world() -> (tempfile::TempDir, Journal, Cursors) {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(&dir.path().join("journal"), OPTIONS).unwrap();
    let cursors = Cursors::open(&dir.path().join("cursors"), journal.events()).unwrap();
    (dir, journal, cursors)
}

fn at(position: u64) -> Mark {
    Mark { position: Position(position), ledger: Ledger { delivered: position, ..Ledger::default() } }
}

#[test]
fn a_cursor_is_one_sinks_and_comes_back_after_a_restart() {
    let (dir, mut journal, cursors) = world();
    journal.commit(&batch(1, &[0; 9])).unwrap();
    assert_eq!(cursors.slowest(), None);
    let mut hooks = cursors.take("hooks", Position(2)).unwrap();
    let mut amqp = cursors.take("amqp", Position(0)).unwrap();
    assert!(matches!(cursors.take("hooks", Position(0)), Err(CursorError::Taken(_))));
    hooks.commit(at(4)).unwrap();
    amqp.commit(at(9)).unwrap();
    assert_eq!(cursors.slowest(), Some(("hooks".into(), Position(4))));
    drop((hooks, amqp, cursors));
    let cursors = Cursors::open(&dir.path().join("cursors"), journal.events()).unwrap();
    assert_eq!(cursors.slowest(), Some(("hooks".into(), Position(4))));
    let hooks = cursors.take("hooks", Position(0)).unwrap();
    assert_eq!((hooks.origin(), hooks.mark()), (Position(2), &at(4)));
}

#[test]
fn a_cursor_goes_neither_back_nor_ahead_of_the_journal() {
    let (dir, mut journal, cursors) = world();
    journal.commit(&batch(1, &[0; 9])).unwrap();
    let mut cursor = cursors.take("hooks", Position(0)).unwrap();
    cursor.commit(at(7)).unwrap();
    assert!(matches!(cursor.commit(at(6)), Err(CursorError::Backwards { .. })));
    assert!(matches!(cursor.commit(at(10)), Err(CursorError::Ahead { .. })));
    assert!(matches!(cursors.take("amqp", Position(10)), Err(CursorError::Ahead { .. })));
    cursor.commit(at(9)).unwrap();
    let (other, _) = Journal::open(&dir.path().join("other"), OPTIONS).unwrap();
    let refused = Cursors::open(&dir.path().join("cursors"), other.events()).unwrap_err();
    let refused = refused.to_string();
    assert!(
        refused.starts_with("the cursor hooks is at position 9, but the journal's last event is 0: the journal has lost its end"),
        "{refused}"
    );
}

#[test]
fn names_and_reasons_are_bounded() {
    let (_dir, _journal, cursors) = world();
    for bad in ["", "Hooks", "a/b", "..", "a.b", &"x".repeat(NAME_BYTES_MAX + 1)] {
        assert!(matches!(cursors.take(bad, Position(0)), Err(CursorError::BadName(_))), "{bad}");
    }
    let mut cursor = cursors.take("hooks", Position(0)).unwrap();
    let with = |reasons: usize| {
        let rejected = (0..reasons).map(|n| (format!("{n:0>NAME_BYTES_MAX$}"), u64::MAX)).collect();
        Mark { position: Position(0), ledger: Ledger { rejected, ..Ledger::default() } }
    };
    assert!(matches!(cursor.commit(with(REASONS_MAX + 1)), Err(CursorError::TooMany(REASONS_MAX))));
    cursor.commit(with(REASONS_MAX)).unwrap();
    drop(cursor);
    assert_eq!(cursors.take("hooks", Position(0)).unwrap().mark(), &with(REASONS_MAX));
}

#[test]
fn after_a_failed_write_a_cursor_stays_where_it_was() {
    let (_dir, mut journal, cursors) = world();
    journal.commit(&batch(1, &[0; 9])).unwrap();
    let mut cursor = cursors.take("hooks", Position(0)).unwrap();
    cursor.commit(at(3)).unwrap();
    cursor.file.break_off();
    assert!(matches!(cursor.commit(at(4)), Err(CursorError::Io { .. })));
    assert!(matches!(cursor.commit(at(4)), Err(CursorError::Broken(_))));
    assert_eq!((cursor.mark(), cursors.slowest()), (&at(3), Some(("hooks".into(), Position(3)))));
}

#[test]
fn what_expired_before_it_was_read_is_said_and_reading_goes_on() {
    let (dir, mut journal, cursors) = world();
    let journal_dir = dir.path().join("journal");
    for _ in 0..100 {
        journal.commit(&batch(1, &[0; 3])).unwrap();
    }
    let cursor = cursors.take("hooks", Position(4)).unwrap();
    let mut tail = Tail::after(journal.events(), cursor.mark().position);
    let first = loop {
        if let TailRead::Event(position, _) = tail.read(|_| true).unwrap() {
            break position;
        }
    };
    assert_eq!(first, Position(5));
    let covered = compact(&journal_dir, &journal.segments().sealed(), CompactionOptions { forget_retired_before: UnixMillis(0) });
    let released = journal.segments().release(&covered.unwrap().unwrap(), Position(200));
    remove_segments(&journal_dir, &released).unwrap();
    let (mut seen, mut expired) = (5, None);
    loop {
        match tail.read(|_| true).unwrap() {
            TailRead::Event(position, _) => {
                assert_eq!(position.0, seen + 1, "what the open segment still had, and what came after the gap");
                seen = position.0;
            }
            TailRead::Passed => {}
            TailRead::Missing { .. } => panic!("nothing is damaged"),
            TailRead::Expired { from, before } => {
                assert_eq!((from.0, before, expired), (seen + 1, journal.events().oldest(), None));
                expired = Some(before.0 - from.0);
                seen = before.0 - 1;
            }
            TailRead::End => break,
        }
    }
    assert_eq!((seen, tail.reached()), (300, Position(300)));
    assert!(expired.is_some_and(|count| count > 100), "{expired:?}");
}

#[test]
fn a_journal_that_lost_its_end_is_found_out_and_stays_so() {
    let (dir, mut journal, cursors) = world();
    journal.commit(&batch(1, &[0; 9])).unwrap();
    let mut cursor = cursors.take("hooks", Position(2)).unwrap();
    cursor.commit(at(4)).unwrap();
    journal.commit(&batch(1, &[0; 3])).unwrap();
    assert_eq!((cursors.standing("hooks").unwrap().seen, cursors.standing("hooks").unwrap().accepted(Position(12))), (Position(9), 10));
    cursor.witness().unwrap();
    assert_eq!(cursors.standing("hooks").unwrap().seen, Position(12));
    let (mut other, _) = Journal::open(&dir.path().join("other"), OPTIONS).unwrap();
    other.commit(&batch(1, &[0; 7])).unwrap();
    drop((cursor, cursors));
    for _ in 0..2 {
        let cursors = Cursors::open(&dir.path().join("cursors"), other.events()).unwrap();
        drop(cursors.take("hooks", Position(0)).unwrap());
        let standing = cursors.standing("hooks").unwrap();
        assert_eq!((standing.lost, standing.seen, standing.mark.clone()), (5, Position(7), at(4)));
        assert_eq!(standing.accepted(Position(20)), 18 + 5, "what comes after does not make up for it");
    }
}

#[test]
fn a_cursor_that_nobody_has_can_be_removed() {
    let (_dir, mut journal, cursors) = world();
    journal.commit(&batch(1, &[0; 9])).unwrap();
    let cursor = cursors.take("hooks", Position(2)).unwrap();
    assert!(matches!(cursors.remove("hooks"), Err(CursorError::Taken(_))));
    drop(cursor);
    cursors.remove("hooks").unwrap();
    assert_eq!((cursors.names(), cursors.slowest()), (Vec::new(), None));
    assert_eq!(cursors.take("hooks", Position(7)).unwrap().origin(), Position(7), "a new one");
}

/// One sink: it acts on events, commits now and then, and crashes now and then. What it did after its last commit counts as not done.
fn sink(cursors: &Cursors, events: &Events, name: &str, crashes: &[u8], writers: &AtomicUsize) -> Vec<u64> {
    let mut done = Vec::new();
    for life in 0.. {
        let mut cursor = cursors.take(name, Position(0)).unwrap();
        let mut tail = Tail::after(events.clone(), cursor.mark().position);
        let (mut mark, mut acted) = (cursor.mark().clone(), Vec::new());
        let life_len = crashes.get(life).map_or(usize::MAX, |len| usize::from(*len));
        for step in 0.. {
            if step == life_len {
                break;
            }
            let over = writers.load(Ordering::Acquire) == 0;
            match tail.read(|_| true).unwrap() {
                TailRead::Event(position, _) => {
                    acted.push(position.0);
                    mark.ledger.delivered += 1;
                }
                TailRead::Passed => {}
                TailRead::Expired { .. } | TailRead::Missing { .. } => panic!("nothing was removed"),
                TailRead::End if over => {
                    mark.position = tail.reached();
                    cursor.commit(mark).unwrap();
                    done.append(&mut acted);
                    return done;
                }
                TailRead::End => thread::yield_now(),
            }
            if step % 7 == 6 {
                mark.position = tail.reached();
                cursor.commit(mark.clone()).unwrap();
                done.append(&mut acted);
            }
        }
    }
    done
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn no_reader_misses_or_repeats_what_it_committed_whatever_the_clock_does(
        steps in proptest::collection::vec(proptest::collection::vec((1usize..5, -1i64..=1), 1..12), 16),
        crashes in proptest::collection::vec(proptest::collection::vec(0u8..60, 0..6), 3),
    ) {
        let (_dir, journal, cursors) = world();
        let (events, journal, writers) = (journal.events(), Mutex::new(journal), AtomicUsize::new(16));
        let read: Vec<Vec<u64>> = thread::scope(|scope| {
            for (owner, steps) in (0..).zip(&steps) {
                let (journal, writers) = (&journal, &writers);
                scope.spawn(move || {
                    let mut clock = 1_000 * HOUR_MS;
                    for (count, hours) in steps {
                        clock = clock.saturating_add_signed(hours * 3_600_000);
                        journal.lock().unwrap().commit(&batch(owner, &vec![clock; *count])).unwrap();
                    }
                    writers.fetch_sub(1, Ordering::AcqRel);
                });
            }
            let sinks: Vec<_> = crashes.iter().enumerate().map(|(index, crashes)| {
                let (cursors, events, writers) = (&cursors, &events, &writers);
                scope.spawn(move || sink(cursors, events, &format!("sink-{index}"), crashes, writers))
            }).collect();
            sinks.into_iter().map(|sink| sink.join().unwrap()).collect()
        });
        let total = steps.iter().flatten().map(|(count, _)| *count as u64).sum::<u64>();
        for (index, read) in read.into_iter().enumerate() {
            prop_assert_eq!(read, (1..=total).collect::<Vec<_>>());
            let cursor = cursors.take(&format!("sink-{index}"), Position(0)).unwrap();
            prop_assert_eq!(cursor.mark(), &at(total));
        }
    }
}
