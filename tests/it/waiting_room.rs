//! More devices than handshakes may begin: they wait their turn, and nobody has to come again.

use std::str::FromStr;

use firmware_protocol::crypto::DeviceKeyPair;

use crate::device_driver::Driver;
use crate::drive::Drive;
use crate::sessions::Running;
use crate::tcp_driver::TcpDriver;

const DEVICES: u8 = 12;

fn told<N: FromStr + Default>(running: &Running, name: &str) -> N {
    let text = running.opened.metrics.render();
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or_default()
}

fn count(running: &Running, name: &str) -> u64 {
    told(running, name)
}

fn seconds(running: &Running, name: &str) -> f64 {
    told(running, name)
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_that_come_at_once_wait_and_handshake_once() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start_with(directory.path(), "127.0.0.1:0", "[handshakes]\nper_second = 2\n").await;
    for n in 1..=DEVICES {
        running.register(n).await;
    }
    let (server, server_key) = (running.plane.udp(), running.server_key());
    let mut drivers: Vec<Driver> = (1..=DEVICES).map(|n| Driver::new(n, server, server_key)).collect();
    let mut turns = 0;
    while !drivers.iter().all(Drive::is_connected) {
        drivers.iter_mut().for_each(Drive::turn);
        turns += 1;
        assert!(turns < 1_000, "not all are back");
    }
    assert!(drivers.iter().all(|driver| driver.handshakes() == 1));
    assert_eq!(count(&running, "holdfast_handshakes_admitted_total{transport=\"dtls\"}"), u64::from(DEVICES));
    assert!(seconds(&running, "holdfast_handshakes_waited_seconds_total{transport=\"dtls\"}") > 1.0);
    // A device repeats its hello after three seconds.
    assert!(count(&running, "holdfast_handshakes_repeated_total{transport=\"dtls\"}") > 0);
    assert_eq!(count(&running, "holdfast_handshakes_waiting{transport=\"dtls\"}"), 0);
    let metrics = running.opened.metrics.render();
    let mut refusals = metrics.lines().filter(|line| line.contains("reason=\"waiting_"));
    assert!(refusals.all(|line| line.ends_with(" 0")), "somebody was refused: {metrics}");
    running.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_on_tcp_wait_by_the_same_pace() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start_with(directory.path(), "127.0.0.1:0", "[handshakes]\nper_second = 4\n").await;
    let server = ([127, 0, 0, 1], running.plane.tcp().port()).into();
    let mut drivers = Vec::new();
    for n in 1..=4 {
        let pair = DeviceKeyPair::generate().unwrap();
        running.register_key(n, pair.public().spki()).await;
        drivers.push(TcpDriver::new(n, pair, true, server, *running.opened.keys.rsa().public()));
    }
    let mut turns = 0;
    while !drivers.iter().all(Drive::is_connected) {
        drivers.iter_mut().for_each(Drive::turn);
        turns += 1;
        assert!(turns < 1_000, "not all are back");
    }
    assert_eq!(count(&running, "holdfast_handshakes_admitted_total{transport=\"tcp\"}"), 4);
    assert!(seconds(&running, "holdfast_handshakes_waited_seconds_total{transport=\"tcp\"}") > 0.25);
    running.stop();
}
