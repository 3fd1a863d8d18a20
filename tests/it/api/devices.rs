//! The device object and the routes that read and change it.

use firmware_protocol::time::UnixMillis;
use holdfast::api::gateway::{CallError, Presence, Record, Whose};
use holdfast::store::registry::NewDevice;
use serde_json::{Value as Json, json};

use crate::rig::{DEVICE, FOREIGN_DEVICE, Rig, id, key};

#[tokio::test]
async fn a_device_has_all_the_fields_that_clients_read() {
    let rig = Rig::start_online().await;
    let expected = json!({
        "id": DEVICE,
        "name": "kitchen light",
        "last_ip_address": "192.0.2.7",
        "last_heard": "2026-11-18T11:06:40.500Z",
        "last_handshake_at": "2026-11-18T11:06:40.224Z",
        "product_id": 13,
        "online": true,
        "connected": true,
        "platform_id": 13,
        "cellular": true,
        "notes": null,
        "functions": ["led"],
        "variables": { "temp": "double", "count": "int32", "door": "bool", "label": "string" },
        "status": "normal",
        "system_firmware_version": "6.2.0",
        "current_build_target": "6.2.0",
        "firmware_version": 3,
        "firmware_updates_enabled": true,
        "firmware_updates_forced": false,
    });
    assert_eq!(rig.get(&format!("/v1/devices/{DEVICE}")).await.json(), expected);
    assert_eq!(rig.get("/v1/devices").await.json(), json!([expected]));
}

#[tokio::test]
async fn a_device_that_never_was_online_is_shown_with_what_is_known() {
    let rig = Rig::start().await;
    let body = rig.get(&format!("/v1/devices/{DEVICE}")).await.json();
    for field in ["last_heard", "last_handshake_at", "last_ip_address", "functions", "variables", "notes"] {
        assert_eq!(body.get(field), Some(&Json::Null), "{field}");
    }
    assert_eq!((&body["connected"], &body["online"], &body["product_id"]), (&json!(false), &json!(false), &json!(12)));
}

#[tokio::test]
async fn names_and_ids_of_either_case_resolve_on_every_route() {
    let rig = Rig::start_online().await;
    for device in [DEVICE, &DEVICE.to_uppercase(), "kitchen%20light"] {
        assert_eq!(rig.get(&format!("/v1/devices/{device}")).await.json()["id"], DEVICE, "{device}");
        assert_eq!(rig.get(&format!("/v1/devices/{device}/temp")).await.status, 200, "{device}");
        assert_eq!(rig.json("POST", &format!("/v1/devices/{device}/led"), &json!({})).await.status, 200, "{device}");
        assert_eq!(rig.json("PUT", &format!("/v1/devices/{device}/ping"), &json!({})).await.status, 200, "{device}");
        assert_eq!(rig.json("PUT", &format!("/v1/devices/{device}"), &json!({ "notes": "n" })).await.status, 200, "{device}");
    }
}

#[tokio::test]
async fn a_device_that_is_unknown_or_not_mine_is_denied_in_known_words() {
    let rig = Rig::start_online().await;
    rig.gateway.bring_online(id(FOREIGN_DEVICE));
    let info = "I didn't recognize that device name or ID, try opening https://cloud.example.com/v1/devices?access_token=…";
    for device in [FOREIGN_DEVICE, "theirs", "ffffffffffffffffffffffff", "nothing", "%00"] {
        for (method, rest) in
            [("GET", ""), ("PUT", ""), ("PUT", "/ping"), ("GET", "/temp"), ("POST", "/led"), ("GET", "/events"), ("GET", "/events/x")]
        {
            let answer = rig.json(method, &format!("/v1/devices/{device}{rest}"), &json!({ "signal": 1 })).await;
            assert_eq!(
                (answer.status, answer.json()),
                (403, json!({ "error": "Permission Denied", "info": info })),
                "{method} {device}{rest}"
            );
        }
    }
    assert!(rig.gateway.touches().is_empty());
    assert!(rig.gateway.filters().is_empty());
}

#[tokio::test]
async fn a_renamed_device_answers_with_the_very_name() {
    let rig = Rig::start().await;
    let answer = rig.json("PUT", &format!("/v1/devices/{DEVICE}"), &json!({ "name": "New Name_1" })).await;
    let body = answer.json();
    assert_eq!((answer.status, &body["id"], &body["name"]), (200, &json!(DEVICE), &json!("New Name_1")));
    assert!(body["updated_at"].as_str().is_some_and(|time| time.ends_with('Z')));
    assert_eq!(rig.get("/v1/devices/New%20Name_1").await.json()["id"], DEVICE);
    assert_eq!(rig.form("PUT", "/v1/devices/New%20Name_1", "name=kitchen").await.json()["name"], "kitchen");

    let second =
        NewDevice { id: id("0123456789abcdef01234567"), key: key(), owner: Some(rig.user), product: None, platform_id: None, name: None };
    rig.registry.add_devices(vec![second]).await.expect("a device");
    let taken = rig.json("PUT", "/v1/devices/0123456789abcdef01234567", &json!({ "name": "kitchen" })).await;
    assert_eq!((taken.status, taken.json()), (403, json!({ "ok": false, "errors": ["Name already in use"] })));
    for bad in ["", "a/b", "events", &"x".repeat(65)] {
        assert_eq!(rig.json("PUT", &format!("/v1/devices/{DEVICE}"), &json!({ "name": bad })).await.status, 400, "{bad}");
    }
}

#[tokio::test]
async fn notes_are_kept_and_taken_away() {
    let rig = Rig::start().await;
    let path = format!("/v1/devices/{DEVICE}");
    assert_eq!(rig.json("PUT", &path, &json!({ "notes": "by the window" })).await.json()["notes"], "by the window");
    assert_eq!(rig.get(&path).await.json()["notes"], "by the window");
    assert_eq!(rig.json("PUT", &path, &json!({ "notes": null })).await.json()["notes"], Json::Null);
    assert_eq!(rig.json("PUT", &path, &json!({ "notes": "n".repeat(5000) })).await.status, 400);
}

#[tokio::test]
async fn a_signal_is_taken_in_every_spelling() {
    let rig = Rig::start_online().await;
    let path = format!("/v1/devices/{DEVICE}");
    for (body, on) in
        [(json!("1"), true), (json!("0"), false), (json!(1), true), (json!(0), false), (json!(true), true), (json!("false"), false)]
    {
        let answer = rig.json("PUT", &path, &json!({ "signal": body })).await;
        assert_eq!((answer.status, answer.json()), (200, json!({ "id": DEVICE, "connected": true, "signaling": on })), "{body}");
    }
    assert_eq!(rig.form("PUT", &path, "signal=1").await.status, 200);
    assert_eq!(rig.gateway.touches().len(), 7);
    rig.gateway.fail_with(CallError::TimedOut { delivered: false });
    let late = rig.json("PUT", &path, &json!({ "signal": "1" })).await;
    let expected = json!({ "ok": false, "code": 500, "errors": [{ "error": "Timed out, didn't hear back from device service" }], "outcome": "not_delivered" });
    assert_eq!((late.status, late.json()), (500, expected));
}

#[tokio::test]
async fn a_change_of_nothing_is_refused() {
    let rig = Rig::start_online().await;
    let path = format!("/v1/devices/{DEVICE}");
    for body in [json!({}), json!({ "signal": "" }), json!({ "signal": null }), json!({ "unknown": 1 }), json!({ "name": null })] {
        let answer = rig.json("PUT", &path, &body).await;
        assert_eq!((answer.status, answer.json()), (400, json!({ "ok": false, "errors": [{ "error": "Nothing to do?" }] })), "{body}");
    }
    let firmware = "PUT /v1/devices/kitchen%20light HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=x";
    let answer = rig.raw(&format!("{firmware}\r\nAuthorization: Bearer {}", rig.token), b"--x--").await;
    assert_eq!((answer.status, &answer.json()["ok"]), (501, &json!(false)));
}

#[tokio::test]
async fn a_ping_asks_the_device() {
    let rig = Rig::start_online().await;
    let path = format!("/v1/devices/{DEVICE}/ping");
    assert_eq!(rig.json("PUT", &path, &json!({})).await.json(), json!({ "online": true, "ok": true }));
    assert_eq!(rig.gateway.touches(), ["ping"]);
    rig.gateway.fail_with(CallError::TimedOut { delivered: false });
    let answer = rig.json("PUT", &path, &json!({})).await;
    assert_eq!((answer.status, answer.json()), (200, json!({ "online": false, "ok": true })));
}

#[tokio::test]
async fn a_long_list_is_whole_and_in_order() {
    let rig = Rig::start().await;
    let device = |number: u16| {
        let mut id = id("000000000000000000000000");
        id.0[0] = number.to_be_bytes()[1];
        id.0[1] = number.to_be_bytes()[0];
        NewDevice { id, key: key(), owner: Some(rig.user), product: None, platform_id: None, name: None }
    };
    let devices: Vec<NewDevice> = (1..=600).map(device).collect();
    for device in devices.iter().take(300) {
        rig.gateway.bring_online(device.id);
    }
    rig.registry.add_devices(devices).await.expect("devices");
    let body = rig.get("/v1/devices").await.json();
    let list = body.as_array().expect("a bare array");
    assert_eq!(list.len(), 601);
    let times: Vec<Option<&str>> = list.iter().map(|device| device["last_handshake_at"].as_str()).collect();
    assert!(times.is_sorted_by(|earlier, later| earlier >= later), "the latest handshake comes first");
}

#[tokio::test]
async fn a_device_shows_that_it_sleeps_and_why_it_started() {
    let rig = Rig::start_online().await;
    let whose = Whose { owner: rig.user, product: None };
    let record = Record { whose, at: UnixMillis(1_795_000_000_000), payload: b"panic, hard_fault".to_vec() };
    rig.gateway.report_reset(id(DEVICE), record);
    rig.gateway.change(id(DEVICE), |presence| {
        *presence =
            Presence { online: false, asleep_until: Some(UnixMillis(1_795_003_600_000)), left_for: Some("sleep"), ..presence.clone() };
    });
    let path = format!("/v1/devices/{DEVICE}");
    for body in [rig.get(&path).await.json(), rig.get("/v1/devices").await.json()[0].take()] {
        let shown = ["asleep_until", "offline_reason", "last_reset", "last_reset_at", "status"].map(|field| body[field].clone());
        let expected = ["2026-11-18T12:06:40.000Z", "sleep", "panic, hard_fault", "2026-11-18T11:06:40.000Z", "normal"];
        assert_eq!(shown, expected.map(Json::from));
    }
    rig.gateway.change(id(DEVICE), |presence| {
        *presence = Presence { online: true, asleep_until: None, safe_mode: true, ..presence.clone() };
    });
    let body = rig.get(&path).await.json();
    assert_eq!((&body["status"], body.get("offline_reason"), body.get("asleep_until")), (&json!("safe_mode"), None, None));
}

#[tokio::test]
async fn a_claim_code_comes_with_the_devices_that_are_claimed_already() {
    let mut rig = Rig::start().await;
    for path in ["/v1/device_claims", "/v1/device_claims/"] {
        let answer = rig.json("POST", path, &json!({})).await;
        let body = answer.json();
        assert_eq!((answer.status, body["claim_code"].as_str().map(str::len), &body["device_ids"]), (200, Some(63), &json!([DEVICE])));
    }
    rig.token = rig.token_for("devices:list").await;
    assert_eq!(rig.json("POST", "/v1/device_claims", &json!({})).await.status, 403);
}
