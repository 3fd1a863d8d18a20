//! Variable reads.

use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Value as Json, json};

use super::Context;
use super::device_object::{iso, product_id};
use super::error::ApiError;
use super::functions::NAME_LEN_MAX;
use super::gateway::{CallError, Value};
use super::json::{ok, raw};
use super::path::OnDevice;
use super::request::Call;

/// `GET /v1/devices/{device}/{variable}`
#[utoipa::path(get, path = "/v1/devices/{device}/{name}", tag = "devices", params(("format" = Option<String>, Query, description = "`raw` for the bare value as text.")), security(("token" = ["devices.variable:get"])), responses((status = 200, description = "The value, as `result`.", body = Object)))]
pub(super) async fn read(
    State(context): State<Context>,
    Path(OnDevice { device, name: variable }): Path<OnDevice>,
    call: Call,
) -> Result<Response, ApiError> {
    let device = context.device(&call, &device)?;
    let result = if variable.len() > NAME_LEN_MAX {
        Err(CallError::NoSuchVariable)
    } else {
        let answer = context.gateway().read(device.id(), &variable, call.deadline);
        context.answer(call.deadline, answer).await
    };
    let value = result.map_err(|error| ApiError::call(error, "Variable not found"))?;
    if wants_raw(&call) {
        return Ok(raw(bare(value)));
    }
    let presence = context.presence(device.id()).await;
    Ok(ok(&json!({
        "cmd": "VarReturn",
        "name": variable,
        "result": in_json(value),
        "coreInfo": {
            "name": device.name(),
            "deviceID": device.id().to_string(),
            "product_id": product_id(&device, &presence),
            "connected": true,
            "last_heard": iso(presence.last_heard),
            "last_handshake_at": iso(presence.last_handshake_at),
            "last_app": "",
        },
    })))
}

/// Whether the caller wants the bare value instead of JSON.
pub(super) fn wants_raw(call: &Call) -> bool {
    call.query.text("format").as_deref() == Some("raw")
}

/// Doubles that JSON cannot write become null.
fn in_json(value: Value) -> Json {
    match value {
        Value::Bool(value) => value.into(),
        Value::Int(value) => value.into(),
        Value::Double(value) => value.into(),
        Value::String(value) => value.into(),
    }
}

fn bare(value: Value) -> String {
    match value {
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Double(value) => value.to_string(),
        Value::String(value) => value,
    }
}
