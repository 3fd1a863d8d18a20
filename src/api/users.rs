//! Accounts.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::error::ApiError;
use super::json::ok;
use super::request::{Call, Input};
use super::{Context, platform};
use crate::config::SignUp;

/// An account to be.
#[derive(Deserialize, ToSchema)]
pub(super) struct NewAccount {
    /// An address of electronic mail.
    username: String,
    /// Eight characters or more.
    password: String,
}

/// `GET /v1/user`
#[utoipa::path(get, path = "/v1/user", tag = "accounts", security(("token" = [])), responses((status = 200, description = "The account.", body = Object)))]
pub(super) async fn show(State(context): State<Context>, call: Call) -> Result<Response, ApiError> {
    let user = context.registry().user(call.caller.user).await?.ok_or_else(ApiError::token_invalid)?;
    let devices = context.registry().devices();
    let owned = devices.owned_by(user.id);
    let cellular = owned.iter().filter(|id| devices.find(**id).is_some_and(|device| platform::is_cellular(device.platform_id()))).count();
    Ok(ok(&json!({
        "username": user.email,
        "subscription_ids": [],
        "account_info": {},
        "mfa": { "enabled": false },
        "scim_provisioned": false,
        "no_password": false,
        "wifi_device_count": owned.len() - cellular,
        "cellular_device_count": cellular,
    })))
}

/// `POST /v1/users`
#[utoipa::path(post, path = "/v1/users", tag = "accounts", request_body = NewAccount, security(()), responses((status = 200, description = "The account is there.", body = Object)))]
pub(super) async fn create(State(context): State<Context>, input: Input) -> Result<Response, ApiError> {
    if context.settings().sign_up == SignUp::Closed {
        let text = "Sign-up is closed on this server; ask its operator for an account";
        return Err(ApiError::list(StatusCode::FORBIDDEN, text.into()));
    }
    let NewAccount { username, password } = input.body.read()?;
    context.registry().add_user(&username, &password).await?;
    Ok(ok(&json!({ "ok": true })))
}
