//! What templates can name: of every event, of its data, and under the old names.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use firmware_protocol::coap::format;
use serde_json::{Value as Json, json};

use super::bench::{Bench, EVENT, only};
use super::told::is_time;

const NAMES: [&str; 11] = [
    "PARTICLE_DEVICE_ID",
    "PARTICLE_EVENT_NAME",
    "PARTICLE_EVENT_VALUE",
    "PARTICLE_PUBLISHED_AT",
    "PARTICLE_EVENT_ID",
    "PRODUCT_ID",
    "PRODUCT_USER_ID",
    "PRODUCT_VERSION",
    "SPARK_CORE_ID",
    "SPARK_EVENT_NAME",
    "SPARK_EVENT_VALUE",
];

/// A template for each variable, by its name.
pub(super) fn each_variable() -> Json {
    let more = ["SPARK_PUBLISHED_AT", "PARTICLE_EVENT_JSON", "PARTICLE_EVENT_BASE64"];
    NAMES.iter().chain(&more).map(|name| ((*name).to_owned(), json!(format!("{{{{{{{name}}}}}}}")))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_variable_says_what_is_so_of_the_event() {
    let mut bench = Bench::start().await;
    let received = bench.send(only("json", each_variable()), "21.5 <C>").await;
    let told: Json = serde_json::from_slice(&received.body).unwrap();
    let device = Bench::id();
    for (name, expected) in [
        ("PARTICLE_DEVICE_ID", device.as_str()),
        ("SPARK_CORE_ID", &device),
        ("PARTICLE_EVENT_NAME", EVENT),
        ("SPARK_EVENT_NAME", EVENT),
        ("PARTICLE_EVENT_VALUE", "21.5 <C>"),
        ("SPARK_EVENT_VALUE", "21.5 <C>"),
        // A device that is in no product says its kind of hardware there.
        ("PRODUCT_ID", "32"),
        ("PRODUCT_VERSION", ""),
    ] {
        assert_eq!(told[name], expected, "{name}");
    }
    assert!(is_time(told["PARTICLE_PUBLISHED_AT"].as_str().unwrap()) && told["PARTICLE_PUBLISHED_AT"] == told["SPARK_PUBLISHED_AT"]);
    let id = told["PARTICLE_EVENT_ID"].as_str().unwrap();
    assert!(received.header("webhook-id").unwrap().starts_with(&format!("{id}_")), "{id}");
    let whole = told["PARTICLE_EVENT_JSON"].as_str().unwrap();
    assert_eq!(STANDARD.decode(told["PARTICLE_EVENT_BASE64"].as_str().unwrap()).unwrap(), whole.as_bytes());
    let whole: Json = serde_json::from_str(whole).unwrap();
    let expected = [("id", json!(id)), ("name", json!(EVENT)), ("data", json!("21.5 <C>")), ("ttl", json!(60)), ("coreid", json!(device))];
    for (member, expected) in expected {
        assert_eq!(whole[member], expected, "{member}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_rendered_follows_from_the_kind_of_data() {
    let mut bench = Bench::start().await;

    for (content_format, data, template, expected) in [
        (format::TEXT, &b"a<b>&\"c'"[..], "{{PARTICLE_EVENT_VALUE}}", "a&lt;b&gt;&amp;&quot;c&#39;"),
        (format::TEXT, b"a<b>", "{{{PARTICLE_EVENT_VALUE}}}{{&SPARK_EVENT_VALUE}}", "a<b>a<b>"),
        (format::TEXT, br#"{"a":{"b":[7,8]}}"#, "{{a.b.1}}|{{a.c}}|{{#a}}{{#b}}{{.}};{{/b}}{{/a}}", "8||7;8;"),
        (format::TEXT, br#"{"PARTICLE_DEVICE_ID":"shadow"}"#, "{{PARTICLE_DEVICE_ID}}", "shadow"),
        (format::TEXT, b"[1,2]", "{{{PARTICLE_EVENT_VALUE}}}{{0}}", "[1,2]"),
        (format::TEXT, b"{\"broken\"", "{{{PARTICLE_EVENT_VALUE}}}", "{\"broken\""),
        (format::OCTETS, b"\x00\x01", "{{{PARTICLE_EVENT_VALUE}}}", "data:application/octet-stream;base64,AAE="),
        (format::JSON_CBOR, b"\xa2\x61t\x05\x61s\x61x", "{{t}} {{s}} {{{PARTICLE_EVENT_VALUE}}}", r#"5 x {"s":"x","t":5}"#),
        (format::TEXT, b"1", "{{missing}}{{#missing}}x{{/missing}}{{! a remark }}.", "."),
    ] {
        let received = bench.send_typed(json!({ "body": template }), content_format, data).await;
        assert_eq!(received.text(), expected, "{template} of {data:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_callers_publish_has_their_name() {
    let bench = Bench::start().await;
    bench.world.hook(only("json", json!({ "id": "{{PARTICLE_DEVICE_ID}}", "product": "{{PRODUCT_ID}}" }))).await;
    bench.world.publish(EVENT, "x").await;
    let told = bench.world.receiver.next("/in").await.told();
    assert_eq!(told["body"], json!({ "id": "api", "product": "" }));
}
