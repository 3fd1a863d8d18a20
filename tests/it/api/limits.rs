//! Hostile input: everything is bounded, and every refusal is clear.

use std::sync::atomic::Ordering;
use std::time::Duration;

use holdfast::api::Settings;
use holdfast::config::Limit;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::rig::{DEVICE, Rig, settings};

#[tokio::test]
async fn a_body_has_a_limit_with_and_without_an_announced_length() {
    let rig = Rig::start_online().await;
    let path = format!("/v1/devices/{DEVICE}/led");
    let announced = rig.json("POST", &path, &json!({ "args": "x".repeat(70_000) })).await;
    assert_eq!((announced.status, announced.json()), (413, json!({ "ok": false, "error": "The body is too large" })));

    let chunk = format!("{:x}\r\n{}\r\n", 10_000, "x".repeat(10_000));
    let head = format!("POST {path} HTTP/1.1\r\nTransfer-Encoding: chunked\r\nAuthorization: Bearer {}", rig.token);
    let chunked = crate::client::send(rig.address, &head, format!("{}0\r\n\r\n", chunk.repeat(7)).as_bytes()).await;
    assert_eq!(chunked.status, 413);
    assert!(rig.gateway.touches().is_empty());
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_clearly() {
    let rig = Rig::start_online().await;
    let many = "a&".repeat(300);
    for (content_type, body, status, text) in [
        ("application/json", "{", 400, "The body is not valid JSON"),
        ("application/json", "[1]", 400, "The body must be a JSON object"),
        ("application/json", &"[".repeat(5000), 400, "The body is not valid JSON"),
        ("application/x-www-form-urlencoded", &many, 400, "There are too many fields"),
        ("multipart/form-data; boundary=x", "--x--", 415, "The body must be JSON or a form"),
    ] {
        let head = format!("POST /v1/devices/{DEVICE}/led HTTP/1.1\r\nContent-Type: {content_type}\r\nAuthorization: Bearer {}", rig.token);
        let answer = rig.raw(&head, body.as_bytes()).await;
        assert_eq!((answer.status, answer.json()), (status, json!({ "ok": false, "error": text })), "{body:.20}");
    }
}

#[tokio::test]
async fn a_head_has_a_limit() {
    let rig = Rig::start().await;
    for head in [
        format!("GET /v1/user HTTP/1.1\r\nX-Long: {}", "x".repeat(40_000)),
        format!("GET /v1/{} HTTP/1.1", "x".repeat(40_000)),
        format!("GET /v1/user HTTP/1.1{}", "\r\nX: y".repeat(500)),
    ] {
        let mut stream = TcpStream::connect(rig.address).await.expect("a connection");
        let _ = stream.write_all(format!("{head}\r\n\r\n").as_bytes()).await;
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        assert!(answer.ends_with("{\"error\":\"The head of the request is too large\",\"ok\":false}"), "{answer}");
    }
    assert_eq!(rig.get("/v1/user").await.status, 200);
}

#[tokio::test]
async fn what_is_no_http_is_refused_in_json() {
    let rig = Rig::start().await;
    for head in ["GET /v1/user HTTP/9.9", "GET /v1/ user HTTP/1.1", "G\u{1}T /v1/user HTTP/1.1", "GET /v1/user HTTP/1.1\r\nX Y: z"] {
        let mut stream = TcpStream::connect(rig.address).await.expect("a connection");
        stream.write_all(format!("{head}\r\n\r\n").as_bytes()).await.expect("sent");
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("\r\nContent-Type: application/json"), "{head}: {answer}");
        assert!(answer.ends_with("{\"error\":\"The request is no HTTP that is understood here\",\"ok\":false}"), "{head}: {answer}");
    }
}

#[tokio::test]
async fn a_head_that_does_not_end_is_refused_and_a_silent_connection_is_closed() {
    let rig = Rig::start_with(Settings { head_timeout: Duration::from_millis(100), ..settings() }).await;
    let mut slow = TcpStream::connect(rig.address).await.expect("a connection");
    slow.write_all(b"GET /v1/user HTTP/1.1\r\nX-Slow: ").await.expect("sent");
    let answer = rest(&mut slow).await;
    assert!(
        answer.starts_with("HTTP/1.1 408 ") && answer.ends_with("{\"error\":\"The head of the request took too long\",\"ok\":false}"),
        "{answer}"
    );
    let mut silent = TcpStream::connect(rig.address).await.expect("a connection");
    assert_eq!(rest(&mut silent).await, "");
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // What was sent and not read resets the connection behind the answer.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn connections_are_limited_and_refused_in_json() {
    let rig = Rig::start_with(Settings { connections: Limit::AtMost(2), ..settings() }).await;
    let idle = [TcpStream::connect(rig.address).await.expect("a connection"), TcpStream::connect(rig.address).await.expect("a connection")];
    // The refusal may cross the request, so only what was read counts.
    let refused = rig.get("/v1/user").await;
    assert_eq!((refused.status, refused.json()["ok"].clone()), (503, json!(false)));
    assert_eq!(rig.api.counters().refused_connections.load(Ordering::Relaxed), 1);
    drop(idle);
    for _ in 0..500 {
        if rig.get("/v1/user").await.status == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("places were not given back");
}
