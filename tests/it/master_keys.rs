//! `holdfast secrets`, beside a server that runs and after it.

use std::fs;

use serde_json::Value as Json;

use crate::cli::{Server, Shell};

const EMAIL: &str = "dev@example.com";
const SECRET: &str = "ebb-and-flow";

/// Which hook the account has, and where its requests go.
fn hook(server: &Server, token: &str) -> (Json, Json) {
    let shown = server.get("/v1/integrations", token).json();
    (shown[0]["id"].clone(), shown[0]["url"].clone())
}

fn check(shell: &Shell) -> (Json, Json) {
    let report = shell.json(&["secrets", "check"]);
    assert_eq!(report["unreadable"], 0, "{report}");
    (report["current"].clone(), report["secrets"].clone())
}

#[test]
fn secrets_are_sealed_anew_beside_a_server_and_the_old_key_is_dropped() {
    let shell = Shell::new();
    shell.add_user(EMAIL);
    let server = Server::start(&shell);
    let token = shell.text(&["token", "create"]).trim().to_owned();
    let form = format!("event=tide&url=https%3A%2F%2Fexample.com%2F%3Fkey%3D{SECRET}");
    let made = server.send(&format!("POST /v1/integrations HTTP/1.1\r\nAuthorization: Bearer {token}"), &form);
    assert_eq!(made.status, 201, "{}", made.text());
    let shown = hook(&server, &token);
    assert!(shown.1.as_str().is_some_and(|url| url.ends_with(SECRET)));

    let (first, secrets) = check(&shell);
    assert!(secrets.as_u64().is_some_and(|secrets| secrets > 0));
    let refused = shell.complaint(&["secrets", "drop", first.as_str().unwrap()]);
    assert!(!refused.is_empty(), "what seals is not dropped");
    let rotated = shell.json(&["secrets", "rotate"]);
    assert_eq!((&rotated["sealed"], &rotated["secrets"]), (&secrets, &secrets));
    assert_ne!(rotated["key"], first);
    assert_eq!(hook(&server, &token), shown);
    shell.text(&["secrets", "drop", first.as_str().unwrap()]);
    server.stop();

    assert_eq!(check(&shell), (rotated["key"].clone(), secrets));
    let server = Server::start(&shell);
    assert_eq!(hook(&server, &token), shown, "the next server reads them");
    server.stop();
}

#[test]
fn without_its_master_key_a_server_does_not_start_and_says_why() {
    let shell = Shell::new();
    shell.add_user(EMAIL);
    let server = Server::start(&shell);
    let token = shell.text(&["token", "create"]).trim().to_owned();
    let made = server
        .send(&format!("POST /v1/integrations HTTP/1.1\r\nAuthorization: Bearer {token}"), "event=tide&url=https%3A%2F%2Fexample.com");
    assert_eq!(made.status, 201);
    server.stop();
    fs::remove_file(shell.path().join("data").join("master-keys")).unwrap();
    let complaint = shell.complaint(&["serve"]);
    assert!(complaint.contains("master key"), "{complaint}");
}
