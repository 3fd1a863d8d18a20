//! A server in which a thread stops: it says which. One shard alone is taken over by another thread; for anything else the server ends, and after a restart
//! sessions go on. What is no stall ends nothing.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use holdfast::shards::shard_of;
use nix::sys::signal::Signal;

use crate::cli::{Server, Shell, free_udp};
use crate::device_driver::{Driver, id};
use crate::drive::Drive;

const PATIENCE: Duration = Duration::from_secs(20);

struct World {
    shell: Shell,
    server: Option<Server>,
    udp: SocketAddr,
    driver: Driver,
    takes_over: bool,
}

impl World {
    /// A server that takes shards over, or does not.
    fn start(takes_over: bool) -> Self {
        let shell = Shell::new();
        shell.add_user("dev@example.com");
        shell.add_device(1, 1, "dev@example.com");
        let (udp, server_key) = (free_udp(), shell.server_key());
        let mut world = Self { shell, server: None, udp, driver: Driver::new(1, udp, server_key), takes_over };
        world.serve();
        world.driver.connect();
        world
    }

    fn socket(&self) -> PathBuf {
        self.shell.path().join("faults")
    }

    fn serve(&mut self) {
        let (socket, udp, takes_over) = (self.socket(), self.udp, self.takes_over);
        let _ = fs::remove_file(&socket);
        self.server = Some(Server::start_with(&self.shell, |command| {
            command.env("HOLDFAST_UDP_LISTEN", udp.to_string()).env("HOLDFAST_LOG_FILTER", "info");
            command.env("HOLDFAST_FAULTS", socket).env("HOLDFAST_WATCHDOG_CURE", if takes_over { "takeover" } else { "restart" });
        }));
    }

    /// Injects a fault.
    fn fault(&self, line: &str) {
        let begun = Instant::now();
        let mut stream = loop {
            match UnixStream::connect(self.socket()) {
                Ok(stream) => break stream,
                Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
            }
            thread::sleep(Duration::from_millis(10));
        };
        writeln!(stream, "{line}").unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        assert_eq!(answer, "ok\n", "{line}");
    }

    /// The device publishes over the session that it has.
    fn device_is_served(&mut self) {
        let publish = self.driver.publish("temperature", b"21.5");
        self.driver.run_until(PATIENCE, |driver| driver.published(publish));
        assert_eq!((self.driver.published(publish), self.driver.handshakes()), (true, 1));
    }

    /// A fault after which another thread serves the shard that the device is in.
    fn is_taken_over(&mut self) {
        let took = |world: &Self| world.shell.log().matches("another thread has its devices").count();
        let before = took(self);
        self.fault(&format!("freeze {} apply", self.shard()));
        self.driver.run_for(Duration::from_millis(300));
        self.device_is_served();
        assert_eq!(took(self), before + 1, "{}", self.shell.log());
    }

    /// The shard that the device is in.
    fn shard(&self) -> String {
        format!("shard-{}", shard_of(id(1), 16))
    }

    /// Waits until so many threads have the name of that shard.
    fn has_threads(&mut self, count: usize) {
        let begun = Instant::now();
        while self.server.as_ref().unwrap().threads(&self.shard()) != count {
            assert!(begun.elapsed() < PATIENCE, "not {count} of {}", self.shard());
            self.driver.run_for(Duration::from_millis(20));
        }
    }

    /// A fault after which the process ends, and what it says then. The next one serves the device again.
    fn ends(&mut self, fault: &str, words: &str) {
        self.fault(fault);
        let signal = self.server.take().unwrap().killed_by();
        assert_eq!(signal, Some(Signal::SIGABRT), "{fault}");
        let log = self.shell.log();
        assert!(log.contains(words), "{fault}: {log}");
        self.serve();
        self.device_is_served();
    }
}

#[test]
fn a_thread_that_stops_is_named_and_after_a_restart_its_sessions_go_on() {
    let mut world = World::start(false);
    for part in
        ["shard-3 mailbox", "shard-7 apply", "shard-0 output", "terminator-0 receive", "journal mailbox", "journal commit", "fan-out read"]
    {
        let (name, stage) = part.split_once(' ').unwrap();
        world.ends(&format!("freeze {part}"), &format!("holdfast: {name} has stalled in {stage}; ending the process"));
    }
    world.ends("spin shard-5 apply", "holdfast: shard-5 has stalled in apply; ending the process");
    world.ends("panic terminator-0 timers", "a fault that was injected");
    world.ends("freeze watchdog apply", "holdfast: the watchdog has stalled; ending the process");
}

#[test]
fn a_shard_that_stops_is_taken_over_and_its_old_thread_ends_when_it_goes_on() {
    let mut world = World::start(true);
    world.is_taken_over();
    world.has_threads(2);
    world.fault(&format!("thaw {}", world.shard()));
    world.has_threads(1);
    world.device_is_served();
    let log = world.shell.log();
    assert!(log.contains("has stalled") && log.contains("its former thread goes on and ends"), "{log}");
    let status = world.shell.text(&["status"]);
    assert!(status.lines().any(|line| line.split_whitespace().take(2).eq([world.shard().as_str(), "healthy"])), "{status}");
    world.server.take().unwrap().stop();
}

#[test]
fn a_server_stops_beside_a_thread_that_never_went_on() {
    let mut world = World::start(true);
    world.is_taken_over();
    world.server.take().unwrap().stop();
}

#[test]
fn after_three_takeovers_in_ten_minutes_the_process_ends() {
    let mut world = World::start(true);
    (0..3).for_each(|_| world.is_taken_over());
    world.has_threads(4);
    let fault = format!("freeze {} apply", world.shard());
    world.ends(&fault, &format!("holdfast: {} has stalled in apply, after too many takeovers; ending the process", world.shard()));
}

#[test]
fn a_takeover_that_does_not_help_ends_the_process() {
    let mut world = World::start(true);
    world.fault("freeze takeover apply");
    let words = format!("holdfast: {} has stalled in apply, and its takeover did not help; ending the process", world.shard());
    world.ends(&format!("freeze {} apply", world.shard()), &words);
}

#[test]
fn two_shards_that_stop_at_once_are_not_taken_over() {
    let mut world = World::start(true);
    world.fault("freeze shard-2 apply");
    world.ends("freeze shard-9 apply", "has stalled in apply; ending the process");
}

/// The device's shard takes its events up no more, and passes heartbeats on.
#[test]
fn a_shard_that_does_not_serve_its_devices_is_named_by_those_who_wait() {
    let mut world = World::start(true);
    world.device_is_served();
    let shard = shard_of(id(1), 16);
    world.fault(&format!("hold shard-{shard} apply event"));
    for _ in 0..4 {
        world.driver.publish("temperature", b"21.5");
    }
    let shell = &world.shell;
    world.driver.run_until(PATIENCE, |_| shell.log().contains("its users are not served"));
    let complaint = world.shell.complaint(&["status"]);
    assert!(complaint.starts_with(&format!("error: shard-{shard} is gray in apply, says terminator-")), "{complaint}");
    world.fault(&format!("thaw shard-{shard}"));
    world.device_is_served();
    world.server.take().unwrap().stop();
}

/// What systemd is told: that the server serves, that its watchdog judges, and that it stops.
#[test]
fn a_supervisor_is_told_how_it_is() {
    let shell = Shell::new();
    let heard = UnixDatagram::bind(shell.path().join("notify")).unwrap();
    heard.set_read_timeout(Some(PATIENCE)).unwrap();
    let server = Server::start_with(&shell, |command| {
        command.env("NOTIFY_SOCKET", shell.path().join("notify"));
    });
    let hears = |state: &str| {
        let mut line = [0; 64];
        while heard.recv(&mut line).map(|len| line[..len] != *state.as_bytes()).unwrap() {}
    };
    ["READY=1", "WATCHDOG=1", "WATCHDOG=1"].iter().for_each(|state| hears(state));
    server.stop();
    hears("STOPPING=1");
}

#[test]
fn a_pause_ends_nothing() {
    let mut world = World::start(true);
    world.fault("freeze shard-3 apply");
    thread::sleep(Duration::from_millis(1_500));
    assert_eq!(world.shell.complaint(&["status"]), "error: shard-3 is slow in apply\n");
    world.fault("thaw shard-3");
    thread::sleep(Duration::from_millis(500));
    world.device_is_served();
    let status = world.shell.text(&["status"]);
    for part in ["journal", "terminator-0", "shard-15", "fan-out", "api"] {
        assert!(status.lines().any(|line| line.split_whitespace().take(2).eq([part, "healthy"])), "{status}");
    }
    let server = world.server.as_ref().unwrap();
    server.signal(Signal::SIGSTOP);
    thread::sleep(Duration::from_secs(4));
    server.signal(Signal::SIGCONT);
    thread::sleep(Duration::from_secs(1));
    world.device_is_served();
    let log = world.shell.log();
    assert!(!log.contains("has stalled"), "{log}");
    world.server.take().unwrap().stop();
    assert!(world.shell.complaint(&["status"]).starts_with("error: no server answers in "));
}
