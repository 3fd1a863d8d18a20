//! Accounts.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use utoipa::ToSchema;

use super::error::ApiError;
use super::json::ok;
use super::request::{Call, Input};
use super::{Context, hooks, platform};
use crate::config::SignUp;
use crate::store::registry::AccountEdit;

/// An account to be.
#[derive(Deserialize, ToSchema)]
pub(super) struct NewAccount {
    /// An address of electronic mail.
    username: String,
    /// Eight characters or more.
    password: String,
    /// What its holder says of themselves.
    #[schema(value_type = Option<Object>)]
    #[serde(default)]
    account_info: Option<Json>,
}

/// What to change about an account.
#[derive(Deserialize, ToSchema, Default)]
#[serde(default)]
pub(super) struct AccountChange {
    /// Another address; it takes the current password.
    username: Option<String>,
    /// Another password; it takes the current one.
    password: Option<String>,
    current_password: Option<String>,
    #[schema(value_type = Option<Object>)]
    account_info: Option<Json>,
    /// Whether all tokens end.
    invalidate_tokens: bool,
}

/// A password, as proof that it is the holder who ends an account.
#[derive(Deserialize, ToSchema)]
pub(super) struct Farewell {
    password: String,
}

/// `GET /v1/user`
#[utoipa::path(get, path = "/v1/user", tag = "accounts", security(("token" = [])), responses((status = 200, description = "The account.", body = Object)))]
pub(super) async fn show(State(context): State<Context>, call: Call) -> Result<Response, ApiError> {
    let user = context.registry().user(call.account()?).await?.ok_or_else(ApiError::token_invalid)?;
    let info = context.registry().account_info(user.id).await?;
    let devices = context.registry().devices();
    let owned = devices.owned_by(user.id);
    let cellular = owned.iter().filter(|id| devices.find(**id).is_some_and(|device| platform::is_cellular(device.platform_id()))).count();
    Ok(ok(&json!({
        "username": user.email,
        "subscription_ids": [],
        "account_info": info,
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
    let NewAccount { username, password, account_info } = input.body.read()?;
    let user = context.registry().add_user(&username, &password).await?;
    if account_info.is_some() {
        context.registry().edit_account(user.id, None, AccountEdit { info: account_info, ..AccountEdit::default() }).await?;
    }
    Ok(ok(&json!({ "ok": true })))
}

/// `PUT /v1/user`
#[utoipa::path(put, path = "/v1/user", tag = "accounts", request_body = AccountChange, security(("token" = [])),
    responses((status = 200, description = "It is changed.", body = Object)))]
pub(super) async fn update(State(context): State<Context>, call: Call) -> Result<Response, ApiError> {
    let user = call.account()?;
    let change: AccountChange = call.body.read()?;
    let edit =
        AccountEdit { email: change.username, password: change.password, info: change.account_info, end_tokens: change.invalidate_tokens };
    if edit == AccountEdit::default() {
        return Err(ApiError::nothing_to_do());
    }
    context.registry_of(&call).edit_account(user, change.current_password.as_deref(), edit).await?;
    Ok(ok(&json!({ "ok": true, "message": "The account is changed." })))
}

/// `DELETE /v1/user`: its devices become nobody's.
#[utoipa::path(delete, path = "/v1/user", tag = "accounts", request_body = Farewell, security(("token" = [])),
    responses((status = 200, description = "The account is gone.", body = Object)))]
pub(super) async fn remove(State(context): State<Context>, call: Call) -> Result<Response, ApiError> {
    let Farewell { password } = call.body.read()?;
    let (registry, account) = (context.registry_of(&call), call.account()?);
    hooks::change(&context, async move { registry.delete_account(account, &password).await }, |()| hooks::Told::All).await?;
    Ok(ok(&json!({ "ok": true, "message": "The account is gone." })))
}
