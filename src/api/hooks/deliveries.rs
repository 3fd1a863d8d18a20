//! The deliveries of a hook, as its owner looks at them: by the page, and one with its attempts.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use super::desk::read;
use super::{OfHook, stored};
use crate::api::Context;
use crate::api::error::ApiError;
use crate::api::json::ok;
use crate::api::request::Call;
use crate::hook_view::{self, DeliveryPage, DeliveryQuery, DeliveryView};

/// A path with a delivery in it.
#[derive(Deserialize)]
pub(in crate::api) struct OfDelivery {
    hook: String,
    delivery: String,
}

fn unknown() -> ApiError {
    ApiError::api(StatusCode::NOT_FOUND, "There is no such delivery")
}

/// `GET /v1/integrations/{hook}/deliveries`
#[utoipa::path(get, path = "/v1/integrations/{hook}/deliveries", tag = "hooks", params(DeliveryQuery),
    security(("token" = ["integrations:get"])), responses((status = 200, description = "One page, the newest first.", body = DeliveryPage)))]
pub(in crate::api) async fn list(
    State(context): State<Context>,
    Path(OfHook { hook }): Path<OfHook>,
    call: Call,
) -> Result<Response, ApiError> {
    let hook = stored(&context, &call, &hook).await?.id;
    let query: DeliveryQuery = call.query.read()?;
    let filter = query.start().and_then(|_| query.filter()).map_err(|error| ApiError::bad_request(&error))?;
    let page = read(&context, call.deadline, move |reader| hook_view::page(reader, hook, &query, &filter)).await?;
    Ok(ok(&json!(page)))
}

/// `GET /v1/integrations/{hook}/deliveries/{delivery}`
#[utoipa::path(get, path = "/v1/integrations/{hook}/deliveries/{delivery}", tag = "hooks", security(("token" = ["integrations:get"])),
    responses((status = 200, description = "As `delivery`, with its attempts.", body = DeliveryView)))]
pub(in crate::api) async fn show(
    State(context): State<Context>,
    Path(OfDelivery { hook, delivery }): Path<OfDelivery>,
    call: Call,
) -> Result<Response, ApiError> {
    let hook = stored(&context, &call, &hook).await?.id;
    let position = hook_view::position(&delivery).ok_or_else(unknown)?;
    let found = read(&context, call.deadline, move |reader| hook_view::delivery(reader, hook, position)).await?;
    Ok(ok(&json!({ "delivery": found.ok_or_else(unknown)? })))
}
