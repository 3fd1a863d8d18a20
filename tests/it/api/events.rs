//! Event streams, byte by byte, and publishing.

use std::time::Duration;

use holdfast::api::Settings;
use holdfast::api::gateway::{Audience, NewEvent, PublishError};
use holdfast::config::Limit;
use holdfast::store::Role;
use holdfast::store::registry::NewProduct;
use router::event::{Position, Source};
use serde_json::{Value as Json, json};
use tokio::time::timeout;

use crate::client::OpenStream;
use crate::rig::{DEVICE, EMAIL, FOREIGN_DEVICE, Rig, id, settings};

const PATIENCE: Duration = Duration::from_secs(10);

async fn chunk(stream: &mut OpenStream) -> Option<String> {
    timeout(PATIENCE, stream.chunk()).await.expect("something comes")
}

fn event(rig: &Rig, device: &str, name: &str, data: &str) -> NewEvent {
    NewEvent {
        owner: rig.user,
        product: None,
        source: Source::Device(id(device)),
        name: name.to_owned(),
        content_format: 0,
        data: Some(data.as_bytes().to_vec()),
        ttl_s: 60,
    }
}

#[tokio::test]
async fn a_stream_begins_at_once_and_carries_each_event_in_one_piece() {
    let rig = Rig::start().await;
    let mut stream = rig.stream("/v1/devices/events?nonce=353.644408").await;
    let head = stream.head.to_lowercase();
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    for header in ["content-type: text/event-stream", "cache-control: no-cache", "connection: keep-alive", "x-accel-buffering: no"] {
        assert!(head.contains(header), "{header} in {head}");
    }
    assert!(!head.contains("content-encoding"));
    assert_eq!(chunk(&mut stream).await.as_deref(), Some(":ok\n\n"));
    rig.gateway.emit(event(&rig, DEVICE, "temp/kitchen", "21.5 °C"));
    assert_eq!(
        chunk(&mut stream).await.as_deref(),
        Some(
            "event: temp/kitchen\nid: 1\ndata: {\"data\":\"21.5 \\u00b0C\",\"ttl\":60,\"published_at\":\"2026-11-18T11:06:40.123Z\",\
             \"coreid\":\"e00fce68aabbccddeeff0011\"}\n\n"
        )
    );
}

#[tokio::test]
async fn each_route_opens_the_stream_it_names() {
    let rig = Rig::start().await;
    for (path, device, prefix) in [
        ("/v1/devices/events", None, ""),
        ("/v1/devices/events/", None, ""),
        ("/v1/devices/events/temp", None, "temp"),
        ("/v1/devices/events/temp%2Fkit%20chen?nonce=1", None, "temp/kit chen"),
        ("/v1/devices/events/temp/kit%20chen/", None, "temp/kit chen/"),
        ("/v1/devices/events/t%C3%BCr", None, "tür"),
        ("//v1/events/temp", None, "temp"),
        ("/v1/devices/kitchen%20light/events", Some(DEVICE), ""),
        ("/v1/devices/e00fce68aabbccddeeff0011/events/a%2Fb", Some(DEVICE), "a/b"),
    ] {
        let mut stream = rig.stream(path).await;
        assert_eq!(chunk(&mut stream).await.as_deref(), Some(":ok\n\n"), "{path}");
        let filters = rig.gateway.filters();
        let filter = filters.last().expect("a stream is open");
        assert_eq!((filter.audience, filter.device, filter.prefix.as_str()), (Audience::Owner(rig.user), device.map(id), prefix), "{path}");
    }
    let missing = rig.get("/v1/events").await;
    assert_eq!((missing.status, missing.json()), (400, json!({ "ok": false, "error": "event prefix filter is required" })));
    assert_eq!(rig.get(&format!("/v1/devices/events/{}", "x".repeat(65))).await.status, 400);
}

#[tokio::test]
async fn a_reader_that_comes_back_says_where_it_was() {
    let rig = Rig::start().await;
    for (header, after) in [
        ("Last-Event-ID: 41", Some(Position(41))),
        ("Last-Event-ID: x", Some(Position(u64::MAX))),
        ("Last-Event-ID:", None),
        ("Accept: */*", None),
    ] {
        let head = format!("GET /v1/devices/events HTTP/1.1\r\nAuthorization: Bearer {}\r\n{header}", rig.token);
        let _stream = OpenStream::open(rig.address, &head).await;
        assert_eq!(rig.gateway.filters().last().expect("a stream").after, after, "{header}");
    }
}

#[tokio::test]
async fn silence_is_broken_between_events_only() {
    let rig = Rig::start_with(Settings { heartbeat: Duration::from_millis(30), ..settings() }).await;
    let mut stream = rig.stream("/v1/devices/events").await;
    assert_eq!(chunk(&mut stream).await.as_deref(), Some(":ok\n\n"));
    for _ in 0..3 {
        assert_eq!(chunk(&mut stream).await.as_deref(), Some("\n"));
    }
    rig.gateway.emit(event(&rig, DEVICE, "a", "1"));
    let next = loop {
        let next = chunk(&mut stream).await.expect("the stream is open");
        if next != "\n" {
            break next;
        }
    };
    assert!(next.starts_with("event: a\n") && next.ends_with("}\n\n"), "{next}");
}

#[tokio::test]
async fn a_stream_ends_with_the_token_and_with_the_server() {
    let rig = Rig::start_with(Settings { heartbeat: Duration::from_millis(30), ..settings() }).await;
    let mut first = rig.stream("/v1/devices/events").await;
    assert_eq!(rig.json("DELETE", "/v1/access_tokens/current", &json!({})).await.status, 200);
    let rest = timeout(PATIENCE, async { while first.chunk().await.is_some() {} }).await;
    assert!(rest.is_ok(), "it ends within a heartbeat");

    let rig = Rig::start().await;
    let mut second = rig.stream("/v1/devices/events").await;
    assert_eq!(chunk(&mut second).await.as_deref(), Some(":ok\n\n"));
    rig.shutdown.cancel();
    assert_eq!(chunk(&mut second).await, None);
    timeout(PATIENCE, rig.served).await.expect("the server stops").expect("and does not panic");
}

#[tokio::test]
async fn the_stream_of_a_product_ends_for_whoever_leaves_its_team() {
    let rig = Rig::start_with(Settings { heartbeat: Duration::from_millis(30), ..settings() }).await;
    let other = rig.registry.user_by_email("other@example.com").await.expect("a registry").expect("a user").id;
    let new = NewProduct { name: "kelp".into(), description: None, platform_id: 13, settings: Default::default() };
    let product = rig.registry.create_product(other, new).await.expect("a product").id;
    rig.registry.put_member(product, EMAIL, Role::Viewer).await.expect("a member");
    let mut stream = rig.stream(&format!("/v1/products/{}/events", product.0)).await;
    assert_eq!(chunk(&mut stream).await.as_deref(), Some(":ok\n\n"));
    assert_eq!(chunk(&mut stream).await.as_deref(), Some("\n"));
    rig.registry.remove_member(product, rig.user).await.expect("it leaves");
    let rest = timeout(PATIENCE, async { while stream.chunk().await.is_some() {} }).await;
    assert!(rest.is_ok(), "it ends within a heartbeat");
}

#[tokio::test]
async fn a_slow_reader_is_cut_off_and_others_are_not() {
    let rig = Rig::start().await;
    let mut slow = rig.stream("/v1/devices/events").await;
    let mut quick = rig.stream("/v1/devices/events").await;
    assert_eq!(chunk(&mut quick).await.as_deref(), Some(":ok\n\n"));
    let data = "x".repeat(16_000);
    let mut sent = 0;
    while rig.gateway.filters().len() == 2 {
        assert!(sent < 2000, "memory is bounded");
        rig.gateway.emit(event(&rig, DEVICE, "big", &data));
        sent += 1;
        assert!(chunk(&mut quick).await.is_some_and(|text| text.starts_with("event: big\n")));
    }
    let mut received = 0;
    while let Some(text) = chunk(&mut slow).await {
        received += usize::from(text.starts_with("event: big\n") && text.ends_with("\n\n"));
    }
    assert!((1..sent).contains(&received), "{received} of {sent} whole events came before the end");
    rig.gateway.emit(event(&rig, DEVICE, "after", ""));
    assert!(chunk(&mut quick).await.is_some_and(|text| text.starts_with("event: after\n")));
}

#[tokio::test]
async fn streams_are_limited_and_given_back() {
    let rig = Rig::start_with(Settings { streams: Limit::AtMost(1), heartbeat: Duration::from_millis(20), ..settings() }).await;
    let first = rig.stream("/v1/devices/events").await;
    let refused = rig.get("/v1/devices/events").await;
    assert_eq!((refused.status, &refused.json()["ok"]), (429, &json!(false)));
    assert!(refused.header("retry-after").is_some());
    drop(first);
    for _ in 0..500 {
        if rig.stream("/v1/devices/events").await.head.starts_with("HTTP/1.1 200") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the place of a reader that left was not given back");
}

#[tokio::test]
async fn what_a_caller_publishes_is_accepted_as_it_is() {
    let rig = Rig::start().await;
    for (body, data, content_format, ttl_s) in [
        (json!({ "name": "e", "data": "hello world" }), Some(&b"hello world"[..]), 0, 60),
        (json!({ "name": "e" }), None, 0, 60),
        (json!({ "name": "e", "data": null, "private": true }), None, 0, 60),
        (json!({ "name": "e", "data": "", "ttl": 21_600 }), Some(b""), 0, 21_600),
        (json!({ "name": "e", "data": 12, "ttl": "30" }), Some(b"12"), 0, 30),
        (json!({ "name": "e", "data": { "a": 1 } }), Some(b"{\"a\":1}"), 0, 60),
        (json!({ "name": "e", "data": "data:image/png;base64,cG5n" }), Some(b"png"), 23, 60),
    ] {
        let answer = rig.json("POST", "/v1/devices/events", &body).await;
        assert_eq!((answer.status, answer.json()), (200, json!({ "ok": true })), "{body}");
        let event = rig.gateway.published().pop().expect("an event");
        assert_eq!((event.owner, event.source, event.name.as_str()), (rig.user, Source::Api, "e"));
        assert_eq!((event.data.as_deref(), event.content_format, event.ttl_s), (data, content_format, ttl_s), "{body}");
    }
    assert_eq!(rig.form("POST", "/v1/devices/events", "name=a%2Fb&data=x%20y&private=true&ttl=60").await.status, 200);
    assert_eq!(rig.gateway.published().pop().expect("an event").data.as_deref(), Some(&b"x y"[..]));
}

#[tokio::test]
async fn a_published_event_reaches_the_callers_own_stream() {
    let rig = Rig::start().await;
    let mut all = rig.stream("/v1/devices/events/ala").await;
    assert_eq!(chunk(&mut all).await.as_deref(), Some(":ok\n\n"));
    rig.json("POST", "/v1/devices/events", &json!({ "name": "other" })).await;
    rig.json("POST", "/v1/devices/events", &json!({ "name": "alarm" })).await;
    let text = chunk(&mut all).await.expect("an event");
    let data: Json =
        serde_json::from_str(text.lines().nth(2).and_then(|line| line.strip_prefix("data: ")).expect("the data line")).expect("JSON");
    assert_eq!((text.lines().next(), &data["coreid"], &data["data"]), (Some("event: alarm"), &json!("api"), &Json::Null));
}

#[tokio::test]
async fn events_of_others_are_not_mine() {
    let rig = Rig::start().await;
    let mut mine = rig.stream("/v1/devices/events").await;
    let mut of_device = rig.stream(&format!("/v1/devices/{DEVICE}/events")).await;
    for stream in [&mut mine, &mut of_device] {
        assert_eq!(chunk(stream).await.as_deref(), Some(":ok\n\n"));
    }
    rig.gateway.emit(NewEvent { owner: firmware_protocol::id::OwnerId(999), ..event(&rig, FOREIGN_DEVICE, "theirs", "") });
    rig.gateway.emit(event(&rig, "0123456789abcdef01234567", "second", ""));
    rig.gateway.emit(event(&rig, DEVICE, "third", ""));
    assert!(chunk(&mut mine).await.is_some_and(|text| text.starts_with("event: second\n")));
    assert!(chunk(&mut of_device).await.is_some_and(|text| text.starts_with("event: third\n")));
}

#[tokio::test]
async fn what_cannot_be_an_event_is_refused() {
    let rig = Rig::start().await;
    for (body, status) in [
        (json!({}), 400),
        (json!({ "name": "" }), 400),
        (json!({ "name": "n".repeat(65) }), 400),
        (json!({ "name": "a\nb" }), 400),
        (json!({ "name": "spark/status" }), 400),
        (json!({ "name": "Particle/device/updates/pending" }), 400),
        (json!({ "name": "e", "ttl": "soon" }), 400),
        (json!({ "name": "e", "ttl": -1 }), 400),
        (json!({ "name": "e", "data": "x".repeat(16_385) }), 413),
    ] {
        let answer = rig.json("POST", "/v1/devices/events", &body).await;
        assert_eq!((answer.status, &answer.json()["ok"]), (status, &json!(false)), "{body:.60}");
    }
    assert!(rig.gateway.published().is_empty());
    for (error, status) in [(PublishError::TooLarge, 413), (PublishError::Busy, 503), (PublishError::Unavailable, 503)] {
        rig.gateway.refuse_events(error);
        assert_eq!(rig.json("POST", "/v1/devices/events", &json!({ "name": "e" })).await.status, status, "{error:?}");
    }
}
