//! What all routes have in common.

use serde_json::json;

use crate::rig::{DEVICE, Rig};

#[tokio::test]
async fn the_token_may_stand_in_four_places() {
    let rig = Rig::start_online().await;
    let token = rig.token.clone();
    let form = "Content-Type: application/x-www-form-urlencoded";
    for (head, body) in [
        (format!("GET /v1/user HTTP/1.1\r\nAuthorization: Bearer {token}"), String::new()),
        (format!("GET /v1/user HTTP/1.1\r\nauthorization: bearer  {token}"), String::new()),
        (format!("GET /v1/user?access_token={token} HTTP/1.1"), String::new()),
        (format!("PUT /v1/devices/{DEVICE}/ping?access_token={token} HTTP/1.1"), String::new()),
        (format!("PUT /v1/devices/{DEVICE}/ping HTTP/1.1\r\n{form}"), format!("access_token={token}")),
        (format!("POST /v1/devices/{DEVICE}/led HTTP/1.1\r\nContent-Type: application/json"), json!({ "access_token": token }).to_string()),
        (format!("POST /v1/devices/{DEVICE}/led HTTP/1.1"), json!({ "access_token": token }).to_string()),
        (format!("DELETE /v1/access_tokens/current HTTP/1.1\r\n{form}"), format!("access_token={token}")),
    ] {
        assert_eq!(rig.raw(&head, body.as_bytes()).await.status, 200, "{head}");
    }
}

#[tokio::test]
async fn a_missing_and_a_wrong_token_are_told_in_known_words() {
    let rig = Rig::start().await;
    let missing = json!({ "error": "invalid_request", "error_description": "The access token was not found" });
    let wrong = json!({ "error": "invalid_token", "error_description": "The access token provided is invalid." });
    let too_long = format!("Authorization: Bearer {}", "a".repeat(4000));
    for (header, status, body) in [
        ("Accept: */*", 400, &missing),
        ("Authorization: Basic YTpi", 400, &missing),
        ("Authorization: nonsense", 400, &missing),
        ("Authorization: Bearer null", 401, &wrong),
        ("Authorization: Bearer ", 400, &missing),
        ("Authorization: Bearer 0123456789012345678901234567890123456789", 401, &wrong),
        (&too_long, 401, &wrong),
    ] {
        for route in
            ["GET /v1/user", "GET /v1/devices", "GET /v1/devices/events", "POST /v1/devices/events", "PUT /v1/devices/x", "GET /v1/events"]
        {
            let answer = rig.raw(&format!("{route} HTTP/1.1\r\n{header}"), b"").await;
            assert_eq!((answer.status, &answer.json()), (status, body), "{route} {header:.40}");
        }
    }
}

#[tokio::test]
async fn every_refusal_is_json() {
    let rig = Rig::start().await;
    for (route, status) in [
        ("GET /", 404),
        ("GET /v1", 404),
        ("GET /v1/nothing", 404),
        ("DELETE /v1/nothing/at/all", 404),
        ("GET /v1/devices/a/b/c/d", 404),
        ("PATCH /v1/devices", 405),
        ("GET /oauth/token", 405),
        ("POST /v1/user", 405),
        ("DELETE /v1/devices/x/ping", 405),
        ("BREW /v1/devices", 405),
        ("GET /v1/devices/%ff", 400),
    ] {
        let answer = rig.raw(&format!("{route} HTTP/1.1\r\nAuthorization: Bearer {}", rig.token), b"").await;
        assert_eq!((answer.status, &answer.json()["ok"]), (status, &json!(false)), "{route}");
        assert!(answer.json()["error"].is_string(), "{route}");
        assert_eq!(answer.header("allow").is_some(), status == 405, "{route}: {answer:?}");
    }
}

#[tokio::test]
async fn slashes_too_many_are_tolerated() {
    let rig = Rig::start().await;
    for path in ["//v1/user", "/v1/user/", "/v1//devices", "//v1//devices//kitchen%20light//", "/v1/devices/"] {
        assert_eq!(rig.get(path).await.status, 200, "{path}");
    }
    assert_eq!(rig.bare("GET", &format!("//v1/user/?access_token={}", rig.token)).await.status, 200);
}

#[tokio::test]
async fn pages_of_any_origin_may_ask() {
    let rig = Rig::start().await;
    let head = "OPTIONS /v1/devices HTTP/1.1\r\nOrigin: https://page.example\r\nAccess-Control-Request-Method: PUT\r\n\
                Access-Control-Request-Headers: authorization,content-type,x-particle-tool";
    let preflight = rig.raw(head, b"").await;
    assert_eq!(preflight.status, 200);
    let allowed = preflight.header("access-control-allow-headers").expect("a list").to_lowercase();
    for header in ["authorization", "content-type", "x-particle-tool", "x-particle-project"] {
        assert!(allowed.contains(header), "{header} in {allowed}");
    }
    for answer in [rig.get("/v1/user").await, rig.bare("GET", "/v1/user").await, rig.bare("GET", "/nothing").await] {
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    }
}

#[tokio::test]
async fn every_answer_has_a_request_id_of_its_own() {
    let rig = Rig::start().await;
    let first = rig.raw("GET /v1/user HTTP/1.1\r\nX-Request-Id: mine", b"").await;
    let second = rig.bare("GET", "/nothing").await;
    let ids = [&first, &second].map(|answer| answer.header("x-request-id").expect("an id").to_owned());
    assert!(ids.iter().all(|id| id.len() == 36), "{ids:?}");
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test]
async fn a_token_is_good_for_its_scopes_only() {
    let rig = Rig::start_online().await;
    let token = rig.token_for("devices:list devices.function:*").await;
    for (route, status, scope) in [
        ("GET /v1/devices".to_owned(), 200, ""),
        (format!("POST /v1/devices/{DEVICE}/led"), 200, ""),
        (format!("GET /v1/devices/{DEVICE}"), 403, "devices:get"),
        (format!("PUT /v1/devices/{DEVICE}"), 403, "devices:update"),
        (format!("PUT /v1/devices/{DEVICE}/ping"), 403, "devices:ping"),
        (format!("GET /v1/devices/{DEVICE}/temp"), 403, "devices.variable:get"),
        ("GET /v1/devices/events".to_owned(), 403, "events:get"),
        ("POST /v1/devices/events".to_owned(), 403, "events:send"),
    ] {
        let answer = rig.raw(&format!("{route} HTTP/1.1\r\nAuthorization: Bearer {token}"), b"").await;
        assert_eq!(answer.status, status, "{route}");
        if status == 403 {
            assert_eq!(answer.json()["error"], "insufficient_scope");
            let description = answer.json()["error_description"].as_str().expect("text").to_owned();
            assert!(description.contains(scope) && !description.to_lowercase().contains("access token"), "{description}");
        }
    }
}

#[tokio::test]
async fn head_answers_like_get_without_a_body() {
    let rig = Rig::start().await;
    let answer = rig.raw(&format!("HEAD /v1/user HTTP/1.1\r\nAuthorization: Bearer {}", rig.token), b"").await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
}
