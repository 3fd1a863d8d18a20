//! Vitals over the API.

use firmware_protocol::time::UnixMillis;
use holdfast::api::gateway::{Record, Whose};
use serde_json::{Value as Json, json};

use crate::rig::{DEVICE, FOREIGN_DEVICE, Rig, id};

const START: u64 = 1_795_000_000_000;

fn report(rig: &Rig, n: u64, payload: &Json) {
    let whose = Whose { owner: rig.user, product: None };
    let record = Record { whose, at: UnixMillis(START + n * 60_000), payload: payload.to_string().into_bytes() };
    rig.gateway.report_vitals(id(DEVICE), record);
}

#[tokio::test]
async fn the_last_vitals_and_those_of_a_span_are_shown() {
    let rig = Rig::start().await;
    let path = format!("/v1/diagnostics/{DEVICE}");
    let none = rig.get(&format!("{path}/last")).await;
    assert_eq!((none.status, &none.json()["ok"]), (404, &json!(false)));
    assert_eq!(rig.get(&path).await.json(), json!({ "diagnostics": [] }));

    for n in 0..3 {
        report(&rig, n, &json!({ "device": { "system": { "uptime": n } } }));
    }
    let shown =
        |n: u64, time: &str| json!({ "updated_at": time, "deviceID": DEVICE, "payload": { "device": { "system": { "uptime": n } } } });
    let (first, second) = (shown(1, "2026-11-18T11:07:40.000Z"), shown(2, "2026-11-18T11:08:40.000Z"));
    assert_eq!(rig.get(&format!("{path}/last")).await.json(), json!({ "diagnostics": second }));
    assert_eq!(rig.get("/v1/diagnostics/kitchen%20light/last").await.json(), json!({ "diagnostics": second }));
    let span = "start_date=2026-11-18T11:07:00Z&end_date=2026-11-19";
    assert_eq!(rig.get(&format!("{path}?{span}")).await.json(), json!({ "diagnostics": [second, first] }));
    assert_eq!(rig.get(&format!("{path}?start_date=2027-01-01")).await.json(), json!({ "diagnostics": [] }));
    let bad = rig.get(&format!("{path}?start_date=yesterday")).await;
    assert_eq!((bad.status, &bad.json()["error"]), (400, &json!("bad_request")));
}

#[tokio::test]
async fn a_table_has_a_column_for_every_value() {
    let rig = Rig::start().await;
    report(&rig, 0, &json!({ "device": { "power": { "source": "USB, host" }, "system": { "uptime": 1 } } }));
    report(&rig, 1, &json!({ "device": { "cloud": { "coap": { "transmit": 3 } } } }));
    let head = format!("GET /v1/diagnostics/{DEVICE} HTTP/1.1\r\nAccept: text/csv\r\nAuthorization: Bearer {}", rig.token);
    let answer = rig.raw(&head, b"").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/csv; charset=utf-8")));
    let expected = format!(
        "updated_at,deviceID,device.cloud.coap.transmit,device.power.source,device.system.uptime\n\
         2026-11-18T11:07:40.000Z,{DEVICE},3,,\n2026-11-18T11:06:40.000Z,{DEVICE},,\"USB, host\",1\n"
    );
    assert_eq!(answer.text(), expected);
}

#[tokio::test]
async fn an_update_asks_the_device() {
    let rig = Rig::start_online().await;
    let path = format!("/v1/diagnostics/{DEVICE}/update");
    let answer = rig.json("POST", &path, &json!({})).await;
    assert_eq!((answer.status, answer.json()), (202, json!({ "ok": true })));
    assert_eq!(rig.gateway.touches(), ["vitals"]);
    let offline = Rig::start().await;
    assert_eq!(offline.json("POST", &path, &json!({})).await.status, 408);
}

#[tokio::test]
async fn vitals_of_others_are_denied() {
    let mut rig = Rig::start_online().await;
    rig.gateway.bring_online(id(FOREIGN_DEVICE));
    let paths = |device: &str| {
        ["", "/last", "/update"].map(|rest| (if rest == "/update" { "POST" } else { "GET" }, format!("/v1/diagnostics/{device}{rest}")))
    };
    for (method, path) in paths(FOREIGN_DEVICE) {
        assert_eq!(rig.json(method, &path, &json!({})).await.status, 403, "{path}");
    }
    rig.token = rig.token_for("devices:list").await;
    for (method, path) in paths(DEVICE) {
        assert_eq!(rig.json(method, &path, &json!({})).await.status, 403, "{path}");
    }
    assert!(rig.gateway.touches().is_empty());
}
