//! Which events go to which hook: by name, by device, and whether it is enabled.

use serde_json::json;

use super::receiver::{PATIENCE, Reply};
use super::world::World;
use crate::device_driver::{Driver, id};
use crate::drive::Drive;

/// Published in this order: by the first device, by the second, and by the account.
const BY_FIRST: [&str; 4] = ["tide/high", "Tide/high", "tid", "ebb tide"];
const BY_SECOND: [&str; 1] = ["tide/low"];
const BY_ACCOUNT: [&str; 1] = ["tide/api"];

fn publish(device: &mut Driver, names: &[&str]) {
    for name in names {
        let publish = device.publish(name, b"x");
        device.run_until(PATIENCE, |device| device.published(publish));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_go_to_hooks_by_the_beginning_of_their_name_and_by_their_device() {
    let world = World::start().await;
    let (mut first, mut second) = (world.device(1).await, world.device(2).await);
    let (one, two) = (id(1).to_string(), id(2).to_string());
    let rows: [(serde_json::Value, &[&str]); 13] = [
        (json!({ "event": "tide" }), &["tide/high", "tide/low", "tide/api"]),
        (json!({ "event": "tide/" }), &["tide/high", "tide/low", "tide/api"]),
        (json!({ "event": "tide/high" }), &["tide/high"]),
        (json!({ "event": "tide/high/" }), &[]),
        (json!({ "event": "Tide" }), &["Tide/high"]),
        (json!({ "event": "TIDE" }), &[]),
        (json!({ "event": "t" }), &["tide/high", "tid", "tide/low", "tide/api"]),
        (json!({ "eventName": "ebb " }), &["ebb tide"]),
        (json!({ "event": "tide", "deviceID": one }), &["tide/high"]),
        (json!({ "event": "tide", "deviceid": two }), &["tide/low"]),
        (json!({ "event": "tide", "deviceId": two.to_uppercase() }), &["tide/low"]),
        (json!({ "event": "tide", "disabled": true }), &[]),
        (json!({ "event": "tide", "disabled": false }), &["tide/high", "tide/low", "tide/api"]),
    ];
    for (number, (fields, _)) in rows.iter().enumerate() {
        let mut fields = fields.clone();
        fields["url"] = world.receiver.url(&format!("/{number}")).into();
        let made = world.ask("POST", "/v1/integrations", &fields).await;
        assert_eq!(made.status, 201, "{fields}: {}", made.text());
    }
    world.hook(json!({ "event": "end", "url": world.receiver.url("/end") })).await;
    publish(&mut first, &BY_FIRST);
    publish(&mut second, &BY_SECOND);
    for name in BY_ACCOUNT.into_iter().chain(["end"]) {
        world.publish(name, "x").await;
    }
    world.receiver.next("/end").await;
    for (number, (fields, expected)) in rows.iter().enumerate() {
        let got = world.receiver.until(&format!("/{number}"), expected.len()).await;
        let mut names: Vec<_> = got.iter().map(|received| received.event()).collect();
        let mut expected = expected.to_vec();
        // Each device has a lane of its own, and they go their own ways.
        names.sort();
        expected.sort();
        assert_eq!(names, expected, "{fields}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_the_system_trigger_hooks_and_those_of_hooks_do_not() {
    let world = World::start().await;
    for (path, event) in
        [("/status", "spark/status"), ("/sent", "hook-sent"), ("/answer", "hook-response"), ("/error", "hook-error"), ("/loop", "loop")]
    {
        world.hook(json!({ "event": event, "url": world.receiver.url(path), "responseTopic": "loop/again" })).await;
    }
    world.receiver.answers("/loop", [Reply::ok("answer")]);
    let ear = world.listen().await;
    let _device = world.device(1).await;
    assert_eq!(world.receiver.next("/status").await.form()["data"], "online");
    world.publish("loop", "x").await;
    ear.until(|ear| ear.all().iter().any(|heard| heard.name == "loop/again/0")).await;
    // What callers publish is no event of a hook, whatever its name is.
    world.publish("hook-response/mine", "x").await;
    world.publish("loop", "y").await;
    world.receiver.until("/loop", 2).await;
    assert_eq!(world.receiver.next("/answer").await.event(), "hook-response/mine");
    ear.until(|ear| ear.all().iter().filter(|heard| heard.name == "loop/again/0").count() == 2).await;
    for path in ["/sent", "/answer", "/error"] {
        assert!(world.receiver.all(path).is_empty(), "{path}");
    }
    assert_eq!(world.receiver.all("/loop").len(), 2);
}
