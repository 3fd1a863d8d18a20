//! Logging in, tokens, accounts.

use std::time::Duration;

use holdfast::api::Settings;
use holdfast::config::{Limit, SignUp};
use holdfast::store::registry::NewToken;
use holdfast::store::{Scopes, TokenHash};
use serde_json::json;

use crate::rig::{EMAIL, PASSWORD, Rig, settings};

const LOGIN: &str = "username=dev%40example.com&password=correct%20horse&grant_type=password";

fn is_token(text: &serde_json::Value) -> bool {
    text.as_str().is_some_and(|text| text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[tokio::test]
async fn every_kind_of_client_can_log_in() {
    let rig = Rig::start().await;
    for (headers, fields) in [
        ("", "&client_id=particle-cli&client_secret=particle-cli&expires_in=7776000"),
        ("", "&client_id=particle-api&client_secret=particle-api&expires_in=7776000"),
        ("\r\nAuthorization: Bearer null", "&client_id=CLI2&client_secret=client_secret_here"),
        ("\r\nAuthorization: Bearer 0123456789012345678901234567890123456789", "&client_id=user&client_secret=client_secret_here"),
        ("\r\nAuthorization: Basic cGFydGljbGU6cGFydGljbGU=", ""),
        ("", "&client_id=my-own&client_secret=whatever"),
        ("", ""),
    ] {
        let answer = rig.log_in(headers, &format!("{LOGIN}{fields}")).await;
        assert_eq!(answer.status, 200, "{headers} {fields}");
        let body = answer.json();
        assert!(is_token(&body["access_token"]) && is_token(&body["refresh_token"]), "{body}");
        assert_eq!((&body["token_type"], &body["expires_in"]), (&json!("bearer"), &json!(7_776_000)));
        let user =
            rig.raw(&format!("GET /v1/user HTTP/1.1\r\nAuthorization: Bearer {}", body["access_token"].as_str().expect("text")), b"").await;
        assert_eq!(user.json()["username"], EMAIL);
    }
}

#[tokio::test]
async fn a_token_lives_as_long_as_was_asked_for() {
    let rig = Rig::start().await;
    for (fields, expires_in) in [("&expires_in=0", 0), ("&expires_in=3600", 3600), ("&expires_in=99999999999999", 3_155_760_000_u64)] {
        let body = rig.log_in("", &format!("{LOGIN}{fields}")).await.json();
        assert_eq!(body["expires_in"], expires_in, "{fields}");
        let head =
            format!("GET /v1/access_tokens/current HTTP/1.1\r\nAuthorization: Bearer {}", body["access_token"].as_str().expect("text"));
        assert_eq!(rig.raw(&head, b"").await.json()["expires_at"].is_null(), expires_in == 0);
    }
    let body = rig.log_in("", &format!("{LOGIN}&expires_at=2070-01-01")).await.json();
    assert!(body["expires_in"].as_u64().is_some_and(|seconds| seconds > 1_000_000_000), "{body}");
}

#[tokio::test]
async fn what_is_no_login_is_refused_in_known_words() {
    let rig = Rig::start().await;
    let wrong_password = "username=dev%40example.com&password=wrong&grant_type=password";
    for (headers, form, status, error, description) in [
        ("", wrong_password, 400, "invalid_grant", "User credentials are invalid"),
        ("", "username=nobody&password=wrong&grant_type=password", 400, "invalid_grant", "User credentials are invalid"),
        ("", &format!("{LOGIN}&client_id=particle-cli&client_secret=wrong"), 400, "invalid_client", "Client credentials are invalid"),
        ("", &format!("{LOGIN}&client_id=%0a"), 400, "invalid_client", "Client credentials are invalid"),
        (
            "",
            "grant_type=client_credentials&client_id=particle-api&client_secret=particle-api",
            400,
            "invalid_client",
            "Client credentials are invalid",
        ),
        ("", "grant_type=urn%3Acustom%3Amfa-otp", 400, "unsupported_grant_type", "This grant type is not supported"),
        ("", "username=a", 400, "invalid_request", "Missing grant_type parameter"),
        ("", "grant_type=password&username=a", 400, "invalid_request", "Missing parameters. \"username\" and \"password\" are required"),
        ("", &format!("{LOGIN}&expires_in=soon"), 400, "invalid_request", "expires_in must be a number of seconds"),
        ("", &format!("{LOGIN}&expires_at=2001-01-01"), 400, "invalid_request", "expires_at must be a date to come"),
    ] {
        let answer = rig.log_in(headers, form).await;
        assert_eq!((answer.status, answer.json()), (status, json!({ "error": error, "error_description": description })), "{form}");
    }
    let body = json!({ "grant_type": "password", "username": EMAIL, "password": PASSWORD });
    let answer = rig.json("POST", "/oauth/token", &body).await;
    assert_eq!((answer.status, &answer.json()["error"]), (400, &json!("invalid_request")), "a form and nothing else");
}

#[tokio::test]
async fn a_refresh_token_renews_once() {
    let rig = Rig::start().await;
    let first = rig.log_in("", LOGIN).await.json();
    let form = format!("grant_type=refresh_token&refresh_token={}", first["refresh_token"].as_str().expect("text"));
    let second = rig.log_in("", &form).await;
    assert_eq!((second.status, &second.json()["expires_in"]), (200, &json!(7_776_000)));
    assert_ne!(second.json()["access_token"], first["access_token"]);
    let again = rig.log_in("", &form).await;
    assert_eq!((again.status, &again.json()["error"]), (400, &json!("invalid_grant")));
    let head = format!("GET /v1/user HTTP/1.1\r\nAuthorization: Bearer {}", first["access_token"].as_str().expect("text"));
    assert_eq!(rig.raw(&head, b"").await.status, 401);
}

#[tokio::test]
async fn too_many_wrong_passwords_make_an_address_wait() {
    let rig = Rig::start_with(Settings { failed_logins: Limit::AtMost(2), ..settings() }).await;
    for _ in 0..2 {
        assert_eq!(rig.log_in("", "username=a&password=b&grant_type=password").await.status, 400);
    }
    let refused = rig.log_in("", LOGIN).await;
    assert_eq!((refused.status, &refused.json()["error"]), (429, &json!("too_many_requests")));
    assert!(
        refused.header("retry-after").and_then(|seconds| seconds.parse::<u32>().ok()).is_some_and(|seconds| (200..=300).contains(&seconds))
    );
    assert_eq!(rig.api.counters().throttled_logins.load(std::sync::atomic::Ordering::Relaxed), 1);
    assert_eq!(rig.get("/v1/user").await.status, 200, "tokens are not affected");
}

#[tokio::test]
async fn the_current_token_tells_about_itself_and_ends_itself() {
    let rig = Rig::start().await;
    let body = rig.get("/v1/access_tokens/current").await.json();
    assert_eq!(body, json!({ "expires_at": null, "client": "test", "client_id": "test", "scopes": ["*:*"], "orgs": [] }));
    let ended = rig.json("DELETE", "/v1/access_tokens/current", &json!({})).await;
    assert_eq!((ended.status, ended.json()), (200, json!({ "ok": true })));
    assert_eq!(rig.get("/v1/user").await.status, 401);
}

#[tokio::test]
async fn who_knows_a_token_can_end_it() {
    let rig = Rig::start().await;
    let path = format!("/v1/access_tokens/{}", rig.token);
    let basic = |text: &str| format!("DELETE {path} HTTP/1.1\r\nAuthorization: Basic {}", openssl::base64::encode_block(text.as_bytes()));
    let refused = rig.raw(&basic("dev@example.com:wrong"), b"").await;
    assert_eq!((refused.status, refused.json()), (401, json!({ "ok": false, "errors": ["Bad password"] })));
    let ended = rig.bare("DELETE", &path).await;
    assert_eq!((ended.status, ended.json()), (200, json!({ "ok": true })));
    assert!(rig.registry.tokens().find(&TokenHash::of(&rig.token).expect("a token")).is_none());
    let again = rig.bare("DELETE", &path).await;
    assert_eq!((again.status, again.json()), (404, json!({ "ok": false, "error": "No such token" })));
    assert_eq!(rig.raw(&basic("dev@example.com:correct horse"), b"").await.status, 404);
    assert_eq!(rig.bare("DELETE", &format!("/v1/access_tokens/{}", "a".repeat(1000))).await.status, 404);
}

#[tokio::test]
async fn the_user_counts_devices() {
    let rig = Rig::start().await;
    let body = rig.get("/v1/user").await.json();
    assert_eq!((&body["username"], &body["mfa"]["enabled"]), (&json!(EMAIL), &json!(false)));
    assert_eq!((&body["wifi_device_count"], &body["cellular_device_count"]), (&json!(1), &json!(0)));
}

#[tokio::test]
async fn sign_up_is_closed_unless_it_is_open() {
    let body = json!({ "username": "new@example.com", "password": "long enough", "account_info": { "first_name": "N" } });
    let closed = Rig::start().await;
    let answer = closed.json("POST", "/v1/users", &body).await;
    assert_eq!((answer.status, &answer.json()["ok"]), (403, &json!(false)));
    assert!(answer.json()["errors"][0].as_str().is_some_and(|text| text.contains("closed")));

    let open = Rig::start_with(Settings { sign_up: SignUp::Open, ..settings() }).await;
    let answer = open.json("POST", "/v1/users", &body).await;
    assert_eq!((answer.status, answer.json()), (200, json!({ "ok": true })));
    assert!(open.registry.user_by_email("new@example.com").await.expect("an answer").is_some());
    let twice = open.json("POST", "/v1/users", &body).await;
    assert_eq!((twice.status, &twice.json()["ok"]), (400, &json!(false)));
    let short = open.json("POST", "/v1/users", &json!({ "username": "b@example.com", "password": "short" })).await;
    assert_eq!(short.status, 400);
}

#[tokio::test]
async fn an_expired_token_is_told_apart_from_a_wrong_one() {
    let rig = Rig::start().await;
    let new = NewToken { user: rig.user, client: "test".into(), scopes: Scopes::All, life_ms: Some(1), refreshable: false };
    let token = rig.registry.issue_token(new).await.expect("a token").access;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let answer = rig.raw(&format!("GET /v1/user HTTP/1.1\r\nAuthorization: Bearer {}", token.reveal()), b"").await;
    let expected = json!({ "error": "invalid_token", "error_description": "The access token provided has expired." });
    assert_eq!((answer.status, answer.json()), (401, expected));
}

#[tokio::test]
async fn products_and_organizations_are_empty_rather_than_missing() {
    let rig = Rig::start().await;
    assert_eq!(rig.get("/v1/orgs").await.json(), json!({ "organizations": [] }));
    assert_eq!(rig.get("/v1/user/products").await.json(), json!({ "products": [] }));
}
