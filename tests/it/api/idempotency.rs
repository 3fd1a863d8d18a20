//! Requests with an `Idempotency-Key`: done once, answered as often as they are asked.

use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::client::{Answer, send};
use crate::rig::{DEVICE, Rig, id};

async fn ask(rig: &Rig, token: &str, line: &str, key: &str, body: &str) -> Answer {
    let kind = "Content-Type: application/json";
    let head =
        format!("{line} HTTP/1.1\r\nAuthorization: Bearer {token}\r\nIdempotency-Key: {key}\r\n{kind}\r\nContent-Length: {}", body.len());
    send(rig.address, &head, body.as_bytes()).await
}

#[tokio::test]
async fn a_request_that_is_repeated_is_done_once_and_answered_again() {
    let rig = Rig::start_online().await;
    let call = format!("POST /v1/devices/{DEVICE}/led");
    let first = ask(&rig, &rig.token, &call, "a", r#"{"args":"on"}"#).await;
    let again = ask(&rig, &rig.token, &call, "a", r#"{"args":"on"}"#).await;
    assert_eq!((first.status, first.header("idempotent-replayed")), (200, None));
    assert_eq!((again.status, again.header("idempotent-replayed")), (200, Some("true")));
    assert_eq!(first.json(), again.json());
    assert_ne!(first.header("x-request-id"), again.header("x-request-id"), "it is another request all the same");
    assert_eq!(rig.gateway.touches(), ["call led(on)"]);
    assert_eq!(ask(&rig, &rig.token, &call, "b", r#"{"args":"on"}"#).await.header("idempotent-replayed"), None);
    assert_eq!(rig.gateway.touches().len(), 2);
}

#[tokio::test]
async fn a_refusal_that_stands_is_given_again_and_one_that_passes_is_tried_again() {
    let rig = Rig::start().await;
    let call = format!("POST /v1/devices/{DEVICE}/led");
    let offline = [ask(&rig, &rig.token, &call, "a", "{}").await, ask(&rig, &rig.token, &call, "a", "{}").await];
    assert_eq!(offline.each_ref().map(|answer| answer.status), [408, 408]);
    assert_eq!(offline[1].header("idempotent-replayed"), Some("true"));
    rig.gateway.refuse_events(holdfast::api::gateway::PublishError::Busy);
    for _ in 0..2 {
        let busy = ask(&rig, &rig.token, "POST /v1/devices/events", "c", r#"{"name":"e"}"#).await;
        assert_eq!((busy.status, busy.header("idempotent-replayed")), (503, None));
    }
    rig.gateway.refuse_events(holdfast::api::gateway::PublishError::Interrupted);
    let may_have = ask(&rig, &rig.token, "POST /v1/devices/events", "c", r#"{"name":"e"}"#).await;
    let again = ask(&rig, &rig.token, "POST /v1/devices/events", "c", r#"{"name":"e"}"#).await;
    assert_eq!((may_have.status, again.header("idempotent-replayed")), (503, Some("true")), "nobody knows whether it was done");
}

#[tokio::test]
async fn a_key_stands_for_one_request_of_one_holder() {
    let rig = Rig::start_online().await;
    let path = format!("/v1/devices/{DEVICE}");
    assert_eq!(ask(&rig, &rig.token, &format!("PUT {path}"), "a", r#"{"notes":"n"}"#).await.status, 200);
    for (line, body) in [
        (format!("PUT {path}"), r#"{"notes":"m"}"#),
        (format!("PUT {path}/"), r#"{"notes":"m"}"#),
        (format!("PUT {path}?x=1"), r#"{"notes":"n"}"#),
        (format!("POST {path}/led"), r#"{"notes":"n"}"#),
    ] {
        let other = ask(&rig, &rig.token, &line, "a", body).await;
        assert_eq!(
            (other.status, other.json()),
            (409, json!({ "ok": false, "error": "Another request had this Idempotency-Key" })),
            "{line}"
        );
    }
    let same_holder = rig.token_for("*:*").await;
    let again = ask(&rig, &same_holder, &format!("PUT {path}"), "a", r#"{"notes":"n"}"#).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"), "another token of the same account");
    assert_eq!(ask(&rig, "no-token", &format!("PUT {path}"), "a", r#"{"notes":"n"}"#).await.status, 401);
    let long = ask(&rig, &rig.token, &format!("PUT {path}"), &"k".repeat(256), "{}").await;
    assert_eq!(long.status, 400);
    assert_eq!(
        ask(&rig, &rig.token, &format!("GET {path}"), "a", "").await.header("idempotent-replayed"),
        None,
        "reads have no use for it"
    );
}

#[tokio::test]
async fn one_that_is_under_way_is_not_begun_again_and_goes_on_when_its_caller_leaves() {
    let rig = Rig::start_online().await;
    rig.gateway.hang();
    let call = format!("POST /v1/devices/{DEVICE}/led");
    let mut leaving = TcpStream::connect(rig.address).await.expect("a connection");
    let head = format!("{call} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {}\r\nIdempotency-Key: a\r\nRequest-Timeout: 1\r\n", rig.token);
    leaving.write_all(format!("{head}Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}").as_bytes()).await.expect("sent");
    while rig.gateway.touches().is_empty() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let second = ask(&rig, &rig.token, &call, "a", "{}").await;
    assert_eq!((second.status, second.header("retry-after")), (409, Some("1")));
    drop(leaving);
    let mut last = second;
    for _ in 0..100 {
        last = ask(&rig, &rig.token, &call, "a", "{}").await;
        if last.status != 409 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!((last.status, last.header("idempotent-replayed")), (503, Some("true")), "{}", last.text());
    assert_eq!(rig.gateway.touches().len(), 1);
    rig.gateway.bring_online(id(DEVICE));
}
