//! Hooks, which clients know as webhooks and as integrations: kept, listed, shown, replaced and removed. Nothing is sent yet.
//!
//! Every route is there under both names; the answers differ in one word.

mod definition;

use axum::extract::{MatchedPath, Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use self::definition::HookFields;
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

/// Events that are accepted after this go by what was changed.
async fn changed(context: &Context, hook: HookId) {
    if let Some(desk) = &context.settings().desk {
        let _ = tokio::time::timeout(std::time::Duration::from_secs(1), desk.changed(hook)).await;
    }
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

fn described(context: &Context, hook: &StoredHook, path: &MatchedPath) -> Response {
    let mut object = object(context, hook);
    for list in ["logs", "errors", "counters"] {
        object[list] = json!([]);
    }
    let name = if path.as_str().contains("/webhooks/") { "webhook" } else { "integration" };
    ok(&json!({ name: object }))
}

/// `GET /v1/integrations`
#[utoipa::path(get, path = "/v1/integrations", tag = "hooks", security(("token" = ["integrations:list"])),
    responses((status = 200, description = "All of them.", body = [Object])))]
pub(super) async fn list(State(context): State<Context>, call: Call) -> Result<Response, ApiError> {
    let hooks = context.registry().hooks(call.place.realm()).await?;
    Ok(ok(&hooks.iter().map(|hook| object(&context, hook)).collect::<Vec<_>>()))
}

/// `POST /v1/integrations`
#[utoipa::path(post, path = "/v1/integrations", tag = "hooks", request_body = HookFields, security(("token" = ["integrations:create"])),
    responses((status = 201, description = "It is kept.", body = Object)))]
pub(super) async fn create(State(context): State<Context>, call: Call) -> Result<Response, ApiError> {
    let text = definition::read(&call, &context.settings().public_url, None)?;
    let hook = context.registry_of(&call).create_hook(call.place.realm(), text).await?;
    changed(&context, hook.id).await;
    let mut answer = object(&context, &hook);
    answer["ok"] = true.into();
    Ok(json_response(StatusCode::CREATED, &answer))
}

/// `GET /v1/integrations/{hook}`
#[utoipa::path(get, path = "/v1/integrations/{hook}", tag = "hooks", security(("token" = ["integrations:get"])),
    responses((status = 200, description = "All that is known of it, as `integration`; as `webhook` by that path.", body = Object)))]
pub(super) async fn show(
    State(context): State<Context>,
    path: MatchedPath,
    Path(OfHook { hook }): Path<OfHook>,
    call: Call,
) -> Result<Response, ApiError> {
    let found = context.registry().hook(call.place.realm(), id(&hook)?).await?;
    Ok(described(&context, &found.ok_or_else(unknown)?, &path))
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
    let id = id(&hook)?;
    let stored = context.registry().hook(call.place.realm(), id).await?.ok_or_else(unknown)?;
    let text = definition::read(&call, &context.settings().public_url, Some(&stored))?;
    let hook = context.registry_of(&call).replace_hook(call.place.realm(), id, text).await.map_err(refused)?;
    changed(&context, hook.id).await;
    Ok(described(&context, &hook, &path))
}

/// `DELETE /v1/integrations/{hook}`
#[utoipa::path(delete, path = "/v1/integrations/{hook}", tag = "hooks", security(("token" = ["integrations:remove"])),
    responses((status = 200, description = "It is gone.", body = Object)))]
pub(super) async fn remove(State(context): State<Context>, Path(OfHook { hook }): Path<OfHook>, call: Call) -> Result<Response, ApiError> {
    let id = id(&hook)?;
    context.registry_of(&call).remove_hook(call.place.realm(), id).await.map_err(refused)?;
    changed(&context, id).await;
    // Older clients say that it is gone only if they read this.
    Ok(ok(&json!({ "ok": true, "status": "Hook Deleted" })))
}

/// `POST /v1/integrations/{hook}/test`
#[utoipa::path(post, path = "/v1/integrations/{hook}/test", tag = "hooks", security(("token" = ["integrations:test"])),
    responses((status = 200, description = "Whether it would work; this server sends nothing yet, so it does not.", body = Object)))]
pub(super) async fn test(State(context): State<Context>, Path(OfHook { hook }): Path<OfHook>, call: Call) -> Result<Response, ApiError> {
    context.registry().hook(call.place.realm(), id(&hook)?).await?.ok_or_else(unknown)?;
    Ok(ok(&json!({ "pass": false, "data": null, "error": "This server does not send webhooks yet" })))
}
