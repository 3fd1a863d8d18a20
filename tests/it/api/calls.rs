//! Function calls and variable reads.

use std::time::Instant;

use firmware_protocol::time::UnixMillis;
use holdfast::api::gateway::CallError;
use serde_json::json;

use crate::rig::{DEVICE, Rig};

#[tokio::test]
async fn an_argument_is_found_under_each_of_its_names() {
    let rig = Rig::start_online().await;
    let path = format!("/v1/devices/{DEVICE}/led");
    for (body, argument) in [
        (json!({ "args": "on" }), "on"),
        (json!({ "arg": "on" }), "on"),
        (json!({ "params": "on" }), "on"),
        (json!({ "args": 12 }), "12"),
        (json!({ "args": true }), "true"),
        (json!({ "args": { "a": 1 } }), "{\"a\":1}"),
        (json!({ "args": null }), ""),
        (json!({}), ""),
    ] {
        let answer = rig.json("POST", &path, &body).await;
        let expected = json!({ "id": DEVICE, "name": "kitchen light", "last_app": "", "connected": true, "return_value": argument.len(), "outcome": "done" });
        assert_eq!((answer.status, answer.json()), (200, expected), "{body}");
        assert_eq!(rig.gateway.touches().last(), Some(&format!("call led({argument})")));
    }
    assert_eq!(rig.form("POST", &path, "arg=on%20off").await.json()["return_value"], 6);
    let with_token = format!("access_token={}&args=l1,HIGH", rig.token);
    let head = format!("POST {path} HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded");
    assert_eq!(rig.raw(&head, with_token.as_bytes()).await.json()["return_value"], 7);
    let nothing = rig.raw(&format!("POST {path} HTTP/1.1\r\nAuthorization: Bearer {}", rig.token), b"").await;
    assert_eq!(nothing.json()["return_value"], 0);
}

#[tokio::test]
async fn a_raw_answer_is_the_bare_value() {
    let rig = Rig::start_online().await;
    let path = format!("/v1/devices/{DEVICE}");
    assert_eq!(rig.form("POST", &format!("{path}/led"), "args=abc&format=raw").await.text(), "3");
    assert_eq!(rig.json("POST", &format!("{path}/led?format=raw"), &json!({ "args": "ab" })).await.text(), "2");
    for (variable, text) in [("temp", "21.5"), ("count", "-7"), ("door", "true"), ("label", "a \"b\"")] {
        let answer = rig.get(&format!("{path}/{variable}?format=raw")).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, text));
    }
}

#[tokio::test]
async fn a_variable_has_its_type_in_json() {
    let rig = Rig::start_online().await;
    let body = rig.get(&format!("/v1/devices/{DEVICE}/temp")).await.json();
    assert_eq!(
        body,
        json!({
            "cmd": "VarReturn",
            "name": "temp",
            "result": 21.5,
            "coreInfo": {
                "name": "kitchen light",
                "deviceID": DEVICE,
                "product_id": 13,
                "connected": true,
                "last_heard": "2026-11-18T11:06:40.500Z",
                "last_handshake_at": "2026-11-18T11:06:40.224Z",
                "last_app": "",
            },
        })
    );
    for (variable, result) in [("count", json!(-7)), ("door", json!(true)), ("label", json!("a \"b\""))] {
        assert_eq!(rig.get(&format!("/v1/devices/{DEVICE}/{variable}")).await.json()["result"], result);
    }
}

#[tokio::test]
async fn what_the_device_does_not_have_is_not_asked_of_it() {
    let rig = Rig::start_online().await;
    let function = rig.json("POST", &format!("/v1/devices/{DEVICE}/fly"), &json!({ "args": "" })).await;
    assert_eq!(
        (function.status, function.json()),
        (404, json!({ "ok": false, "error": "Function fly not found", "outcome": "no_such_function" }))
    );
    let variable = rig.get(&format!("/v1/devices/{DEVICE}/height")).await;
    assert_eq!(
        (variable.status, variable.json()),
        (404, json!({ "ok": false, "error": "Variable not found", "outcome": "no_such_variable" }))
    );
    let long = "x".repeat(65);
    assert_eq!(rig.get(&format!("/v1/devices/{DEVICE}/{long}")).await.status, 404);
    assert_eq!(rig.json("POST", &format!("/v1/devices/{DEVICE}/{long}"), &json!({})).await.status, 404);
    assert!(rig.gateway.touches().is_empty());
}

#[tokio::test]
async fn a_device_that_is_offline_is_told_at_once() {
    let rig = Rig::start().await;
    let begun = Instant::now();
    let call = rig.json("POST", &format!("/v1/devices/{DEVICE}/led"), &json!({ "args": "on" })).await;
    let read = rig.get(&format!("/v1/devices/{DEVICE}/temp")).await;
    for answer in [call, read] {
        let expected = json!({ "ok": false, "error": "Timed out.", "info": "The device is offline.", "outcome": "offline" });
        assert_eq!((answer.status, answer.json()), (408, expected));
    }
    assert!(begun.elapsed().as_secs() < 30, "nobody waited for a timeout");
    assert!(rig.gateway.touches().is_empty());
}

#[tokio::test]
async fn each_way_to_fail_has_its_status() {
    let rig = Rig::start_online().await;
    for (error, status, outcome, text) in [
        (CallError::TimedOut { delivered: true }, 408, "delivered_without_reply", "Timed out."),
        (CallError::TimedOut { delivered: false }, 408, "not_delivered", "Timed out."),
        (CallError::Interrupted, 408, "may_have_run", "Timed out."),
        (CallError::AsleepUntil(UnixMillis(1_795_000_000_000)), 408, "asleep", "Timed out."),
        (CallError::Busy, 429, "busy", "Too many requests to this device are waiting"),
        (CallError::TooLarge, 400, "too_large", "The name or the argument is longer than the device takes"),
        (CallError::NotDescribed, 503, "not_described", "The device has not said yet what functions and variables it has"),
        (CallError::Malformed, 502, "malformed", "The answer of the device makes no sense"),
        (CallError::Unavailable, 503, "unavailable", "The server cannot reach the device now"),
    ] {
        rig.gateway.fail_with(error);
        for answer in
            [rig.json("POST", &format!("/v1/devices/{DEVICE}/led"), &json!({})).await, rig.get(&format!("/v1/devices/{DEVICE}/temp")).await]
        {
            assert_eq!((answer.status, &answer.json()["ok"], &answer.json()["error"]), (status, &json!(false), &json!(text)), "{error:?}");
            assert_eq!(answer.json()["outcome"], outcome, "{error:?}");
            assert_eq!(answer.header("retry-after").is_some(), matches!(status, 429 | 503), "{error:?}");
        }
    }
}

#[tokio::test]
async fn a_caller_says_how_long_it_waits() {
    let rig = Rig::start_online().await;
    rig.gateway.hang();
    let begun = Instant::now();
    let head = |seconds: &str| format!("POST /v1/devices/{DEVICE}/led?access_token={} HTTP/1.1\r\nRequest-Timeout: {seconds}", rig.token);
    assert_eq!(rig.raw(&head("1"), b"").await.status, 503);
    assert!((1..20).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    for bad in ["0", "soon", "-1", "1.5", ""] {
        assert_eq!(rig.raw(&head(bad), b"").await.status, 400, "{bad}");
    }
}

#[tokio::test]
async fn a_gateway_that_never_answers_does_not_hold_the_caller() {
    let rig = Rig::start_online().await;
    rig.gateway.hang();
    let call = rig.json("POST", &format!("/v1/devices/{DEVICE}/led"), &json!({})).await;
    assert_eq!(call.status, 503);
    let ping = rig.json("PUT", &format!("/v1/devices/{DEVICE}/ping"), &json!({})).await;
    assert_eq!(ping.json(), json!({ "online": false, "ok": true }));
}
