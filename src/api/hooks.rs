//! Hooks, which clients know as webhooks and as integrations: kept, listed, shown, replaced, removed and tried; what becomes of their deliveries has files of
//! its own.
//!
//! Every route is there under both names; the answers differ in one word.

mod definition;
pub(super) mod deliveries;
mod desk;
mod outlook;
pub(super) mod replays;
pub(super) mod signing;
pub(super) mod trial;

use axum::extract::{MatchedPath, Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use self::definition::HookFields;
pub(super) use self::desk::{Places, Told, change};
use self::outlook::Outlook;
use super::Context;
use super::error::ApiError;
use super::json::{json_response, ok};
use super::request::Call;
use crate::dates::Iso;
use crate::store::registry::StoredHook;
use crate::store::{HookId, RegistryError};

/// A path with a hook in it.
#[derive(Deserialize)]
pub(super) struct OfHook {
    hook: String,
}

fn unknown() -> ApiError {
    ApiError::api(StatusCode::NOT_FOUND, "Webhook not found")
}

fn refused(error: RegistryError) -> ApiError {
    match error {
        RegistryError::NoSuch("hook") => unknown(),
        error => error.into(),
    }
}

fn id(text: &str) -> Result<HookId, ApiError> {
    text.parse().map_err(|_| unknown())
}

/// The hook of this id in the place that the call is about. One that is elsewhere is not there.
async fn stored(context: &Context, call: &Call, hook: &str) -> Result<StoredHook, ApiError> {
    context.registry().hook(call.place.realm(), id(hook)?).await?.ok_or_else(unknown)
}

/// What clients read of it: all that was said but secrets, and what the server adds.
fn object(context: &Context, hook: &StoredHook) -> Json {
    let mut object = Json::Object(definition::shown(hook));
    object["id"] = hook.id.to_string().into();
    object["created_at"] = Iso(hook.created_at).to_string().into();
    object["updated_at"] = Iso(hook.updated_at).to_string().into();
    object["hookUrl"] = format!("{}/v1/webhooks/{}", context.settings().public_url, hook.id).into();
    object
}

async fn described(context: &Context, hook: &StoredHook, path: &MatchedPath) -> Response {
    let mut object = object(context, hook);
    outlook::add(context, hook, &mut object).await;
    let name = if path.as_str().contains("/webhooks/") { "webhook" } else { "integration" };
    ok(&json!({ name: object }))
}

/// `GET /v1/integrations`
#[utoipa::path(get, path = "/v1/integrations", tag = "hooks", security(("token" = ["integrations:list"])),
    responses((status = 200, description = "All of them, each with its `warnings` and, if that is known, its `state`.", body = [Object])))]
pub(super) async fn list(State(context): State<Context>, call: Call) -> Result<Response, ApiError> {
    let hooks = context.registry().hooks(call.place.realm()).await?;
    let mut objects: Vec<Json> = hooks.iter().map(|hook| object(&context, hook)).collect();
    outlook::add_to_list(&context, &hooks, &mut objects).await;
    Ok(ok(&objects))
}

/// `POST /v1/integrations`
#[utoipa::path(post, path = "/v1/integrations", tag = "hooks", request_body = HookFields, security(("token" = ["integrations:create"])),
    responses((status = 201, description = "It is kept.", body = Object)))]
pub(super) async fn create(State(context): State<Context>, call: Call) -> Result<Response, ApiError> {
    let text = definition::read(&call, &context.settings().public_url, None)?;
    let (registry, realm) = (context.registry_of(&call), call.place.realm());
    let created = async move { registry.create_hook(realm, text).await };
    let hook = change(&context, created, |hook| Told::Hook(hook.id)).await?;
    let mut answer = object(&context, &hook);
    answer["ok"] = true.into();
    Ok(json_response(StatusCode::CREATED, &answer))
}

/// `GET /v1/integrations/{hook}`
#[utoipa::path(get, path = "/v1/integrations/{hook}", tag = "hooks", security(("token" = ["integrations:get"])),
    responses((status = 200, description = "As `integration`, and as `webhook` by that path: all that was said of it, with masks for secrets, and this.",
        body = Outlook)))]
pub(super) async fn show(
    State(context): State<Context>,
    path: MatchedPath,
    Path(OfHook { hook }): Path<OfHook>,
    call: Call,
) -> Result<Response, ApiError> {
    let found = stored(&context, &call, &hook).await?;
    Ok(described(&context, &found, &path).await)
}

/// `PUT /v1/integrations/{hook}`: what is not said again is gone.
#[utoipa::path(put, path = "/v1/integrations/{hook}", tag = "hooks", request_body = HookFields,
    security(("token" = ["integrations:update"])), responses((status = 200, description = "As it is now.", body = Object)))]
pub(super) async fn replace(
    State(context): State<Context>,
    path: MatchedPath,
    Path(OfHook { hook }): Path<OfHook>,
    call: Call,
) -> Result<Response, ApiError> {
    let before = stored(&context, &call, &hook).await?;
    let text = definition::read(&call, &context.settings().public_url, Some(&before))?;
    let (registry, realm) = (context.registry_of(&call), call.place.realm());
    let replaced = async move { registry.replace_hook(realm, before.id, text).await };
    let hook = change(&context, replaced, |hook| Told::Hook(hook.id)).await.map_err(refused)?;
    Ok(described(&context, &hook, &path).await)
}

/// `DELETE /v1/integrations/{hook}`
#[utoipa::path(delete, path = "/v1/integrations/{hook}", tag = "hooks", security(("token" = ["integrations:remove"])),
    responses((status = 200, description = "It is gone, and what waited for it is not sent.", body = Object)))]
pub(super) async fn remove(State(context): State<Context>, Path(OfHook { hook }): Path<OfHook>, call: Call) -> Result<Response, ApiError> {
    let (registry, realm, id) = (context.registry_of(&call), call.place.realm(), id(&hook)?);
    change(&context, async move { registry.remove_hook(realm, id).await }, move |()| Told::Hook(id)).await.map_err(refused)?;
    // Older clients say that it is gone only if they read this.
    Ok(ok(&json!({ "ok": true, "status": "Hook Deleted" })))
}
