//! `holdfast diagnose` beside a real server: whatever happens to it, the right cause comes first.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value as Json;

use crate::cli::{Server, Shell, free_tcp, free_udp};
use crate::client::send_and_wait;
use crate::device_driver::{Driver, id};
use crate::drive::Drive;

const PATIENCE: Duration = Duration::from_secs(30);
const OWNER: &str = "dev@example.com";

struct World {
    shell: Shell,
    udp: SocketAddr,
    admin: SocketAddr,
    library: Option<PathBuf>,
    server: Option<Server>,
}

impl World {
    fn new() -> Self {
        let shell = Shell::new();
        shell.add_user(OWNER);
        Self { shell, udp: free_udp(), admin: free_tcp(), library: None, server: None }
    }

    fn start() -> Self {
        let mut world = Self::new();
        world.serve(|_| {});
        world
    }

    /// One whose disk can be made sick.
    fn start_sick() -> Self {
        let mut world = Self::new();
        let library = world.shell.path().join("sick.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/loadtest/src/sick_disk.c");
        let mut compiler = Command::new(std::env::var("CC").unwrap_or_else(|_| "cc".into()));
        compiler.args(["-O2", "-shared", "-fPIC", "-o"]).arg(&library).args([source, "-ldl"]);
        assert!(compiler.status().unwrap().success(), "the shim does not compile");
        world.be("");
        world.library = Some(library);
        world.serve(|_| {});
        world
    }

    fn be(&self, sickness: &str) {
        fs::write(self.shell.path().join("sickness"), sickness).unwrap();
    }

    fn serve(&mut self, prepare: impl FnOnce(&mut Command)) {
        let faults = self.shell.path().join("faults");
        let _ = fs::remove_file(&faults);
        let (udp, admin, library, sickness) = (self.udp, self.admin, self.library.clone(), self.shell.path().join("sickness"));
        self.server = Some(Server::start_with(&self.shell, |command| {
            command.env("HOLDFAST_UDP_LISTEN", udp.to_string()).env("HOLDFAST_ADMIN_LISTEN", admin.to_string());
            command.env("HOLDFAST_LOG_FILTER", "info").env("HOLDFAST_FAULTS", faults);
            if let Some(library) = library {
                command.env("LD_PRELOAD", library).env("SICK_DISK", sickness);
            }
            prepare(command);
        }));
        // Faults come in when everything else is there.
        self.wait(|world| world.shell.path().join("faults").exists() && world.shell.path().join("data/control.sock").exists());
    }

    fn wait(&self, done: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !done(self) {
            assert!(begun.elapsed() < PATIENCE, "{}", self.shell.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn fault(&self, line: &str) {
        let mut stream = UnixStream::connect(self.shell.path().join("faults")).unwrap();
        writeln!(stream, "{line}").unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        assert_eq!(answer, "ok\n", "{line}");
    }

    fn device(&self, n: u8) -> Driver {
        Driver::new(n, self.udp, self.shell.server_key())
    }

    /// What is wrong, as JSON, and whether the command says that something is.
    fn diagnose(&self) -> (Json, bool) {
        let output = self.shell.run(&["diagnose", "--json"], "");
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(error, "", "all there is to say is said on standard output");
        (serde_json::from_slice(&output.stdout).unwrap(), output.status.success())
    }

    /// The first cause, which is the same for people.
    fn first(&self) -> (String, String) {
        let (diagnosis, is_well) = self.diagnose();
        let first = &diagnosis["causes"][0];
        let cause = first["cause"].as_str().unwrap().to_owned();
        assert_eq!(is_well, cause == "nothing", "{diagnosis:#}");
        (cause, first["sentence"].as_str().unwrap().to_owned())
    }

    /// Waits until this is the first cause.
    fn is_diagnosed(&self, cause: &str) -> String {
        let begun = Instant::now();
        loop {
            let (found, sentence) = self.first();
            if found == cause {
                return sentence;
            }
            assert!(begun.elapsed() < PATIENCE, "{cause}: {found}: {sentence}\n{:#}", self.diagnose().0);
            thread::sleep(Duration::from_millis(200));
        }
    }

    fn changes(&self) -> Vec<String> {
        let (diagnosis, _) = self.diagnose();
        diagnosis["changes"].as_array().unwrap().iter().map(|change| change["what"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn a_healthy_server_has_nothing_and_says_which_build_and_configuration_it_is() {
    let mut world = World::start();
    let mut driver = world.device(1);
    world.shell.add_device(1, 1, OWNER);
    driver.connect();
    world.is_diagnosed("nothing");
    let text = world.shell.text(&["diagnose"]);
    assert!(text.starts_with("Nothing is wrong") && text.contains("What changed in the last 24 hours"), "{text}");
    let (diagnosis, _) = world.diagnose();
    let (status, progress) = (&diagnosis["status"], diagnosis["progress"].as_array().unwrap());
    assert!(progress.iter().any(|line| line["part"] == "shard-3" && line["stage"] == "apply" && line["ago_ms"].is_u64()), "{diagnosis:#}");
    let metrics = send_and_wait(world.admin.port(), "GET /metrics HTTP/1.1", "").text();
    let config = status["config"].as_str().unwrap();
    for line in [
        format!("holdfast_config_info{{hash=\"{config}\"}} 1"),
        format!("holdfast_build_info{{revision={},version={}}} 1", status["revision"], status["version"]),
        "holdfast_process_start_time_seconds 1".to_owned(),
    ] {
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }
    let shown = world.shell.text(&["status"]);
    assert!(shown.contains(&format!("configuration {config}")), "{shown}");
    assert!(world.shell.log().contains(config), "{}", world.shell.log());
    let changes = world.changes();
    assert!(
        changes[0].contains("keys of 1 devices were registered") && changes.last().unwrap().contains("own keys were made"),
        "{changes:?}"
    );

    world.server.take().unwrap().stop();
    let (cause, sentence) = world.first();
    assert_eq!((cause.as_str(), sentence.starts_with("No server runs in ")), ("no server", true), "{sentence}");
    assert_eq!(world.changes()[0], "stopped in order");
}

#[test]
fn a_frozen_shard_is_named_while_it_stands_and_after_the_process_has_ended() {
    let mut world = World::start();
    world.fault("freeze shard-3 apply");
    thread::sleep(Duration::from_millis(1_500));
    let (cause, sentence) = world.first();
    world.fault("thaw shard-3");
    assert!(cause == "frozen shard" && sentence.starts_with("shard-3 ") && sentence.contains(" in apply"), "{cause}: {sentence}");
    world.is_diagnosed("nothing");

    world.fault("freeze terminator-0 receive");
    assert_eq!(world.server.take().unwrap().killed_by(), Some(Signal::SIGABRT));
    let (diagnosis, _) = world.diagnose();
    let first = &diagnosis["causes"][0];
    assert!(first["for"].as_str().unwrap().contains("terminator-0 has stalled in receive"), "{first:#}");
    world.serve(|_| {});
    let sentence = world.is_diagnosed("stuck terminator");
    assert!(sentence.contains("terminator-0 has stalled in receive"), "{sentence}");
    assert!(world.changes()[0].contains("after the process before said: holdfast: terminator-0"), "{:?}", world.changes());
}

#[test]
fn a_server_that_is_stopped_by_a_signal_is_told_from_one_that_is_gone() {
    let world = World::start();
    let server = world.server.as_ref().unwrap();
    server.signal(Signal::SIGSTOP);
    let (cause, sentence) = world.first();
    server.signal(Signal::SIGCONT);
    assert!(cause == "no server" && sentence.contains("is stopped by a signal"), "{cause}: {sentence}");
    assert_eq!(world.is_diagnosed("machine"), "The machine does not give the server its time: it is overloaded, or was paused.");
}

#[test]
fn a_disk_that_is_full_or_hangs_is_named() {
    let world = World::start_sick();
    world.shell.add_device(1, 1, OWNER);
    let mut driver = world.device(1);
    driver.connect();
    world.be("l");
    let token = world.shell.text(&["token", "create", "--expires-in", "90d"]).trim().to_owned();
    let head = format!("POST /v1/devices/events HTTP/1.1\r\nAuthorization: Bearer {token}");
    let publish = || world.server.as_ref().unwrap().send(&head, &format!("name=full&data={}", "x".repeat(1_000))).status;
    world.wait(|_| (0..200).any(|_| publish() != 200));
    let sentence = world.is_diagnosed("full disk");
    assert!(sentence.contains("events are refused"), "{sentence}");
    world.be("");
    world.wait(|_| publish() == 200);
    world.is_diagnosed("nothing");

    world.be("s");
    let waiting = driver.publish("temperature", b"21.5");
    driver.run_for(Duration::from_millis(2_000));
    world.is_diagnosed("slow store");
    world.be("");
    driver.run_until(PATIENCE, |driver| driver.published(waiting));
}

#[test]
fn a_registry_that_is_gone_is_named() {
    let world = World::start();
    let (file, aside) = (world.shell.path().join("data/registry.db"), world.shell.path().join("aside"));
    fs::rename(&file, &aside).unwrap();
    let sentence = world.is_diagnosed("registry");
    assert!(sentence.contains("its file was removed or replaced"), "{sentence}");
    fs::rename(&aside, &file).unwrap();
    world.is_diagnosed("nothing");
}

#[test]
fn keys_that_were_imported_wrong_are_named() {
    let world = World::start();
    world.shell.add_device(1, 1, OWNER);
    let mut driver = world.device(1);
    driver.connect();
    world.shell.text(&["device", "remove", &id(1).to_string()]);
    world.shell.add_device(1, 2, OWNER);
    driver.restart();
    let begun = Instant::now();
    while world.first().0 != "keys" {
        assert!(begun.elapsed() < 2 * PATIENCE, "{:#}", world.diagnose().0);
        driver.run_for(Duration::from_millis(500));
    }
    let (_, sentence) = world.first();
    assert!(sentence.contains("keys of 1 devices were registered by command"), "{sentence}");
}

#[test]
fn a_limit_that_was_lowered_is_named_with_what_it_was_before() {
    let mut world = World::start();
    world.shell.add_device(1, 1, OWNER);
    world.server.take().unwrap().stop();
    world.serve(|command| {
        command.env("HOLDFAST_LIMITS_DEVICE_EVENTS_PER_S", "1");
    });
    let mut driver = world.device(1);
    driver.connect();
    world.is_diagnosed("nothing");
    for _ in 0..40 {
        driver.publish("temperature", b"21.5");
        driver.run_for(Duration::from_millis(150));
    }
    let sentence = world.is_diagnosed("configuration");
    assert!(sentence.contains("limits.device_events_per_s is \"1\" and was \"20\""), "{sentence}");
    let changes = world.changes();
    assert!(changes[0].contains("after an orderly stop") && changes[1].starts_with("limits.device_events_per_s"), "{changes:?}");
    assert!(changes.iter().any(|change| change == "stopped in order"), "{changes:?}");
}

#[test]
fn log_lines_are_json_if_they_shall_be() {
    let mut world = World::new();
    world.serve(|command| {
        command.args(["--log-format", "json"]);
    });
    world.server.take().unwrap().stop();
    let log = world.shell.log();
    let lines: Vec<Json> = log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect();
    assert!(lines.len() > 3 && lines.iter().all(|line| ["timestamp", "level", "target"].iter().all(|key| line[key].is_string())), "{log}");
    assert!(lines.iter().any(|line| line["fields"]["message"] == "serving" && line["fields"]["data_dir"].is_string()), "{log}");
}
