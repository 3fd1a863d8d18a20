//! Where hooks may not go: this machine unless it is allowed, and services that hand out credentials whatever is allowed.

use serde_json::json;

use super::receiver::Receiver;
use super::world::World;

/// What a hook that goes there says of an event.
async fn refusal(world: &World, url: &str) -> String {
    let ear = world.listen().await;
    let hook = world.hook(json!({ "url": url })).await;
    world.publish("tide", "x").await;
    let heard = ear.take(1).await;
    world.remove(&hook).await;
    assert_eq!((heard.len(), heard[0].name.as_str()), (1, "hook-error/tide/0"), "{url}: {heard:?}");
    heard[0].data().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn this_machine_is_refused_in_every_spelling_unless_it_is_allowed() {
    let world = World::start_with("").await;
    let port = world.receiver.host().rsplit(':').next().unwrap().to_owned();
    for host in
        ["127.0.0.1", "127.1", "0x7f000001", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "localhost", "0.0.0.0", "10.0.0.1", "192.168.1.1"]
    {
        let said = refusal(&world, &format!("http://{host}:{port}/in")).await;
        assert!(said.starts_with("error: requests to ") && said.ends_with(" are not allowed"), "{host}: {said}");
    }
    assert!(world.receiver.all("/in").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_hand_out_credentials_are_refused_whatever_is_allowed() {
    let world = World::start_with("[webhooks]\nallow = [\"0.0.0.0/0\", \"::/0\"]\n").await;
    for url in [
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00:ec2::254]/latest/meta-data/",
        "http://169.254.170.2/v2/credentials",
        "http://metadata.google.internal/computeMetadata/v1/",
        "http://2852039166/",
    ] {
        let said = refusal(&world, url).await;
        assert!(said.starts_with("error: "), "{url}: {said}");
        assert!(said.ends_with("are not allowed") || said.ends_with("has no address"), "{url}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_a_template_makes_is_looked_at_too() {
    let world = World::start_with("").await;
    world.hook(json!({ "event": "where", "url": "http://{{{PARTICLE_EVENT_VALUE}}}/in" })).await;
    let ear = world.listen().await;
    world.publish("where", world.receiver.host()).await;
    let heard = ear.take(1).await;
    assert_eq!(heard[0].data(), Some("error: requests to 127.0.0.1 are not allowed"));
    assert!(world.receiver.all("/in").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_may_refuse_what_is_allowed_and_ports_and_plain_http() {
    let world = World::start_with("[webhooks]\nallow = [\"127.0.0.0/8\"]\ndeny = [\"127.0.0.2\"]\n").await;
    let port = world.receiver.host().rsplit(':').next().unwrap().to_owned();
    for url in [format!("http://127.0.0.2:{port}/"), "http://127.0.0.1:22/".to_owned(), "http://127.0.0.1:25/".to_owned()] {
        assert!(refusal(&world, &url).await.ends_with("are not allowed"), "{url}");
    }
    let strict = World::start_with("[webhooks]\nallow = [\"127.0.0.0/8\"]\nplain_http = false\n").await;
    assert!(refusal(&strict, &strict.receiver.url("/in")).await.ends_with("are not allowed"));
    let (secure, _) = Receiver::https().await;
    strict.hook(json!({ "url": secure.url("/in"), "rejectUnauthorized": false })).await;
    strict.publish("tide", "x").await;
    secure.next("/in").await;
}
