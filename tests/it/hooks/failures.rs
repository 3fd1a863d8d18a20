//! Receivers that fail: what is tried again, and when; what ends a hook; and that requests go nowhere else.

use std::time::{Duration, Instant};

use serde_json::json;

use super::bench::{Bench, saying, silent};
use super::receiver::{PATIENCE, Received, Reply};
use super::world::World;

/// The wait before the second attempt, with what it may differ from the schedule.
const RETRY: std::ops::RangeInclusive<f32> = 3.9..=6.9;

fn between(first: &Received, second: &Received) -> f32 {
    second.at.duration_since(first.at).as_secs_f32()
}

fn id(received: &Received) -> (Option<&str>, Option<&str>) {
    (received.header("webhook-id"), received.header("webhook-attempt"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_tried_again_after_five_seconds_under_the_same_id() {
    let mut bench = Bench::start().await;
    bench.world.receiver.answers("/in", [Reply::status(500), Reply::ok("at last")]);
    bench.world.hook(json!({})).await;
    bench.publish("21.5");
    let (first, second) = (bench.world.receiver.next("/in").await, bench.world.receiver.next("/in").await);
    assert_eq!((id(&first).1, id(&second)), (Some("1"), (id(&first).0, Some("2"))));
    assert_eq!(first.body, second.body);
    assert!(RETRY.contains(&between(&first, &second)), "{}", between(&first, &second));
    let sent = silent("hook-sent/tide/high");
    let error = saying("hook-error/tide/high/0", "error status 500 from 127.0.0.1");
    assert_eq!(bench.events(4).await, [sent.clone(), error, sent, saying("hook-response/tide/high/0", "at last")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_for_a_pause_gets_it() {
    let world = World::start().await;
    world.receiver.answers("/in", [Reply::status(429).with("retry-after", "9"), Reply::status(200)]);
    world.hook(json!({})).await;
    let ear = world.listen().await;
    world.publish("tide", "1").await;
    let first = world.receiver.next("/in").await;
    ear.take(2).await;
    // What was answered is published a moment before the pause begins.
    tokio::time::sleep(Duration::from_millis(500)).await;
    world.publish("tide", "2").await;
    let both = world.receiver.until("/in", 2).await;
    for received in &both {
        assert!(between(&first, received) >= 8.9, "{}", between(&first, received));
    }
    let mut attempts: Vec<_> = both.iter().map(|received| (received.form()["data"].clone(), id(received).1.unwrap().to_owned())).collect();
    attempts.sort_by_key(|(data, _)| data.to_string());
    assert_eq!(attempts, [(json!("1"), "2".to_owned()), (json!("2"), "1".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_gone_for_good_disables_its_hook() {
    let world = World::start().await;
    world.receiver.answers("/in", [Reply::status(410), Reply::status(200)]);
    let hook = world.hook(json!({})).await;
    world.hook(json!({ "url": world.receiver.url("/other") })).await;
    world.publish("tide", "1").await;
    world.receiver.next("/in").await;
    let path = format!("/v1/integrations/{hook}");
    let end = Instant::now() + PATIENCE;
    while world.get(&path).await["integration"]["state"] != "disabled" {
        assert!(Instant::now() < end, "{}", world.get(&path).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.publish("tide", "2").await;
    world.receiver.until("/other", 2).await;
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert!(world.receiver.all("/in").is_empty(), "nothing is sent, and nothing is tried again");
    let fields = json!({ "event": "tide", "url": world.receiver.url("/in") });
    assert_eq!(world.ask("PUT", &path, &fields).await.status, 200);
    world.publish("tide", "3").await;
    let data: Vec<_> = world.receiver.until("/in", 1).await.iter().map(|received| received.form()["data"].clone()).collect();
    assert!(!data.is_empty(), "whoever puts it anew enables it");
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_are_not_followed() {
    let mut bench = Bench::start().await;
    for status in [301, 302, 303, 307, 308] {
        let elsewhere = bench.world.receiver.url("/elsewhere");
        let events = bench.answered(json!({}), Reply::status(status).with("location", &elsewhere), 2).await;
        let error = saying("hook-error/tide/high/0", &format!("error status {status} from 127.0.0.1"));
        assert_eq!(events, [silent("hook-sent/tide/high"), error]);
    }
    assert!(bench.world.receiver.all("/elsewhere").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_takes_too_long_is_none() {
    let mut bench = Bench::start().await;
    let slow = Reply::ok("late").after(Duration::from_secs(4));
    let events = bench.answered(json!({ "timeout": 1 }), slow, 2).await;
    let [sent, (name, Some(text))] = &events[..] else { panic!("{events:?}") };
    assert_eq!((sent, name.as_str()), (&silent("hook-sent/tide/high"), "hook-error/tide/high/0"));
    assert!(text.starts_with("error: no answer from 127.0.0.1"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_end_a_header_is_refused_and_nothing_is_sent() {
    let mut bench = Bench::start().await;
    for fields in [
        json!({ "headers": { "X-A": "{{{x}}}" } }),
        json!({ "headers": { "{{{x}}}": "1" } }),
        json!({ "auth": { "bearer": "{{{x}}}" } }),
        json!({ "url": bench.world.receiver.url("/{{{x}}}") }),
    ] {
        let hook = bench.world.hook(fields.clone()).await;
        bench.publish(&json!({ "x": "in\r\nX-Evil: 1" }).to_string());
        let events = bench.events(1).await;
        let [(name, Some(text))] = &events[..] else { panic!("{fields}: {events:?}") };
        assert!(name == "hook-error/tide/high/0" && text.starts_with("error: the request could not be made"), "{fields}: {text}");
        bench.world.remove(&hook).await;
    }
    assert!(bench.world.receiver.all("/in").is_empty());
}
