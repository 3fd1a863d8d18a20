//! A forgotten password: its holder asks for a code, which the operator hands out, and chooses another password with it.
//!
//! Nothing here tells whether there is such an account.

use std::time::Instant;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::context::Peer;
use super::error::ApiError;
use super::json::ok;
use super::request::Input;
use super::{Context, address, oauth};
use crate::store::{Actor, SecretHash, Who};

/// Whose password is forgotten.
#[derive(Deserialize, ToSchema)]
pub(super) struct ForgottenPassword {
    /// The address of the account.
    username: String,
}

/// `POST /v1/user/password-reset`: notes the wish. This server sends no mail; its operator finds the wish in the log and makes a code.
#[utoipa::path(post, path = "/v1/user/password-reset", tag = "accounts", request_body = ForgottenPassword, security(()),
    responses((status = 200, description = "The wish is noted, if there is such an account.", body = Object)))]
pub(super) async fn ask(
    State(context): State<Context>,
    Extension(Peer(peer)): Extension<Peer>,
    input: Input,
) -> Result<Response, ApiError> {
    let ForgottenPassword { username } = input.body.read()?;
    let caller = address::of_caller(peer.ip(), &input.headers, &context.settings().trusted_proxies);
    oauth::admit(&context, caller)?;
    if let Some(user) = context.registry().user_by_email(&username).await? {
        tracing::warn!(user = user.id.0, "somebody has forgotten a password: holdfast user reset-password makes a code");
    }
    Ok(ok(&json!({ "ok": true, "message": "Ask the operator of this server for a code; it sends no mail." })))
}

/// A code, and the password that the account shall have.
#[derive(Deserialize, ToSchema)]
pub(super) struct PasswordReset {
    /// The code.
    token: String,
    /// Eight characters or more.
    password: String,
}

/// `PUT /v1/user/password-reset`: all tokens of the account end.
#[utoipa::path(put, path = "/v1/user/password-reset", tag = "accounts", request_body = PasswordReset, security(()),
    responses((status = 200, description = "The account has the password.", body = Object)))]
pub(super) async fn reset(
    State(context): State<Context>,
    Extension(Peer(peer)): Extension<Peer>,
    input: Input,
) -> Result<Response, ApiError> {
    let PasswordReset { token, password } = input.body.read()?;
    let caller = address::of_caller(peer.ip(), &input.headers, &context.settings().trusted_proxies);
    oauth::admit(&context, caller)?;
    let registry = context.registry().by(Actor::at(Who::Stranger, caller));
    let done = match SecretHash::of(&token) {
        Some(hash) => registry.reset_password(hash, &password).await?,
        None => None,
    };
    if done.is_none() {
        context.throttle().failed(Instant::now(), caller);
        return Err(ApiError::list(StatusCode::BAD_REQUEST, "This code is not good, or no longer".into()));
    }
    Ok(ok(&json!({ "ok": true, "message": "The password is changed." })))
}
