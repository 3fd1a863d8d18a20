//! Doing what a command says.

use std::collections::HashMap;
use std::time::Duration;

use firmware_protocol::id::{DeviceId, OwnerId, ProductId};
use router::device::DeviceView;

use super::{
    DeviceLine, DeviceSpec, KeySource, Operations, Owner, Request, Response, Secret, Status, TokenLine, UnknownKey, UnknownKeyLine,
    UserLine,
};
use super::{acts, hooks, orphans, pairing};
use crate::changes::What;
use crate::dates::Iso;
use crate::store::registry::{NewDevice, NewToken};
use crate::store::{Actor, Device, PublicKey, Registry, RegistryError, Scopes, TokenHash};

/// Why a command was not carried out, to be read by the operator.
pub(super) type Refusal = String;

const NOT_RUNNING: &str = "no server is running in this data directory any more; try again";

/// Does it. A refusal is an answer like any other.
pub async fn perform(registry: &Registry, operations: &dyn Operations, request: Request) -> Response {
    let registry = &registry.by(Actor::OPERATOR);
    let done = match request {
        Request::AddDevices { devices, owner } => add_devices(registry, operations, devices, owner).await,
        Request::ListDevices { owner } => list_devices(registry, operations, owner).await,
        Request::RemoveDevice { device } => remove_device(registry, operations, &device).await,
        Request::UnknownKeys { open_s } => unknown_keys(operations, open_s),
        Request::Orphans {} => Ok(Response::Orphans { orphans: orphans::list(registry, operations).await }),
        Request::Pair { email, span_s } => pair(registry, operations, email, span_s).await,
        Request::AddUser { email, password } => add_user(registry, &email, &password).await,
        Request::ListUsers {} => list_users(registry).await,
        Request::ResetPassword { email, password } => reset_password(registry, &email, password).await,
        Request::CreateToken { email, client, life_s, scopes } => create_token(registry, email, client, life_s, scopes).await,
        Request::ListTokens { email } => list_tokens(registry, email).await,
        Request::RevokeToken { token } => revoke_token(registry, &token).await,
        Request::ListActs { before, count } => acts::list(registry, before, count).await.map_err(words),
        Request::VerifyActs {} => acts::verify(registry).await.map_err(words),
        Request::CheckSecrets {} => registry.check_secrets().await.map(Response::Secrets).map_err(words),
        Request::RotateSecrets {} => registry.rotate_secrets().await.map(Response::SecretsRotated).map_err(words),
        Request::DropMasterKey { key } => registry.drop_master_key(key).await.map(|()| Response::Done {}).map_err(words),
        Request::Hook { hook } => hooks::perform(registry, operations.desk(), hook).await,
        Request::JournalMark {} => journal_mark(operations),
        Request::Status {} => status_of_server(registry, operations).await,
        Request::Diagnose {} => diagnosis(registry, operations),
    };
    done.unwrap_or_else(|error| Response::Refused { error })
}

async fn add_devices(registry: &Registry, operations: &dyn Operations, specs: Vec<DeviceSpec>, owner: Owner) -> Result<Response, Refusal> {
    let owner = owner_id(registry, owner).await?;
    let unknown = operations.unknown_keys();
    let devices = specs.into_iter().map(|spec| new_device(spec, owner, &unknown)).collect::<Result<Vec<_>, _>>()?;
    let done = registry.add_devices(devices).await.map_err(words)?;
    if done.added > 0 {
        operations.note(What::DevicesAdded { count: done.added as u64 });
    }
    Ok(Response::Added { added: done.added, unchanged: done.unchanged })
}

fn new_device(spec: DeviceSpec, owner: Option<OwnerId>, unknown: &[UnknownKey]) -> Result<NewDevice, Refusal> {
    let id = device_id(&spec.id)?;
    let (key, platform_id) = match spec.key {
        KeySource::Text(text) => (PublicKey::read(text.as_bytes()).map_err(|error| format!("device {id}: {error}"))?, spec.platform_id),
        KeySource::Unknown(hash) => {
            let found = proved(id, hash.as_deref(), unknown)?;
            (found.key.clone(), spec.platform_id.or(Some(found.platform_id)))
        }
    };
    Ok(NewDevice { id, key, owner, product: spec.product.map(ProductId), platform_id, name: spec.name })
}

/// The one unknown key that the device has proved.
fn proved<'a>(id: DeviceId, hash: Option<&str>, unknown: &'a [UnknownKey]) -> Result<&'a UnknownKey, Refusal> {
    let fits = |key: &&UnknownKey| key.device == id && hash.is_none_or(|hash| key.key.hash().to_string().eq_ignore_ascii_case(hash));
    let found: Vec<&UnknownKey> = unknown.iter().filter(fits).collect();
    match found[..] {
        [one] => Ok(one),
        [] => Err(format!("device {id} has proved no such key; let it connect while `holdfast device unknown --open 10m` is in effect")),
        _ => Err(format!("device {id} has proved several keys; choose one by its hash from `holdfast device unknown`")),
    }
}

async fn list_devices(registry: &Registry, operations: &dyn Operations, owner: Option<String>) -> Result<Response, Refusal> {
    let emails = emails(registry).await?;
    let devices = match owner {
        Some(email) => {
            let owner = account(registry, &email).await?;
            let book = registry.devices();
            book.owned_by(owner).into_iter().filter_map(|id| book.find(id)).collect()
        }
        None => registry.devices().all(),
    };
    let views = operations.views(devices.iter().map(|device| device.id()).collect()).await;
    let status = |device: &Device| views.as_ref().map(|views| status(views.get(&device.id())));
    Ok(Response::Devices { devices: devices.iter().map(|device| device_line(device, &emails, status(device))).collect() })
}

/// What a device does now, in words.
fn status(view: Option<&DeviceView>) -> String {
    match view {
        Some(DeviceView { online: true, safe_mode: true, .. }) => "safe mode".to_owned(),
        Some(DeviceView { online: true, .. }) => "online".to_owned(),
        Some(DeviceView { asleep_until: Some(until), .. }) => format!("asleep until {}", Iso(*until)),
        _ => "offline".to_owned(),
    }
}

fn device_line(device: &Device, emails: &HashMap<OwnerId, String>, status: Option<String>) -> DeviceLine {
    DeviceLine {
        id: device.id().to_string(),
        name: device.name().map(str::to_owned),
        owner: device.owner().and_then(|owner| emails.get(&owner).cloned()),
        product: device.product().map(|product| product.0),
        platform_id: device.platform_id(),
        key_hash: device.key().map(|key| key.to_string()),
        created_at: Iso(device.created_at()).to_string(),
        status,
    }
}

async fn remove_device(registry: &Registry, operations: &dyn Operations, device: &str) -> Result<Response, Refusal> {
    registry.remove_device(device_id(device)?).await.map_err(words)?;
    operations.note(What::DevicesRemoved { count: 1 });
    Ok(Response::Done {})
}

fn unknown_keys(operations: &dyn Operations, open_s: Option<u64>) -> Result<Response, Refusal> {
    if let Some(seconds) = open_s {
        operations.open_unknown_keys(Duration::from_secs(seconds))?;
    }
    let line = |key: UnknownKey| UnknownKeyLine {
        device: key.device.to_string(),
        key_hash: key.key.hash().to_string(),
        algorithm: key.key.algorithm().to_string(),
        platform_id: key.platform_id,
        first_seen: Iso(key.first_seen).to_string(),
        last_seen: Iso(key.last_seen).to_string(),
    };
    Ok(Response::UnknownKeys { keys: operations.unknown_keys().into_iter().map(line).collect() })
}

async fn pair(registry: &Registry, operations: &dyn Operations, email: Option<String>, span_s: u64) -> Result<Response, Refusal> {
    if operations.status().is_none() {
        return Err(NOT_RUNNING.to_owned());
    }
    let user = match &email {
        Some(email) => Some(account(registry, email).await?),
        None => None,
    };
    Ok(Response::Pairing(pairing::open(registry, user, Duration::from_secs(span_s)).await))
}

async fn status_of_server(registry: &Registry, operations: &dyn Operations) -> Result<Response, Refusal> {
    let status = operations.status().ok_or(NOT_RUNNING)?;
    Ok(Response::Status(Status { pairing: pairing::view(registry).await, ..status }))
}

async fn add_user(registry: &Registry, email: &str, password: &Secret) -> Result<Response, Refusal> {
    registry.add_user(email, &password.0).await.map_err(words)?;
    Ok(Response::Done {})
}

async fn list_users(registry: &Registry) -> Result<Response, Refusal> {
    let line = |user: crate::store::registry::User| UserLine {
        devices: registry.devices().owned_by(user.id).len(),
        email: user.email,
        created_at: Iso(user.created_at).to_string(),
    };
    Ok(Response::Users { users: registry.users().await.map_err(words)?.into_iter().map(line).collect() })
}

async fn reset_password(registry: &Registry, email: &str, password: Option<Secret>) -> Result<Response, Refusal> {
    let user = account(registry, email).await?;
    if let Some(password) = password {
        registry.set_password(user, &password.0).await.map_err(words)?;
        return Ok(Response::Done {});
    }
    let (code, ends) = registry.create_password_reset(user).await.map_err(words)?;
    Ok(Response::ResetCode { code: Secret(code.reveal().to_owned()), expires_at: Iso(ends).to_string() })
}

async fn create_token(
    registry: &Registry,
    email: Option<String>,
    client: String,
    life_s: Option<u64>,
    scopes: Option<String>,
) -> Result<Response, Refusal> {
    let user = match email {
        Some(email) => account(registry, &email).await?,
        None => only_account(registry).await?,
    };
    let scopes = scopes.as_deref().map_or(Ok(Scopes::All), Scopes::parse).map_err(|error| error.to_string())?;
    let new = NewToken { user, client, scopes, life_ms: life_s.map(|seconds| seconds.saturating_mul(1000)), refreshable: false };
    let issued = registry.issue_token(new).await.map_err(words)?;
    Ok(Response::Token {
        token: Secret(issued.access.reveal().to_owned()),
        id: issued.id,
        expires_at: issued.expires_at.map(|end| Iso(end).to_string()),
    })
}

async fn list_tokens(registry: &Registry, email: Option<String>) -> Result<Response, Refusal> {
    let emails = emails(registry).await?;
    let user = match email {
        Some(email) => Some(account(registry, &email).await?),
        None => None,
    };
    let tokens = registry.list_tokens(user).await.map_err(words)?.into_iter().map(|token| TokenLine {
        user: emails.get(&token.record.user).cloned(),
        client: token.record.client,
        scopes: token.record.scopes.to_string(),
        expires_at: token.record.expires_at.map(|end| Iso(end).to_string()),
        created_at: Iso(token.created_at).to_string(),
        id: token.record.id,
    });
    Ok(Response::Tokens { tokens: tokens.collect() })
}

async fn revoke_token(registry: &Registry, token: &Secret) -> Result<Response, Refusal> {
    let by_id = registry.revoke_any_token_named(&token.0).await.map_err(words)?;
    let found = match TokenHash::of(&token.0).filter(|_| !by_id) {
        Some(hash) => registry.revoke_token(hash).await.map_err(words)?,
        None => by_id,
    };
    if found { Ok(Response::Done {}) } else { Err("there is no such token".to_owned()) }
}

fn journal_mark(operations: &dyn Operations) -> Result<Response, Refusal> {
    let mark = operations.journal_mark().ok_or(NOT_RUNNING)?;
    Ok(Response::JournalMark { segment: mark.segment, bytes: mark.bytes, next_position: mark.next.0 })
}

/// Asks nothing of the database, which may be what is wrong.
fn diagnosis(registry: &Registry, operations: &dyn Operations) -> Result<Response, Refusal> {
    let diagnosis = operations.diagnosis(registry.trouble()).ok_or(NOT_RUNNING)?;
    Ok(Response::Diagnosis(Box::new(diagnosis)))
}

async fn owner_id(registry: &Registry, owner: Owner) -> Result<Option<OwnerId>, Refusal> {
    match owner {
        Owner::Nobody => Ok(None),
        Owner::Account(email) => account(registry, &email).await.map(Some),
        Owner::OnlyAccount => only_account(registry).await.map(Some),
    }
}

pub(super) async fn account(registry: &Registry, email: &str) -> Result<OwnerId, Refusal> {
    let user = registry.user_by_email(email).await.map_err(words)?;
    user.map(|user| user.id).ok_or_else(|| words(RegistryError::NoSuchUser(email.to_owned())))
}

async fn only_account(registry: &Registry) -> Result<OwnerId, Refusal> {
    match registry.users().await.map_err(words)?.as_slice() {
        [user] => Ok(user.id),
        [] => Err("there is no account yet; create one with `holdfast user add`".to_owned()),
        _ => Err("there are several accounts; say which one is meant".to_owned()),
    }
}

pub(super) async fn emails(registry: &Registry) -> Result<HashMap<OwnerId, String>, Refusal> {
    Ok(registry.users().await.map_err(words)?.into_iter().map(|user| (user.id, user.email)).collect())
}

pub(super) fn device_id(text: &str) -> Result<DeviceId, Refusal> {
    text.parse().map_err(|error| format!("{text:?}: {error}"))
}

pub(super) fn words(error: RegistryError) -> Refusal {
    error.to_string()
}
