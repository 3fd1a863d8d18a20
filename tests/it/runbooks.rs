//! Every command of every runbook does something, on a server that is well. What belongs to the machine and not to Holdfast is stood in for where a
//! test cannot have it: of that, only the words are there.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::cli::{Server, Shell, free_tcp};
use crate::client::send_and_wait;

/// Stock is taken five seconds after the start, and what it counts is asked for.
const PATIENCE: Duration = Duration::from_secs(30);
/// What runbooks take for granted.
const ADMIN: &str = "127.0.0.1:8081";
const DATA_DIR: &str = "/var/lib/holdfast";
/// Programs of the machine that a test cannot have, or must not use.
const STOOD_IN_FOR: [&str; 7] = ["systemctl", "journalctl", "iostat", "dmesg", "timedatectl", "sysctl", "promtool"];

/// The commands of each runbook, in order.
fn commands() -> BTreeMap<String, Vec<String>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runbooks");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let commands = |text: &str| text.lines().filter_map(|line| line.strip_prefix("$ ").map(str::to_owned)).collect();
    files.map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), commands(&fs::read_to_string(&path).unwrap()))).collect()
}

/// A folder with programs that say nothing and succeed, and with the server's own.
fn programs(shell: &Shell) -> String {
    let folder = shell.path().join("bin");
    fs::create_dir(&folder).unwrap();
    for name in STOOD_IN_FOR {
        fs::write(folder.join(name), "#!/bin/sh\n").unwrap();
        fs::set_permissions(folder.join(name), Permissions::from_mode(0o755)).unwrap();
    }
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_holdfast"), folder.join("holdfast")).unwrap();
    format!("{}:{}", folder.display(), std::env::var("PATH").unwrap())
}

#[test]
fn every_command_of_a_runbook_works() {
    let (shell, admin) = (Shell::new(), free_tcp());
    let path = programs(&shell);
    let server = Server::start_with(&shell, |command| {
        command.env("HOLDFAST_ADMIN_LISTEN", admin.to_string());
    });
    let begun = Instant::now();
    while !send_and_wait(admin.port(), "GET /metrics HTTP/1.1", "").text().contains("\nholdfast_sink_imbalance_messages") {
        assert!(begun.elapsed() < PATIENCE, "no stock is taken");
        thread::sleep(Duration::from_millis(100));
    }
    let data_dir = shell.path().join("data");
    let mut failed = Vec::new();
    for (runbook, commands) in commands() {
        assert!(!commands.is_empty(), "{runbook} has no command");
        for command in commands {
            let here = command.replace(ADMIN, &admin.to_string()).replace(DATA_DIR, &data_dir.to_string_lossy());
            let mut bash = Command::new("bash");
            bash.args(["-o", "pipefail", "-c", &here]).current_dir(shell.path()).env("PATH", &path).env("HOLDFAST_DATA_DIR", &data_dir);
            let output = bash.output().unwrap();
            if !output.status.success() {
                failed.push(format!("{runbook}: {command}: {} {}", output.status, String::from_utf8_lossy(&output.stderr)));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    server.stop();
}
