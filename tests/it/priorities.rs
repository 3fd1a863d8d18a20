//! What the kernel knows of the server's threads: those that serve devices come before those that serve callers, and passwords come last.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::cli::{Server, Shell};

/// The niceness of each kind of thread, numbers left off; how many of each there are at most.
type Kinds = BTreeMap<String, (i32, usize)>;

fn kinds(pid: u32) -> Kinds {
    let mut kinds = Kinds::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        // A thread may end between its name being listed and read.
        let Ok(stat) = fs::read_to_string(task.unwrap().path().join("stat")) else { continue };
        let (name, rest) = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')')).unwrap();
        let niceness = rest.split_whitespace().nth(16).and_then(|text| text.parse().ok()).unwrap();
        let name = name.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('-');
        let kind = kinds.entry(name.to_owned()).or_insert((niceness, 0));
        // One that has just begun may not have been lowered yet.
        *kind = (kind.0.max(niceness), kind.1 + 1);
    }
    kinds
}

#[test]
fn devices_come_first_then_callers_and_passwords_last() {
    let shell = Shell::new();
    shell.add_user("dev@example.com");
    let server = Server::start(&shell);
    let (mut seen, mut passwords, over) = (Kinds::new(), 0, AtomicBool::new(false));
    let form = "grant_type=password&username=dev@example.com&password=wrong&client_id=particle&client_secret=particle";
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    server.send("POST /oauth/token HTTP/1.1", form);
                }
            });
        }
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(20) && seen.get("passwords").is_none_or(|kind| kind.0 < 19) {
            for (name, (niceness, count)) in kinds(server.pid()) {
                passwords = passwords.max(if name == "passwords" { count } else { 0 });
                let kind = seen.entry(name).or_insert((niceness, count));
                kind.0 = kind.0.max(niceness);
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    let niceness = |name: &str| seen.get(name).unwrap_or_else(|| panic!("no thread {name} among {seen:?}")).0;
    let own = rustix::process::getpriority_process(None).unwrap();
    for name in ["terminator", "terminator-tcp", "shard", "journal", "fan-out", "watchdog", "takeover"] {
        assert_eq!(niceness(name), own, "{name}");
    }
    for (name, expected) in [("handshakes", 5), ("handshakes-tcp", 5), ("compaction", 5), ("api", 10), ("passwords", 19)] {
        assert_eq!(niceness(name), expected, "{name}");
    }
    assert!((1..=2).contains(&passwords), "{passwords}");
}
