//! Devices on TCP against the whole data plane.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use firmware_protocol::crypto::{DeviceKeyPair, ServerPublicKey};
use firmware_protocol::device::DeviceEvent;
use router::ask::{Answer, Ask, AskError};
use router::event::Audience;

use crate::device_driver::{Driver, id};
use crate::drive::Drive;
use crate::sessions::{Running, next_event};
use crate::tcp_driver::TcpDriver;

fn loopback(address: SocketAddr) -> SocketAddr {
    SocketAddr::new("127.0.0.1".parse().unwrap(), address.port())
}

fn call() -> Ask {
    Ask::Call { function: "length".into(), argument: "four".into() }
}

fn server_key(running: &Running) -> ServerPublicKey {
    *running.opened.keys.rsa().public()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_on_tcp_is_used_like_any_other() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start(directory.path(), "127.0.0.1:0").await;
    let pair = DeviceKeyPair::generate().unwrap();
    running.register_key(1, pair.public().spki()).await;
    running.register(2).await;
    let mut stream = running.stream(Audience::Owner(running.owner), "temp");

    let mut driver = TcpDriver::new(1, pair, true, loopback(running.plane.tcp()), server_key(&running));
    driver.connect();
    driver.run_for(Duration::from_millis(300));
    let publish = driver.publish("temperature", b"21.5");
    driver.run_until(Duration::from_secs(5), |driver| driver.published(publish));
    let (_, event) = next_event(&mut stream).await;
    assert_eq!((event.name.as_str(), event.data.as_deref()), ("temperature", Some(&b"21.5"[..])));

    let mut answer = running.ask(1, call());
    driver.run_for(Duration::from_millis(500));
    assert_eq!(answer.try_recv().unwrap(), Ok(Answer::Returned(4)));
    let nothing = Ask::Call { function: "none".into(), argument: String::new() };
    assert_eq!(running.ask(1, nothing).await.unwrap(), Err(AskError::NoSuchFunction));

    // What a device on UDP publishes reaches the subscriber on TCP.
    let mut other = Driver::new(2, running.plane.udp(), running.server_key());
    other.connect();
    let publish = other.publish("news/first", b"hello");
    other.run_until(Duration::from_secs(5), |other| other.published(publish));
    driver.run_until(Duration::from_secs(5), |driver| {
        driver.events.iter().any(|event| matches!(event, DeviceEvent::EventReceived { name, .. } if name == "news/first"))
    });

    running.opened.registry.remove_device(id(1)).await.unwrap();
    driver.run_until(Duration::from_secs(5), |driver| !driver.device.is_connected());
    driver.run_for(Duration::from_secs(2));
    assert!(!driver.device.is_connected(), "whoever was removed does not come in again");
    running.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn firmware_that_shows_no_key_is_known_by_its_id() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start(directory.path(), "127.0.0.1:0").await;
    let pair = DeviceKeyPair::generate().unwrap();
    running.register_key(1, pair.public().spki()).await;
    let mut driver = TcpDriver::new(1, pair, false, loopback(running.plane.tcp()), server_key(&running));
    driver.connect();
    running.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_changes_its_transport_has_one_session() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start(directory.path(), "127.0.0.1:0").await;
    let pair = DeviceKeyPair::generate().unwrap();
    running.register_key(1, pair.public().spki()).await;
    let new = || TcpDriver::new(1, pair.clone(), true, loopback(running.plane.tcp()), server_key(&running));
    let (mut first, mut second) = (new(), new());
    first.connect();
    second.connect();
    first.run_until(Duration::from_secs(5), |first| !first.device.is_connected());
    running.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_key_is_listed_only_while_somebody_looks() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start(directory.path(), "127.0.0.1:0").await;
    let pair = DeviceKeyPair::generate().unwrap();
    let mut driver = TcpDriver::new(1, pair.clone(), true, loopback(running.plane.tcp()), server_key(&running));
    driver.run_for(Duration::from_secs(1));
    let handle = running.plane.handle();
    assert!(!driver.device.is_connected() && handle.strangers.list().is_empty());
    handle.strangers.open(handle.clock.now().unix, Duration::from_secs(60));
    driver.run_until(Duration::from_secs(10), |_| !handle.strangers.list().is_empty());
    let stranger = handle.strangers.list().remove(0);
    assert_eq!((stranger.seen.device, &stranger.seen.spki[..]), (id(1), &pair.public().spki()[..]));
    assert!(!driver.device.is_connected());
    assert_eq!(running.opened.metrics.render().lines().find(|line| line.starts_with("holdfast_sessions ")), Some("holdfast_sessions 0"));
    running.stop();
}

/// What the other side sees after its answer: whether anything came before the end.
fn answered(server: SocketAddr, answer: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut nonce = [0; 40];
    stream.read_exact(&mut nonce).unwrap();
    stream.write_all(answer).unwrap();
    let mut rest = Vec::new();
    // A reset is an end as well.
    let _ = stream.read_to_end(&mut rest);
    rest
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_refused_sees_a_closed_connection_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start(directory.path(), "127.0.0.1:0").await;
    let server = loopback(running.plane.tcp());
    for answer in [vec![0; 256], vec![0xff; 256], vec![7; 300], (0..=255).collect()] {
        assert!(answered(server, &answer).is_empty());
    }
    running.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_of_one_address_are_counted_and_places_become_free() {
    let directory = tempfile::tempdir().unwrap();
    let more = "[handshakes]\nhalf_open_per_address = 3\n";
    let running = Running::start_with(directory.path(), "127.0.0.1:0", more).await;
    let server = loopback(running.plane.tcp());
    let greeted = || {
        let mut stream = TcpStream::connect(server).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let came = stream.read_exact(&mut [0; 40]).is_ok();
        (stream, came)
    };
    let open: Vec<_> = (0..3).map(|_| greeted()).collect();
    assert!(open.iter().all(|(_, came)| *came));
    assert!(!greeted().1);
    drop(open);
    std::thread::sleep(Duration::from_millis(300));
    assert!(greeted().1);
    running.stop();
}
