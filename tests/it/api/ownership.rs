//! Devices become somebody's and are given up, and keys are sent for them.

use std::time::Duration;

use holdfast::dates;
use holdfast::store::ClaimHash;
use holdfast::store::registry::{Claimed, NewDevice, NewProduct};
use openssl::ec::EcKey;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use serde_json::{Value as Json, json};

use crate::rig::{DEVICE, EMAIL, FOREIGN_DEVICE, Rig, id, key};

const STRAY: &str = "e00fce68aabbccddeeff0033";
const UNKNOWN: &str = "0123456789abcdef01234567";

/// A rig with a device of nobody.
async fn rig() -> Rig {
    let rig = Rig::start().await;
    let stray = NewDevice { id: id(STRAY), key: key(), owner: None, product: None, platform_id: Some(13), name: None };
    rig.registry.add_devices(vec![stray]).await.expect("a device");
    rig
}

fn pem() -> String {
    let pem = EcKey::public_key_from_der(key().spki()).expect("a key").public_key_to_pem().expect("PEM");
    String::from_utf8(pem).expect("PEM is text")
}

fn open_window(rig: &Rig) {
    rig.registry.pairing().open(dates::now(), Duration::from_secs(60), Some(rig.user));
}

fn key_of(rig: &Rig, device: &str) -> String {
    rig.registry.devices().find(id(device)).and_then(|device| device.key()).expect("it has a key").to_string()
}

#[tokio::test]
async fn a_device_of_nobody_is_claimed_by_its_id() {
    let rig = rig().await;
    rig.gateway.bring_online(id(STRAY));
    let expected = json!({ "ok": true, "id": STRAY, "user_id": rig.user.0.to_string(), "connected": true });
    for id in [STRAY.to_uppercase(), STRAY.to_owned()] {
        let answer = rig.json("POST", "/v1/devices", &json!({ "id": id, "request_transfer": false })).await;
        assert_eq!((answer.status, answer.json()), (200, expected.clone()));
    }
    assert_eq!(rig.form("POST", "/v1/devices", &format!("id={DEVICE}&request_transfer=false")).await.status, 200);
    assert_eq!(rig.registry.devices().find(id(STRAY)).expect("a device").owner(), Some(rig.user));
}

#[tokio::test]
async fn what_cannot_be_claimed_is_told_in_known_words() {
    let rig = rig().await;
    for unknown in [UNKNOWN, "kitchen light", ""] {
        let answer = rig.json("POST", "/v1/devices", &json!({ "id": unknown })).await;
        assert_eq!((answer.status, answer.json()), (404, json!({ "ok": false, "errors": ["device does not exist"] })), "{unknown}");
    }
    let foreign = rig.json("POST", "/v1/devices", &json!({ "id": FOREIGN_DEVICE })).await;
    assert_eq!(foreign.status, 403);
    assert!(foreign.json()["error"].as_str().is_some_and(|text| text.contains("belongs to someone else")));
    for (body, status) in [(json!({ "product_id": 10_001 }), 501), (json!({}), 400)] {
        let answer = rig.json("POST", "/v1/devices", &body).await;
        assert_eq!((answer.status, &answer.json()["ok"]), (status, &json!(false)), "{body}");
    }
}

#[tokio::test]
async fn a_device_of_somebody_else_is_asked_for_and_given() {
    let mut rig = rig().await;
    let ask = rig.json("POST", "/v1/devices", &json!({ "id": FOREIGN_DEVICE, "request_transfer": true })).await;
    let transfer = ask.json()["transfer_id"].as_str().expect("an id").to_owned();
    assert_eq!((ask.status, &ask.json()["ok"]), (200, &json!(true)));
    let wish = rig.get("/v1/transfers").await.json()["transfers"][0].take();
    let shown = ["id", "device_id", "from", "to"].map(|field| wish[field].clone());
    assert_eq!(shown, [&transfer, FOREIGN_DEVICE, "other@example.com", EMAIL].map(Json::from));
    let path = format!("/v1/transfers/{transfer}");
    for unknown in [path.clone(), "/v1/transfers/x".to_owned()] {
        let refused = rig.json("PUT", &unknown, &json!({})).await;
        assert_eq!((refused.status, &refused.json()["error"]), (404, &json!("Transfer not found")), "who asks does not answer");
    }
    let theirs = rig.token_of("other@example.com").await;
    let mine = std::mem::replace(&mut rig.token, theirs);
    assert_eq!(rig.json("PUT", &path, &json!({})).await.json(), json!({ "ok": true, "id": FOREIGN_DEVICE }));
    rig.token = mine;
    assert_eq!(rig.get(&format!("/v1/devices/{FOREIGN_DEVICE}")).await.status, 200);
    assert_eq!(rig.json("DELETE", &path, &json!({})).await.status, 404);
}

#[tokio::test]
async fn a_device_that_is_given_up_is_nobodys_and_can_be_claimed_again() {
    let rig = rig().await;
    assert_eq!(rig.json("DELETE", "/v1/devices/kitchen%20light", &json!({})).await.json(), json!({ "ok": true }));
    assert_eq!(rig.get("/v1/devices").await.json(), json!([]));
    assert_eq!(rig.json("DELETE", &format!("/v1/devices/{DEVICE}"), &json!({})).await.status, 403);
    assert_eq!(rig.json("POST", "/v1/devices", &json!({ "id": DEVICE })).await.status, 200);
    assert_eq!(rig.get("/v1/devices/kitchen%20light").await.json()["id"], DEVICE);
    let acts = rig.registry.audit(None, 2).await.expect("acts");
    let user = format!("user:{}", rig.user.0);
    for (act, detail) in acts.iter().zip([format!("from nobody to {user}"), format!("from {user} to nobody")]) {
        assert_eq!((act.who.as_str(), act.address.as_deref(), act.detail.as_str()), (user.as_str(), Some("127.0.0.1"), detail.as_str()));
    }
}

#[tokio::test]
async fn a_claim_code_of_a_product_comes_with_what_is_claimed_there() {
    let rig = rig().await;
    let new = NewProduct { name: "kelp".into(), description: None, platform_id: 13, settings: Default::default() };
    let product = rig.registry.create_product(rig.user, new).await.expect("a product");
    let path = format!("/v1/products/{}/device_claims", product.slug);
    let body = rig.json("POST", &path, &json!({})).await.json();
    assert_eq!(body["device_ids"], json!([]));
    let code = ClaimHash::of(body["claim_code"].as_str().expect("text").as_bytes()).expect("a code");
    assert!(matches!(rig.registry.claim_device(id(STRAY), code).await, Ok(Claimed::Now(_))));
    assert_eq!(rig.registry.devices().find(id(STRAY)).expect("a device").product(), Some(product.id));
    assert_eq!(rig.form("POST", &path, "").await.json()["device_ids"], json!([STRAY]));
}

#[tokio::test]
async fn whoever_tries_ids_out_has_to_wait() {
    let rig = rig().await;
    for number in 0..50 {
        let answer = rig.json("POST", "/v1/devices", &json!({ "id": format!("{number:024x}") })).await;
        assert_eq!(answer.status, 404);
    }
    for answer in [
        rig.json("POST", "/v1/devices", &json!({ "id": STRAY })).await,
        rig.json("POST", &format!("/v1/provisioning/{STRAY}"), &json!({ "publicKey": pem() })).await,
    ] {
        assert_eq!((answer.status, &answer.json()["ok"]), (429, &json!(false)));
        assert!(answer.header("retry-after").is_some());
    }
    assert_eq!(rig.registry.devices().find(id(STRAY)).expect("a device").owner(), None);
}

#[tokio::test]
async fn ones_own_device_gets_the_key_that_is_sent_in_every_form() {
    let rig = rig().await;
    let rsa = Rsa::generate(1024).expect("a key");
    let spki = PKey::from_rsa(rsa.clone()).expect("a key").public_key_to_pem().expect("PEM");
    let pkcs1 = String::from_utf8(rsa.public_key_to_pem_pkcs1().expect("PEM")).expect("PEM is text");
    let mut known = vec![key_of(&rig, DEVICE)];
    for body in [
        json!({ "deviceID": DEVICE, "publicKey": pem(), "algorithm": "ecc", "filename": "cli", "order": "manual_1" }),
        json!({ "publicKey": pem() }),
        json!({ "publicKey": String::from_utf8(spki).expect("PEM is text"), "algorithm": "rsa" }),
    ] {
        let answer = rig.json("POST", &format!("/v1/provisioning/{}", DEVICE.to_uppercase()), &body).await;
        assert_eq!((answer.status, answer.json()), (200, json!("Success!")), "{body}");
        assert!(!known.contains(&key_of(&rig, DEVICE)), "{body}");
        known.push(key_of(&rig, DEVICE));
    }
    // The same key in its older form.
    let form = form_urlencoded::Serializer::new(String::new()).append_pair("publicKey", &pkcs1).append_pair("algorithm", "rsa").finish();
    assert_eq!(rig.form("POST", "/v1/provisioning/kitchen%20light", &form).await.json(), json!("Success!"));
    assert_eq!(Some(&key_of(&rig, DEVICE)), known.last());
}

#[tokio::test]
async fn what_is_no_key_is_refused_before_anything_is_looked_for() {
    let rig = rig().await;
    let private = String::from_utf8(Rsa::generate(1024).expect("a key").private_key_to_pem().expect("PEM")).expect("PEM is text");
    for (body, words) in [
        (json!({}), "publicKey is missing"),
        (json!({ "publicKey": "-----BEGIN PUBLIC KEY-----\nAA\n-----END PUBLIC KEY-----\n" }), "no public key"),
        (json!({ "publicKey": private }), "private key"),
        (json!({ "publicKey": pem(), "algorithm": "rsa" }), "algorithm"),
        (json!({ "publicKey": pem(), "algorithm": "dsa" }), "one of rsa, ecc"),
    ] {
        let answer = rig.json("POST", &format!("/v1/provisioning/{DEVICE}"), &body).await;
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.json()["error"].as_str().is_some_and(|text| text.contains(words)), "{}", answer.text());
    }
}

#[tokio::test]
async fn a_key_is_taken_from_those_only_who_may_bring_the_device_along() {
    let rig = rig().await;
    let send = async |device: &str| {
        let answer = rig.json("POST", &format!("/v1/provisioning/{device}"), &json!({ "publicKey": pem() })).await;
        (answer.status, answer.json()["error"].as_str().unwrap_or_default().to_owned())
    };
    for device in [STRAY, UNKNOWN, "theirs", "nothing"] {
        let (status, error) = send(device).await;
        assert!(status == 403 && error.contains("holdfast device pair") && !error.to_lowercase().contains("access token"), "{error}");
    }
    open_window(&rig);
    let before = key_of(&rig, FOREIGN_DEVICE);
    let (status, error) = send(FOREIGN_DEVICE).await;
    assert!(status == 403 && error.contains("belongs to someone else"), "{error}");
    assert_eq!(key_of(&rig, FOREIGN_DEVICE), before);
    for device in [STRAY, UNKNOWN] {
        assert_eq!(send(device).await.0, 200, "{device}");
        assert_eq!(rig.registry.devices().find(id(device)).expect("a device").owner(), Some(rig.user), "{device}");
    }
    let listed: Vec<Json> =
        rig.get("/v1/devices").await.json().as_array().expect("a list").iter().map(|device| device["id"].clone()).collect();
    assert_eq!(listed.len(), 3);
}

#[tokio::test]
async fn the_key_of_another_device_is_refused_without_telling_which() {
    let rig = rig().await;
    let taken = rig.registry.device_key(id(FOREIGN_DEVICE)).await.expect("an answer").expect("a key");
    let pem = EcKey::public_key_from_der(taken.spki()).expect("a key").public_key_to_pem().expect("PEM");
    let body = json!({ "publicKey": String::from_utf8(pem).expect("PEM is text") });
    let answer = rig.json("POST", &format!("/v1/provisioning/{DEVICE}"), &body).await;
    assert_eq!(answer.status, 400);
    assert!(!answer.text().contains(FOREIGN_DEVICE));
}
