//! What is added to a hook when it is shown: how it is, what its owner should know, how it signs, and its last deliveries. What cannot be learned soon is left
//! out: a hook is shown all the same.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value as Json;
use utoipa::ToSchema;

use super::desk::{asked, desk, read};
use crate::api::Context;
use crate::dates::{self, Iso};
use crate::hook_view::{self, HookHealth, Outcomes, Recent, SigningView};
use crate::store::registry::StoredHook;

/// What is not learned within so long is left out.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is added to a hook.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct Outlook {
    /// How it is, while hooks are carried out.
    #[serde(flatten)]
    health: Option<HookHealth>,
    /// Its last deliveries.
    #[serde(flatten)]
    recent: Recent,
    /// One entry, while hooks are carried out.
    counters: Vec<Outcomes>,
    /// What its owner should know.
    warnings: Vec<String>,
    /// How its requests are signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    signing: Option<SigningView>,
}

/// Adds all of it.
pub(super) async fn add(context: &Context, stored: &StoredHook, to: &mut Json) {
    let hook = stored.read();
    let keys = context.registry().signing_keys(stored.realm, stored.id);
    let (health, recent, keys) = tokio::join!(health(context, stored), recent(context, stored), keys);
    let created_at = Iso(stored.created_at).to_string();
    let signature = hook.as_ref().ok().map(|hook| hook.signature);
    let outlook = Outlook {
        counters: health.iter().map(|health| hook_view::outcomes(&created_at, &health.counts)).collect(),
        health,
        recent: recent.unwrap_or_default(),
        warnings: hook_view::warnings_of(&hook),
        signing: keys.ok().zip(signature).map(|(keys, signature)| hook_view::signing(signature, keys.as_ref(), dates::now())),
    };
    if let (Json::Object(to), Ok(Json::Object(outlook))) = (to, serde_json::to_value(outlook)) {
        to.extend(outlook);
    }
}

/// Adds what lists show: in the order of the hooks.
pub(super) async fn add_to_list(context: &Context, hooks: &[StoredHook], objects: &mut [Json]) {
    let ids: Vec<_> = hooks.iter().map(|hook| hook.id).collect();
    let standings = read(context, soon(), move |reader| ids.into_iter().map(|id| reader.standing(id)).collect::<Result<Vec<_>, _>>()).await;
    let mut standings = standings.unwrap_or_default().into_iter();
    for (hook, object) in hooks.iter().zip(objects) {
        object["warnings"] = hook_view::warnings_of(&hook.read()).into();
        if let Some(standing) = standings.next() {
            object["state"] = hook_view::state_of(hook.text.enabled, &standing.unwrap_or_default()).into();
        }
    }
}

async fn health(context: &Context, stored: &StoredHook) -> Option<HookHealth> {
    let status = asked(soon(), desk(context).ok()?.status(stored.id)).await.ok()?;
    Some(hook_view::health_of(stored.text.enabled, &status))
}

async fn recent(context: &Context, stored: &StoredHook) -> Option<Recent> {
    let id = stored.id;
    read(context, soon(), move |reader| hook_view::recent(reader, id)).await.ok()
}

fn soon() -> Instant {
    Instant::now() + PATIENCE
}
