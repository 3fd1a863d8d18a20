//! Commands over the control socket of a running server.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use firmware_protocol::id::DeviceId;
use firmware_protocol::time::UnixMillis;
use holdfast::changes::What;
use holdfast::control::{
    self, ClientError, DeviceSpec, HookAnswer, HookRequest, KeySource, Operations, Owner, Request, Response, Secret, Status, UnknownKey,
    Views,
};
use holdfast::diagnose::Diagnosis;
use holdfast::dispatch;
use holdfast::journal::Mark;
use holdfast::orphans::Orphan;
use holdfast::store::registry::Trouble;
use holdfast::store::{KeyChange, PublicKey, TokenHash};
use router::device::DeviceView;
use router::event::Position;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

use crate::rig::{DEVICE, EMAIL, Rig, id, key};

const NEW_DEVICE: &str = "0123456789abcdef01234567";

/// Live sessions as a list that a test fills.
#[derive(Default)]
struct FakeSessions {
    opened: Mutex<Option<Duration>>,
    keys: Mutex<Vec<UnknownKey>>,
    views: Mutex<HashMap<DeviceId, DeviceView>>,
    noted: Mutex<Vec<What>>,
}

impl Operations for FakeSessions {
    fn open_unknown_keys(&self, span: Duration) -> Result<(), String> {
        *self.opened.lock().unwrap() = Some(span);
        Ok(())
    }

    fn unknown_keys(&self) -> Vec<UnknownKey> {
        self.keys.lock().unwrap().clone()
    }

    fn orphans(&self) -> Vec<Orphan> {
        Vec::new()
    }

    fn views(&self, _: Vec<DeviceId>) -> Views<'_> {
        Box::pin(std::future::ready(Some(self.views.lock().unwrap().clone())))
    }

    fn journal_mark(&self) -> Option<Mark> {
        Some(Mark { segment: 3, bytes: 1_000, next: Position(17) })
    }

    fn status(&self) -> Option<Status> {
        Some(Status {
            version: "1".into(),
            revision: String::new(),
            config: String::new(),
            started_at: String::new(),
            up_ms: 1,
            judged_ms_ago: 1,
            next_position: 1,
            parts: Vec::new(),
            pairing: None,
        })
    }

    fn diagnosis(&self, _: Option<Trouble>) -> Option<Diagnosis> {
        None
    }

    fn desk(&self) -> Option<dispatch::Desk> {
        None
    }

    fn note(&self, what: What) {
        self.noted.lock().unwrap().push(what);
    }
}

struct Desk {
    rig: Rig,
    sessions: Arc<FakeSessions>,
    path: PathBuf,
    _directory: TempDir,
}

impl Desk {
    async fn open() -> Self {
        let rig = Rig::start().await;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        fs::write(&path, "left over").unwrap();
        let sessions = Arc::new(FakeSessions::default());
        let listener = control::bind(&path).unwrap();
        tokio::spawn(control::serve(listener, rig.registry.clone(), sessions.clone(), CancellationToken::new()));
        Self { rig, sessions, path, _directory: directory }
    }

    async fn ask(&self, request: Request) -> Response {
        let path = self.path.clone();
        tokio::task::spawn_blocking(move || control::ask(&path, &request)).await.unwrap().unwrap()
    }

    async fn refusal(&self, request: Request) -> String {
        match self.ask(request).await {
            Response::Refused { error } => error,
            other => panic!("{other:?}"),
        }
    }
}

fn spec(device: &str, key: KeySource) -> DeviceSpec {
    DeviceSpec { id: device.to_owned(), key, name: None, platform_id: None, product: None }
}

fn add(device: &str, key: &PublicKey, owner: Owner) -> Request {
    Request::AddDevices { devices: vec![spec(device, KeySource::Text(hex::encode(key.spki())))], owner }
}

#[tokio::test]
async fn only_the_owner_can_open_the_socket() {
    let desk = Desk::open().await;
    assert_eq!(fs::metadata(&desk.path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(desk.path.parent().unwrap().read_dir().unwrap().count(), 1);
}

#[tokio::test]
async fn a_registered_device_is_in_the_key_ring_with_the_answer() {
    let desk = Desk::open().await;
    let mut changes = desk.rig.registry.keys().subscribe();
    let key = key();
    assert_eq!(desk.ask(add(NEW_DEVICE, &key, Owner::Account(EMAIL.into()))).await, Response::Added { added: 1, unchanged: 0 });
    assert_eq!(changes.next_change(), Some(KeyChange::Added(id(NEW_DEVICE))));
    assert_eq!(desk.rig.registry.keys().identity(&key.hash()).and_then(|identity| identity.owner), Some(desk.rig.user));
    assert_eq!(desk.ask(add(NEW_DEVICE, &key, Owner::Account(EMAIL.into()))).await, Response::Added { added: 0, unchanged: 1 });

    let Response::Devices { devices } = desk.ask(Request::ListDevices { owner: Some(EMAIL.to_uppercase()) }).await else {
        panic!("devices")
    };
    assert_eq!(devices.iter().map(|device| device.id.as_str()).collect::<Vec<_>>(), [NEW_DEVICE, DEVICE]);
    assert_eq!(devices[0].owner.as_deref(), Some(EMAIL));
    assert_eq!(devices[0].key_hash, Some(key.hash().to_string()));

    assert_eq!(desk.ask(Request::RemoveDevice { device: NEW_DEVICE.into() }).await, Response::Done {});
    assert_eq!(desk.rig.registry.keys().identity(&key.hash()), None);
    assert_eq!(changes.next_change(), Some(KeyChange::Removed(id(NEW_DEVICE))));
    assert_eq!(*desk.sessions.noted.lock().unwrap(), [What::DevicesAdded { count: 1 }, What::DevicesRemoved { count: 1 }]);
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_in_words() {
    let desk = Desk::open().await;
    for (request, words) in [
        (add("nonsense", &key(), Owner::Nobody), "24 hex digits"),
        (add(DEVICE, &key(), Owner::Nobody), "registered already, with another key"),
        (add(NEW_DEVICE, &key(), Owner::OnlyAccount), "several accounts"),
        (add(NEW_DEVICE, &key(), Owner::Account("nobody@example.com".into())), "no account"),
        (
            Request::AddDevices { devices: vec![spec(NEW_DEVICE, KeySource::Text("nonsense".into()))], owner: Owner::Nobody },
            "no public key",
        ),
        (Request::AddDevices { devices: vec![spec(NEW_DEVICE, KeySource::Unknown(None))], owner: Owner::Nobody }, "has proved no such key"),
        (Request::RemoveDevice { device: NEW_DEVICE.into() }, "no device"),
        (Request::AddUser { email: EMAIL.into(), password: Secret("long enough".into()) }, "already"),
        (Request::AddUser { email: "c@example.com".into(), password: Secret("short".into()) }, "8 to 1024"),
        (Request::RevokeToken { token: Secret("nothing".into()) }, "no such token"),
        (Request::CreateToken { email: Some(EMAIL.into()), client: "c".into(), life_s: None, scopes: Some("x".into()) }, "not a scope"),
    ] {
        let refusal = desk.refusal(request.clone()).await;
        assert!(refusal.contains(words), "{request:?}: {refusal}");
    }
}

#[tokio::test]
async fn an_unknown_key_can_be_taken_from_the_list() {
    let desk = Desk::open().await;
    assert_eq!(desk.ask(Request::UnknownKeys { open_s: Some(600) }).await, Response::UnknownKeys { keys: Vec::new() });
    assert_eq!(*desk.sessions.opened.lock().unwrap(), Some(Duration::from_secs(600)));

    let unknown = |device: &str, key: &PublicKey| UnknownKey {
        device: id(device),
        key: key.clone(),
        platform_id: 32,
        first_seen: UnixMillis(0),
        last_seen: UnixMillis(1000),
    };
    let (first, second) = (key(), key());
    *desk.sessions.keys.lock().unwrap() = vec![unknown(NEW_DEVICE, &first), unknown(NEW_DEVICE, &second)];
    let Response::UnknownKeys { keys } = desk.ask(Request::UnknownKeys { open_s: None }).await else { panic!("keys") };
    assert_eq!((keys[0].device.as_str(), keys[0].last_seen.as_str()), (NEW_DEVICE, "1970-01-01T00:00:01.000Z"));

    let take = |hash| Request::AddDevices { devices: vec![spec(NEW_DEVICE, KeySource::Unknown(hash))], owner: Owner::Nobody };
    assert!(desk.refusal(take(None)).await.contains("several keys"));
    assert_eq!(desk.ask(take(Some(keys[1].key_hash.to_uppercase()))).await, Response::Added { added: 1, unchanged: 0 });
    let device: DeviceId = id(NEW_DEVICE);
    let registered = desk.rig.registry.devices().find(device).unwrap();
    assert_eq!((registered.key(), registered.platform_id(), registered.owner()), (Some(second.hash()), Some(32), None));
}

#[tokio::test]
async fn a_token_works_at_once_and_no_longer_than_it_is_wanted() {
    let desk = Desk::open().await;
    let create = Request::CreateToken { email: Some(EMAIL.into()), client: "ci".into(), life_s: Some(60), scopes: None };
    let Response::Token { token, id, expires_at } = desk.ask(create).await else { panic!("a token") };
    assert!(expires_at.is_some());
    let head = format!("GET /v1/user HTTP/1.1\r\nAuthorization: Bearer {}", token.0);
    assert_eq!(desk.rig.raw(&head, b"").await.status, 200);
    let Response::Tokens { tokens } = desk.ask(Request::ListTokens { email: None }).await else { panic!("tokens") };
    let listed = tokens.iter().find(|line| line.id == id).unwrap();
    assert_eq!((listed.client.as_str(), listed.user.as_deref()), ("ci", Some(EMAIL)));
    assert!(!format!("{tokens:?}").contains(&token.0));

    assert_eq!(desk.ask(Request::RevokeToken { token: Secret(id) }).await, Response::Done {});
    assert_eq!(desk.rig.raw(&head, b"").await.status, 401);
    assert_eq!(desk.ask(Request::RevokeToken { token: Secret(desk.rig.token.clone()) }).await, Response::Done {});
    assert!(desk.rig.registry.tokens().find(&TokenHash::of(&desk.rig.token).unwrap()).is_none());
}

#[tokio::test]
async fn lines_that_are_no_command_get_an_answer_too() {
    let desk = Desk::open().await;
    for line in ["nonsense\n", "{\"command\":\"fly\"}\n", "\n", &format!("{}\n", "[".repeat(100_000))] {
        let mut stream = UnixStream::connect(&desk.path).await.unwrap();
        stream.write_all(line.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("\"answer\":\"refused\"") && answer.ends_with('\n'), "{line:.20}: {answer}");
    }
}

#[test]
fn without_a_server_the_client_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let asked = control::ask(&directory.path().join("control.sock"), &Request::ListUsers {});
    assert!(matches!(asked, Err(ClientError::Unreachable { .. })));
}

#[tokio::test]
async fn a_list_says_what_devices_do_now() {
    let desk = Desk::open().await;
    let status = async || match desk.ask(Request::ListDevices { owner: Some(EMAIL.to_owned()) }).await {
        Response::Devices { mut devices } => devices.remove(0).status.unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(status().await, "offline");
    let view = DeviceView {
        device: id(DEVICE),
        online: true,
        asleep_until: None,
        left_for: None,
        safe_mode: false,
        last_heard: None,
        last_handshake: None,
        last_ip: None,
        platform: None,
        system_version: None,
        firmware_version: None,
        functions: None,
        variables: None,
    };
    let asleep_until = Some(UnixMillis(1_795_000_000_000));
    for (view, expected) in [
        (view.clone(), "online"),
        (DeviceView { safe_mode: true, ..view.clone() }, "safe mode"),
        (DeviceView { online: false, asleep_until, ..view }, "asleep until 2026-11-18T11:06:40.000Z"),
    ] {
        desk.sessions.views.lock().unwrap().insert(id(DEVICE), view);
        assert_eq!(status().await, expected);
    }
}

#[tokio::test]
async fn the_pairing_window_is_opened_shown_and_closes_by_itself() {
    let desk = Desk::open().await;
    let Response::Pairing(line) = desk.ask(Request::Pair { email: Some(EMAIL.into()), span_s: 1 }).await else { panic!("a window") };
    assert_eq!((line.email.as_deref(), line.paired), (Some(EMAIL), 0));
    desk.rig.registry.provision(desk.rig.user, id(NEW_DEVICE), key()).await.unwrap();
    let shown = async || match desk.ask(Request::Status {}).await {
        Response::Status(status) => status.pairing,
        other => panic!("{other:?}"),
    };
    assert_eq!(shown().await.map(|line| line.paired), Some(1));
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert_eq!(shown().await, None);
    assert!(desk.refusal(Request::Pair { email: Some("nobody@example.com".into()), span_s: 1 }).await.contains("no account"));
}

#[tokio::test]
async fn an_operator_sees_every_hook_and_no_more_of_its_address_than_the_host() {
    let desk = Desk::open().await;
    let said = serde_json::json!({ "event": "tide", "url": "https://kim:crab@example.com/in?key=kelp", "signature": "none" });
    let made = desk.rig.json("POST", "/v1/integrations", &said).await.json();
    let id = made["id"].as_str().unwrap().to_owned();
    let about = async |hook| match desk.ask(Request::Hook { hook }).await {
        Response::Hook { hook } => Ok(*hook),
        Response::Refused { error } => Err(error),
        other => panic!("{other:?}"),
    };
    let list = |account: Option<&str>, product| HookRequest::List { account: account.map(str::to_owned), product };
    let Ok(HookAnswer::Hooks(hooks)) = about(list(Some(EMAIL), None)).await else { panic!("hooks") };
    assert_eq!(
        (hooks[0].owner.as_str(), hooks[0].target.as_deref(), hooks[0].state.as_deref()),
        (EMAIL, Some("https://example.com"), None)
    );
    assert_eq!(about(list(None, None)).await, Ok(HookAnswer::Hooks(hooks.clone())));
    assert_eq!(about(list(Some("other@example.com"), None)).await, Ok(HookAnswer::Hooks(Vec::new())));
    assert!(about(list(None, Some(99_999))).await.unwrap_err().contains("no product"));

    for enabled in [false, true] {
        assert_eq!(desk.ask(Request::Hook { hook: HookRequest::Enable { id: id.clone(), enabled } }).await, Response::Done {});
        let shown = desk.rig.get(&format!("/v1/integrations/{id}")).await.json()["integration"].clone();
        assert_eq!((&shown["disabled"], &shown["url"]), (&serde_json::json!(!enabled), &said["url"]));
        let Ok(HookAnswer::Hook(report)) = about(HookRequest::Show { id: id.clone() }).await else { panic!("a hook") };
        assert_eq!((report.line.state.is_some(), &report.health, report.line.warnings.len()), (!enabled, &None, 1));
        let told = serde_json::to_string(&report).unwrap();
        assert!(!told.contains("kelp") && !told.contains("crab"), "{told}");
    }
    let acts = desk.rig.registry.audit(None, 2).await.unwrap();
    assert!(acts.iter().all(|act| act.who == "operator" && act.act == "hook.replace"));

    let deliveries = HookRequest::Deliveries { id: id.clone(), query: Default::default() };
    assert!(about(deliveries).await.unwrap_err().contains("not carried out now"));
    for unknown in ["nonsense", NEW_DEVICE] {
        assert!(about(HookRequest::Show { id: unknown.to_owned() }).await.unwrap_err().contains("no hook"));
    }
}
