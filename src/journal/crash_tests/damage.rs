//! Damage that no crash can cause, and files that are missing: refused, in words that name them.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use router::event::Position;
use router::journal::Record;

use super::{KEEP_TOMBSTONES, Loss, Operation, World, filled};
use crate::journal::test_records::{event, one_of_each};
use crate::journal::{EventsError, Journal, OpenError, Recovered, compact};

fn open(world: &World) -> Result<(Journal, Recovered), OpenError> {
    Journal::open(&world.path(), world.options)
}

fn change(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 4], at).unwrap();
}

/// Three commits in one segment, and where each starts and the last ends.
fn three_commits() -> (World, PathBuf, [u64; 4]) {
    let mut world = World::new(1 << 20, 1 << 20);
    let mut ends = [44; 4];
    for (index, number) in (0..3).enumerate() {
        world.commit(&[Record::Event { floor: None, event: event(number) }]);
        ends[index + 1] = world.journal.end().1;
    }
    let (path, _) = world.journal.end();
    (world, path, ends)
}

#[test]
fn damage_in_what_was_synced_is_refused_with_file_and_offset() {
    let (world, path, ends) = three_commits();
    let clean = fs::read(&path).unwrap();
    for at in ends[0]..ends[2] {
        change(&path, at);
        let start = if at < ends[1] { ends[0] } else { ends[1] };
        match open(&world).unwrap_err() {
            OpenError::SyncedDataDamaged { path: named, offset, witness } => {
                assert_eq!((named, offset), (path.clone(), start));
                assert!(witness > start);
            }
            other => panic!("{other}"),
        }
        fs::write(&path, &clean).unwrap();
    }
    for at in 0..ends[0] {
        change(&path, at);
        assert!(matches!(open(&world).unwrap_err(), OpenError::Damaged { offset: 0, .. }));
        fs::write(&path, &clean).unwrap();
    }
}

#[test]
fn a_torn_end_is_cut_and_reported() {
    let (world, path, ends) = three_commits();
    let clean = fs::read(&path).unwrap();
    for at in ends[2]..ends[3] {
        change(&path, at);
        let (_, recovered) = open(&world).unwrap();
        let tail = recovered.report.torn_tail.unwrap();
        assert_eq!((&tail.segment, tail.offset, tail.bytes_cut), (&path, ends[2], ends[3] - ends[2]));
        assert_eq!(recovered.next_position, Position(3));
        assert_eq!(fs::metadata(&path).unwrap().len(), ends[2]);
        fs::write(&path, &clean).unwrap();
    }
}

#[test]
fn a_frame_that_is_missing_is_missed_even_if_it_has_no_event() {
    let mut world = World::new(1 << 20, 1 << 20);
    let mut ends = vec![44];
    for _ in 0..3 {
        world.commit(&one_of_each()[..1]);
        ends.push(usize::try_from(world.journal.end().1).unwrap());
    }
    let (path, _) = world.journal.end();
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, [&bytes[..ends[1]], &bytes[ends[2]..]].concat()).unwrap();
    assert!(matches!(open(&world).unwrap_err(), OpenError::SyncedDataDamaged { .. }));
}

#[test]
fn a_payload_that_looks_like_a_frame_proves_nothing() {
    let (foreign, path, ends) = three_commits();
    let frames = fs::read(path).unwrap()[usize::try_from(ends[1]).unwrap()..].to_vec();
    drop(foreign);
    let mut world = World::new(1 << 20, 1 << 20);
    world.options.salt = 0x1234;
    fs::remove_dir_all(world.path()).unwrap();
    world.reopen();
    let mut hostile = (*event(1)).clone();
    hostile.data = Some(frames);
    let hostile = Record::Event { floor: None, event: hostile.into() };
    world.crash(&[hostile], &Loss::Blocks(vec![2, 0, 0, 0, 0, 0]));
    assert_eq!(world.records, []);
}

#[test]
fn damage_in_a_sealed_segment_is_refused() {
    let world = filled();
    let sealed = *world.journal.segments().sealed().last().unwrap();
    let path = sealed.path(&world.path());
    let clean = fs::read(&path).unwrap();
    for at in 0..clean.len() {
        change(&path, at as u64);
        assert!(matches!(open(&world).unwrap_err(), OpenError::Damaged { path: named, .. } if named == path));
        fs::write(&path, &clean).unwrap();
    }
    fs::write(&path, &clean[..44]).unwrap();
    open(&world).unwrap_err();
}

#[test]
fn a_segment_that_is_missing_is_named() {
    let count = filled().journal.segments().sealed().len() as u64 + 1;
    for number in 1..=count {
        let world = filled();
        let file = fs::read_dir(world.path()).unwrap().map(|entry| entry.unwrap().path());
        let wanted = format!("-{number:012}.segment");
        fs::remove_file(file.into_iter().find(|path| path.to_str().unwrap().ends_with(&wanted)).unwrap()).unwrap();
        let opened = open(&world);
        match number {
            // The snapshot covers the first, and nothing says that its events are still wanted. The loss of the last is a crash away from
            // never having made it; but for that its directory entry was synced before it was used.
            1 => drop(opened.unwrap()),
            last if last == count => drop(opened.unwrap()),
            _ => assert!(matches!(opened.unwrap_err(), OpenError::MissingSegment { number: named, .. } if named == number)),
        }
    }
}

#[test]
fn without_a_snapshot_the_first_segment_is_needed_and_with_one_the_next() {
    let world = filled();
    for entry in fs::read_dir(world.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().unwrap() == "segment" {
            fs::remove_file(path).unwrap();
        }
    }
    let next = world.covered.unwrap().segment() + 1;
    assert!(matches!(open(&world).unwrap_err(), OpenError::MissingSegment { number, .. } if number == next));

    let world = filled();
    let covered = world.covered.unwrap();
    world.remove(&covered, world.journal.next_position());
    fs::remove_file(world.path().join(format!("{:012}.snapshot", covered.segment()))).unwrap();
    assert!(matches!(open(&world).unwrap_err(), OpenError::MissingSegment { number: 1, .. }));
}

#[test]
fn a_damaged_snapshot_is_passed_over_only_if_the_segments_since_the_last_are_there() {
    let mut world = filled();
    let first = world.covered.unwrap();
    world.run(Operation::Compact);
    let second = world.covered.unwrap();
    assert!(second.segment() > first.segment());
    let newest = world.path().join(format!("{:012}.snapshot", second.segment()));
    change(&newest, 100);
    let (_, recovered) = open(&world).unwrap();
    assert_eq!(recovered.state, world.state_with(&[]));
    assert_eq!(recovered.report.snapshot, Some(first.segment()));
    assert!(matches!(&recovered.report.damaged_snapshots[..], [OpenError::Damaged { path, .. }] if *path == newest));

    world.remove(&second, world.journal.next_position());
    assert!(matches!(open(&world).unwrap_err(), OpenError::Damaged { path, .. } if path == newest));
    change(&newest, 100);
    assert_eq!(open(&world).unwrap().1.state, world.state_with(&[]));
}

#[test]
fn compaction_does_not_vouch_for_a_segment_that_has_lost_its_end() {
    let world = filled();
    let sealed = world.journal.segments().sealed();
    let path = sealed.last().unwrap().path(&world.path());
    let length = fs::metadata(&path).unwrap().len();
    File::options().write(true).open(&path).unwrap().set_len(44).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(length).unwrap();
    assert!(compact(&world.path(), &sealed, KEEP_TOMBSTONES).is_err());
}

#[test]
fn a_process_that_follows_keeps_the_names_and_removes_the_unfinished() {
    let mut world = filled();
    let unfinished = world.path().join("000000000009.snapshot.tmp");
    fs::write(&unfinished, b"half").unwrap();
    let recovered = world.reopen();
    assert_eq!(recovered.state, world.state_with(&[]));
    assert!(!unfinished.exists());
    assert_eq!(recovered.report.snapshot, Some(world.covered.unwrap().segment()));
}

#[test]
fn segments_are_dropped_when_covered_and_no_longer_wanted_and_readers_are_told() {
    let mut world = filled();
    let covered = world.covered.unwrap();
    assert_eq!(world.remove(&covered, Position(1)), []);
    let dropped = world.remove(&covered, Position(u64::MAX));
    assert_eq!(dropped.last().unwrap().number(), covered.segment(), "no segment beyond the snapshot");
    let oldest = covered.next_position();
    match world.journal.events().read_from(Position(1)).unwrap_err() {
        EventsError::Dropped { wanted, oldest: named } => assert_eq!((wanted, named), (Position(1), oldest)),
        other => panic!("{other}"),
    }
    assert_eq!(world.journal.events().read_from(oldest).unwrap().next_event().unwrap().unwrap().0, oldest);
    let last = world.journal.events().last();
    assert!(matches!(world.journal.events().read_from(Position(last.0 + 2)), Err(EventsError::NotYet { .. })));
    assert_eq!(world.journal.events().read_from(last.next()).unwrap().next_event().unwrap(), None);
    world.reopen();
    world.check_events();
}
