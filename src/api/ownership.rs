//! Whose devices are: claiming one by its id, and giving one up.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use firmware_protocol::id::DeviceId;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::Context;
use super::error::ApiError;
use super::json::ok;
use super::path::OfDevice;
use super::request::Call;
use crate::store::RegistryError;
use crate::store::registry::Claimed;

/// Which device shall be the caller's.
#[derive(Deserialize, ToSchema, Default)]
#[serde(default)]
pub(super) struct Claim {
    /// Its id, 24 hexadecimal digits.
    id: Option<String>,
    /// Whether its owner shall be asked for it, should it have one.
    request_transfer: Option<bool>,
    /// Without an id: the product for which an id is wanted. This server makes none.
    product_id: Option<String>,
}

/// `POST /v1/devices`: a device of nobody becomes the caller's. One that is the caller's already stays so.
#[utoipa::path(post, path = "/v1/devices", tag = "devices", request_body = Claim, security(("token" = ["devices:claim"])), responses((status = 200, description = "It is the caller's.", body = Object)))]
pub(super) async fn claim(State(context): State<Context>, call: Call) -> Result<Response, ApiError> {
    let Claim { id, request_transfer, product_id } = call.body.read()?;
    let Some(id) = id else { return Err(without_id(product_id.is_some())) };
    context.probes().admit(&call)?;
    let Ok(id) = id.trim().parse::<DeviceId>() else { return Err(context.probes().missed(&call, does_not_exist())) };
    let device = match context.registry_of(&call).claim_device_of_nobody(call.caller.user, id).await {
        Ok(Claimed::Now(device) | Claimed::Before(device)) => device,
        Ok(Claimed::Refused) if request_transfer == Some(true) => return ask_for(&context, &call, id).await,
        Ok(Claimed::Refused) => return Err(context.probes().missed(&call, ApiError::foreign_device())),
        Err(RegistryError::NoSuchDevice(_)) => return Err(context.probes().missed(&call, does_not_exist())),
        Err(error) => return Err(error.into()),
    };
    let connected = context.presence(device.id()).await.online;
    let user_id = call.caller.user.0.to_string();
    Ok(ok(&json!({ "ok": true, "id": device.id().to_string(), "user_id": user_id, "connected": connected })))
}

/// `DELETE /v1/devices/{device}`: it stays registered and is nobody's.
#[utoipa::path(delete, path = "/v1/devices/{device}", tag = "devices", security(("token" = ["devices:release"])), responses((status = 200, description = "It is nobody's.", body = Object)))]
pub(super) async fn release(
    State(context): State<Context>,
    Path(OfDevice { device }): Path<OfDevice>,
    call: Call,
) -> Result<Response, ApiError> {
    let device = context.device(&call, &device)?;
    context.registry_of(&call).release_device(call.caller.user, device.id()).await.map_err(|error| match error {
        // Somebody was faster.
        RegistryError::NoSuchDevice(_) => ApiError::unknown_device(&context.settings().public_url),
        other => other.into(),
    })?;
    Ok(ok(&json!({ "ok": true })))
}

/// Asks the owner of a device for it.
async fn ask_for(context: &Context, call: &Call, device: DeviceId) -> Result<Response, ApiError> {
    let transfer = context.registry_of(call).request_transfer(call.caller.user, device).await.map_err(|error| match error {
        // It is nobody's, but not for the caller to have.
        RegistryError::Refused(_) => context.probes().missed(call, ApiError::foreign_device()),
        error => error.into(),
    })?;
    let (user_id, transfer_id) = (call.caller.user.0.to_string(), transfer.id.to_string());
    Ok(ok(&json!({ "ok": true, "id": device.to_string(), "user_id": user_id, "transfer_id": transfer_id })))
}

fn does_not_exist() -> ApiError {
    ApiError::list(StatusCode::NOT_FOUND, "device does not exist".into())
}

fn without_id(wants_one: bool) -> ApiError {
    if wants_one {
        let text = "This server makes no ids for devices; a device has its own, with which it is registered";
        return ApiError::not_implemented(text);
    }
    ApiError::bad_request("id is missing")
}
