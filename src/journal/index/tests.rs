use std::path::Path;

use firmware_protocol::time::UnixMillis;
use proptest::prelude::*;
use router::journal::Record;

use super::*;
use crate::journal::test_records::event_of;
use crate::journal::{CompactionOptions, Journal, Options, Read, compact, remove_segments};

fn open(dir: &Path) -> Journal {
    Journal::open(dir, Options { segment_bytes: 400_000, frame_bytes: 20_000, headroom_bytes: 4_096, reserve_bytes: 0, salt: 3 }).unwrap().0
}

fn events_of(owners: impl IntoIterator<Item = u64>) -> Vec<Record> {
    owners.into_iter().map(|owner| event_of(OwnerId(owner), UnixMillis(0), Some(vec![0; 1_000]))).collect()
}

/// Positions of the account's events, and how many frames were looked at for nothing.
fn read(index: &OwnerIndex, owner: u64, from: Position) -> (Vec<u64>, usize) {
    let mut reader = OwnerReader::new(index, OwnerId(owner), from);
    let (mut found, mut passed) = (Vec::new(), 0);
    loop {
        match reader.read().unwrap() {
            Read::Event(position, event) => {
                assert_eq!(event.owner, OwnerId(owner));
                found.push(position.0);
            }
            Read::Passed { .. } => passed += 1,
            Read::Missing { .. } => panic!("nothing is damaged"),
            Read::End => return (found, passed),
        }
    }
}

#[test]
fn a_reader_of_a_rare_account_looks_at_little() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let mut index = OwnerIndex::new(journal.events());
    assert!(index.follow(u64::MAX).unwrap());
    let mut rare = Vec::new();
    for round in 0..200 {
        journal.commit(&events_of((0..10).map(|n| if (round, n) == (120, 5) { 7 } else { 1 }))).unwrap();
        if round == 120 {
            rare.push(journal.next_position().0 - 5);
        }
        if round % 30 == 0 {
            index.follow(u64::MAX).unwrap();
        }
    }
    assert!(journal.segments().sealed().len() >= 4);
    index.follow(u64::MAX).unwrap();
    let (found, passed) = read(&index, 7, Position(1));
    assert_eq!(found, rare);
    assert!(passed < 20, "{passed} of 200 frames");

    let mut anew = OwnerIndex::new(journal.events());
    anew.follow(u64::MAX).unwrap();
    assert_eq!(read(&anew, 7, Position(1)).0, rare, "what is not indexed is read as a whole");
    while anew.reach_back(None, 50_000).unwrap() {}
    assert_eq!(read(&anew, 7, Position(1)), (found, passed));
    assert_eq!(anew.blocks, index.blocks);
}

#[test]
fn what_is_gone_is_forgotten_and_what_finds_no_room_is_read_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let mut index = OwnerIndex::new(journal.events());
    index.blocks_max = 4;
    for round in 0..200 {
        journal.commit(&events_of([round % 20; 10])).unwrap();
        index.follow(u64::MAX).unwrap();
    }
    assert!(index.blocks <= 8, "{}", index.blocks);
    let all: Vec<u64> = (0..10).flat_map(|round| (0..10).map(move |n| (round * 20 + 3) * 10 + n + 1)).collect();
    assert_eq!(read(&index, 3, Position(1)).0, all);

    let covered = compact(dir.path(), &journal.segments().sealed(), CompactionOptions { forget_retired_before: UnixMillis(0) });
    let released = journal.segments().release(&covered.unwrap().unwrap(), Position(u64::MAX));
    remove_segments(dir.path(), &released).unwrap();
    index.follow(u64::MAX).unwrap();
    assert_eq!(index.segments.len(), 1);
    let oldest = journal.events().oldest();
    assert!(
        matches!(OwnerReader::new(&index, OwnerId(3), Position(5)).read(), Err(EventsError::Dropped { oldest: said, .. }) if said == oldest)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_event_of_an_account_is_found_however_much_is_indexed(
        batches in proptest::collection::vec((proptest::collection::vec(0u64..6, 0..40), 0u8..4), 1..60),
        from in any::<prop::sample::Index>(),
        back in 0usize..12,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = open(dir.path());
        let mut index = OwnerIndex::new(journal.events());
        let mut owners = Vec::new();
        for (batch, follow) in batches {
            journal.commit(&events_of(batch.iter().copied())).unwrap();
            owners.extend(batch);
            match follow {
                0 => {
                    index.follow(5_000).unwrap();
                }
                1 => {
                    index.follow(u64::MAX).unwrap();
                }
                2 => index = OwnerIndex::new(journal.events()),
                _ => {}
            }
        }
        for _ in 0..back {
            index.reach_back(Some(Position(1)), 100_000).unwrap();
        }
        let from = from.index(owners.len() + 1) as u64 + 1;
        for owner in 0..6 {
            let expected: Vec<u64> = (1..).zip(&owners).filter(|(at, of)| **of == owner && *at >= from).map(|(at, _)| at).collect();
            prop_assert_eq!(read(&index, owner, Position(from)).0, expected);
        }
    }
}
