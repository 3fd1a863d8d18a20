//! Hooks and firmware: kept as they were said, and shown again.

use holdfast::store::Realm;
use serde_json::{Value as Json, json};

use crate::rig::{DEVICE, FOREIGN_DEVICE, Rig};

const URL: &str = "https://hooks.example.com/in";

#[tokio::test]
async fn a_hook_is_kept_under_both_names_until_it_is_removed() {
    let rig = Rig::start().await;
    for (made_by, name) in [("webhooks", "webhook"), ("integrations", "integration")] {
        let made = rig.json("POST", &format!("/v1/{made_by}"), &json!({ "event": "temp", "url": URL, "deviceid": DEVICE })).await;
        assert_eq!(made.status, 201);
        let made = made.json();
        let id = made["id"].as_str().unwrap();
        assert_eq!(made["hookUrl"], format!("https://cloud.example.com/v1/webhooks/{id}"));
        for (field, value) in [
            ("ok", json!(true)),
            ("event", json!("temp")),
            ("name", json!("temp for cloud.example.com")),
            ("url", json!(URL)),
            ("requestType", json!("POST")),
            ("integration_type", json!("Webhook")),
            ("noDefaults", json!(false)),
            ("rejectUnauthorized", json!(true)),
            ("deviceID", json!(DEVICE)),
        ] {
            assert_eq!(made[field], value, "{field}");
        }
        let shown = rig.get(&format!("/v1/{made_by}/{id}")).await.json();
        for (field, value) in
            [("id", json!(id)), ("logs", json!([])), ("errors", json!([])), ("counters", json!([])), ("warnings", json!([]))]
        {
            assert_eq!(shown[name][field], value, "{field}");
        }
        for list in ["/v1/webhooks", "/v1/integrations/"] {
            assert_eq!(rig.get(list).await.json()[0]["id"], id, "{list}");
        }
        let changed =
            rig.json("PUT", &format!("/v1/integrations/{id}"), &json!({ "event": "wind", "url": URL, "requestType": "get" })).await;
        let changed = changed.json();
        assert_eq!((&changed["integration"]["requestType"], &changed["integration"]["deviceID"]), (&json!("GET"), &Json::Null));
        assert_eq!(rig.json("DELETE", &format!("/v1/webhooks/{id}"), &json!({})).await.json()["ok"], true);
        let gone = rig.json("DELETE", &format!("/v1/webhooks/{id}"), &json!({})).await;
        assert_eq!((gone.status, gone.json()), (404, json!({ "ok": false, "error": "Webhook not found" })));
    }
}

#[tokio::test]
async fn a_hook_that_makes_no_sense_is_refused() {
    let rig = Rig::start().await;
    for bad in [
        json!({ "url": URL }),
        json!({ "event": "", "url": URL }),
        json!({ "event": "e".repeat(65), "url": URL }),
        json!({ "event": "e" }),
        json!({ "event": "e", "url": "ftp://example.com" }),
        json!({ "event": "e", "url": URL, "requestType": "BREW" }),
        json!({ "event": "e", "url": URL, "integration_type": "GoogleMaps" }),
        json!({ "event": "e", "url": URL, "json": { "a": 1 }, "form": { "b": 2 } }),
        json!({ "event": "e", "url": URL, "deviceID": "kitchen light" }),
        json!({ "event": "e", "url": "https://example.com/{{#open}}" }),
        json!({ "event": "e", "url": URL, "timeout": 31 }),
        json!({ "event": "e", "url": URL, "auth": { "username": "u", "password": "********" } }),
    ] {
        assert_eq!(rig.json("POST", "/v1/integrations", &bad).await.status, 400, "{bad}");
    }
    assert_eq!(rig.get("/v1/integrations").await.json(), json!([]));
}

#[tokio::test]
async fn a_masked_secret_that_comes_back_is_the_one_that_is_stored() {
    let rig = Rig::start().await;
    let said = json!({ "event": "tide", "url": URL, "headers": { "Authorization": "Bearer ebb", "X-Reef": "1" } });
    let made = rig.json("POST", "/v1/integrations", &said).await.json();
    assert_eq!(made["headers"], json!({ "Authorization": "********", "X-Reef": "1" }));
    let id = made["id"].as_str().unwrap();
    let again = json!({ "event": "tide", "url": URL, "headers": made["headers"] });
    assert_eq!(rig.json("PUT", &format!("/v1/integrations/{id}"), &again).await.status, 200);
    let stored = rig.registry.hooks(Realm::User(rig.user)).await.unwrap();
    assert!(stored[0].text.definition.contains("Bearer ebb"));
    let unknown = json!({ "event": "tide", "url": URL, "headers": { "X-Api-Key": "********" } });
    let refused = rig.json("PUT", &format!("/v1/integrations/{id}"), &unknown).await;
    assert_eq!(refused.status, 400);
    assert!(refused.text().contains("headers.X-Api-Key is masked"), "{}", refused.text());
}

#[tokio::test]
async fn what_is_said_of_a_hook_comes_back_as_it_was() {
    let rig = Rig::start().await;
    let said = json!({
        "event": "tide", "url": "{{{BASE}}}/in", "json": "{\"level\": {{{PARTICLE_EVENT_VALUE}}} }", "headers": { "X-Reef": "1" },
        "query": { "q": "1" }, "auth": { "username": "u", "password": "p" }, "responseTopic": "r", "errorResponseTopic": "er",
        "responseTemplate": { "a": "{{b}}" }, "unchunked": true, "noDefaults": true, "rejectUnauthorized": false,
    });
    let mut made = rig.json("POST", "/v1/webhooks", &said).await.json();
    assert_eq!(made["auth"]["password"], "********");
    made["auth"]["password"] = "p".into();
    for (field, value) in said.as_object().unwrap() {
        assert_eq!(&made[field], value, "{field}");
    }
}

#[tokio::test]
async fn while_hooks_are_not_carried_out_they_are_kept_and_whoever_wants_more_is_told_to_come_again() {
    let rig = Rig::start().await;
    let made = rig.json("POST", "/v1/integrations", &json!({ "event": "tide", "url": URL })).await.json();
    let below = format!("/v1/integrations/{}", made["id"].as_str().unwrap());
    for (method, path, body) in [
        ("POST", "test", json!({})),
        ("GET", "deliveries", json!({})),
        ("GET", "deliveries/1", json!({})),
        ("GET", "replays", json!({})),
        ("GET", "replays/1", json!({})),
        ("DELETE", "replays/1", json!({})),
        ("POST", "replays", json!({ "deliveries": ["1"] })),
        ("POST", "replays", json!({ "deliveries": ["1"], "dry_run": true })),
    ] {
        let answer = rig.json(method, &format!("{below}/{path}"), &body).await;
        assert_eq!((answer.status, answer.json()["error"].as_str()), (503, Some("Webhooks are not carried out now")), "{method} {path}");
        assert!(answer.header("retry-after").is_some(), "{method} {path}");
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_in_words() {
    let rig = Rig::start().await;
    let made = rig.json("POST", "/v1/integrations", &json!({ "event": "tide", "url": URL })).await.json();
    let below = format!("/v1/integrations/{}", made["id"].as_str().unwrap());
    for query in ["state=lost", "device=kitchen", "from=yesterday", "cursor=x", "per_page=x", &format!("event={}", "e".repeat(65))] {
        assert_eq!(rig.get(&format!("{below}/deliveries?{query}")).await.status, 400, "{query}");
    }
    for (path, body) in [
        ("replays", json!({})),
        ("replays", json!({ "deliveries": [] })),
        ("replays", json!({ "deliveries": ["x"] })),
        ("replays", json!({ "deliveries": vec!["1"; 1_001] })),
        ("replays", json!({ "before": "2026-11-21T10:00:00Z" })),
        ("replays", json!({ "from": "2026-11-21T10:00:00Z", "failed_since": "2026-11-21T10:00:00Z" })),
        ("signing_key", json!({ "secret": "hunter2" })),
        ("signing_key", json!({ "secret": "whsec_a2VscC1rZWxwLWtlbHAta2VscC1rZWxwLWtlbHA=" })),
        ("signing_key", json!({ "overlap_s": 604_801 })),
        ("signing_key", json!({ "overlap_s": -1 })),
    ] {
        assert_eq!(rig.json("POST", &format!("{below}/{path}"), &body).await.status, 400, "{path} {body}");
    }
    for path in ["deliveries/x", "replays/x"] {
        assert_eq!(rig.get(&format!("{below}/{path}")).await.status, 404, "{path}");
    }
    let data = json!({ "data": "x".repeat(16_385) });
    assert_eq!(rig.json("POST", &format!("{below}/test"), &data).await.status, 413);
    assert_eq!(rig.json("POST", &format!("{below}/test"), &json!({ "device_id": FOREIGN_DEVICE })).await.status, 403);
}

#[tokio::test]
async fn a_key_is_changed_without_a_gap_and_its_secret_half_is_told_to_nobody() {
    let rig = Rig::start().await;
    let made = rig.json("POST", "/v1/integrations", &json!({ "event": "tide", "url": URL })).await.json();
    let below = format!("/v1/integrations/{}", made["id"].as_str().unwrap());
    let key = format!("{below}/signing_key");
    assert_eq!(rig.get(&key).await.json(), json!({ "scheme": "ed25519" }), "none is made yet");
    let first = rig.json("POST", &key, &json!({})).await.json();
    assert!(first["publicKey"].as_str().is_some_and(|key| key.starts_with("whpk_")) && first["previous"].is_null(), "{first}");
    let second = rig.json("POST", &key, &json!({ "overlap_s": 60 })).await.json();
    assert_eq!(second["previous"]["publicKey"], first["publicKey"]);
    let shown = rig.get(&below).await.json()["integration"]["signing"].clone();
    assert_eq!((&shown, &rig.get(&key).await.json()), (&second, &second));
    let third = rig.json("POST", &key, &json!({ "overlap_s": 0 })).await.json();
    assert!(third["previous"].is_null() && third["publicKey"] != second["publicKey"], "{third}");
    let acts = rig.registry.audit(None, 10).await.unwrap();
    assert_eq!(acts.iter().filter(|act| act.act == "hook.sign" && act.who.starts_with("user:")).count(), 3);
}

#[tokio::test]
async fn a_secret_that_both_know_is_told_to_whoever_may_change_the_hook_and_is_in_no_other_answer() {
    let rig = Rig::start().await;
    let said = json!({ "event": "tide", "url": "http://example.com", "signature": "hmac", "rejectUnauthorized": false });
    let made = rig.json("POST", "/v1/webhooks", &said).await.json();
    let below = format!("/v1/webhooks/{}", made["id"].as_str().unwrap());
    let secret = "whsec_a2VscC1rZWxwLWtlbHAta2VscC1rZWxwLWtlbHA=";
    let rotated = rig.json("POST", &format!("{below}/signing_key"), &json!({ "secret": secret })).await;
    assert_eq!(rotated.json(), json!({ "scheme": "hmac" }));
    assert_eq!(rig.get(&format!("{below}/signing_key")).await.json(), json!({ "scheme": "hmac", "secret": secret }));
    let shown = rig.get(&below).await;
    assert!(!shown.text().contains("whsec_"));
    let warnings = json!(["TLS certificates are not verified", "Requests are not encrypted"]);
    assert_eq!((&shown.json()["webhook"]["warnings"], &rig.get("/v1/webhooks").await.json()[0]["warnings"]), (&warnings, &warnings));
    let unsigned = json!({ "event": "tide", "url": URL, "signature": "none" });
    assert_eq!(rig.json("PUT", &below, &unsigned).await.json()["webhook"]["signing"], json!({ "scheme": "none" }));
    assert_eq!(rig.get(&format!("{below}/signing_key")).await.json(), json!({ "scheme": "none" }));
    assert_eq!(rig.json("POST", &format!("{below}/signing_key"), &json!({})).await.status, 400);
}
