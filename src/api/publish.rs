//! Publishing over the API.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use firmware_protocol::session::publish::{TTL_DEFAULT_S, is_system_name};
use router::event::Source;
use serde_json::json;

use super::error::ApiError;
use super::fields::Fields;
use super::gateway::{NewEvent, PublishError};
use super::json::ok;
use super::request::{Call, Caller};
use super::{Context, content};

/// Longest name of an event.
pub(super) const EVENT_NAME_LEN_MAX: usize = 64;
/// Longest data of an event in bytes, after a data URL is decoded.
const DATA_LEN_MAX: usize = 16_384;
/// Longest time to live in seconds: what fits the three bytes that devices use.
const TTL_S_MAX: u64 = 16_777_215;

/// `POST /v1/devices/events`: answered when the event is durable.
pub(super) async fn publish(State(context): State<Context>, call: Call) -> Result<Response, ApiError> {
    call.caller.require("events:send")?;
    let event = event(&call.caller, &call.body)?;
    let accepted = tokio::time::timeout(context.settings().call_timeout, context.gateway().publish(event)).await;
    accepted.unwrap_or(Err(PublishError::Unavailable))?;
    Ok(ok(&json!({ "ok": true })))
}

fn event(caller: &Caller, fields: &Fields) -> Result<NewEvent, ApiError> {
    let name = fields.text("name").unwrap_or_default();
    if name.is_empty() || name.len() > EVENT_NAME_LEN_MAX || name.contains(char::is_control) {
        return Err(ApiError::bad_request("An event has a name of 1 to 64 bytes"));
    }
    if is_system_name(&name) {
        return Err(ApiError::bad_request("Event names that begin with spark or particle are reserved"));
    }
    let ttl_s = match fields.text("ttl") {
        None => u64::from(TTL_DEFAULT_S),
        Some(_) => fields.number("ttl").ok_or_else(|| ApiError::bad_request("The ttl is a number of seconds"))?,
    };
    let (content_format, data) = match fields.text("data") {
        Some(text) => {
            let (content_format, data) = content::from_text(text);
            (content_format, Some(data))
        }
        None => (0, None),
    };
    if data.as_ref().is_some_and(|data| data.len() > DATA_LEN_MAX) {
        return Err(ApiError::api(StatusCode::PAYLOAD_TOO_LARGE, "The data of an event has at most 16384 bytes"));
    }
    Ok(NewEvent {
        owner: caller.user,
        product: None,
        source: Source::Api,
        name,
        content_format,
        data,
        ttl_s: u32::try_from(ttl_s.min(TTL_S_MAX)).unwrap_or(u32::MAX),
    })
}
