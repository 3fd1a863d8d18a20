//! A whole server in this process that may send to this machine, with an account, a receiver, and devices if a test wants some.

use firmware_protocol::id::OwnerId;
use firmware_protocol::session::subscribe::HandlerKind;
use holdfast::config::Config;
use holdfast::server::Server;
use holdfast::store::registry::NewDevice;
use holdfast::store::{PublicKey, Registry, Scopes};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::ear::Ear;
use super::receiver::Receiver;
use crate::client::{Answer, send};
use crate::device_driver::{Driver, app, id, key};
use crate::drive::Drive;
use crate::rig::token;

pub(super) const EMAIL: &str = "dev@example.com";
pub(super) const PASSWORD: &str = "correct horse";
/// What lets hooks send to this machine.
pub(super) const ALLOW: &str = "[webhooks]\nallow = [\"127.0.0.0/8\"]\n";

pub(super) struct World {
    pub(super) server: Server,
    pub(super) receiver: Receiver,
    pub(super) owner: OwnerId,
    pub(super) token: String,
    pub(super) directory: TempDir,
}

/// Everything on ports that are free.
pub(super) fn config(directory: &TempDir, more: &str) -> Config {
    let listen = "listen = \"127.0.0.1:0\"\n";
    let text = format!(
        "data_dir = {:?}\n[udp]\nworkers = 1\n{listen}[tcp]\n{listen}[http]\n{listen}[admin]\n{listen}[shards]\ncount = 2\n{more}",
        directory.path().join("data")
    );
    Config::parse(&text, []).unwrap()
}

impl World {
    pub(super) async fn start() -> Self {
        Self::start_with(ALLOW).await
    }

    /// The same with this in its configuration instead.
    pub(super) async fn start_with(more: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let server = Server::start(&config(&directory, more)).await.unwrap();
        let registry = server.opened().registry.clone();
        registry.filled().await;
        let owner = registry.add_user(EMAIL, PASSWORD).await.unwrap().id;
        let token = token(&registry, owner, Scopes::All).await;
        Self { server, receiver: Receiver::http().await, owner, token, directory }
    }

    /// The same server again, after its end, with the ports that it gets then.
    pub(super) async fn restart(self) -> Self {
        self.server.stop().await;
        let server = Server::start(&config(&self.directory, ALLOW)).await.unwrap();
        Self { server, ..self }
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.server.opened().registry
    }

    /// A request with a JSON body.
    pub(super) async fn ask(&self, method: &str, path: &str, body: &Json) -> Answer {
        let body = body.to_string();
        let head = format!("{method} {path} HTTP/1.1\r\nAuthorization: Bearer {}\r\nContent-Type: application/json", self.token);
        send(self.server.http(), &format!("{head}\r\nContent-Length: {}", body.len()), body.as_bytes()).await
    }

    /// What a path shows.
    pub(super) async fn get(&self, path: &str) -> Json {
        self.ask("GET", path, &json!({})).await.json()
    }

    /// Makes a hook of the account, whose requests go to `/in` unless it says otherwise. Its id.
    pub(super) async fn hook(&self, fields: Json) -> String {
        self.hook_in("/v1", fields).await
    }

    /// The same within a scope, such as `/v1/products/10001`.
    pub(super) async fn hook_in(&self, scope: &str, fields: Json) -> String {
        let mut all = json!({ "event": "tide", "url": self.receiver.url("/in") });
        all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let made = self.ask("POST", &format!("{scope}/integrations"), &all).await;
        assert_eq!(made.status, 201, "{all}: {}", made.text());
        made.json()["id"].as_str().unwrap().to_owned()
    }

    pub(super) async fn remove(&self, hook: &str) {
        assert_eq!(self.ask("DELETE", &format!("/v1/integrations/{hook}"), &json!({})).await.status, 200);
    }

    /// Publishes as the account, and returns when the event is durable.
    pub(super) async fn publish(&self, name: &str, data: &str) {
        let answer = self.ask("POST", "/v1/devices/events", &json!({ "name": name, "data": data })).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// The stream of the account.
    pub(super) async fn listen(&self) -> Ear {
        Ear::open(self.server.http(), "/v1/devices/events", &self.token).await
    }

    /// Device `n` of the account, online and subscribed to what hooks answer.
    pub(super) async fn device(&self, n: u8) -> Driver {
        self.register(NewDevice {
            id: id(n),
            key: PublicKey::from_spki(key(n).public().spki()).unwrap(),
            owner: Some(self.owner),
            product: None,
            platform_id: None,
            name: None,
        })
        .await;
        let app = app().subscription("hook-response/", HandlerKind::Text).subscription("hook-error/", HandlerKind::Text);
        self.connected(n, app)
    }

    pub(super) async fn register(&self, device: NewDevice) {
        self.registry().add_devices(vec![device]).await.unwrap();
    }

    /// A device that is registered, with this on it, once it is online.
    pub(super) fn connected(&self, n: u8, app: firmware_protocol::device::App) -> Driver {
        let server_key = *self.server.opened().keys.ec().public();
        let mut driver = Driver::with_app(n, self.server.udp(), server_key, Default::default(), app);
        driver.connect();
        driver
    }
}
