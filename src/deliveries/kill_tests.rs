//! A process that accepts and records is killed at any moment, again and again: nothing that it said is lost, and the numbers add up.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use firmware_protocol::entropy::SeededEntropy;
use nix::libc::SIGKILL;
use router::event::Position;

use super::test_world::*;
use super::*;
use crate::config::Limit;

/// Where the process that is killed works.
const PLACE: &str = "HOLDFAST_TEST_DELIVERIES";
const CHILD: &str = "deliveries::kill_tests::work_until_killed";
const MARK: &str = "deliveries: ";
const HOOKS: u8 = 5;
const ROUNDS: u64 = 6;

/// The hooks that the event at a position has to go to.
fn hooks_of(position: u64) -> Vec<u8> {
    (0..HOOKS).filter(|number| (position / 3 + u64::from(*number)).is_multiple_of(3)).collect()
}

/// What becomes of a delivery.
fn end_of(position: u64) -> Recorded {
    match position % 7 {
        0 => rejected(1, Reason::Exhausted),
        1 => retried(1, at(position), true),
        _ => delivered(1),
    }
}

fn limits() -> Limits {
    Limits { pending_ms: u64::MAX, pending_bytes: Limit::AtMost(40_000), finished_ms: u64::MAX, finished_bytes: Limit::AtMost(300_000) }
}

#[test]
#[ignore = "it is started by another test, and killed"]
fn work_until_killed() {
    let Some(place) = std::env::var_os(PLACE).map(PathBuf::from) else { return };
    let mut store = Deliveries::open(&place).unwrap();
    say(&format!("open {}", store.cursor()));
    for round in 0..u64::MAX {
        let from = store.cursor().0 + 1;
        let batch: Vec<_> = (from..from + 50).map(|position| accepted(position, &hooks_of(position))).collect();
        store.accept(&batch, Position(from + 49)).unwrap();
        say(&format!("accepted {}", from + 49));
        for number in 0..HOOKS {
            let (entries, _) = store.reader().load(hook(number), Position(0), 20).unwrap();
            let records: Vec<_> = entries.iter().map(|entry| (entry.id, end_of(entry.id.position.0))).collect();
            store.record(at(from), &records).unwrap();
            let upto = entries.last().map_or(0, |entry| entry.id.position.0);
            say(&format!("recorded {number} {upto}"));
        }
        store.tidy(at(from), &limits()).unwrap();
        if round % 5 == 0 {
            store.sync().unwrap();
        }
    }
}

#[allow(clippy::print_stdout, reason = "that is how it tells whoever kills it")]
fn say(line: &str) {
    println!("\n{MARK}{line}");
}

/// Runs the process for a while. Returns what it said.
fn run_and_kill(place: &Path, after: Duration) -> Vec<String> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", CHILD, "--ignored", "--nocapture"]).env(PLACE, place);
    let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let output = BufReader::new(process.stdout.take().unwrap());
    let hearing = thread::spawn(move || {
        let lines = output.lines().map_while(Result::ok).filter_map(|line| line.strip_prefix(MARK).map(str::to_owned));
        lines.collect::<Vec<_>>()
    });
    thread::sleep(after);
    process.kill().unwrap();
    assert_eq!(process.wait().unwrap().signal(), Some(SIGKILL), "it ended by itself");
    hearing.join().unwrap()
}

/// Everything up to the cursor is there or counted, and all that was said is true.
fn check(store: &Deliveries, said: &[String]) {
    check_numbers(store);
    check_events(store);
    let cursor = store.cursor().0;
    for line in said {
        let words: Vec<u64> = line.split(' ').skip(1).map(|word| word.parse().unwrap()).collect();
        match line.split(' ').next() {
            Some("recorded") => {
                let number = u8::try_from(words[0]).unwrap();
                assert!(loaded(store, number).iter().all(|position| *position > words[1]), "{line}");
            }
            _ => assert!(cursor >= words[0], "{line}, and now the cursor is {cursor}"),
        }
    }
    for number in 0..HOOKS {
        let accepted = (1..=cursor).filter(|position| hooks_of(*position).contains(&number)).count() as u64;
        assert_eq!(store.counters(hook(number)).accepted, accepted);
    }
}

#[test]
fn a_process_that_is_killed_loses_nothing_that_it_said() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("deliveries");
    let mut random = SeededEntropy::new(20_260_101);
    for _ in 0..ROUNDS {
        let said = run_and_kill(&place, Duration::from_millis(30 + random.below(500)));
        let store = Deliveries::open(&place).unwrap();
        check(&store, &said);
    }
    let store = Deliveries::open(&place).unwrap();
    assert!(store.totals().delivered > 0, "it never came so far");
}
