//! Function calls.

use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::json;

use super::Context;
use super::error::ApiError;
use super::gateway::CallError;
use super::json::{ok, raw};
use super::request::Call;
use super::variables::wants_raw;

/// Names the argument has had; the first that is there counts.
const ARGUMENT_FIELDS: [&str; 3] = ["args", "arg", "params"];
/// Longest name of a function or variable (docs/protocol.md).
pub(super) const NAME_LEN_MAX: usize = 64;

/// `POST /v1/devices/{device}/{function}`
pub(super) async fn call(
    State(context): State<Context>,
    Path((device, function)): Path<(String, String)>,
    call: Call,
) -> Result<Response, ApiError> {
    call.caller.require("devices.function:call")?;
    let device = context.device(&call.caller, &device)?;
    let argument = ARGUMENT_FIELDS.iter().find_map(|field| call.body.text(field)).unwrap_or_default();
    let result = if function.len() > NAME_LEN_MAX {
        Err(CallError::NoSuchFunction)
    } else {
        let answer = context.gateway().call(device.id(), &function, &argument, context.deadline());
        context.answer(answer).await
    };
    let value = result.map_err(|error| ApiError::call(error, &format!("Function {function} not found")))?;
    if wants_raw(&call) {
        return Ok(raw(value.to_string()));
    }
    Ok(ok(&json!({
        "id": device.id().to_string(),
        "name": device.name(),
        "last_app": "",
        "connected": true,
        "return_value": value,
    })))
}
