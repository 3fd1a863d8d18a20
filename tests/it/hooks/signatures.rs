//! Signatures, as a receiver checks them: by the scheme that the hook says, and with two keys while they are changed.

use std::time::{SystemTime, UNIX_EPOCH};

use firmware_protocol::time::UnixMillis;
use holdfast::store::{HookId, Realm};
use serde_json::json;
use webhooks::sign::{Scheme, Signed, SigningKey, VerifyError, VerifyingKey, verify};

use super::receiver::Received;
use super::world::World;

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn check(received: &Received, key: &SigningKey) -> Result<(), VerifyError> {
    verify(&[key.verifying().unwrap()], Signed::read(&received.headers)?, &received.body, now_s())
}

/// The keys of a hook, the current one first, as the registry has them.
async fn keys(world: &World, hook: &str) -> Vec<SigningKey> {
    let hook: HookId = hook.parse().unwrap();
    let keys = world.registry().signing_keys(Realm::User(world.owner), hook).await.unwrap().unwrap();
    let texts = std::iter::once(keys.current).chain(keys.previous.map(|(key, _)| key));
    texts.map(|text| SigningKey::parse(&text).unwrap()).collect()
}

async fn next(world: &World) -> Received {
    world.publish("tide", "21.5").await;
    world.receiver.next("/in").await
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_signed_as_the_hook_says() {
    let world = World::start().await;
    for (fields, scheme) in [
        (json!({}), Some(Scheme::Ed25519)),
        (json!({ "signature": "ed25519" }), Some(Scheme::Ed25519)),
        (json!({ "signature": "hmac" }), Some(Scheme::Hmac)),
        (json!({ "signature": "none" }), None),
    ] {
        let hook = world.hook(fields.clone()).await;
        let received = next(&world).await;
        assert!(received.header("webhook-id").unwrap().ends_with(&format!("_{hook}")), "{fields}");
        assert_eq!((received.header("webhook-attempt"), received.header("webhook-replay")), (Some("1"), None), "{fields}");
        let timestamp: u64 = received.header("webhook-timestamp").unwrap().parse().unwrap();
        assert!(now_s().abs_diff(timestamp) <= 5, "{fields}");
        match scheme {
            None => assert_eq!(received.header("webhook-signature"), None),
            Some(scheme) => {
                let keys = keys(&world, &hook).await;
                assert_eq!((keys.len(), keys[0].scheme()), (1, scheme), "{fields}");
                assert_eq!(check(&received, &keys[0]), Ok(()), "{fields}");
                let other = SigningKey::generate(scheme).unwrap();
                assert_eq!(check(&received, &other), Err(VerifyError::Signature), "{fields}");
                let changed = Received { body: "forged".into(), ..received };
                assert_eq!(check(&changed, &keys[0]), Err(VerifyError::Signature), "{fields}");
            }
        }
        world.remove(&hook).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_keys_are_changed_both_sign() {
    let world = World::start().await;
    let hook = world.hook(json!({})).await;
    let before = next(&world).await;
    let old = keys(&world, &hook).await.remove(0);
    let path = format!("/v1/integrations/{hook}/signing_key");
    let rotated = world.ask("POST", &path, &json!({ "overlap_s": 3600 })).await;
    assert_eq!(rotated.status, 200, "{}", rotated.text());
    let new = keys(&world, &hook).await.remove(0);
    let public = world.get(&path).await["publicKey"].as_str().map(|text| VerifyingKey::parse(text).unwrap());
    let after = next(&world).await;
    assert_eq!((check(&before, &old), check(&before, &new)), (Ok(()), Err(VerifyError::Signature)));
    assert_eq!((check(&after, &old), check(&after, &new)), (Ok(()), Ok(())));
    assert_eq!(after.header("webhook-signature").unwrap().split(' ').count(), 2);
    let public = public.expect("what receivers read");
    assert_eq!(verify(&[public], Signed::read(&after.headers).unwrap(), &after.body, now_s()), Ok(()));

    let rotated = world.ask("POST", &path, &json!({ "overlap_s": 0 })).await;
    assert_eq!(rotated.status, 200, "{}", rotated.text());
    let last = next(&world).await;
    assert_eq!((check(&last, &new), last.header("webhook-signature").unwrap().split(' ').count()), (Err(VerifyError::Signature), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_registry_is_given_signs_once_hooks_are_read_again() {
    let world = World::start().await;
    let hook = world.hook(json!({ "signature": "hmac" })).await;
    next(&world).await;
    let key = SigningKey::generate(Scheme::Hmac).unwrap();
    let text = key.to_text().unwrap().to_string();
    let (realm, id) = (Realm::User(world.owner), hook.parse().unwrap());
    world.registry().set_signing_key(realm, id, text, UnixMillis(0)).await.unwrap();
    let world = world.restart().await;
    assert_eq!(check(&next(&world).await, &key), Ok(()));
}
