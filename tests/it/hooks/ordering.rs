//! The order in which events of a device arrive, and that nobody waits for a receiver that is slow for somebody else.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::receiver::{PATIENCE, Received, Reply};
use super::world::World;
use crate::device_driver::{Driver, id};
use crate::drive::Drive;

/// A device publishes numbers.
fn publish(device: &mut Driver, numbers: std::ops::Range<u32>) {
    let published: Vec<_> = numbers.map(|number| device.publish("tide", number.to_string().as_bytes())).collect();
    device.run_until(PATIENCE, |device| published.iter().all(|publish| device.published(*publish)));
}

fn data_of(all: &[Received], device: u8) -> Vec<Json> {
    let forms = all.iter().map(Received::form).filter(|form| form["coreid"] == id(device).to_string());
    forms.map(|form| form["data"].clone()).collect()
}

fn numbers(numbers: std::ops::Range<u32>) -> Vec<Json> {
    numbers.map(|number| json!(number.to_string())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_device_arrive_in_order_one_after_the_other() {
    let world = World::start().await;
    let pause = Duration::from_millis(150);
    world.receiver.answers("/in", [Reply::status(200).after(pause)]);
    world.hook(json!({})).await;
    let (mut one, mut two) = (world.device(1).await, world.device(2).await);
    publish(&mut one, 0..8);
    publish(&mut two, 0..8);
    let all = world.receiver.until("/in", 16).await;
    for device in [1, 2] {
        assert_eq!(data_of(&all, device), numbers(0..8), "{device}");
        let own: Vec<_> = all.iter().filter(|received| received.form()["coreid"] == id(device).to_string()).collect();
        for pair in own.windows(2) {
            assert!(pair[1].at.duration_since(pair[0].at) >= pause, "each waits for the answer to the one before");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_first_still_arrives_first() {
    let world = World::start().await;
    world.receiver.answers("/in", [Reply::status(500), Reply::status(200)]);
    world.hook(json!({})).await;
    let mut device = world.device(1).await;
    publish(&mut device, 0..4);
    let all = world.receiver.until("/in", 5).await;
    let data: Vec<_> = all.iter().map(|received| received.form()["data"].clone()).collect();
    assert_eq!(data, [numbers(0..1), numbers(0..4)].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_order_events_do_not_wait_for_each_other() {
    let world = World::start().await;
    world.receiver.answers("/in", [Reply::status(200).after(Duration::from_secs(3)), Reply::status(200)]);
    world.hook(json!({ "ordering": "none" })).await;
    let mut device = world.device(1).await;
    publish(&mut device, 0..4);
    let all = world.receiver.until("/in", 4).await;
    let span = all.iter().map(|received| received.at).max().unwrap() - all[0].at;
    assert!(span < Duration::from_millis(2_500), "{span:?}");
    let mut data = data_of(&all, 1);
    data.sort_by_key(Json::to_string);
    assert_eq!(data, numbers(0..4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_whose_receiver_does_not_answer_is_in_no_others_way() {
    let world = World::start().await;
    world.receiver.answers("/slow", [Reply::status(200).after(Duration::from_secs(60))]);
    world.hook(json!({ "url": world.receiver.url("/slow") })).await;
    world.hook(json!({ "url": world.receiver.url("/quick") })).await;
    let mut device = world.device(1).await;
    let begun = std::time::Instant::now();
    publish(&mut device, 0..20);
    let all = world.receiver.until("/quick", 20).await;
    assert_eq!(data_of(&all, 1), numbers(0..20));
    assert!(begun.elapsed() < Duration::from_secs(10) && world.receiver.all("/slow").len() == 1);
}
