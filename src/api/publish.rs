//! Publishing over the API.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use firmware_protocol::session::publish::{TTL_DEFAULT_S, is_system_name};
use router::event::Source;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use tokio::time::timeout_at;
use utoipa::ToSchema;

use super::error::ApiError;
use super::gateway::{NewEvent, PublishError};
use super::json::ok;
use super::request::Call;
use super::{Context, content, fields};

/// Longest name of an event.
pub(super) const EVENT_NAME_LEN_MAX: usize = 64;
/// Longest data of an event in bytes, after a data URL is decoded.
pub(super) const DATA_LEN_MAX: usize = 16_384;
/// Longest time to live in seconds: what fits the three bytes that devices use.
const TTL_S_MAX: u64 = 16_777_215;

/// `POST /v1/devices/events`: answered when the event is durable.
#[utoipa::path(post, path = "/v1/devices/events", tag = "events", request_body = EventToPublish, security(("token" = ["events:send"])), responses((status = 200, description = "It is durable.", body = Object)))]
pub(super) async fn publish(State(context): State<Context>, call: Call) -> Result<Response, ApiError> {
    accept(&context, &call, event(&call)?).await
}

/// `POST /v1/products/{product}/events`: as nobody, or as one of the product's devices.
#[utoipa::path(post, path = "/v1/products/{product}/events", tag = "events", request_body = EventToPublish,
    security(("token" = ["events:send"])), responses((status = 200, description = "It is durable.", body = Object)))]
pub(super) async fn in_product(State(context): State<Context>, call: Call) -> Result<Response, ApiError> {
    let mut event = event(&call)?;
    let product = call.place.product()?;
    (event.owner, event.product) = (product.owner, Some(product.id));
    if let Some(device) = call.body.text("as_device_id") {
        let device = context.device(&call, &device)?;
        (event.owner, event.source) = (device.acts_for().unwrap_or(product.owner), Source::Device(device.id()));
    }
    accept(&context, &call, event).await
}

async fn accept(context: &Context, call: &Call, event: NewEvent) -> Result<Response, ApiError> {
    let accepted = timeout_at(call.deadline.into(), context.gateway().publish(event)).await;
    accepted.unwrap_or(Err(PublishError::Unavailable))?;
    Ok(ok(&json!({ "ok": true })))
}

/// An event to be.
#[derive(Deserialize, ToSchema)]
pub(super) struct EventToPublish {
    /// 1 to 64 bytes.
    #[serde(default)]
    name: String,
    /// Text, or anything else as a data URL; at most 16384 bytes.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    data: Option<Json>,
    /// Seconds, 60 if it is not said.
    #[serde(default)]
    ttl: Option<u64>,
    /// Accepted and ignored: all events are private.
    #[serde(default)]
    #[expect(dead_code, reason = "older clients say it")]
    private: Option<bool>,
    /// Within a product, the device that it shall be of.
    #[serde(default)]
    #[expect(dead_code, reason = "read where it is a product's")]
    as_device_id: Option<String>,
}

fn event(call: &Call) -> Result<NewEvent, ApiError> {
    let EventToPublish { name, data, ttl, .. } = call.body.read()?;
    if name.is_empty() || name.len() > EVENT_NAME_LEN_MAX || name.contains(char::is_control) {
        return Err(ApiError::bad_request("An event has a name of 1 to 64 bytes"));
    }
    if is_system_name(&name) {
        return Err(ApiError::bad_request("Event names that begin with spark or particle are reserved"));
    }
    let ttl_s = ttl.unwrap_or(u64::from(TTL_DEFAULT_S));
    let (content_format, data) = match data.and_then(fields::text) {
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
        owner: call.caller.user,
        product: None,
        source: Source::Api,
        name,
        content_format,
        data,
        ttl_s: u32::try_from(ttl_s.min(TTL_S_MAX)).unwrap_or(u32::MAX),
    })
}
