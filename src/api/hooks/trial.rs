//! Trying a hook: one request is sent for an event that nobody published, and what came of it is told. Nothing else comes of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use firmware_protocol::entropy::Entropy;
use firmware_protocol::id::{OwnerId, ProductId};
use firmware_protocol::session::publish::TTL_DEFAULT_S;
use router::event::{Event, NewEvent, Source};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use tokio::time::timeout_at;
use utoipa::ToSchema;

use super::desk::{desk, trial_place};
use super::{OfHook, stored};
use crate::api::error::ApiError;
use crate::api::json::ok;
use crate::api::place::Place;
use crate::api::publish::DATA_LEN_MAX;
use crate::api::request::Call;
use crate::api::{Context, content, fields};
use crate::dates;
use crate::dispatch::{DeskError, Tested};
use crate::entropy::SystemEntropy;
use crate::store::Device;
use crate::store::registry::StoredHook;

/// What a request takes besides what its hook allows for it.
const GRACE: Duration = Duration::from_secs(2);

/// What a hook is tried with.
#[derive(Deserialize, ToSchema, Default)]
#[serde(default)]
pub(in crate::api) struct TestFields {
    /// The data of the event: text, or anything else as a data URL; at most 16384 bytes.
    #[schema(value_type = Option<String>)]
    data: Option<Json>,
    /// The device that the event seems to be of; nobody's if it is not said.
    #[serde(alias = "deviceID", alias = "deviceId")]
    device_id: Option<String>,
}

/// What came of it.
#[derive(Serialize, ToSchema, Default)]
#[serde(rename_all = "camelCase")]
pub(in crate::api) struct TestAnswer {
    /// Whether the receiver took it.
    pass: bool,
    /// What it answered, at most 4096 bytes; null if it did not.
    data: Option<String>,
    /// Why it did not pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// The status code of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// How long it took, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    took_ms: Option<u32>,
}

/// `POST /v1/integrations/{hook}/test`
#[utoipa::path(post, path = "/v1/integrations/{hook}/test", tag = "hooks", request_body = TestFields,
    security(("token" = ["integrations:test"])), responses((status = 200, description = "What came of it.", body = TestAnswer)))]
pub(in crate::api) async fn test(
    State(context): State<Context>,
    Path(OfHook { hook }): Path<OfHook>,
    call: Call,
) -> Result<Response, ApiError> {
    let stored = stored(&context, &call, &hook).await?;
    let event = event(&context, &call, &stored)?;
    let (desk, place) = (desk(&context)?.clone(), trial_place(&context)?);
    let hook = match stored.read() {
        Ok(hook) => hook,
        Err(error) => return Ok(TestAnswer::without(error)),
    };
    let until = (Instant::now() + hook.timeout + GRACE).min(call.deadline);
    // The place is taken as long as the request may last, whether or not the caller waits for it.
    let trial = tokio::spawn(async move { (desk.test(hook, event).await, drop(place)).0 });
    match timeout_at(until.into(), trial).await {
        Ok(tested) => Ok(ok(&json!(TestAnswer::from(tested.unwrap_or(Err(DeskError::Closed))?)))),
        Err(_) => Ok(TestAnswer::without("There was no answer in time".to_owned())),
    }
}

impl TestAnswer {
    /// That nothing was answered, and why.
    fn without(error: String) -> Response {
        ok(&json!(Self { error: Some(error), ..Self::default() }))
    }
}

impl From<Tested> for TestAnswer {
    fn from(tested: Tested) -> Self {
        let pass = tested.is_success();
        let Tested { status, text, took_ms } = tested;
        let (data, error) = match status {
            Some(_) if pass => (Some(text), None),
            Some(status) => (Some(text), Some(format!("error status {status}"))),
            None => (None, Some(text)),
        };
        Self { pass, data, error, status, took_ms: Some(took_ms) }
    }
}

/// The event that it is tried with: of a device that the caller may see, or of the caller.
fn event(context: &Context, call: &Call, hook: &StoredHook) -> Result<Event, ApiError> {
    let TestFields { data, device_id } = call.body.read()?;
    let device = device_id.filter(|id| !id.is_empty()).map(|id| context.device(call, &id)).transpose()?;
    let (owner, product) = whose(call, device.as_ref());
    let (content_format, data) = data.and_then(fields::text).map(content::from_text).unzip();
    if data.as_ref().is_some_and(|data| data.len() > DATA_LEN_MAX) {
        return Err(ApiError::api(StatusCode::PAYLOAD_TOO_LARGE, "The data of an event has at most 16384 bytes"));
    }
    let new = NewEvent {
        owner,
        product,
        source: device.map_or(Source::Api, |device| Source::Device(device.id())),
        name: hook.text.event.clone(),
        content_format: content_format.unwrap_or_default(),
        data,
        ttl_s: TTL_DEFAULT_S,
    };
    Ok(new.accept(dates::now(), SystemEntropy.array()))
}

/// Whose event it would be.
fn whose(call: &Call, device: Option<&Arc<Device>>) -> (OwnerId, Option<ProductId>) {
    match &call.place {
        Place::Own(user) => (*user, device.and_then(|device| device.product())),
        Place::Product(product) => (device.and_then(|device| device.acts_for()).unwrap_or(product.owner), Some(product.id)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_why_it_did_not_pass() {
        let answer = |status, text: &str| {
            let tested = Tested { status, text: text.to_owned(), took_ms: 12 };
            serde_json::to_value(TestAnswer::from(tested)).unwrap()
        };
        assert_eq!(answer(Some(204), ""), json!({ "pass": true, "data": "", "status": 204, "tookMs": 12 }));
        let refused = json!({ "pass": false, "data": "no", "error": "error status 404", "status": 404, "tookMs": 12 });
        assert_eq!(answer(Some(404), "no"), refused);
        assert_eq!(answer(None, "nobody is there"), json!({ "pass": false, "data": null, "error": "nobody is there", "tookMs": 12 }));
    }
}
