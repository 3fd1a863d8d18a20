use std::path::Path;
use std::sync::Arc;

use firmware_protocol::id::{OwnerId, ProductId};
use firmware_protocol::time::UnixMillis;
use proptest::prelude::*;
use router::event::{NewEvent, Source};
use router::journal::Record;

use super::*;
use crate::journal::{CompactionOptions, Journal, Options, Read, compact, remove_segments};

fn open(dir: &Path) -> Journal {
    Journal::open(dir, Options { segment_bytes: 400_000, frame_bytes: 20_000, headroom_bytes: 4_096, reserve_bytes: 0, salt: 3 }).unwrap().0
}

/// An account with this number, and a product if there is a second one.
fn whose(owner: u64, product: Option<u32>) -> Whose {
    Whose { owner: OwnerId(owner), product: product.map(ProductId) }
}

fn owner(number: u64) -> Audience {
    Audience::Owner(OwnerId(number))
}

fn product(number: u32) -> Audience {
    Audience::Product(ProductId(number))
}

fn events_of(all: impl IntoIterator<Item = Whose>) -> Vec<Record> {
    let event = |Whose { owner, product }| {
        let data = Some(vec![0; 1_000]);
        let new = NewEvent { owner, product, source: Source::Api, name: "a".into(), content_format: 0, data, ttl_s: 60 };
        Record::Event { floor: None, event: Arc::new(new.accept(UnixMillis(0), [0; 10])) }
    };
    all.into_iter().map(event).collect()
}

/// Positions of the events that an audience hears of, and how many frames were looked at for nothing.
fn read(index: &AudienceIndex, audience: Audience, from: Position) -> (Vec<u64>, usize) {
    let mut reader = AudienceReader::new(index, audience, from);
    let (mut found, mut passed) = (Vec::new(), 0);
    loop {
        match reader.read().unwrap() {
            Read::Event(position, event) => {
                assert!(audience.hears(&event));
                found.push(position.0);
            }
            Read::Passed { .. } => passed += 1,
            Read::Missing { .. } => panic!("nothing is damaged"),
            Read::End => return (found, passed),
        }
    }
}

#[test]
fn a_reader_of_a_rare_account_or_product_looks_at_little() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let mut index = AudienceIndex::new(journal.events());
    assert!(index.follow(u64::MAX).unwrap());
    let mut expected = Vec::new();
    for round in 0..200 {
        let rare = |n| if (round, n) == (120, 5) { whose(7, Some(10_001)) } else { whose(1, Some(10_000)) };
        journal.commit(&events_of((0..10).map(rare))).unwrap();
        if round == 120 {
            expected.push(journal.next_position().0 - 5);
        }
        if round % 30 == 0 {
            index.follow(u64::MAX).unwrap();
        }
    }
    assert!(journal.segments().sealed().len() >= 4);
    index.follow(u64::MAX).unwrap();
    for audience in [owner(7), product(10_001)] {
        let (found, passed) = read(&index, audience, Position(1));
        assert_eq!(found, expected);
        assert!(passed < 20, "{passed} of 200 frames");
    }

    let mut anew = AudienceIndex::new(journal.events());
    anew.follow(u64::MAX).unwrap();
    assert_eq!(read(&anew, owner(7), Position(1)).0, expected, "what is not indexed is read as a whole");
    while anew.reach_back(None, 50_000).unwrap() {}
    assert_eq!(read(&anew, owner(7), Position(1)), read(&index, owner(7), Position(1)));
    assert_eq!(anew.blocks, index.blocks);
}

#[test]
fn what_is_gone_is_forgotten_and_what_finds_no_room_is_read_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let mut index = AudienceIndex::new(journal.events());
    index.blocks_max = 4;
    for round in 0..200 {
        journal.commit(&events_of([whose(round % 20, None); 10])).unwrap();
        index.follow(u64::MAX).unwrap();
    }
    assert!(index.blocks <= 8, "{}", index.blocks);
    let all: Vec<u64> = (0..10).flat_map(|round| (0..10).map(move |n| (round * 20 + 3) * 10 + n + 1)).collect();
    assert_eq!(read(&index, owner(3), Position(1)).0, all);

    let covered = compact(dir.path(), &journal.segments().sealed(), CompactionOptions { forget_retired_before: UnixMillis(0) });
    let released = journal.segments().release(&covered.unwrap().unwrap(), Position(u64::MAX));
    remove_segments(dir.path(), &released).unwrap();
    index.follow(u64::MAX).unwrap();
    assert_eq!(index.segments.len(), 1);
    let oldest = journal.events().oldest();
    assert!(
        matches!(AudienceReader::new(&index, owner(3), Position(5)).read(), Err(EventsError::Dropped { oldest: said, .. }) if said == oldest)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_event_of_an_account_or_product_is_found_however_much_is_indexed(
        batches in proptest::collection::vec((proptest::collection::vec(0u64..6, 0..40), 0u8..4), 1..60),
        from in any::<prop::sample::Index>(),
        back in 0usize..12,
        // One in so many events is of a product.
        one_in in 1usize..4,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = open(dir.path());
        let mut index = AudienceIndex::new(journal.events());
        let mut all = Vec::new();
        for (batch, follow) in batches {
            let of = |(number, owner): (usize, u64)| whose(owner, (number % one_in == 0).then_some(u32::try_from(number % 4).unwrap()));
            let batch: Vec<Whose> = (all.len()..).zip(batch).map(of).collect();
            journal.commit(&events_of(batch.iter().copied())).unwrap();
            all.extend(batch);
            match follow {
                0 => {
                    index.follow(5_000).unwrap();
                }
                1 => {
                    index.follow(u64::MAX).unwrap();
                }
                2 => index = AudienceIndex::new(journal.events()),
                _ => {}
            }
        }
        for _ in 0..back {
            index.reach_back(Some(Position(1)), 100_000).unwrap();
        }
        let from = from.index(all.len() + 1) as u64 + 1;
        for audience in (0..6).map(owner).chain((0..4).map(product)) {
            let heard = (1..).zip(&all).filter(|(at, whose)| audience.hears_of(**whose) && *at >= from);
            let expected: Vec<u64> = heard.map(|(at, _)| at).collect();
            prop_assert_eq!(read(&index, audience, Position(from)).0, expected);
        }
    }
}
