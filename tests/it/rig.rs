//! A running API with one account and one device, over a fake gateway.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use firmware_protocol::id::{DeviceId, OwnerId};
use holdfast::api::{Api, Settings, serve};
use holdfast::config::Config;
use holdfast::store::registry::{NewDevice, NewToken};
use holdfast::store::{PublicKey, Registry, Scopes};
use openssl::ec::{EcGroup, EcKey};
use openssl::nid::Nid;
use openssl::pkey::PKey;
use serde_json::Value as Json;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::client::{Answer, OpenStream, send};
use crate::fake_gateway::FakeGateway;

pub(crate) const EMAIL: &str = "dev@example.com";
pub(crate) const PASSWORD: &str = "correct horse";
/// The device of the account, named "kitchen light".
pub(crate) const DEVICE: &str = "e00fce68aabbccddeeff0011";
/// A device of somebody else.
pub(crate) const FOREIGN_DEVICE: &str = "e00fce68aabbccddeeff0022";

pub(crate) struct Rig {
    pub(crate) address: SocketAddr,
    pub(crate) registry: Registry,
    pub(crate) gateway: FakeGateway,
    pub(crate) user: OwnerId,
    pub(crate) token: String,
    pub(crate) shutdown: CancellationToken,
    pub(crate) api: Api,
    pub(crate) served: tokio::task::JoinHandle<()>,
    _directory: TempDir,
}

pub(crate) fn id(text: &str) -> DeviceId {
    text.parse().expect("a device id")
}

pub(crate) fn key() -> PublicKey {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).expect("a known curve");
    let pair = PKey::from_ec_key(EcKey::generate(&group).expect("a key")).expect("a key");
    PublicKey::from_spki(&pair.public_key_to_der().expect("DER")).expect("a public key")
}

pub(crate) fn settings() -> Settings {
    Settings {
        public_url: "https://cloud.example.com".to_owned(),
        call_timeout: Duration::from_millis(200),
        ..Settings::from(&Config::default())
    }
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::start_with(settings()).await
    }

    pub(crate) async fn start_with(settings: Settings) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let registry = Registry::open(&directory.path().join("registry.db")).await.expect("a registry");
        let user = registry.add_user(EMAIL, PASSWORD).await.expect("a user").id;
        let other = registry.add_user("other@example.com", PASSWORD).await.expect("a user").id;
        let device = |id_text: &str, owner, name: &str| NewDevice {
            id: id(id_text),
            key: key(),
            owner: Some(owner),
            product: None,
            platform_id: Some(12),
            name: Some(name.to_owned()),
        };
        registry.add_devices(vec![device(DEVICE, user, "kitchen light"), device(FOREIGN_DEVICE, other, "theirs")]).await.expect("devices");
        let token = token(&registry, user, Scopes::All).await;
        let (gateway, shutdown) = (FakeGateway::default(), CancellationToken::new());
        let api = Api::new(registry.clone(), Arc::new(gateway.clone()), settings, shutdown.clone());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let served = tokio::spawn(serve(listener, api.clone(), None, shutdown.clone()));
        Self { address, registry, gateway, user, token, shutdown, api, served, _directory: directory }
    }

    /// The same with the device online.
    pub(crate) async fn start_online() -> Self {
        let rig = Self::start().await;
        rig.gateway.bring_online(id(DEVICE));
        rig
    }

    /// A token of the account that is good for `scopes` only.
    pub(crate) async fn token_for(&self, scopes: &str) -> String {
        token(&self.registry, self.user, Scopes::parse(scopes).expect("scopes")).await
    }

    /// A token of the account with this address, good for everything.
    pub(crate) async fn token_of(&self, email: &str) -> String {
        let user = self.registry.user_by_email(email).await.expect("an answer").expect("an account");
        token(&self.registry, user.id, Scopes::All).await
    }

    /// A request without token or body.
    pub(crate) async fn bare(&self, method: &str, path: &str) -> Answer {
        self.raw(&format!("{method} {path} HTTP/1.1"), b"").await
    }

    /// A request with everything as given.
    pub(crate) async fn raw(&self, head: &str, body: &[u8]) -> Answer {
        let head = if body.is_empty() { head.to_owned() } else { format!("{head}\r\nContent-Length: {}", body.len()) };
        send(self.address, &head, body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.authorized("GET", path, "", b"").await
    }

    pub(crate) async fn json(&self, method: &str, path: &str, body: &Json) -> Answer {
        self.authorized(method, path, "\r\nContent-Type: application/json", body.to_string().as_bytes()).await
    }

    pub(crate) async fn form(&self, method: &str, path: &str, body: &str) -> Answer {
        self.authorized(method, path, "\r\nContent-Type: application/x-www-form-urlencoded", body.as_bytes()).await
    }

    async fn authorized(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        self.raw(&format!("{method} {path} HTTP/1.1\r\nAuthorization: Bearer {}{headers}", self.token), body).await
    }

    /// `POST /oauth/token` with a form.
    pub(crate) async fn log_in(&self, headers: &str, form: &str) -> Answer {
        let head = format!("POST /oauth/token HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded{headers}");
        self.raw(&head, form.as_bytes()).await
    }

    /// An event stream.
    pub(crate) async fn stream(&self, path: &str) -> OpenStream {
        OpenStream::open(self.address, &format!("GET {path} HTTP/1.1\r\nAuthorization: Bearer {}", self.token)).await
    }
}

pub(crate) async fn token(registry: &Registry, user: OwnerId, scopes: Scopes) -> String {
    let new = NewToken { user, client: "test".to_owned(), scopes, life_ms: None, refreshable: false };
    registry.issue_token(new).await.expect("a token").access.reveal().to_owned()
}
