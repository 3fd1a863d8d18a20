//! Hooks and firmware: kept as they were said, and shown again.

use holdfast::store::Realm;
use serde_json::{Value as Json, json};

use crate::rig::{DEVICE, Rig};

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
        assert_eq!((&shown[name]["id"], &shown[name]["logs"]), (&json!(id), &json!([])));
        for list in ["/v1/webhooks", "/v1/integrations/"] {
            assert_eq!(rig.get(list).await.json()[0]["id"], id, "{list}");
        }
        let changed =
            rig.json("PUT", &format!("/v1/integrations/{id}"), &json!({ "event": "wind", "url": URL, "requestType": "get" })).await;
        let changed = changed.json();
        assert_eq!((&changed["integration"]["requestType"], &changed["integration"]["deviceID"]), (&json!("GET"), &Json::Null));
        assert_eq!(rig.json("POST", &format!("/v1/webhooks/{id}/test"), &json!({})).await.json()["pass"], false);
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
