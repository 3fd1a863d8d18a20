//! Claim codes.

use axum::extract::State;
use axum::response::Response;
use serde_json::json;

use super::Context;
use super::error::ApiError;
use super::json::ok;
use super::request::Call;

/// `POST /v1/device_claims`: a code that a device of nobody can present to become the caller's.
#[utoipa::path(post, path = "/v1/device_claims", tag = "devices", security(("token" = ["devices:claim"])), responses((status = 200, description = "A code, and the devices that are the caller's.", body = Object)))]
pub(super) async fn create(State(context): State<Context>, call: Call) -> Result<Response, ApiError> {
    let code = context.registry().create_claim_code(call.caller.user).await?;
    let owned = context.registry().devices().owned_by(call.caller.user);
    let device_ids: Vec<String> = owned.iter().map(ToString::to_string).collect();
    Ok(ok(&json!({ "claim_code": code.reveal(), "device_ids": device_ids })))
}
