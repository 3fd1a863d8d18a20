//! Tokens that already exist.

use std::time::Instant;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use super::context::Peer;
use super::error::ApiError;
use super::json::ok;
use super::request::{Call, Input};
use super::{Context, address, oauth};
use crate::dates::Iso;
use crate::store::TokenHash;

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

/// `DELETE /v1/access_tokens/{token}`: who knows a token may end it, without any other proof. Basic credentials are checked if they are sent.
#[utoipa::path(delete, path = "/v1/access_tokens/{token}", tag = "accounts", security(()), responses((status = 200, description = "It is good no more.", body = Object)))]
pub(super) async fn revoke(
    State(context): State<Context>,
    Extension(Peer(peer)): Extension<Peer>,
    Path(token): Path<String>,
    input: Input,
) -> Result<Response, ApiError> {
    if let Some((username, password)) = oauth::basic(&input.headers) {
        let caller = address::of_caller(peer.ip(), &input.headers, &context.settings().trusted_proxies);
        oauth::admit(&context, caller)?;
        if context.registry().log_in(&username, &password).await?.is_none() {
            context.throttle().failed(Instant::now(), caller);
            return Err(ApiError::list(StatusCode::UNAUTHORIZED, "Bad password".into()));
        }
    }
    let found = match TokenHash::of(&token) {
        Some(hash) => context.registry().revoke_token(hash).await?,
        None => false,
    };
    if found { Ok(ok(&json!({ "ok": true }))) } else { Err(ApiError::api(StatusCode::NOT_FOUND, "No such token")) }
}
