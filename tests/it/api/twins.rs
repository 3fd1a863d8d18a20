//! Two of everything that share whatever can be shared: names, clients, scopes, functions, idempotency keys, moments. What is remembered of one is never
//! told of the other, what has changed is not told as it was, and no failure is remembered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use firmware_protocol::id::OwnerId;
use firmware_protocol::time::UnixMillis;
use holdfast::api::gateway::{CallError, Record, Whose};
use holdfast::store::Scopes;
use holdfast::store::registry::NewDevice;
use serde_json::{Value as Json, json};

use crate::client::{Answer, send};
use crate::rig::{DEVICE, PASSWORD, Rig, id, key, token};

/// The other's device.
const OTHER: &str = "e00fce68aabbccddeeff0099";
/// How often a race is run.
const ROUNDS: usize = 40;

struct Twins {
    rig: Rig,
    other: String,
}

impl Twins {
    /// The rig's account and another, each with a device named "twin".
    async fn new() -> Self {
        let rig = Rig::start().await;
        let user = rig.registry.add_user("twin@example.com", PASSWORD).await.expect("a user").id;
        let name = Some("twin".to_owned());
        let device = NewDevice { id: id(OTHER), key: key(), owner: Some(user), product: None, platform_id: Some(12), name };
        rig.registry.add_devices(vec![device]).await.expect("a device");
        assert_eq!(rig.json("PUT", &format!("/v1/devices/{DEVICE}"), &json!({ "name": "twin" })).await.status, 200);
        let other = token(&rig.registry, user, Scopes::All).await;
        rig.gateway.bring_online(id(DEVICE));
        rig.gateway.bring_online(id(OTHER));
        rig.gateway.report_vitals(id(DEVICE), vitals(rig.user, "mine"));
        rig.gateway.report_vitals(id(DEVICE), vitals(user, "before it was mine"));
        rig.gateway.report_vitals(id(OTHER), vitals(user, "theirs"));
        Self { rig, other }
    }

    /// The same request of both.
    async fn both(&self, line: &str, headers: &str, body: &Json) -> [Answer; 2] {
        [self.ask(&self.rig.token, line, headers, body).await, self.ask(&self.other, line, headers, body).await]
    }

    async fn ask(&self, token: &str, line: &str, headers: &str, body: &Json) -> Answer {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let kind = format!("Content-Type: application/json\r\nContent-Length: {}", text.len());
        let head = format!("{line} HTTP/1.1\r\nAuthorization: Bearer {token}\r\n{headers}{kind}");
        send(self.rig.address, &head, text.as_bytes()).await
    }
}

fn vitals(owner: OwnerId, text: &str) -> Record {
    let whose = Whose { owner, product: None };
    Record { whose, at: UnixMillis(1_795_000_000_000), payload: json!({ "device": text }).to_string().into_bytes() }
}

#[tokio::test]
async fn the_same_words_mean_to_each_what_is_its_own() {
    let twins = Twins::new().await;
    for (line, body) in [
        ("GET /v1/devices/twin", Json::Null),
        ("POST /v1/devices/twin/led", json!({ "args": "on" })),
        ("PUT /v1/devices/twin", json!({ "notes": "the same" })),
        ("PUT /v1/devices/twin", json!({ "signal": "1" })),
    ] {
        for headers in ["", "Idempotency-Key: the-same\r\n"] {
            // A key stands for one request.
            let headers = headers.replace("the-same", &format!("the-same-{}", line.len() + body.to_string().len()));
            let [mine, theirs] = twins.both(line, &headers, &body).await;
            assert_eq!((mine.status, theirs.status), (200, 200), "{line}: {} {}", mine.text(), theirs.text());
            assert_eq!((&mine.json()["id"], &theirs.json()["id"]), (&json!(DEVICE), &json!(OTHER)), "{line}");
            assert_eq!([&mine, &theirs].map(|answer| answer.header("idempotent-replayed")), [None, None], "{line}");
        }
    }
    let said = twins.both("GET /v1/diagnostics/twin/last", "", &Json::Null).await.map(|answer| answer.json());
    assert_eq!(said.each_ref().map(|said| &said["diagnostics"]["payload"]["device"]), [&json!("mine"), &json!("theirs")]);
    let lists = twins.both("GET /v1/devices", "", &Json::Null).await.map(|answer| answer.json());
    assert_eq!(lists.each_ref().map(|list| list[0]["id"].clone()), [json!(DEVICE), json!(OTHER)]);
    assert!(lists.iter().all(|list| list.as_array().is_some_and(|list| list.len() == 1)));
    let [mine, theirs] = twins.both(&format!("GET /v1/devices/{OTHER}"), "", &Json::Null).await;
    assert_eq!((mine.status, theirs.status), (403, 200));
}

#[tokio::test]
async fn a_change_that_was_answered_is_seen_by_all_whoever_reads_meanwhile() {
    let twins = Arc::new(Twins::new().await);
    let over = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = ["a", "b"]
        .map(|name| {
            let (twins, over) = (Arc::clone(&twins), Arc::clone(&over));
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    twins.both(&format!("GET /v1/devices/{name}"), "", &Json::Null).await;
                }
            })
        })
        .into();
    for round in 0..ROUNDS {
        let (new, old) = if round % 2 == 0 { ("a", "b") } else { ("b", "a") };
        let path = format!("/v1/devices/{DEVICE}");
        assert_eq!(twins.rig.json("PUT", &path, &json!({ "name": new })).await.status, 200);
        assert_eq!(twins.rig.get(&format!("/v1/devices/{new}")).await.json()["id"], DEVICE);
        assert_eq!(twins.rig.get(&format!("/v1/devices/{old}")).await.status, 403, "the old name, round {round}");
        let [_, theirs] = twins.both(&format!("GET /v1/devices/{new}"), "", &Json::Null).await;
        assert_eq!(theirs.status, 403);
    }
    over.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.expect("it reads");
    }
}

#[tokio::test]
async fn a_token_that_was_revoked_is_refused_from_then_on_and_its_twin_is_not() {
    let twins = Arc::new(Twins::new().await);
    for round in 0..ROUNDS / 4 {
        let [short, long] = [twins.rig.token_for("*:*").await, twins.rig.token_for("*:*").await];
        let over = Arc::new(AtomicBool::new(false));
        let reader = tokio::spawn({
            let (twins, over, short) = (Arc::clone(&twins), Arc::clone(&over), short.clone());
            async move {
                while !over.load(Ordering::Relaxed) {
                    twins.ask(&short, "GET /v1/devices", "", &Json::Null).await;
                }
            }
        });
        assert_eq!(twins.ask(&short, "GET /v1/devices", "", &Json::Null).await.status, 200);
        assert_eq!(twins.rig.bare("DELETE", &format!("/v1/access_tokens/{short}")).await.status, 200);
        for _ in 0..5 {
            assert_eq!(twins.ask(&short, "GET /v1/devices", "", &Json::Null).await.status, 401, "round {round}");
        }
        over.store(true, Ordering::Relaxed);
        reader.await.expect("it reads");
        assert_eq!(twins.ask(&long, "GET /v1/devices", "", &Json::Null).await.status, 200);
    }
}

#[tokio::test]
async fn no_failure_is_remembered() {
    let twins = Twins::new().await;
    let rig = &twins.rig;
    let newcomer = "e00fce68aabbccddeeff0077";
    for path in [newcomer, "newcomer"] {
        assert_eq!(rig.get(&format!("/v1/devices/{path}")).await.status, 403);
    }
    let name = Some("newcomer".to_owned());
    let device = NewDevice { id: id(newcomer), key: key(), owner: Some(rig.user), product: None, platform_id: None, name };
    rig.registry.add_devices(vec![device]).await.expect("a device");
    for path in [newcomer, "newcomer"] {
        assert_eq!(rig.get(&format!("/v1/devices/{path}")).await.status, 200);
    }
    let call = format!("/v1/devices/{newcomer}/led");
    assert_eq!(rig.json("POST", &call, &json!({})).await.json()["outcome"], "offline");
    rig.gateway.bring_online(id(newcomer));
    assert_eq!(rig.json("POST", &call, &json!({})).await.status, 200);
    rig.gateway.fail_with(CallError::Unavailable);
    assert_eq!(rig.json("POST", &call, &json!({})).await.status, 503);
    rig.registry.set_device_owner(id(newcomer), None).await.expect("it is nobody's");
    assert_eq!(rig.json("POST", &call, &json!({})).await.status, 403);
}
