//! Devices whose registration changes while they are connected, and devices whose session was lost.

use std::net::SocketAddr;
use std::time::Duration;

use firmware_protocol::crypto::PublicKey as ServerKey;
use firmware_protocol::device::DeviceEvent;
use serde_json::Value;

use crate::cli::{Server, Shell, free_udp};
use crate::device_driver::{Driver, id};
use crate::drive::Drive;

const OWNER: &str = "dev@example.com";
const PATIENCE: Duration = Duration::from_secs(20);

struct World {
    shell: Shell,
    server: Server,
    udp: SocketAddr,
    server_key: ServerKey,
}

impl World {
    fn start() -> Self {
        let shell = Shell::new();
        shell.add_user(OWNER);
        let (udp, server_key) = (free_udp(), shell.server_key());
        let server = start(&shell, udp);
        Self { shell, server, udp, server_key }
    }

    /// Device `n` has the key of device `holder`.
    fn register(&self, n: u8, holder: u8) {
        self.shell.add_device(n, holder, OWNER);
    }

    fn connected(&self, n: u8) -> Driver {
        let mut driver = Driver::new(n, self.udp, self.server_key);
        driver.connect();
        driver
    }
}

fn start(shell: &Shell, udp: SocketAddr) -> Server {
    Server::start_with(shell, |command| {
        command.env("HOLDFAST_UDP_LISTEN", udp.to_string());
    })
}

fn disconnects(driver: &Driver) -> usize {
    driver.events().iter().filter(|event| matches!(event, DeviceEvent::Disconnected { .. })).count()
}

#[test]
fn a_device_that_is_removed_or_gets_another_key_is_closed_at_once_and_refused() {
    let world = World::start();
    (1..=2).for_each(|n| world.register(n, n));
    let (mut removed, mut other) = (world.connected(1), world.connected(2));
    for rekeyed in [false, true] {
        world.shell.text(&["device", "remove", &id(1).to_string()]);
        if rekeyed {
            world.register(1, 9);
        }
        let before = disconnects(&removed);
        removed.run_until(PATIENCE, |driver| disconnects(driver) > before);
        let tries = removed.handshakes();
        removed.run_until(PATIENCE, |driver| driver.handshakes() > tries);
        removed.run_for(Duration::from_secs(1));
        assert!(!removed.is_connected(), "it tries again, in vain");
        if rekeyed {
            world.shell.text(&["device", "remove", &id(1).to_string()]);
        }
        world.register(1, 1);
        removed.run_until(Duration::from_secs(90), Drive::is_connected);
    }
    let publish = other.publish("temperature", b"21.5");
    other.run_until(PATIENCE, |driver| driver.published(publish));
    assert_eq!((other.handshakes(), disconnects(&other)), (1, 0), "its neighbour does not notice");
}

#[test]
fn a_device_whose_session_was_made_after_the_backup_is_listed_as_an_orphan() {
    let world = World::start();
    world.register(1, 1);
    let mut driver = world.connected(1);
    world.shell.text(&["backup", "backup"]);
    driver.device.forget_session();
    driver.restart();
    driver.connect();
    assert_eq!(driver.handshakes(), 2);
    let World { shell, server, udp, .. } = world;
    drop(server);
    let restored = Shell::new();
    restored.text(&["restore", shell.path().join("backup").to_str().unwrap()]);
    let _server = start(&restored, udp);
    driver.publish("temperature", b"21.5");
    let listed = |_: &Driver| restored.text(&["device", "orphans"]).contains(&id(1).to_string());
    driver.run_until(PATIENCE, listed);
    let listed: Value = serde_json::from_str(&restored.text(&["device", "orphans", "--json"])).unwrap();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["devices"]), (1, &serde_json::json!([id(1).to_string()])));
}
