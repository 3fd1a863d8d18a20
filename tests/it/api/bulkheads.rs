//! Classes of requests: what is full takes nothing from what is not, and says when to come again.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use holdfast::api::{Class, Settings};
use holdfast::config::Limit;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::rig::{DEVICE, Rig, id, settings};

/// A rig whose devices never answer, with as many calls at once as are allowed by these.
async fn silent(calls: u64, per_account: u64) -> Rig {
    let settings = Settings {
        calls: Limit::AtMost(calls),
        calls_per_account: Limit::AtMost(per_account),
        call_timeout: Duration::from_secs(30),
        ..settings()
    };
    let rig = Rig::start_with(settings).await;
    rig.gateway.bring_online(id(DEVICE));
    rig.gateway.hang();
    rig
}

/// Begins a request, and leaves it.
async fn begin(rig: &Rig, line: &str, headers: &str) -> TcpStream {
    let mut stream = TcpStream::connect(rig.address).await.expect("a connection");
    let head = format!("{line} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {}\r\n{headers}\r\n", rig.token);
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream
}

async fn wait_at_work(rig: &Rig, class: Class, count: u64) {
    let began = Instant::now();
    while rig.api.counters().classes[class.index()].at_work.load(Ordering::Relaxed) != count {
        assert!(began.elapsed() < Duration::from_secs(5), "{count} {class:?} are not at work");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn calls_that_wait_for_devices_hold_up_nobody_else() {
    let rig = silent(2, 9).await;
    let calls = [
        begin(&rig, &format!("POST /v1/devices/{DEVICE}/led"), "").await,
        begin(&rig, &format!("GET /v1/devices/{DEVICE}/temp"), "").await,
    ];
    wait_at_work(&rig, Class::Calls, 2).await;
    let refused = rig.get(&format!("/v1/devices/{DEVICE}/temp")).await;
    assert_eq!((refused.status, refused.json()), (503, json!({ "ok": false, "error": "Too many requests at the same time" })));
    assert!(refused.header("retry-after").and_then(|text| text.parse::<u32>().ok()).is_some_and(|seconds| (1..=30).contains(&seconds)));
    assert!(refused.header("x-request-id").is_some());
    assert_eq!(rig.get("/v1/devices").await.status, 200);
    assert_eq!(rig.json("POST", "/v1/devices/events", &json!({ "name": "e" })).await.status, 200);
    drop(calls);
    wait_at_work(&rig, Class::Calls, 0).await;
}

#[tokio::test]
async fn an_account_has_its_share_of_calls() {
    let rig = silent(9, 1).await;
    let _call = begin(&rig, &format!("POST /v1/devices/{DEVICE}/led"), "").await;
    wait_at_work(&rig, Class::Calls, 1).await;
    for (method, path) in [("PUT", format!("/v1/devices/{DEVICE}/ping")), ("GET", format!("/v1/devices/{DEVICE}/temp"))] {
        let refused = rig.json(method, &path, &json!({})).await;
        let text = "Too many requests of this account are waiting for devices";
        assert_eq!((refused.status, refused.json()), (429, json!({ "ok": false, "error": text })));
        assert!(refused.header("retry-after").is_some());
    }
    let refused = rig.json("PUT", &format!("/v1/devices/{DEVICE}"), &json!({ "signal": "1" })).await;
    assert_eq!(refused.status, 429, "a signal is a call too");
    let other = rig.json("PUT", &format!("/v1/devices/{DEVICE}"), &json!({ "notes": "n" })).await;
    assert_eq!(other.status, 200, "and a note is none");
}

#[tokio::test]
async fn what_waits_until_its_time_is_over_is_not_begun() {
    let rig = silent(1, 9).await;
    let _call = begin(&rig, &format!("POST /v1/devices/{DEVICE}/led"), "").await;
    wait_at_work(&rig, Class::Calls, 1).await;
    let touches = rig.gateway.touches().len();
    // The body comes when most of the time is over.
    let mut late = begin(&rig, &format!("POST /v1/devices/{DEVICE}/led"), "Request-Timeout: 1\r\nContent-Length: 2\r\n").await;
    tokio::time::sleep(Duration::from_millis(800)).await;
    late.write_all(b"{}").await.expect("sent");
    let answer = read(late).await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("\"outcome\":\"not_begun\""), "{answer}");
    assert_eq!(rig.gateway.touches().len(), touches);
    assert_eq!(rig.api.counters().classes[Class::Calls.index()].late.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn bodies_that_never_end_take_no_place_of_others() {
    let rig = Rig::start_online().await;
    let path = format!("/v1/devices/{DEVICE}/led");
    let mut slow = Vec::new();
    for _ in 0..40 {
        slow.push(begin(&rig, &format!("POST {path}"), "Content-Length: 5\r\n").await);
        slow.push(begin(&rig, &format!("POST {path}"), "Transfer-Encoding: chunked\r\n").await);
    }
    wait_at_work(&rig, Class::Uploads, 32).await;
    wait_at_work(&rig, Class::Calls, 0).await;
    assert_eq!(rig.json("POST", &path, &json!({ "args": "on" })).await.status, 200);
    let head = format!("POST {path} HTTP/1.1\r\nTransfer-Encoding: chunked\r\nAuthorization: Bearer {}", rig.token);
    assert_eq!(crate::client::send(rig.address, &head, b"0\r\n\r\n").await.status, 503);
    drop(slow);
    wait_at_work(&rig, Class::Uploads, 0).await;
    let called = crate::client::send(rig.address, &head, b"2\r\n{}\r\n0\r\n\r\n").await;
    assert_eq!(called.status, 200, "{called:?}");
}

#[tokio::test]
async fn addresses_have_a_rate_where_one_is_set_and_are_told_apart_behind_a_proxy() {
    let settings = Settings {
        logins_per_address: Limit::AtMost(2),
        requests_per_address: Limit::AtMost(5),
        trusted_proxies: vec!["127.0.0.0/8".parse().expect("a network")],
        ..settings()
    };
    let rig = Rig::start_with(settings).await;
    let log_in = async |address: &str| {
        let headers = format!("\r\nX-Forwarded-For: {address}");
        rig.log_in(&headers, "grant_type=refresh_token&refresh_token=x&client_id=particle&client_secret=particle").await
    };
    for _ in 0..2 {
        assert_eq!(log_in("192.0.2.1").await.status, 400);
    }
    let refused = log_in("192.0.2.1").await;
    assert_eq!((refused.status, &refused.json()["error"]), (429, &json!("too_many_requests")));
    assert!(refused.header("retry-after").is_some());
    assert_eq!(log_in("192.0.2.2").await.status, 400);
    let head = format!("GET /v1/devices HTTP/1.1\r\nX-Forwarded-For: 192.0.2.3\r\nAuthorization: Bearer {}", rig.token);
    for count in 1..=6 {
        assert_eq!(rig.raw(&head, b"").await.status, if count <= 5 { 200 } else { 429 }, "{count}");
    }
}

async fn read(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while !answer.windows(4).any(|four| four == b"\r\n\r\n") || !answer.ends_with(b"}") {
        let len = tokio::io::AsyncReadExt::read(&mut stream, &mut buffer).await.expect("an answer");
        assert!(len > 0, "{}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&buffer[..len]);
    }
    String::from_utf8(answer).expect("UTF-8")
}
