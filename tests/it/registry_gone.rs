//! The registry's database cannot be used for a while: devices and known tokens do not notice, changes are refused.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use firmware_protocol::device::DeviceEvent;
use holdfast::api::{Api, serve};
use holdfast::gateway::Devices;
use holdfast::store::registry::NewToken;
use holdfast::store::{Registry, Scopes};
use router::ask::{Answer as Told, Ask};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::client::{Answer, send};
use crate::device_driver::{Driver, id};
use crate::drive::Drive;
use crate::rig::settings;
use crate::sessions::Running;

/// How long an answer may take before it counts as none. Half as long as SQLite would wait by itself.
const ANSWER: Duration = Duration::from_secs(3);

async fn api(running: &Running) -> SocketAddr {
    let (registry, gateway) =
        ((*running.opened.registry).clone(), Arc::new(Devices::new(running.plane.handle(), running.opened.metrics.calls())));
    let api = Api::new(registry, gateway, settings(), CancellationToken::new());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, api, None, CancellationToken::new()));
    address
}

async fn request(address: SocketAddr, token: &str, line: &str, form: &str) -> Answer {
    let kind = "Content-Type: application/x-www-form-urlencoded";
    let head = format!("{line} HTTP/1.1\r\nAuthorization: Bearer {token}\r\n{kind}\r\nContent-Length: {}", form.len());
    tokio::time::timeout(ANSWER, send(address, &head, form.as_bytes())).await.unwrap_or_else(|_| panic!("no answer to {line}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_locked_devices_are_served_and_changes_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start(directory.path(), "127.0.0.1:0").await;
    let registry = running.opened.registry.clone();
    let (server, server_key) = (running.plane.udp(), running.server_key());
    for n in 1..=3 {
        running.register(n).await;
    }
    registry.set_device_owner(id(3), None).await.unwrap();
    let code = registry.create_claim_code(running.owner).await.unwrap();
    let new = NewToken { user: running.owner, client: "test".into(), scopes: Scopes::All, life_ms: None, refreshable: false };
    let token = registry.issue_token(new).await.unwrap().access.reveal().to_owned();
    let address = api(&running).await;
    let mut one = Driver::new(1, server, server_key);
    one.connect();

    let mut other: SqliteConnection = SqliteConnectOptions::new().filename(directory.path().join("registry.db")).connect().await.unwrap();
    sqlx::query("BEGIN EXCLUSIVE").execute(&mut other).await.unwrap();

    let publish = one.publish("temperature", b"21.5");
    one.run_until(Duration::from_secs(5), |driver| driver.published(publish));
    let (mut two, mut three) = (Driver::new(2, server, server_key), Driver::new(3, server, server_key));
    two.connect();
    three.connect();
    let claim = three.publish("spark/device/claim/code", code.reveal().as_bytes());
    let refused = DeviceEvent::Published { publish: claim, accepted: false };
    three.run_until(Duration::from_secs(10), |driver| driver.events.contains(&refused));
    let mut answer = running.ask(3, Ask::Call { function: "length".into(), argument: "four".into() });
    three.run_for(Duration::from_millis(300));
    assert_eq!(answer.try_recv().unwrap(), Ok(Told::Returned(4)), "its shard goes on");
    assert_eq!(request(address, &token, "GET /v1/devices", "").await.json().as_array().unwrap().len(), 2);

    let device = format!("/v1/devices/{}", id(1));
    let log_in = "grant_type=password&username=a@example.com&password=long enough a password&client_id=particle&client_secret=particle";
    let changes = [
        (format!("PUT {device}"), "name=kelp"),
        ("POST /v1/device_claims".to_owned(), ""),
        ("POST /oauth/token".to_owned(), log_in),
        ("DELETE /v1/access_tokens/current".to_owned(), ""),
    ];
    for (line, form) in &changes {
        let answer = request(address, &token, line, form).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("2")), "{line}: {}", answer.text());
    }
    let metrics = running.opened.metrics.render();
    assert!(metrics.contains("holdfast_registry_up 0") && metrics.contains("holdfast_registry_errors_total{kind=\"locked\"}"), "{metrics}");
    assert!(!registry.is_up());

    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    other.close().await.unwrap();
    let (shutdown, watched) = (CancellationToken::new(), registry.clone());
    let watching = tokio::spawn(Registry::watch((*watched).clone(), shutdown.clone()));
    one.run_until(Duration::from_secs(10), |_| registry.is_up());
    shutdown.cancel();
    watching.await.unwrap();
    assert!(running.opened.metrics.render().contains("holdfast_registry_up 1"));
    for (line, form) in &changes {
        let answer = request(address, &token, line, form).await;
        assert_eq!(answer.status, 200, "{line}: {}", answer.text());
    }
    assert_eq!(registry.devices().find(id(1)).unwrap().name(), Some("kelp"));
    let claim = three.publish("spark/device/claim/code", code.reveal().as_bytes());
    three.run_until(Duration::from_secs(10), |driver| driver.published(claim));
    assert_eq!(registry.devices().find(id(3)).unwrap().owner(), Some(running.owner));
    assert_eq!((one.handshakes(), two.handshakes(), three.handshakes()), (1, 1, 1));
    running.stop();
}
