//! Accounts.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use super::error::ApiError;
use super::json::ok;
use super::request::{Call, Input};
use super::{Context, platform};
use crate::config::SignUp;

/// `GET /v1/user`
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
pub(super) async fn create(State(context): State<Context>, input: Input) -> Result<Response, ApiError> {
    if context.settings().sign_up == SignUp::Closed {
        let text = "Sign-up is closed on this server; ask its operator for an account";
        return Err(ApiError::list(StatusCode::FORBIDDEN, text.into()));
    }
    let field = |name| input.body.text(name).unwrap_or_default();
    context.registry().add_user(&field("username"), &field("password")).await?;
    Ok(ok(&json!({ "ok": true })))
}
