use std::fs;
use std::path::Path;

use firmware_protocol::time::UnixMillis;
use router::journal::Record;

use super::*;
use crate::journal::frame::{FRAME_HEADER, FrameHeader, checksum};
use crate::journal::segment::SEGMENT_HEADER;
use crate::journal::test_records::event;
use crate::journal::{CompactionOptions, Journal, Options, Tail, TailRead, compact};

const OPTIONS: Options = Options { segment_bytes: 3_000, frame_bytes: 700, headroom_bytes: 512, reserve_bytes: 0, salt: 5 };

fn commit(journal: &mut Journal, batches: u64) {
    for _ in 0..batches {
        let batch: Vec<_> = (0..3).map(|number| Record::Event { floor: None, event: event(number) }).collect();
        journal.commit(&batch).unwrap();
    }
}

fn counted(journal: &Journal) -> Census {
    let mut census = Census::new(journal.events());
    while !census.count(Position(1), journal.events().last(), 500).unwrap() {}
    census
}

/// What every position is followed by.
fn found(census: &Census, last: u64) -> Vec<u64> {
    (0..=last).map(|position| census.found_after(Position(position)).unwrap()).collect()
}

/// Takes the second frame out of a segment as somebody would who knows the format: the rest follows each other without a flaw.
fn take_out_a_frame(path: &Path) -> u64 {
    let bytes = fs::read(path).unwrap();
    let mut frames = Vec::new();
    let mut at = SEGMENT_HEADER;
    while let Some(header) = bytes[at..].first_chunk::<FRAME_HEADER>().and_then(|bytes| FrameHeader::parse(bytes).ok()) {
        let len = usize::try_from(header.frame_len()).unwrap();
        frames.push((header, bytes[at..at + len].to_vec()));
        at += len;
    }
    let (gone, _) = frames.remove(1);
    let (mut chain, mut written) = (frames[0].0.previous, bytes[..SEGMENT_HEADER].to_vec());
    for (_, mut frame) in frames {
        frame[44..48].copy_from_slice(&chain.to_le_bytes());
        chain = checksum(&frame);
        frame[48..52].copy_from_slice(&chain.to_le_bytes());
        written.extend(frame);
    }
    fs::write(path, written).unwrap();
    gone.events.into()
}

#[test]
fn an_unharmed_journal_has_every_event_whenever_it_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path(), OPTIONS).unwrap();
    let mut census = Census::new(journal.events());
    for round in 1..20 {
        commit(&mut journal, round % 5);
        let last = journal.events().last();
        while !census.count(Position(1), last, 1_000).unwrap() {}
        commit(&mut journal, 1);
        assert_eq!(found(&census, last.0), (0..=last.0).rev().collect::<Vec<_>>(), "what came after was not counted");
        assert_eq!(census.missing(), 0);
        while !census.reach_back(1_000).unwrap() {}
    }
    assert!(journal.segments().sealed().len() > 3);
    let census = counted(&journal);
    assert_eq!(census.found_after(Position(7)).unwrap(), journal.events().last().0 - 7, "also by somebody who comes late");
}

#[test]
fn a_frame_that_was_taken_out_with_care_is_missed_by_who_counts_and_by_who_reads() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path(), OPTIONS).unwrap();
    commit(&mut journal, 60);
    let sealed = journal.segments().sealed();
    compact(dir.path(), &sealed, CompactionOptions { forget_retired_before: UnixMillis(0) }).unwrap();
    drop(journal);
    let gone = take_out_a_frame(&sealed[1].path(dir.path()));
    // A snapshot stands for the segment, so that a start does not read it.
    let (journal, _) = Journal::open(dir.path(), OPTIONS).unwrap();
    let (census, last) = (counted(&journal), journal.events().last());
    assert_eq!((last, census.missing()), (Position(180), gone));
    assert_eq!(census.found_after(Position(0)).unwrap(), 180 - gone);
    assert_eq!(census.found_after(sealed[1].next).unwrap(), 180 - sealed[1].next.0, "later segments are whole");

    let (mut tail, mut read, mut missing) = (Tail::after(journal.events(), Position(0)), 0, 0);
    loop {
        match tail.read(|_| true).unwrap() {
            TailRead::Event(..) => read += 1,
            TailRead::Missing { from, before } => missing += before.0 - from.0,
            TailRead::Passed => {}
            TailRead::Expired { .. } => panic!("nothing expired"),
            TailRead::End => break,
        }
    }
    assert_eq!((read, missing, tail.reached()), (180 - gone, gone, last));
}

#[test]
fn a_damaged_segment_ends_where_it_cannot_be_read_and_reading_goes_on_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path(), OPTIONS).unwrap();
    commit(&mut journal, 60);
    let damaged = journal.segments().sealed()[1];
    let path = damaged.path(dir.path());
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(&path, bytes).unwrap();
    let missing = counted(&journal).missing();
    assert!((1..damaged.next.0 - damaged.id.first.0).contains(&missing), "{missing}");
    let mut tail = Tail::after(journal.events(), Position(0));
    let mut said = 0;
    while tail.reached() < journal.events().last() {
        if let TailRead::Missing { from, before } = tail.read(|_| true).unwrap() {
            said += before.0 - from.0;
            assert_eq!(before, damaged.next);
        }
    }
    assert_eq!(said, missing);
}
