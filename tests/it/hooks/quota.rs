//! More waits for a hook than may: the oldest become dead letters, and are counted.

use std::time::Instant;

use serde_json::json;

use super::receiver::{PATIENCE, Received, Reply};
use super::world::{ALLOW, World};

const EVENTS: u64 = 40;

/// The value of a metric, with its labels.
fn metric(world: &World, name: &str) -> Option<u64> {
    let text = world.server.opened().metrics.render();
    let (_, value) = text.lines().find_map(|line| line.rsplit_once(' ').filter(|(known, _)| *known == name))?;
    value.parse().ok()
}

fn deliveries(world: &World, labels: &str) -> u64 {
    metric(world, &format!("holdfast_webhook_deliveries_total{{{labels}}}")).unwrap_or(0)
}

/// Waits until the metrics are so.
async fn until(world: &World, done: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "{}", world.server.opened().metrics.render());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

fn number(received: &Received) -> u64 {
    received.form()["data"].as_str().unwrap().split(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_of_too_many_are_given_up_and_counted() {
    let world = World::start_with(&format!("{ALLOW}pending_bytes = 20000\n")).await;
    world.receiver.answers("/in", [Reply::status(503), Reply::status(200)]);
    world.hook(json!({})).await;
    for number in 0..EVENTS {
        world.publish("tide", &format!("{number} {}", "x".repeat(1_000))).await;
    }
    let given_up = || deliveries(&world, "reason=\"overflow\",state=\"rejected\"");
    until(&world, || given_up() > 0 && deliveries(&world, "reason=\"\",state=\"delivered\"") + given_up() == EVENTS).await;
    let lost = given_up();
    assert_eq!(metric(&world, "holdfast_webhook_dead_letters"), Some(lost));
    assert_eq!(deliveries(&world, "reason=\"\",state=\"accepted\""), EVENTS);
    let mut arrived: Vec<_> = world.receiver.all("/in").iter().map(number).collect();
    // The first attempt that failed was the first event's, whatever became of it then.
    arrived.remove(0);
    assert_eq!(arrived, (lost..EVENTS).collect::<Vec<_>>(), "the newest, in order");
}
