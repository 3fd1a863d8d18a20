//! What receivers get: one row for each field that shapes a request, and for each way to write it.

use firmware_protocol::coap::format;
use serde_json::{Value as Json, json};

use super::bench::{Bench, EVENT, only};
use super::receiver::{Received, Receiver};
use super::told::{FORM, JSON, PUBLISHED_AT, defaults, with};
use super::world::{ALLOW, World};

/// Data of which templates can take parts.
const DATA: &str = r#"{"t":21.5,"unit":"<C>","list":[{"x":1},{"x":2}],"on":true,"off":false}"#;

fn of(data: &str) -> Json {
    defaults(EVENT, data, &Bench::id())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_method_and_body_is_sent_as_documented() {
    let mut bench = Bench::start().await;
    let form = |body| json!({ "method": "POST", "type": FORM, "body": body });
    let json_body = |body| json!({ "method": "POST", "type": JSON, "body": body });
    let query = |method: &str, query| json!({ "method": method, "query": query });
    for (fields, expected) in [
        (json!({}), form(of(DATA))),
        (json!({ "requestType": "post" }), form(of(DATA))),
        (json!({ "requestType": "PUT" }), with(form(of(DATA)), json!({ "method": "PUT" }))),
        (
            json!({ "requestType": "Put", "json": { "a": "1" } }),
            with(json_body(with(of(DATA), json!({ "a": "1" }))), json!({ "method": "PUT" })),
        ),
        (json!({ "noDefaults": true }), json!({ "method": "POST", "type": FORM })),
        (json!({ "form": { "{{unit}}": "{{{t}}}" } }), form(with(of(DATA), json!({ "&lt;C&gt;": "21.5" })))),
        (json!({ "form": { "data": "mine" } }), form(with(of(DATA), json!({ "data": "mine" })))),
        (only("form", json!({ "a": "{{list.1.x}}", "b": "{{#on}}yes{{/on}}{{^off}}!{{/off}}" })), form(json!({ "a": "2", "b": "yes!" }))),
        (
            json!({ "json": { "{{{PARTICLE_EVENT_NAME}}}": "{{t}}", "n": 5, "deep": [{ "u": "{{{unit}}}" }, null, true] } }),
            json_body(with(of(DATA), json!({ "tide/high": "21.5", "n": 5, "deep": [{ "u": "<C>" }, null, true] }))),
        ),
        (json!({ "json": { "event": "mine" } }), json_body(with(of(DATA), json!({ "event": "mine" })))),
        (only("json", json!({ "x": "{{#list}}{{x}},{{/list}}" })), json_body(json!({ "x": "1,2," }))),
        (
            only("json", json!(r#"{"t": {{t}}, "raw": {{{PARTICLE_EVENT_VALUE}}}}"#)),
            json_body(json!({ "t": 21.5, "raw": serde_json::from_str::<Json>(DATA).unwrap() })),
        ),
        (json!({ "json": r#"{"t": {{t}}}"# }), json_body(with(of(DATA), json!({ "t": 21.5 })))),
        (json!({ "json": "[{{t}}]" }), json_body(json!([21.5]))),
        (json!({ "body": "t={{t}} {{unit}} {{{unit}}}" }), json!({ "method": "POST", "body": "t=21.5 &lt;C&gt; <C>" })),
        (
            json!({ "body": "<t>{{t}}</t>", "headers": { "Content-Type": "application/xml" } }),
            json!({ "method": "POST", "type": "application/xml", "body": "<t>21.5</t>" }),
        ),
        (json!({ "query": { "q{{t}}": "{{{unit}}}" } }), with(form(of(DATA)), json!({ "query": { "q21.5": "<C>" } }))),
        (json!({ "requestType": "GET" }), query("GET", of(DATA))),
        (
            json!({ "requestType": "get", "form": { "f": "{{t}}" }, "query": { "q": "2" } }),
            query("GET", with(of(DATA), json!({ "f": "21.5", "q": "2" }))),
        ),
        (json!({ "requestType": "GET", "noDefaults": true, "query": { "q": "2" } }), query("GET", json!({ "q": "2" }))),
        (json!({ "requestType": "GET", "noDefaults": true, "json": { "a": "1" } }), json!({ "method": "GET" })),
        (json!({ "requestType": "DELETE", "query": { "q": "2" } }), query("DELETE", with(of(DATA), json!({ "q": "2" })))),
        (json!({ "requestType": "delete", "noDefaults": true }), json!({ "method": "DELETE" })),
    ] {
        let said = fields.to_string();
        assert_eq!(bench.send(fields, DATA).await.told(), expected, "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_without_data_and_of_every_kind_have_their_text_in_the_defaults() {
    let mut bench = Bench::start().await;
    for (content_format, data, expected) in [
        (format::TEXT, &b"21.5"[..], json!("21.5")),
        (format::TEXT, "höh & \u{1f30a}".as_bytes(), json!("höh & \u{1f30a}")),
        (format::OCTETS, b"\x00\xff\r\n", json!("data:application/octet-stream;base64,AP8NCg==")),
        (format::JSON_CBOR, b"\xa1\x61t\x05", json!("{\"t\":5}")),
    ] {
        let received = bench.send_typed(json!({ "json": {} }), content_format, data).await;
        let told = &received.told()["body"];
        assert_eq!((&told["data"], &told["published_at"]), (&expected, &json!(PUBLISHED_AT)), "{data:?}");
    }
}

/// What a request says in these headers.
fn headers(received: &Received, names: &[&str]) -> Json {
    names.iter().map(|name| ((*name).to_owned(), json!(received.header(name)))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_say_what_the_hook_says_and_who_asks() {
    let mut bench = Bench::start().await;
    let (host, agent) = (bench.world.receiver.host().to_owned(), webhooks::request::USER_AGENT);
    for (fields, expected) in [
        (json!({}), json!({ "user-agent": agent, "host": host, "authorization": null, "accept": null, "content-type": FORM })),
        (json!({ "json": {} }), json!({ "accept": JSON, "content-type": JSON })),
        (json!({ "body": "x" }), json!({ "accept": null, "content-type": null, "content-length": "1" })),
        (json!({ "headers": { "X-{{unit}}": "{{{t}}}", "User-Agent": "mine" } }), json!({ "x-c": "21.5", "user-agent": "mine" })),
        (
            json!({ "json": {}, "headers": { "accept": "text/plain", "content-type": "a/b" } }),
            json!({ "accept": "text/plain", "content-type": "a/b" }),
        ),
        (
            json!({ "headers": { "Host": "elsewhere", "webhook-id": "forged", "Transfer-Encoding": "chunked" } }),
            json!({ "host": host, "transfer-encoding": null }),
        ),
        (json!({ "auth": { "username": "kai", "password": "{{t}}" } }), json!({ "authorization": "Basic a2FpOjIxLjU=" })),
        (json!({ "auth": { "user": "kai", "pass": "ebb" } }), json!({ "authorization": "Basic a2FpOmViYg==" })),
        (json!({ "auth": { "bearer": "{{unit}}-1" } }), json!({ "authorization": "Bearer C-1" })),
        (json!({ "headers": { "Authorization": "Token {{t}}" } }), json!({ "authorization": "Token 21.5" })),
        (json!({ "url": format!("http://kai:ebb@{host}/in") }), json!({ "authorization": "Basic a2FpOmViYg==", "host": host })),
    ] {
        let said = fields.to_string();
        let received = bench.send(fields, r#"{"t":21.5,"unit":"C"}"#).await;
        let names: Vec<_> = expected.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(headers(&received, &names), expected, "{said}");
        assert_ne!(received.header("webhook-id"), Some("forged"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_in_the_address_are_filled_in() {
    let mut bench = Bench::start().await;
    let base = bench.world.receiver.url("");
    for (url, expected) in [
        (format!("{base}/{{{{where}}}}?q={{{{t}}}}"), json!({ "q": "21.5" })),
        ("{{{base}}}/{{where}}#part-{{t}}".to_owned(), Json::Null),
        (format!("{base}/in?a=b"), json!({ "a": "b" })),
    ] {
        let data = json!({ "base": base, "where": "in", "t": 21.5 }).to_string();
        let received = bench.send(json!({ "url": url, "body": "x" }), &data).await;
        assert_eq!(received.told()["query"], expected, "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_nobody_vouches_for_is_accepted_only_if_the_hook_says_so() {
    let mut bench = Bench::start().await;
    let (secure, _) = Receiver::https().await;
    let hook = bench.world.hook(json!({ "url": secure.url("/in") })).await;
    bench.publish("21.5");
    let events = bench.events(1).await;
    let [(name, Some(text))] = &events[..] else { panic!("{events:?}") };
    assert!(
        name == "hook-error/tide/high/0" && text.contains("no secure connection to 127.0.0.1") && text.contains("self-signed"),
        "{text}"
    );
    bench.world.remove(&hook).await;
    let hook = bench.world.hook(json!({ "url": secure.url("/in"), "rejectUnauthorized": false })).await;
    bench.publish("22");
    assert_eq!(secure.next("/in").await.form()["data"], "22");
    bench.world.remove(&hook).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_the_operator_vouches_for_is_accepted() {
    let (secure, certificate) = Receiver::https().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("trusted.pem");
    std::fs::write(&file, certificate).unwrap();
    let world = World::start_with(&format!("{ALLOW}certificates = {file:?}\n")).await;
    world.hook(json!({ "url": secure.url("/in") })).await;
    world.publish(EVENT, "21.5").await;
    assert_eq!(secure.next("/in").await.form()["data"], "21.5");
}
