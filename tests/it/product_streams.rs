//! What devices of a product say goes to whoever looks after the product, whosever the devices are: over streams, and into the history.

use std::time::Duration;

use firmware_protocol::id::{OwnerId, ProductId};
use holdfast::api::gateway::Gateway;
use holdfast::gateway::Devices;
use holdfast::streams::{EventStream, StreamFilter};
use router::event::{Audience, NewEvent, Position, Source};

use crate::device_driver::{Driver, id};
use crate::drive::Drive;
use crate::sessions::{Running, next_event};

const PRODUCT: ProductId = ProductId(10_001);
const PATIENCE: Duration = Duration::from_secs(10);

/// Two devices of the product, of which the second is somebody else's, and one that is in no product.
async fn start(running: &Running) -> ([Driver; 3], OwnerId) {
    let other = running.opened.registry.add_user("b@example.com", "long enough a password").await.unwrap().id;
    running.register_in_product(1, running.owner, PRODUCT).await;
    running.register_in_product(2, other, PRODUCT).await;
    running.register(3).await;
    let (server, server_key) = (running.plane.udp(), running.server_key());
    let mut drivers = [1, 2, 3].map(|n| Driver::new(n, server, server_key));
    drivers.iter_mut().for_each(Driver::connect);
    (drivers, other)
}

/// One device after the other publishes, each under a name of its own.
fn publish(drivers: &mut [Driver; 3], when: &str) {
    for (n, driver) in (1..).zip(drivers) {
        let publish = driver.publish(&format!("news/{when}/{n}"), b"x");
        driver.run_until(PATIENCE, |driver| driver.published(publish));
    }
}

fn news(owner: OwnerId, product: ProductId, name: &str) -> NewEvent {
    NewEvent { owner, product: Some(product), source: Source::Api, name: name.into(), content_format: 0, data: None, ttl_s: 60 }
}

async fn names(stream: &mut EventStream, count: usize) -> Vec<String> {
    let mut names = Vec::new();
    for _ in 0..count {
        names.push(next_event(stream).await.1.name.clone());
    }
    names
}

fn heard(driver: &Driver) -> Vec<String> {
    let mut names: Vec<_> = driver.heard().into_iter().map(|(name, _)| name).collect();
    names.sort();
    names.dedup();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_of_a_product_carries_its_devices_and_what_is_published_to_it_and_continues() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = Running::start(directory.path(), "127.0.0.1:0").await;
    let server = running.plane.udp();
    let (mut drivers, other) = start(&running).await;
    let (owner, product) = (running.owner, Audience::Product(PRODUCT));
    let mut streams = [product, Audience::Owner(owner), Audience::Owner(other)].map(|audience| running.stream(audience, "news"));
    publish(&mut drivers, "a");
    let gateway = Devices::new(running.plane.handle(), running.opened.metrics.calls());
    for (number, name) in [(PRODUCT, "news/all"), (ProductId(10_002), "news/elsewhere")] {
        gateway.publish(news(owner, number, name)).await.unwrap();
    }
    publish(&mut drivers, "b");
    let expected: [&[&str]; 3] = [
        &["news/a/1", "news/a/2", "news/all", "news/b/1", "news/b/2"],
        &["news/a/1", "news/a/3", "news/all", "news/elsewhere", "news/b/1", "news/b/3"],
        &["news/a/2", "news/b/2"],
    ];
    for (stream, expected) in streams.iter_mut().zip(expected) {
        assert_eq!(names(stream, expected.len()).await, expected);
    }
    // The way to subscribed devices is that of the account.
    for (driver, own) in drivers.iter_mut().zip([expected[1], expected[2], expected[1]]) {
        driver.run_until(PATIENCE, |driver| heard(driver).len() == own.len());
        assert!(own.iter().all(|name| heard(driver).contains(&(*name).to_owned())));
    }

    running.stop();
    running = Running::start(directory.path(), &server.to_string()).await;
    publish(&mut drivers, "c");
    let filter = StreamFilter { audience: product, device: None, prefix: "news".into(), after: Some(Position(0)) };
    let mut continued = running.plane.handle().streams.open(filter);
    assert_eq!(names(&mut continued, 7).await, [expected[0], &["news/c/1", "news/c/2"]].concat());
    let filter = StreamFilter { audience: product, device: Some(id(2)), prefix: "news".into(), after: Some(Position(0)) };
    let mut of_one = running.plane.handle().streams.open(filter);
    assert_eq!(names(&mut of_one, 3).await, ["news/a/2", "news/b/2", "news/c/2"]);
    running.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn vitals_of_a_products_device_are_found_by_its_product_and_by_its_owner() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start(directory.path(), "127.0.0.1:0").await;
    let (mut drivers, other) = start(&running).await;
    for driver in &mut drivers {
        let publish = driver.publish_vitals();
        driver.run_until(PATIENCE, |driver| driver.published(publish));
    }
    let gateway = Devices::new(running.plane.handle(), running.opened.metrics.calls());
    let found = async |audience, n| gateway.last_vitals(audience, id(n)).await.ok().flatten().is_some();
    for _ in 0..500 {
        if found(Audience::Owner(running.owner), 3).await {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let product = Audience::Product(PRODUCT);
    for (audience, expected) in [
        (product, [true, true, false]),
        (Audience::Owner(other), [false, true, false]),
        (Audience::Owner(running.owner), [true, false, true]),
    ] {
        for (n, expected) in (1..).zip(expected) {
            assert_eq!(found(audience, n).await, expected, "{audience:?} {n}");
        }
    }
    running.stop();
}
