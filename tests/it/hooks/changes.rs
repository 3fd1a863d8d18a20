//! A hook that is changed or removed: from the answer on, events go by what it says now.

use serde_json::json;

use super::receiver::Reply;
use super::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_takes_effect_at_once_and_masked_secrets_stay() {
    let world = World::start().await;
    let auth = json!({ "username": "kai", "password": "ebb-and-flow" });
    let hook = world.hook(json!({ "auth": auth, "headers": { "X-Key": "neap-tide", "X-Plain": "1" } })).await;
    let path = format!("/v1/integrations/{hook}");
    world.publish("tide", "1").await;
    let before = world.receiver.next("/in").await;
    assert_eq!(before.header("authorization"), Some("Basic a2FpOmViYi1hbmQtZmxvdw=="));

    let mut shown = world.get(&path).await["integration"].clone();
    assert!(!shown.to_string().contains("ebb-and-flow"), "{shown}");
    shown["requestType"] = "PUT".into();
    shown["url"] = world.receiver.url("/other").into();
    for number in 2..12 {
        shown["query"] = json!({ "round": number.to_string() });
        let put = world.ask("PUT", &path, &shown).await;
        assert_eq!(put.status, 200, "{}", put.text());
        world.publish("tide", &number.to_string()).await;
        let after = world.receiver.next("/other").await;
        assert_eq!((after.method.as_str(), &after.form()["data"]), ("PUT", &json!(number.to_string())));
        assert_eq!(after.query.as_deref(), Some(format!("round={number}").as_str()));
        for name in ["authorization", "x-key", "x-plain"] {
            assert_eq!(after.header(name), before.header(name), "{name}");
        }
    }
    assert!(world.receiver.all("/in").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_is_removed_or_disabled_gets_nothing_more() {
    let world = World::start().await;
    let (removed, disabled) = (
        world.hook(json!({ "url": world.receiver.url("/removed") })).await,
        world.hook(json!({ "url": world.receiver.url("/disabled") })).await,
    );
    world.hook(json!({ "url": world.receiver.url("/stays") })).await;
    world.publish("tide", "1").await;
    for path in ["/removed", "/disabled", "/stays"] {
        world.receiver.next(path).await;
    }
    world.remove(&removed).await;
    let fields = json!({ "event": "tide", "url": world.receiver.url("/disabled"), "disabled": true });
    assert_eq!(world.ask("PUT", &format!("/v1/integrations/{disabled}"), &fields).await.status, 200);
    for number in 2..22 {
        world.publish("tide", &number.to_string()).await;
    }
    world.receiver.until("/stays", 20).await;
    assert!(world.receiver.all("/removed").is_empty() && world.receiver.all("/disabled").is_empty());
    let enabled = json!({ "event": "tide", "url": world.receiver.url("/disabled") });
    assert_eq!(world.ask("PUT", &format!("/v1/integrations/{disabled}"), &enabled).await.status, 200);
    world.publish("tide", "22").await;
    assert_eq!(world.receiver.next("/disabled").await.form()["data"], "22", "what came meanwhile was not for it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_hook_goes_where_it_says_when_it_is_sent() {
    let world = World::start().await;
    world.receiver.answers("/in", [Reply::status(500)]);
    let hook = world.hook(json!({})).await;
    world.publish("tide", "1").await;
    let first = world.receiver.next("/in").await;
    let fields = json!({ "event": "tide", "url": world.receiver.url("/mended") });
    assert_eq!(world.ask("PUT", &format!("/v1/integrations/{hook}"), &fields).await.status, 200);
    let second = world.receiver.next("/mended").await;
    assert_eq!((second.header("webhook-id"), second.header("webhook-attempt")), (first.header("webhook-id"), Some("2")));
}
