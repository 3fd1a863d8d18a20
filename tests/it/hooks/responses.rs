//! Who hears of answers: the device that asked, other devices of the account, readers of its stream; and nobody else.

use firmware_protocol::session::subscribe::HandlerKind;
use holdfast::store::Scopes;
use serde_json::json;

use super::bench::Bench;
use super::ear::{CLOUD, Ear};
use super::receiver::{PATIENCE, Reply};
use super::told::is_time;
use super::world::PASSWORD;
use crate::device_driver::app;
use crate::drive::Drive;
use crate::rig::token;

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_reaches_subscribed_devices_and_the_stream_of_the_account_alone() {
    let mut bench = Bench::start().await;
    let registry = bench.world.registry().clone();
    let stranger = registry.add_user("other@example.com", PASSWORD).await.unwrap().id;
    let strangers = Ear::open(bench.world.server.http(), "/v1/devices/events", &token(&registry, stranger, Scopes::All).await).await;
    let mut second = bench.world.device(2).await;
    bench.world.receiver.answers("/in", [Reply::ok("ebb".repeat(300))]);
    bench.world.hook(json!({})).await;
    bench.publish("21.5");
    for device in [&mut bench.device, &mut second] {
        device.run_until(PATIENCE, |device| device.heard().len() >= 2);
        let mut heard = device.heard();
        heard.sort();
        let names: Vec<_> = heard.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["hook-response/tide/high/0", "hook-response/tide/high/1"]);
        let pieces: Vec<_> = heard.into_iter().map(|(_, data)| data).collect();
        assert_eq!(pieces.concat(), "ebb".repeat(300).as_bytes());
    }
    for heard in bench.ear.take(3).await {
        assert_eq!((&heard.said["coreid"], &heard.said["ttl"]), (&json!(CLOUD), &json!(60)));
        assert!(is_time(heard.said["published_at"].as_str().unwrap()));
    }
    assert!(strangers.all().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_in_bytes_reaches_a_device_that_takes_bytes() {
    let mut bench = Bench::start().await;
    bench.device.device.power_off();
    let mut device = bench.world.connected(1, app().subscription("hook-response/", HandlerKind::Binary));
    bench.world.receiver.answers("/in", [Reply::ok([0, 1, 255]).with("content-type", "application/octet-stream")]);
    bench.world.hook(json!({ "dataUrlResponseEvent": true })).await;
    let publish = device.publish("tide/high", b"x");
    device.run_until(PATIENCE, |device| device.published(publish) && !device.heard().is_empty());
    assert_eq!(device.heard(), [("hook-response/tide/high/0".to_owned(), vec![0, 1, 255])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_hears_of_an_error_too() {
    let mut bench = Bench::start().await;
    bench.world.receiver.answers("/in", [Reply::status(404)]);
    bench.world.hook(json!({})).await;
    bench.publish("21.5");
    bench.device.run_until(PATIENCE, |device| !device.heard().is_empty());
    let heard = bench.device.heard();
    assert_eq!(heard, [("hook-error/tide/high/0".to_owned(), b"error status 404 from 127.0.0.1".to_vec())]);
}
