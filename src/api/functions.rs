//! Function calls.

use axum::extract::{Path, State};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Context;
use super::error::ApiError;
use super::gateway::CallError;
use super::json::{ok, raw};
use super::path::OnDevice;
use super::request::Call;
use super::variables::wants_raw;

/// Longest name of a function or variable (docs/protocol.md).
pub(super) const NAME_LEN_MAX: usize = 64;

/// What a function is called with. The argument has had three names; the first that is there counts.
#[derive(Deserialize, ToSchema, Default)]
#[serde(default)]
pub(super) struct CallArguments {
    /// The argument.
    args: Option<String>,
    /// The same, as older clients call it.
    arg: Option<String>,
    /// The same, as the oldest call it.
    params: Option<String>,
    /// `raw` for the bare number as text.
    format: Option<String>,
}

/// What came of a call.
#[derive(Serialize, ToSchema)]
pub(super) struct CallResult {
    /// The device that was called.
    id: String,
    name: Option<String>,
    last_app: &'static str,
    connected: bool,
    /// What the function returned.
    return_value: i32,
    /// `done`; of a request that was not served, what became of it.
    outcome: &'static str,
}

/// `POST /v1/devices/{device}/{function}`
#[utoipa::path(post, path = "/v1/devices/{device}/{name}", tag = "devices", request_body = CallArguments, security(("token" = ["devices.function:call"])), responses((status = 200, description = "What the function returned.", body = CallResult)))]
pub(super) async fn call(
    State(context): State<Context>,
    Path(OnDevice { device, name: function }): Path<OnDevice>,
    call: Call,
) -> Result<Response, ApiError> {
    let device = context.device(&call, &device)?;
    let CallArguments { args, arg, params, format } = call.body.read()?;
    let argument = args.or(arg).or(params).unwrap_or_default();
    let result = if function.len() > NAME_LEN_MAX {
        Err(CallError::NoSuchFunction)
    } else {
        let answer = context.gateway().call(device.id(), &function, &argument, call.deadline);
        context.answer(call.deadline, answer).await
    };
    let value = result.map_err(|error| ApiError::call(error, &format!("Function {function} not found")))?;
    if format.as_deref() == Some("raw") || wants_raw(&call) {
        return Ok(raw(value.to_string()));
    }
    let (id, name) = (device.id().to_string(), device.name().map(str::to_owned));
    Ok(ok(&CallResult { id, name, last_app: "", connected: true, return_value: value, outcome: "done" }))
}
