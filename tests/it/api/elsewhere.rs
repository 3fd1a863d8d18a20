//! Services that this server does not have: what clients ask of them has an answer that they can read.

use serde_json::{Value as Json, json};

use crate::rig::{DEVICE, FOREIGN_DEVICE, Rig};

#[tokio::test]
async fn lists_are_empty_rather_than_missing() {
    let rig = Rig::start().await;
    let pages = json!({ "page": 1, "per_page": 25, "total_pages": 0, "total": 0 });
    for (path, expected) in [
        ("/v1/libraries?filter=led", json!({ "data": [] })),
        ("/v1/build_targets?featured=true", json!({ "targets": [], "platforms": {}, "default_versions": {} })),
        ("/v1/device-os/versions?platform_id=13", json!({ "versions": [] })),
        ("/v1/secrets", json!({ "secrets": [] })),
        ("/v1/logic/functions", json!({ "logic_functions": [] })),
        ("/v1/ledgers", json!({ "ledgers": [], "ledger_definitions": [], "meta": pages })),
        ("/v1/env", json!({ "last_snapshot": null, "latest": { "own": {}, "inherited": {} } })),
        ("/v1/env/render", json!({ "env": {} })),
        (&format!("/v1/env/{DEVICE}"), json!({ "last_snapshot": null, "latest": { "own": {}, "inherited": {} } })),
        ("/v1/sims", json!({ "sims": [], "meta": { "total_pages": 0 } })),
        ("/v1/orgs", json!({ "organizations": [] })),
    ] {
        let answer = rig.get(path).await;
        assert_eq!((answer.status, answer.json()), (200, expected), "{path}");
    }
    for path in ["/v1/build_targets", "/v1/device-os/versions"] {
        assert_eq!(rig.bare("GET", path).await.status, 200, "{path} wants no login");
    }
}

#[tokio::test]
async fn what_cannot_be_done_or_is_not_there_is_said_in_words() {
    let rig = Rig::start().await;
    for (method, path, status, words) in [
        ("POST", "/v1/binaries", 501, "This server has no cloud compiler"),
        ("GET", "/v1/device-os/versions/6.2.0", 404, "Device OS version not found"),
        ("GET", "/v1/libraries/led", 404, "Library not found"),
        ("GET", "/v1/orgs/reef", 404, "Organization not found"),
        ("POST", "/v1/orgs/reef/products", 404, "Organization not found"),
        ("PATCH", "/v1/env", 501, "This server keeps no environment variables"),
        ("PUT", "/v1/secrets/COLOR", 501, "This server keeps no secrets"),
        ("POST", "/v1/ledgers", 501, "This server keeps no ledgers"),
        ("POST", "/v1/logic/execute", 501, "This server runs no functions of its own"),
        ("GET", "/v1/user/mfa-enable", 501, "This server has no login with a second factor"),
        ("PUT", "/v1/devices/kitchen%20light/unprotect", 501, "This server cannot open protected devices"),
        ("GET", "/v1/serial_numbers/P0001", 404, "No device of yours has this serial number"),
    ] {
        let body = if method == "GET" { json!(null) } else { json!({ "action": "prepare" }) };
        let answer = if method == "GET" { rig.get(path).await } else { rig.json(method, path, &body).await };
        assert_eq!((answer.status, answer.json()), (status, json!({ "ok": false, "error": words })), "{method} {path}");
    }
    for (method, path) in [("GET", format!("/v1/env/{FOREIGN_DEVICE}")), ("PUT", format!("/v1/devices/{FOREIGN_DEVICE}/unprotect"))] {
        assert_eq!(rig.json(method, &path, &json!({})).await.status, 403, "{path}");
    }
}

/// A body in chunks, without a length.
fn chunked(len: usize) -> Vec<u8> {
    let chunk = [format!("{:x}\r\n", 64 * 1024).as_bytes(), &vec![b'x'; 64 * 1024], b"\r\n"].concat();
    [chunk.repeat(len.div_ceil(64 * 1024)), b"0\r\n\r\n".to_vec()].concat()
}

#[tokio::test]
async fn a_file_is_taken_to_its_end_before_it_is_refused() {
    let rig = Rig::start().await;
    for (route, status, words) in [
        (format!("PUT /v1/devices/{DEVICE}"), 501, "This server cannot update firmware over the air"),
        ("POST /v1/binaries".to_owned(), 501, "This server has no cloud compiler"),
        ("POST /v1/libraries".to_owned(), 501, "This server keeps no libraries"),
        ("POST /v1/device_claims".to_owned(), 415, "The body must be JSON or a form"),
    ] {
        let upload = "Content-Type: multipart/form-data; boundary=x\r\nTransfer-Encoding: chunked";
        let head = format!("{route} HTTP/1.1\r\nAuthorization: Bearer {}\r\n{upload}", rig.token);
        let answer = crate::client::send(rig.address, &head, &chunked(2 * 1024 * 1024)).await;
        assert_eq!((answer.status, answer.json()), (status, json!({ "ok": false, "error": words })), "{route}");
        let stranger = crate::client::send(rig.address, &format!("{route} HTTP/1.1\r\n{upload}"), b"0\r\n\r\n").await;
        assert_eq!((stranger.status, &stranger.json()["error"]), (400, &json!("invalid_request")), "{route}");
    }
    let known = rig.form("PUT", &format!("/v1/devices/{DEVICE}"), "app_id=tinker").await;
    assert_eq!((known.status, &known.json()["ok"]), (501, &Json::Bool(false)));
}
