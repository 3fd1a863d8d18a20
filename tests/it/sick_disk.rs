//! A server whose disk is full, hangs or fails, with a device.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use firmware_protocol::crypto::PublicKey as ServerKey;
use firmware_protocol::device::DeviceEvent;

use crate::cli::{Server, Shell, free_udp};
use crate::client::Answer;
use crate::device_driver::{Driver, id};
use crate::drive::Drive;

const PATIENCE: Duration = Duration::from_secs(20);

struct World {
    shell: Shell,
    server: Server,
    token: String,
    udp: SocketAddr,
    server_key: ServerKey,
    driver: Driver,
    sickness: PathBuf,
}

impl World {
    fn start() -> Self {
        let shell = Shell::new();
        let (library, sickness) = (shell.path().join("sick.so"), shell.path().join("sickness"));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/loadtest/src/sick_disk.c");
        let mut compiler = Command::new(std::env::var("CC").unwrap_or_else(|_| "cc".into()));
        compiler.args(["-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o"]).arg(&library).args([source, "-ldl"]);
        assert!(compiler.status().unwrap().success(), "the shim does not compile");
        fs::write(&sickness, "").unwrap();

        shell.add_user("dev@example.com");
        let token = shell.text(&["token", "create", "--expires-in", "90d"]).trim().to_owned();
        (1..=2).for_each(|n| shell.add_device(n, n, "dev@example.com"));
        let (udp, server_key) = (free_udp(), shell.server_key());
        let server = Server::start_with(&shell, |command| {
            command.env("HOLDFAST_UDP_LISTEN", udp.to_string()).env("HOLDFAST_LOG_FILTER", "info");
            command.env("LD_PRELOAD", &library).env("SICK_DISK", &sickness);
        });
        let mut driver = Driver::new(1, udp, server_key);
        driver.connect();
        Self { shell, server, token, udp, server_key, driver, sickness }
    }

    fn be(&self, sickness: &str) {
        fs::write(&self.sickness, sickness).unwrap();
    }

    fn publish(&self) -> Answer {
        let head = format!("POST /v1/devices/events HTTP/1.1\r\nAuthorization: Bearer {}", self.token);
        self.server.send(&head, &format!("name=full&data={}", "x".repeat(1_000)))
    }

    /// A device publishes; whether that was taken.
    fn device_publishes(driver: &mut Driver) -> bool {
        let publish = driver.publish("temperature", b"21.5");
        let ended = |event: &DeviceEvent| matches!(event, DeviceEvent::Published { publish: ended, .. } if *ended == publish);
        driver.run_until(PATIENCE, |driver| driver.events().iter().any(ended));
        driver.published(publish)
    }

    fn log(&self) -> String {
        self.shell.log()
    }
}

#[test]
fn on_a_full_disk_events_are_refused_sessions_begin_and_it_heals_by_itself() {
    let mut world = World::start();
    world.be("l");
    let began = Instant::now();
    let refused = loop {
        let answer = world.publish();
        if answer.status != 200 {
            break answer;
        }
        assert!(began.elapsed() < 3 * PATIENCE, "the disk is not full");
    };
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("2")));
    assert!(!World::device_publishes(&mut world.driver), "refused, and told so");
    let mut new = Driver::new(2, world.udp, world.server_key);
    new.connect();
    assert!(!World::device_publishes(&mut new));

    world.be("");
    let began = Instant::now();
    while world.publish().status != 200 {
        assert!(began.elapsed() < PATIENCE, "it does not heal");
    }
    assert!(World::device_publishes(&mut world.driver) && World::device_publishes(&mut new), "in the same sessions");
    let log = world.log();
    assert_eq!((log.matches("the disk is full").count(), log.matches("the disk has room again").count()), (1, 1), "{log}");
    world.server.stop();
}

#[test]
fn while_the_disk_hangs_a_session_is_served_and_what_waits_is_kept_in_the_end() {
    let mut world = World::start();
    world.be("s");
    let publish = world.driver.publish("temperature", b"21.5");
    world.driver.run_for(Duration::from_millis(500));
    let answered = |event: &&DeviceEvent| matches!(event, DeviceEvent::Published { .. });
    assert_eq!(world.driver.events().iter().filter(answered).count(), 0, "nothing is acknowledged before it is durable");
    let call = format!("PUT /v1/devices/{}/ping HTTP/1.1\r\nAuthorization: Bearer {}", id(1), world.token);
    let (server, driver) = (&world.server, &mut world.driver);
    let answer = std::thread::scope(|scope| {
        let asked = scope.spawn(|| server.send(&call, ""));
        driver.run_until(PATIENCE, |_| asked.is_finished());
        asked.join().unwrap()
    });
    assert_eq!((answer.status, &answer.json()["online"]), (200, &true.into()));
    // Longer than a thread may stand still: a restart would not make the disk answer.
    world.driver.run_for(Duration::from_secs(5));
    assert!(world.log().contains("has stalled part=journal stage=\"commit\""), "{}", world.log());
    world.be("");
    world.driver.run_until(PATIENCE, |driver| driver.published(publish));
    world.server.stop();
}

#[test]
fn a_failed_sync_ends_the_process_in_words() {
    let world = World::start();
    assert_eq!(world.publish().status, 200);
    world.be("f");
    let World { shell, server, token, .. } = world;
    let head = format!("POST /v1/devices/events HTTP/1.1\r\nAuthorization: Bearer {token}\r\nContent-Length: 6");
    let mut stream = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, server.port)).unwrap();
    std::io::Write::write_all(&mut stream, format!("{head}\r\n\r\nname=a").as_bytes()).unwrap();
    assert_eq!(server.ended(), Some(70));
    let log = shell.log();
    assert!(log.contains("the journal cannot be written; ending the process"), "{log}");
    let mut answer = Vec::new();
    let _ = std::io::Read::read_to_end(&mut stream, &mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "nothing is acknowledged");
}
