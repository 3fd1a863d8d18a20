//! A device that sends too much is refused, and its neighbour does not notice.

use std::time::Duration;

use firmware_protocol::device::DeviceEvent;
use router::event::Audience;

use crate::device_driver::Driver;
use crate::drive::Drive;
use crate::sessions::{Running, next_event};

#[tokio::test(flavor = "multi_thread")]
async fn events_beyond_the_limit_are_refused_and_those_of_others_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start_with(directory.path(), "127.0.0.1:0", "[limits]\ndevice_events_per_s = 5\n").await;
    let (server, server_key) = (running.plane.udp(), running.server_key());
    running.register(1).await;
    running.register(2).await;
    let mut stream = running.stream(Audience::Owner(running.owner), "temp");
    let (mut loud, mut quiet) = (Driver::new(1, server, server_key), Driver::new(2, server, server_key));
    loud.connect();
    quiet.connect();

    let published: Vec<u64> = (0..60).map(|_| loud.publish("temperature", b"1")).collect();
    let outcome = |driver: &Driver, wanted: bool| {
        let is = |event: &&DeviceEvent| matches!(event, DeviceEvent::Published { accepted, .. } if *accepted == wanted);
        driver.events.iter().filter(is).count()
    };
    loud.run_until(Duration::from_secs(15), |loud| outcome(loud, true) + outcome(loud, false) == published.len());
    assert!(outcome(&loud, true) >= 6 && outcome(&loud, false) >= 20, "{} accepted", outcome(&loud, true));
    let publish = quiet.publish("temperature", b"2");
    quiet.run_until(Duration::from_secs(5), |quiet| quiet.published(publish));
    for _ in 0..=outcome(&loud, true) {
        next_event(&mut stream).await;
    }
    assert!(loud.device.is_connected() && loud.handshakes() == 1, "a refusal costs nobody a session");
    running.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn records_beyond_the_limit_are_dropped_and_come_again() {
    let directory = tempfile::tempdir().unwrap();
    let limits = "[limits]\ndevice_events_per_s = \"unlimited\"\ndevice_records_per_s = 10\n";
    let running = Running::start_with(directory.path(), "127.0.0.1:0", limits).await;
    running.register(1).await;
    let mut driver = Driver::new(1, running.plane.udp(), running.server_key());
    driver.connect();
    let published: Vec<u64> = (0..40).map(|_| driver.publish("temperature", b"1")).collect();
    driver.run_for(Duration::from_millis(500));
    assert!(!published.iter().all(|publish| driver.published(*publish)), "some were dropped");
    let dropped = running.opened.metrics.render();
    assert!(dropped.contains("holdfast_datagrams_dropped_total{reason=\"record_limit\"}"), "{dropped}");
    driver.run_until(Duration::from_secs(18), |driver| published.iter().all(|publish| driver.published(*publish)));
    running.stop();
}
