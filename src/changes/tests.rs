//! Tests of the register: what is kept over starts, and what is not.

use std::fs;

use tempfile::TempDir;

use super::*;

const NOON: UnixMillis = UnixMillis(1_800_000_000_000);

fn later(ms: u64) -> UnixMillis {
    UnixMillis(NOON.0 + ms)
}

fn settings(pairs: &[(&str, &str)]) -> Settings {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn reopened(directory: &TempDir) -> Register {
    Register::open(directory.path()).unwrap()
}

fn said(register: &Register) -> Vec<String> {
    register.list().iter().map(|change| change.what.to_string()).collect()
}

/// How the newest start says that the process before ended.
#[test]
fn changes_outlive_the_process_and_settings_are_compared_with_the_start_before() {
    let directory = tempfile::tempdir().unwrap();
    let register = reopened(&directory);
    register.started(NOON, &settings(&[("a", "1"), ("b", "x")]), None);
    register.stopped(later(1));
    let register = reopened(&directory);
    register.started(later(2), &settings(&[("a", "2"), ("c", "y")]), None);
    register.write().unwrap();
    let changes = said(&reopened(&directory));
    assert_eq!(changes.len(), 6, "{changes:?}");
    assert!(changes[0].contains("for the first time") && changes[1] == "stopped in order", "{changes:?}");
    assert_eq!(changes[2..5], ["a is \"2\" and was \"1\"", "b is nothing and was \"x\"", "c is \"y\" and was nothing"]);
    assert!(changes[5].contains("after an orderly stop"), "{changes:?}");
}

#[test]
fn a_start_knows_how_the_process_before_ended() {
    let directory = tempfile::tempdir().unwrap();
    let words = |at: u64| Some((later(at), "holdfast: shard-3 has stalled".to_owned()));
    let start = |at: u64, words| {
        let register = reopened(&directory);
        let before = register.started(later(at), &settings(&[("a", "1")]), words);
        register.write().unwrap();
        before
    };
    assert_eq!(start(0, words(0)), Before::None, "words that somebody else left");
    assert_eq!(start(10, None), Before::Killed);
    assert_eq!(start(20, words(15)), Before::Died { at_ms: later(15).0, words: "holdfast: shard-3 has stalled".to_owned() });
    assert_eq!(start(30, words(15)), Before::Killed, "these are of the one before");
}

#[test]
fn imports_are_one_change_and_no_kind_pushes_out_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let register = reopened(&directory);
    register.note(NOON, What::KeysMade);
    for n in 0..50 {
        register.note(later(n * 10_000), What::DevicesAdded { count: 1_000 });
    }
    register.note(later(500_000), What::DevicesRemoved { count: 1 });
    register.note(later(500_001), What::DevicesRemoved { count: 2 });
    register.note(later(500_002), What::DevicesAdded { count: 1 });
    register.note(later(3_600_000), What::DevicesAdded { count: 2 });
    assert_eq!(
        register.list().iter().map(|change| change.what.clone()).collect::<Vec<_>>(),
        [
            What::KeysMade,
            What::DevicesAdded { count: 50_000 },
            What::DevicesRemoved { count: 3 },
            What::DevicesAdded { count: 1 },
            What::DevicesAdded { count: 2 }
        ]
    );
    for n in 0..2_000 {
        register.note(later(n), What::Stopped);
        register.note(later(n), What::Paused { for_ms: n });
    }
    let changes = register.list();
    assert_eq!((changes.len(), changes[0].what.clone()), (5 + 2 * OF_A_KIND_MAX, What::KeysMade));
    assert_eq!(changes.last().unwrap().what, What::Paused { for_ms: 1_999 });
}

#[test]
fn what_is_noted_while_a_server_runs_is_written_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let register = reopened(&directory);
    register.keep();
    register.note(NOON, What::ClockStepped { by_ms: -3_600_000 });
    let began = std::time::Instant::now();
    while said(&reopened(&directory)) != ["the clock stepped back by 3600.0 s"] {
        assert!(began.elapsed() < Duration::from_secs(20), "it is not written");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_newer_register_is_refused_in_words_and_a_damaged_one_is_begun_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE);
    fs::write(&path, b"{\"format\":2,\"something\":\"else\"}").unwrap();
    let error = Register::open(directory.path()).unwrap_err().to_string();
    assert!(error.contains("changes is of format version 2") && error.contains("up to 1") && error.contains("Start"), "{error}");
    for bytes in [&b""[..], b"{}", b"{\"format\":0}", b"{\"format\":1}", b"{\"format\":1,\"settings\":{},\"changes\":[{\"what\":\"odd\"}]}"]
    {
        fs::write(&path, bytes).unwrap();
        assert!(matches!(read(directory.path()), Err(ChangesError::Damaged { .. })), "{bytes:?}");
        assert!(reopened(&directory).list().is_empty());
    }
}

#[test]
fn format_version_1_keeps_decoding() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(FILE), include_bytes!("../../testdata/changes/v1.json")).unwrap();
    let stored = read(directory.path()).unwrap();
    assert_eq!(stored.settings, settings(&[("limits.device_events_per_s", "20")]));
    let kinds: Vec<String> = stored.changes.iter().map(|change| change.what.to_string()).collect();
    assert_eq!(
        kinds,
        [
            "the server's own keys were made",
            "started 0.1.0 (383c087) with configuration 00112233445566aa, for the first time",
            "keys of 12 devices were registered by command",
            "3 devices were removed by command",
            "the clock stepped forward by 2.5 s",
            "the process did not run for 4.0 s",
            "shard-3 had stalled in apply and was taken over",
            "stopped in order",
            "limits.device_events_per_s is \"20\" and was nothing",
            "the registry was migrated from version 1 to 2",
            "started 0.1.0 (unknown) with configuration 00112233445566aa, after the process before said: holdfast: the watchdog has stalled",
            "restored from the backup of 2026-11-21T10:00:00.000Z",
        ]
    );
    let bytes = stored.bytes();
    fs::write(directory.path().join(FILE), bytes).unwrap();
    assert_eq!(read(directory.path()).unwrap(), stored, "and is written so that it reads back");
}
