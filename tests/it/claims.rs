//! A device of nobody becomes an account's, and a device asks the cloud for what it knows.

use std::time::Duration;

use firmware_protocol::device::DeviceEvent;
use holdfast::store::registry::Claimed;
use router::event::Audience;
use tokio::time::timeout;

use crate::device_driver::{Driver, id};
use crate::drive::Drive;
use crate::sessions::{Running, next_event};

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_presents_a_claim_code_is_its_accounts_within_the_session() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start(directory.path(), "127.0.0.1:0").await;
    running.register(1).await;
    let registry = &running.opened.registry;
    registry.set_device_owner(id(1), None).await.unwrap();
    let mut driver = Driver::new(1, running.plane.udp(), running.server_key());
    driver.connect();
    let mut stream = running.stream(Audience::Owner(running.owner), "");

    let wrong = driver.publish("spark/device/claim/code", &[b'a'; 63]);
    driver.run_until(Duration::from_secs(5), |driver| driver.published(wrong));
    assert_eq!(registry.devices().find(id(1)).unwrap().owner(), None);

    let code = registry.create_claim_code(running.owner).await.unwrap();
    let claim = driver.publish("spark/device/claim/code", code.reveal().as_bytes());
    let response = DeviceEvent::EventReceived { name: "spark/device/claim/response".into(), data: vec![], content_format: 0 };
    driver.run_until(Duration::from_secs(5), |driver| driver.published(claim) && driver.events.contains(&response));
    assert_eq!(registry.devices().find(id(1)).unwrap().owner(), Some(running.owner));
    let publish = driver.publish("temperature", b"21.5");
    driver.run_until(Duration::from_secs(5), |driver| driver.published(publish));
    assert_eq!(next_event(&mut stream).await.1.name, "spark/status");
    assert_eq!(next_event(&mut stream).await.1.name, "temperature");
    assert_eq!(driver.handshakes(), 1);
    let echoed = |event: &DeviceEvent| matches!(event, DeviceEvent::EventReceived { name, .. } if name == "spark/device/claim/code");
    assert!(!driver.events.iter().any(echoed));
    running.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_given_up_is_its_accounts_no_longer_within_the_session() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start(directory.path(), "127.0.0.1:0").await;
    running.register(1).await;
    let registry = &running.opened.registry;
    let mut driver = Driver::new(1, running.plane.udp(), running.server_key());
    driver.connect();
    let mut stream = running.stream(Audience::Owner(running.owner), "temp");
    // Sessions hear of it within a fraction of a second.
    let mut publish = async |name: &str| {
        let publish = driver.publish(name, b"1");
        driver.run_until(Duration::from_secs(5), |driver| driver.published(publish));
        timeout(Duration::from_millis(300), next_event(&mut stream)).await.is_ok_and(|(_, event)| event.name == name)
    };
    assert!(publish("temp/0").await);
    registry.release_device(running.owner, id(1)).await.unwrap();
    assert!(is_soon(async || !publish("temp/1").await).await, "its events are still the account's");
    assert!(matches!(registry.claim_device_of_nobody(running.owner, id(1)).await, Ok(Claimed::Now(_))));
    assert!(is_soon(async || publish("temp/2").await).await, "its events are not the account's again");
    assert_eq!(driver.handshakes(), 1);
    running.stop();
}

/// Whether something is so within some seconds.
async fn is_soon(mut look: impl AsyncFnMut() -> bool) -> bool {
    for _ in 0..100 {
        if look().await {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_told_its_name_its_address_and_random_digits() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start(directory.path(), "127.0.0.1:0").await;
    running.register(1).await;
    let edit = holdfast::store::registry::DeviceEdit { name: Some("kelp".into()), notes: None };
    running.opened.registry.edit_device(id(1), edit).await.unwrap();
    let mut driver = Driver::new(1, running.plane.udp(), running.server_key());
    driver.connect();
    let told = |driver: &Driver, wanted: &str| {
        driver.events.iter().find_map(|event| match event {
            DeviceEvent::EventReceived { name, data, .. } if name == wanted => Some(String::from_utf8(data.clone()).unwrap()),
            _ => None,
        })
    };
    for name in ["particle/device/name", "spark/device/ip", "particle/device/random"] {
        driver.publish(name, b"");
        driver.run_until(Duration::from_secs(5), |driver| told(driver, name).is_some());
    }
    let random = told(&driver, "particle/device/random").unwrap();
    assert_eq!((told(&driver, "particle/device/name").as_deref(), random.len()), (Some("kelp"), 40));
    assert_eq!(told(&driver, "spark/device/ip").as_deref(), Some("127.0.0.1"));
    running.stop();
}
