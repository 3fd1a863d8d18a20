//! Claim codes.

use axum::extract::State;
use axum::response::Response;
use serde_json::json;

use super::Context;
use super::error::ApiError;
use super::json::ok;
use super::request::Call;

/// `POST /v1/device_claims`: a code that a device of nobody can present to become the caller's.
pub(super) async fn create(State(context): State<Context>, call: Call) -> Result<Response, ApiError> {
    call.caller.require("devices:claim")?;
    let code = context.registry().create_claim_code(call.caller.user).await?;
    let owned = context.registry().devices().owned_by(call.caller.user);
    let device_ids: Vec<String> = owned.iter().map(ToString::to_string).collect();
    Ok(ok(&json!({ "claim_code": code.reveal(), "device_ids": device_ids })))
}
