//! Golden files: every format version must keep decoding, and equal records must keep giving equal bytes.

use std::fs;
use std::path::{Path, PathBuf};

use firmware_protocol::time::UnixMillis;
use router::event::Position;
use router::journal::{Record, RetireReason};

use super::test_records::{event, floor, one_of_each, only_in_version_2, only_in_version_3, session};
use super::*;

const OPTIONS: Options =
    Options { segment_bytes: 1_000, frame_bytes: 700, headroom_bytes: 1, reserve_bytes: 0, salt: 0x0123_4567_89ab_cdef };

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/journal/v1")
}

fn batches() -> Vec<Vec<Record>> {
    let retired = session(6);
    let device = retired.identity.device;
    vec![
        vec![Record::SessionOpened(session(1)), Record::SessionOpened(session(2)), Record::SessionOpened(retired.clone())],
        one_of_each().to_vec(),
        vec![],
        (10..14).map(|number| Record::Event { floor: Some(floor(1, number)), event: event(number) }).collect(),
        vec![Record::SessionRetired { connection: retired.connection, device, reason: RetireReason::Revoked, at: UnixMillis(77) }],
        (14..24).map(|number| Record::Event { floor: None, event: event(number) }).collect(),
        one_of_each().to_vec(),
    ]
}

/// Writes the files as this program does.
fn write(dir: &Path) {
    let (mut journal, _) = Journal::open(dir, OPTIONS).unwrap();
    for batch in batches() {
        journal.commit(&batch).unwrap();
    }
    let sealed = journal.segments().sealed();
    assert_eq!(sealed.len(), 2);
    compact(dir, &sealed[..1], CompactionOptions { forget_retired_before: UnixMillis(0) }).unwrap().unwrap();
}

fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap())).collect();
    files.sort();
    files
}

fn copy_of_golden() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files(&golden()) {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

/// To be run by hand when a format version is added; a version that has been released never changes.
#[test]
#[ignore = "writes the golden files"]
fn write_golden_files() {
    let _ = fs::remove_dir_all(golden());
    write(&golden());
}

#[test]
fn version_1_keeps_decoding() {
    let mut expected = State::default();
    batches().iter().flatten().for_each(|record| expected.apply(record));
    for with_snapshot in [true, false] {
        let dir = copy_of_golden();
        if !with_snapshot {
            fs::remove_file(dir.path().join("000000000001.snapshot")).unwrap();
        }
        let (journal, recovered) = Journal::open(dir.path(), OPTIONS).unwrap();
        assert_eq!(recovered.state, expected);
        assert_eq!(recovered.next_position, Position(17));
        assert_eq!(recovered.report.snapshot, with_snapshot.then_some(1));
        assert_eq!(recovered.report.torn_tail, None);
        let mut reader = journal.events().read_from(Position(1)).unwrap();
        for (position, number) in [1, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 1].into_iter().enumerate() {
            assert_eq!(reader.next_event().unwrap(), Some((Position(position as u64 + 1), event(number))));
        }
        assert_eq!(reader.next_event().unwrap(), None);
    }
}

#[test]
fn version_1_is_written_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    assert!(files(dir.path()) == files(&golden()), "the format has changed: raise its version");
}

fn golden_2() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/journal/v2")
}

/// Version 2 of a snapshot, and of the records that have one. Segments and frames are as in version 1.
fn write_2(dir: &Path) {
    let (mut journal, _) = Journal::open(dir, OPTIONS).unwrap();
    for batch in [&only_in_version_2()[..], &one_of_each()[..], &only_in_version_2()[3..]] {
        journal.commit(batch).unwrap();
    }
    let sealed = journal.segments().sealed();
    assert_eq!(sealed.len(), 1);
    compact(dir, &sealed, CompactionOptions { forget_retired_before: UnixMillis(0) }).unwrap().unwrap();
}

#[test]
#[ignore = "writes the golden files"]
fn write_golden_files_of_version_2() {
    let _ = fs::remove_dir_all(golden_2());
    write_2(&golden_2());
}

#[test]
fn version_2_keeps_decoding_and_is_written_byte_for_byte() {
    let mut expected = State::default();
    only_in_version_2().iter().chain(&one_of_each()).chain(&only_in_version_2()[3..]).for_each(|record| expected.apply(record));
    for with_snapshot in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in files(&golden_2()) {
            assert!(!name.ends_with(".snapshot") || bytes[8] == 2);
            fs::write(dir.path().join(name), bytes).unwrap();
        }
        if !with_snapshot {
            fs::remove_file(dir.path().join("000000000001.snapshot")).unwrap();
        }
        let (_, recovered) = Journal::open(dir.path(), OPTIONS).unwrap();
        assert_eq!(recovered.state, expected);
    }
    let dir = tempfile::tempdir().unwrap();
    write_2(dir.path());
    assert!(files(dir.path()) == files(&golden_2()), "the format has changed: raise its version");
}

fn golden_3() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/journal/v3")
}

/// Version 3 of a snapshot. Everything else is as in version 2.
fn write_3(dir: &Path) {
    let (mut journal, _) = Journal::open(dir, OPTIONS).unwrap();
    for batch in [&one_of_each()[..], &only_in_version_3()[..], &only_in_version_2()[..]] {
        journal.commit(batch).unwrap();
    }
    compact(dir, &journal.segments().sealed(), CompactionOptions { forget_retired_before: UnixMillis(0) }).unwrap().unwrap();
}

#[test]
#[ignore = "writes the golden files"]
fn write_golden_files_of_version_3() {
    let _ = fs::remove_dir_all(golden_3());
    write_3(&golden_3());
}

#[test]
fn version_3_keeps_decoding_and_is_written_byte_for_byte() {
    let mut expected = State::default();
    one_of_each().iter().chain(&only_in_version_3()).chain(&only_in_version_2()).for_each(|record| expected.apply(record));
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files(&golden_3()) {
        assert!(!name.ends_with(".snapshot") || bytes[8] == 3);
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    let (_, recovered) = Journal::open(dir.path(), OPTIONS).unwrap();
    assert!(recovered.report.snapshot.is_some() && recovered.report.damaged_snapshots.is_empty());
    assert_eq!(recovered.state, expected);
    let dir = tempfile::tempdir().unwrap();
    write_3(dir.path());
    assert!(files(dir.path()) == files(&golden_3()), "the format has changed: raise its version");
}

#[test]
fn a_newer_segment_is_refused_in_words() {
    let dir = copy_of_golden();
    let (name, mut bytes) = files(dir.path()).into_iter().rfind(|(name, _)| name.ends_with(".segment")).unwrap();
    bytes[8] = 2;
    let checksum = crc32c::crc32c(&bytes[..40]);
    bytes[40..44].copy_from_slice(&checksum.to_le_bytes());
    fs::write(dir.path().join(name), bytes).unwrap();
    let error = Journal::open(dir.path(), OPTIONS).unwrap_err().to_string();
    assert!(error.contains("segment of format version 2") && error.contains("versions up to 1"), "{error}");
}

#[test]
fn an_unknown_kind_and_a_newer_frame_or_record_are_refused_in_words() {
    // The first frame of the last segment starts at 44, its first record at 96, that record's body at 106.
    let cases = [
        (96, 77, "unknown kind 77 at byte 96"),
        (97, 3, "record of format version 3 at byte 96"),
        (48, 2, "frame of format version 2 at byte 44"),
    ];
    for (at, value, words) in cases {
        let dir = copy_of_golden();
        let (name, mut bytes) = files(dir.path()).into_iter().rfind(|(name, _)| name.ends_with(".segment")).unwrap();
        let field = |at: usize, bytes: &[u8]| u32::from_le_bytes(*bytes[at..].first_chunk().unwrap()) as usize;
        bytes[at] = value;
        let body = 106..106 + field(98, &bytes);
        let record = crc32c::crc32c_append(crc32c::crc32c(&bytes[96..102]), &bytes[body]);
        bytes[102..106].copy_from_slice(&record.to_le_bytes());
        let frame = 44..96 + field(76, &bytes);
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes[44..92]), &bytes[96..frame.end]);
        bytes[92..96].copy_from_slice(&checksum.to_le_bytes());
        fs::write(dir.path().join(name), bytes).unwrap();
        let error = Journal::open(dir.path(), OPTIONS).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}
