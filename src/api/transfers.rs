//! Wishes for devices of others: who has such a device is asked for it, and says yes or no. A wish is made by claiming the device with `request_transfer`.

use std::collections::{BTreeSet, HashMap};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use firmware_protocol::id::OwnerId;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::Context;
use super::error::ApiError;
use super::json::ok;
use super::request::Call;
use crate::dates::Iso;
use crate::store::registry::Transfer;
use crate::store::{RegistryError, TransferId};

/// A path with a transfer in it.
#[derive(Deserialize)]
pub(super) struct OfTransfer {
    transfer: String,
}

/// `GET /v1/transfers`: those that the caller has to answer, and those that it made.
#[utoipa::path(get, path = "/v1/transfers", tag = "devices", security(("token" = ["transfers:list"])),
    responses((status = 200, description = "As `transfers`, the oldest first: whose device, and who asks for it.", body = Object)))]
pub(super) async fn list(State(context): State<Context>, call: Call) -> Result<Response, ApiError> {
    let transfers = context.registry().transfers(call.caller.user).await?;
    let people: BTreeSet<OwnerId> = transfers.iter().flat_map(|transfer| [transfer.from, transfer.to]).collect();
    let mut names = HashMap::new();
    for user in people {
        let found = context.registry().user(user).await?;
        names.insert(user, found.map(|user| user.email));
    }
    let transfers: Vec<Json> = transfers.iter().map(|transfer| object(transfer, &names)).collect();
    Ok(ok(&json!({ "transfers": transfers })))
}

/// `PUT /v1/transfers/{transfer}`: the caller gives the device away.
#[utoipa::path(put, path = "/v1/transfers/{transfer}", tag = "devices", security(("token" = ["transfers:accept"])),
    responses((status = 200, description = "The device is that of whoever asked for it.", body = Object)))]
pub(super) async fn accept(
    State(context): State<Context>,
    Path(OfTransfer { transfer }): Path<OfTransfer>,
    call: Call,
) -> Result<Response, ApiError> {
    let device = context.registry_of(&call).accept_transfer(call.caller.user, id(&transfer)?).await.map_err(refused)?;
    Ok(ok(&json!({ "ok": true, "id": device.id().to_string() })))
}

/// `DELETE /v1/transfers/{transfer}`: the caller keeps the device or, if it asked for it, does not want it any more.
#[utoipa::path(delete, path = "/v1/transfers/{transfer}", tag = "devices", security(("token" = ["transfers:remove"])),
    responses((status = 200, description = "Nobody asks any more.", body = Object)))]
pub(super) async fn end(
    State(context): State<Context>,
    Path(OfTransfer { transfer }): Path<OfTransfer>,
    call: Call,
) -> Result<Response, ApiError> {
    context.registry_of(&call).end_transfer(call.caller.user, id(&transfer)?).await.map_err(refused)?;
    Ok(ok(&json!({ "ok": true })))
}

fn object(transfer: &Transfer, names: &HashMap<OwnerId, Option<String>>) -> Json {
    json!({
        "id": transfer.id.to_string(),
        "device_id": transfer.device.to_string(),
        "from": names.get(&transfer.from),
        "to": names.get(&transfer.to),
        "created_at": Iso(transfer.created_at).to_string(),
    })
}

fn id(text: &str) -> Result<TransferId, ApiError> {
    text.parse().map_err(|()| not_found())
}

fn not_found() -> ApiError {
    ApiError::api(StatusCode::NOT_FOUND, "Transfer not found")
}

fn refused(error: RegistryError) -> ApiError {
    match error {
        RegistryError::NoSuch(_) => not_found(),
        error => error.into(),
    }
}
