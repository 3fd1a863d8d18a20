//! Tokens that already exist.

use std::net::IpAddr;
use std::time::Instant;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use firmware_protocol::id::OwnerId;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::context::Peer;
use super::error::ApiError;
use super::json::ok;
use super::request::{Call, Input};
use super::{Context, address, oauth, request};
use crate::dates::Iso;
use crate::store::TokenHash;
use crate::store::registry::TokenInfo;

/// A path with a token in it.
#[derive(Deserialize)]
pub(super) struct OfToken {
    token: String,
}

/// `GET /v1/access_tokens/current`
#[utoipa::path(get, path = "/v1/access_tokens/current", tag = "accounts", security(("token" = [])), responses((status = 200, description = "What the token is good for.", body = Object)))]
pub(super) async fn current(call: Call) -> Response {
    let record = &call.caller.record;
    ok(&json!({
        "expires_at": record.expires_at.map(|end| Iso(end).to_string()),
        "client": record.client,
        "client_id": record.client,
        "scopes": record.scopes.list(),
        "orgs": [],
    }))
}

/// `DELETE /v1/access_tokens/current`
#[utoipa::path(delete, path = "/v1/access_tokens/current", tag = "accounts", security(("token" = [])), responses((status = 200, description = "It is good no more.", body = Object)))]
pub(super) async fn revoke_current(State(context): State<Context>, call: Call) -> Result<Response, ApiError> {
    context.registry().revoke_token(call.caller.token).await?;
    Ok(ok(&json!({ "ok": true })))
}

/// `GET /v1/access_tokens`: by name and password, as older clients ask, or by a token.
#[utoipa::path(get, path = "/v1/access_tokens", tag = "accounts", security(()),
    responses((status = 200, description = "The account's tokens, by their public names.", body = Object)))]
pub(super) async fn list(
    State(context): State<Context>,
    Extension(Peer(peer)): Extension<Peer>,
    input: Input,
) -> Result<Response, ApiError> {
    let user = holder(&context, peer.ip(), &input).await?.ok_or_else(ApiError::token_missing)?;
    let shown = |TokenInfo { record, .. }: &TokenInfo| json!({ "token": record.id, "client": record.client, "expires_at": record.expires_at.map(|end| Iso(end).to_string()) });
    Ok(ok(&context.registry().list_tokens(Some(user)).await?.iter().map(shown).collect::<Vec<Json>>()))
}

/// `DELETE /v1/access_tokens`: the caller's own among them.
#[utoipa::path(delete, path = "/v1/access_tokens", tag = "accounts", security(("token" = [])),
    responses((status = 200, description = "All tokens of the account have ended.", body = Object)))]
pub(super) async fn revoke_all(State(context): State<Context>, call: Call) -> Result<Response, ApiError> {
    context.registry_of(&call).revoke_all_tokens(call.account()?).await?;
    Ok(ok(&json!({ "ok": true })))
}

/// `DELETE /v1/access_tokens/{token}`: who knows a token may end it, without any other proof. By its public name, its holder may. Basic credentials are
/// checked if they are sent.
#[utoipa::path(delete, path = "/v1/access_tokens/{token}", tag = "accounts", security(()),
    responses((status = 200, description = "It is good no more.", body = Object)))]
pub(super) async fn revoke(
    State(context): State<Context>,
    Extension(Peer(peer)): Extension<Peer>,
    Path(OfToken { token }): Path<OfToken>,
    input: Input,
) -> Result<Response, ApiError> {
    let holder = holder(&context, peer.ip(), &input).await?;
    let by_text = match TokenHash::of(&token) {
        Some(hash) => context.registry().revoke_token(hash).await?,
        None => false,
    };
    let found = match holder {
        Some(user) if !by_text => context.registry().revoke_token_named(user, &token).await?,
        _ => by_text,
    };
    if found { Ok(ok(&json!({ "ok": true }))) } else { Err(ApiError::api(StatusCode::NOT_FOUND, "No such token")) }
}

/// The account that a request proves by name and password, or by a token that is good. Clients send none, or a token that has long ended.
async fn holder(context: &Context, peer: IpAddr, input: &Input) -> Result<Option<OwnerId>, ApiError> {
    let Some((username, password)) = oauth::basic(&input.headers) else {
        return Ok(request::person(context, input));
    };
    let caller = address::of_caller(peer, &input.headers, &context.settings().trusted_proxies);
    oauth::admit(context, caller)?;
    if let Some(user) = context.registry().log_in(&username, &password).await? {
        return Ok(Some(user.id));
    }
    context.throttle().failed(Instant::now(), caller);
    let is_known = context.registry().user_by_email(&username).await?.is_some();
    let (status, text) = if is_known { (StatusCode::UNAUTHORIZED, "Bad password") } else { (StatusCode::BAD_REQUEST, "Unknown user") };
    Err(ApiError::list(status, text.into()))
}
