//! Doing what a command about hooks says. Whose a hook is does not matter to an operator.

use std::collections::HashMap;
use std::time::Duration;

use firmware_protocol::entropy::Entropy;
use firmware_protocol::id::{OwnerId, ProductId};
use firmware_protocol::session::publish::TTL_DEFAULT_S;
use router::content;
use router::event::{NewEvent, Source};
use tokio::time::timeout;
use webhooks::hook::HookId;

use super::Response;
use super::hook_messages::{HookAnswer, HookLine, HookReport, HookRequest};
use super::perform::{Refusal, account, emails, words};
use crate::dates::{self, Iso};
use crate::deliveries::{DeliveriesError, Reader};
use crate::dispatch::Desk;
use crate::entropy::SystemEntropy;
use crate::hook_view::{self, DeliveryQuery, HookHealth, ReplayFields};
use crate::store::registry::StoredHook;
use crate::store::{Realm, Registry};

/// How long the desk may take for an answer from memory.
const SOON: Duration = Duration::from_secs(5);
/// What a request takes besides what its hook allows for it.
const GRACE: Duration = Duration::from_secs(2);
/// Hooks of which a list tells how they are; of more it tells which there are.
const STATES_MAX: usize = 10_000;
/// Longest data of an event in bytes.
const DATA_LEN_MAX: usize = 16_384;
const CLOSED: &str = "webhooks are not carried out now: no server runs in this data directory, or it is starting";

/// Does it.
pub(super) async fn perform(registry: &Registry, desk: Option<Desk>, request: HookRequest) -> Result<Response, Refusal> {
    let answer = match request {
        HookRequest::List { account, product } => list(registry, desk, account, product).await?,
        HookRequest::Show { id } => HookAnswer::Hook(Box::new(show(registry, desk, &id).await?)),
        HookRequest::Enable { id, enabled } => {
            enable(registry, desk, &id, enabled).await?;
            return Ok(Response::Done {});
        }
        HookRequest::Deliveries { id, query } => deliveries(registry, desk, &id, query).await?,
        HookRequest::Delivery { id, delivery } => show_delivery(registry, desk, &id, &delivery).await?,
        HookRequest::Replay { id, fields } => replay(registry, desk, &id, fields).await?,
        HookRequest::Replays { id } => {
            let (desk, hook) = (open(desk)?, stored(registry, &id).await?.id);
            HookAnswer::Replays(desk.jobs(hook).await.map_err(|error| error.to_string())?.iter().map(hook_view::replay).collect())
        }
        HookRequest::CancelReplay { id, replay } => {
            let (desk, hook) = (open(desk)?, stored(registry, &id).await?.id);
            let job = hook_view::job(&replay).ok_or("there is no such replay")?;
            HookAnswer::Replay(hook_view::replay(&desk.cancel(hook, job).await.map_err(|error| error.to_string())?))
        }
        HookRequest::Test { id, data } => test(registry, desk, &id, data).await?,
    };
    Ok(Response::Hook { hook: Box::new(answer) })
}

fn open(desk: Option<Desk>) -> Result<Desk, Refusal> {
    desk.ok_or_else(|| CLOSED.to_owned())
}

/// The hook of this id, whosever it is.
async fn stored(registry: &Registry, id: &str) -> Result<StoredHook, Refusal> {
    let unknown = || format!("there is no hook {id:?}");
    let id: HookId = id.parse().map_err(|()| unknown())?;
    registry.any_hook(id).await.map_err(words)?.ok_or_else(unknown)
}

async fn list(registry: &Registry, desk: Option<Desk>, email: Option<String>, product: Option<u32>) -> Result<HookAnswer, Refusal> {
    let hooks: Vec<StoredHook> = match (email, product) {
        (None, None) => registry.all_hooks().await.map_err(words)?.into_iter().flatten().collect(),
        (Some(_), Some(_)) => return Err("a hook belongs to an account or to a product: say one of them".to_owned()),
        (Some(email), None) => registry.hooks(Realm::User(account(registry, &email).await?)).await.map_err(words)?,
        (None, Some(product)) => {
            let product = registry.products().find(ProductId(product)).ok_or_else(|| format!("there is no product {product}"))?;
            registry.hooks(Realm::Product(product.id)).await.map_err(words)?
        }
    };
    let emails = emails(registry).await?;
    let ids: Vec<HookId> = hooks.iter().take(STATES_MAX).map(|hook| hook.id).collect();
    let known = move |reader: &Reader| {
        let of = |id| Ok((reader.standing(id)?.unwrap_or_default(), reader.counters(id)?.pending));
        ids.into_iter().map(of).collect::<Result<Vec<_>, DeliveriesError>>()
    };
    let mut known = read(desk.as_ref(), known).await.unwrap_or_default().into_iter();
    let lines = hooks.iter().map(|hook| {
        let mut line = line(hook, &emails);
        if let Some((standing, pending)) = known.next() {
            (line.state, line.pending) = (Some(hook_view::state_of(hook.text.enabled, &standing)), Some(pending));
        }
        line
    });
    Ok(HookAnswer::Hooks(lines.collect()))
}

fn line(hook: &StoredHook, emails: &HashMap<OwnerId, String>) -> HookLine {
    let owner = match hook.realm {
        Realm::User(user) => emails.get(&user).cloned().unwrap_or_else(|| hook.realm.to_string()),
        Realm::Product(product) => format!("product {}", product.0),
    };
    HookLine {
        id: hook.id.to_string(),
        owner,
        event: hook.text.event.clone(),
        target: target(&hook.text.url),
        state: (!hook.text.enabled).then(|| "disabled".to_owned()),
        pending: None,
        warnings: hook_view::warnings_of(&hook.read()),
    }
}

/// No more of an address than whom it reaches.
fn target(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let host = rest.split(['/', '?', '#', '\\']).next()?.rsplit('@').next()?;
    let is_known = !host.is_empty() && !host.contains('{') && !scheme.contains('{');
    is_known.then(|| format!("{}://{host}", scheme.trim().to_ascii_lowercase()))
}

async fn show(registry: &Registry, desk: Option<Desk>, id: &str) -> Result<HookReport, Refusal> {
    let hook = stored(registry, id).await?;
    let keys = registry.signing_keys(hook.realm, hook.id).await.map_err(words)?;
    let parsed = hook.read().ok();
    let signing = parsed.map(|parsed| hook_view::signing(parsed.signature, keys.as_ref(), dates::now()));
    let health = health(desk.as_ref(), &hook).await;
    let id = hook.id;
    let recent = read(desk.as_ref(), move |reader| hook_view::recent(reader, id)).await.unwrap_or_default();
    let mut line = line(&hook, &emails(registry).await?);
    if let Some(health) = &health {
        (line.state, line.pending) = (Some(health.state.clone()), Some(health.counts.pending));
    }
    Ok(HookReport {
        line,
        name: hook.text.name,
        created_at: Iso(hook.created_at).to_string(),
        updated_at: Iso(hook.updated_at).to_string(),
        signing,
        health,
        errors: recent.errors,
    })
}

async fn health(desk: Option<&Desk>, hook: &StoredHook) -> Option<HookHealth> {
    let status = timeout(SOON, desk?.status(hook.id)).await.ok()?.ok()?;
    Some(hook_view::health_of(hook.text.enabled, &status))
}

async fn enable(registry: &Registry, desk: Option<Desk>, id: &str, enabled: bool) -> Result<(), Refusal> {
    let StoredHook { id, realm, mut text, .. } = stored(registry, id).await?;
    text.set_enabled(enabled).map_err(|_| "its definition cannot be read")?;
    registry.replace_hook(realm, id, text).await.map_err(words)?;
    if let Some(desk) = desk {
        // One that cannot be told now goes by it later.
        let _ = timeout(SOON, desk.changed(id)).await;
    }
    Ok(())
}

async fn deliveries(registry: &Registry, desk: Option<Desk>, id: &str, query: DeliveryQuery) -> Result<HookAnswer, Refusal> {
    let (desk, hook) = (open(desk)?, stored(registry, id).await?.id);
    let filter = query.start().and_then(|_| query.filter())?;
    read(Some(&desk), move |reader| hook_view::page(reader, hook, &query, &filter)).await.map(HookAnswer::Deliveries)
}

async fn show_delivery(registry: &Registry, desk: Option<Desk>, id: &str, delivery: &str) -> Result<HookAnswer, Refusal> {
    let (desk, hook) = (open(desk)?, stored(registry, id).await?.id);
    let unknown = || format!("there is no delivery {delivery:?} of this hook");
    let position = hook_view::position(delivery).ok_or_else(unknown)?;
    let found = read(Some(&desk), move |reader| hook_view::delivery(reader, hook, position)).await?;
    found.map(HookAnswer::Delivery).ok_or_else(unknown)
}

async fn replay(registry: &Registry, desk: Option<Desk>, id: &str, fields: ReplayFields) -> Result<HookAnswer, Refusal> {
    let (desk, hook) = (open(desk)?, stored(registry, id).await?.id);
    let selection = fields.selection(dates::now())?;
    if fields.dry_run {
        return read(Some(&desk), move |reader| hook_view::count(reader, hook, &selection)).await.map(HookAnswer::Counted);
    }
    let job = desk.replay(hook, selection).await.map_err(|error| error.to_string())?;
    Ok(HookAnswer::Replay(hook_view::replay(&job)))
}

async fn test(registry: &Registry, desk: Option<Desk>, id: &str, data: Option<String>) -> Result<HookAnswer, Refusal> {
    let (desk, stored) = (open(desk)?, stored(registry, id).await?);
    if data.as_ref().is_some_and(|data| data.len() > DATA_LEN_MAX) {
        return Err(format!("the data of an event has at most {DATA_LEN_MAX} bytes"));
    }
    let hook = stored.read()?;
    let (owner, product) = match stored.realm {
        Realm::User(user) => (user, None),
        Realm::Product(product) => (registry.products().find(product).ok_or("its product is gone")?.owner, Some(product)),
    };
    let (content_format, data) = data.map(content::from_text).unzip();
    let (name, content_format) = (stored.text.event, content_format.unwrap_or_default());
    let new = NewEvent { owner, product, source: Source::Api, name, content_format, data, ttl_s: TTL_DEFAULT_S };
    let (patience, event) = (hook.timeout + GRACE, new.accept(dates::now(), SystemEntropy.array()));
    let tested = timeout(patience, desk.test(hook, event)).await.map_err(|_| "there was no answer in time")?;
    let tested = tested.map_err(|error| error.to_string())?;
    Ok(HookAnswer::Tested { pass: tested.is_success(), status: tested.status, text: tested.text, took_ms: tested.took_ms })
}

/// Reads what is stored of deliveries, on a thread that may wait for the disk. Few commands are under way at a time.
async fn read<T: Send + 'static>(
    desk: Option<&Desk>,
    read: impl FnOnce(&Reader) -> Result<T, DeliveriesError> + Send + 'static,
) -> Result<T, Refusal> {
    let reader = desk.and_then(Desk::reader).ok_or(CLOSED)?;
    let read = tokio::task::spawn_blocking(move || read(&reader)).await.map_err(|_| CLOSED)?;
    read.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_address_only_whom_it_reaches_is_told() {
        for (url, expected) in [
            ("https://user:word@example.com/in?key=secret", Some("https://example.com")),
            ("http://192.168.1.7:8123/api/{{PARTICLE_DEVICE_ID}}", Some("http://192.168.1.7:8123")),
            ("https://{{host}}/in", None),
            ("{{{URL}}}", None),
            ("", None),
        ] {
            assert_eq!(target(url).as_deref(), expected, "{url}");
        }
    }
}
