//! More waits for a hook than may: the oldest become dead letters, and are counted; they can be made again.

use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use super::receiver::{PATIENCE, Received, Reply};
use super::world::{ALLOW, World};
use crate::drive::Drive;

const EVENTS: u64 = 40;

/// How many deliveries of a hook there are, and what became of them.
async fn counts(world: &World, hook: &str) -> Json {
    world.get(&format!("/v1/integrations/{hook}")).await["integration"]["counts"].clone()
}

/// Waits until these numbers are so, and says them.
async fn until(world: &World, hook: &str, done: impl Fn(&Json) -> bool) -> Json {
    let end = Instant::now() + PATIENCE * 2;
    loop {
        let counts = counts(world, hook).await;
        if done(&counts) {
            return counts;
        }
        assert!(Instant::now() < end, "{counts}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn number(received: &Received) -> u64 {
    received.form()["data"].as_str().unwrap().split(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_of_too_many_are_given_up_and_counted() {
    let limits = "[limits]\ndevice_events_per_s = \"unlimited\"\n";
    let world = World::start_with(&format!("{ALLOW}pending_bytes = 20000\n{limits}")).await;
    world.receiver.answers("/in", [Reply::status(429).with("retry-after", "12"), Reply::status(200)]);
    let hook = world.hook(json!({})).await;
    let mut device = world.device(1).await;
    let data = |number: u64| format!("{number} {}", "x".repeat(900));
    let published: Vec<_> = (0..EVENTS).map(|number| device.publish("tide", data(number).as_bytes())).collect();
    device.run_until(PATIENCE, |device| published.iter().all(|publish| device.published(*publish)));
    let waiting = until(&world, &hook, |counts| counts["rejected"]["overflow"].as_u64().unwrap_or(0) > 0).await;
    assert_eq!(waiting["delivered"], 0, "{waiting}");
    let done = until(&world, &hook, |counts| counts["accepted"] == EVENTS && counts["pending"] == 0).await;
    let lost = done["rejected"]["overflow"].as_u64().unwrap();
    assert!((15..EVENTS).contains(&lost), "{done}");
    assert_eq!((&done["accepted"], &done["delivered"]), (&json!(EVENTS), &json!(EVENTS - lost)), "{done}");
    assert_eq!((&done["rejected"]["overflow"], &done["deadLetters"]), (&json!(lost), &json!(lost)), "{done}");
    let mut arrived: Vec<_> = world.receiver.all("/in").iter().map(number).collect();
    assert_eq!(arrived.remove(0), 0, "the attempt that was answered with a pause");
    assert_eq!(arrived, (lost..EVENTS).collect::<Vec<_>>(), "the newest, in order");

    let replay = json!({ "failed_since": "2026-01-01T00:00:00Z" });
    let asked = world.ask("POST", &format!("/v1/integrations/{hook}/replays"), &replay).await;
    assert!(asked.status < 300, "{}", asked.text());
    let all = world.receiver.until("/in", 1 + usize::try_from(EVENTS).unwrap()).await;
    let again: Vec<_> = all.iter().filter(|received| received.header("webhook-replay").is_some()).map(number).collect();
    assert_eq!(again, (0..lost).collect::<Vec<_>>(), "what was given up is made again, in order");
}
