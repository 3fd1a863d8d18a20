//! Vitals from a device to the streams of its owner and into the history, which can be had from the journal again.

use std::time::Duration;

use firmware_protocol::id::OwnerId;
use firmware_protocol::time::UnixMillis;
use holdfast::history::Record;
use holdfast::streams::StreamFilter;
use router::ask::{Answer, Ask};
use router::event::Audience;
use serde_json::Value as Json;

use crate::device_driver::{Driver, id};
use crate::drive::Drive;
use crate::sessions::{Running, next_event};

/// The records of device 1, once there are `count`.
fn records(running: &Running, count: usize) -> Vec<Record> {
    let (handle, mine) = (running.plane.handle(), Audience::Owner(running.owner));
    let mut found = Vec::new();
    for _ in 0..500 {
        let store = handle.history.get();
        found = store.map_or_else(Vec::new, |store| store.vitals(mine, id(1), UnixMillis(0)..=UnixMillis(u64::MAX), 100).unwrap());
        if found.len() == count {
            return found;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{} records and not {count}", found.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn vitals_reach_streams_and_history_and_outlive_both() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start(directory.path(), "127.0.0.1:0").await;
    let (server, server_key) = (running.plane.udp(), running.server_key());
    running.register(1).await;
    let filter =
        StreamFilter { audience: Audience::Owner(running.owner), device: Some(id(1)), prefix: "spark/device/diag".into(), after: None };
    let mut stream = running.plane.handle().streams.open(filter);
    let mut driver = Driver::new(1, server, server_key);
    driver.connect();

    let publish = driver.publish_vitals();
    driver.run_until(Duration::from_secs(5), |driver| driver.published(publish));
    let (_, event) = next_event(&mut stream).await;
    let payload: Json = serde_json::from_slice(event.data.as_deref().unwrap()).unwrap();
    assert_eq!((&payload["device"]["system"]["uptime"], &payload["service"]["device"]["status"]), (&77.into(), &"ok".into()));

    let mut asked = running.ask(1, Ask::Vitals);
    driver.run_for(Duration::from_millis(300));
    assert_eq!(asked.try_recv().unwrap(), Ok(Answer::Done));
    assert_eq!(next_event(&mut stream).await.1.name, "spark/device/diagnostics/update");
    let before = records(&running, 2);
    assert_eq!(before[1].payload, event.data.clone().unwrap());
    let store = running.plane.handle().history.get().unwrap().clone();
    assert_eq!(store.last_vitals(Audience::Owner(OwnerId(999)), id(1)).unwrap(), None);
    assert_eq!(store.last_vitals(Audience::Owner(running.owner), id(1)).unwrap().as_ref(), Some(&before[0]));
    drop(store);
    running.stop();

    for lost in [false, true] {
        if lost {
            std::fs::remove_dir_all(directory.path().join("history")).unwrap();
        }
        let running = Running::start(directory.path(), &server.to_string()).await;
        assert_eq!(records(&running, 2), before);
        running.stop();
    }
}
