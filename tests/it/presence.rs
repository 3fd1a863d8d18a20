//! What owners are told of their devices across restarts: only what is news.

use std::path::Path;
use std::time::Duration;

use firmware_protocol::crypto::DeviceKeyPair;
use holdfast::journal::{Journal, Options};
use router::event::{Position, Source};

use crate::device_driver::{Driver, id};
use crate::drive::Drive;
use crate::sessions::Running;
use crate::tcp_driver::TcpDriver;

/// What the owner of device `n` was told, in order.
fn told(data: &Path, n: u8) -> Vec<String> {
    let (journal, _) = Journal::open(&data.join("journal"), Options::new(1)).unwrap();
    let mut reader = journal.events().read_from(Position(1)).unwrap();
    let events = std::iter::from_fn(|| reader.next_event().unwrap());
    let own = events.filter(|(_, event)| event.name == "spark/status" && event.source == Source::Device(id(n)));
    own.map(|(_, event)| String::from_utf8(event.data.clone().unwrap()).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_tells_owners_nothing_of_devices_that_stay_as_they_were() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = Running::start(directory.path(), "127.0.0.1:0").await;
    let (server, server_key, tcp_key) = (running.plane.udp(), running.server_key(), *running.opened.keys.rsa().public());
    let pair = DeviceKeyPair::generate().unwrap();
    running.register(1).await;
    running.register(2).await;
    running.register_key(3, pair.public().spki()).await;
    let (mut stays, mut leaves) = (Driver::new(1, server, server_key), Driver::new(2, server, server_key));
    stays.connect();
    leaves.connect();
    let on_tcp = |running: &Running| {
        let mut driver = TcpDriver::new(3, pair.clone(), true, running.plane.tcp(), tcp_key);
        driver.connect();
        let publish = driver.publish("temperature", b"21.5");
        driver.run_until(Duration::from_secs(5), |driver| driver.published(publish));
        driver
    };
    let mut connected = on_tcp(&running);
    leaves.say_goodbye();
    leaves.run_for(Duration::from_millis(300));
    let publish = stays.publish("temperature", b"21.5");
    stays.run_until(Duration::from_secs(5), |driver| driver.published(publish));
    for round in 0..3 {
        running.stop();
        if round > 0 {
            let expected: [&[&str]; 3] = [&["online"], &["online", "offline"], &["online"]];
            (1..).zip(expected).for_each(|(n, expected)| assert_eq!(told(directory.path(), n), expected, "device {n}, round {round}"));
        }
        running = Running::start(directory.path(), &server.to_string()).await;
        let publish = stays.publish("temperature", b"21.5");
        stays.run_until(Duration::from_secs(10), |driver| driver.published(publish));
        connected = on_tcp(&running);
    }
    leaves.restart();
    leaves.connect();
    let publish = leaves.publish("temperature", b"21.5");
    leaves.run_until(Duration::from_secs(10), |driver| driver.published(publish));
    running.stop();
    drop(connected);
    assert_eq!(told(directory.path(), 2), ["online", "offline", "online"]);
    assert_eq!((stays.handshakes(), leaves.handshakes()), (1, 1));
}
