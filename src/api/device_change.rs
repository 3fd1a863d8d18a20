//! Changes of a device: one route for all of them, and what it means depends on the fields.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use firmware_protocol::id::DeviceId;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use utoipa::ToSchema;

use super::Context;
use super::error::ApiError;
use super::fields::text;
use super::json::ok;
use super::path::OfDevice;
use super::place::Place;
use super::product_devices::names;
use super::request::Call;
use crate::dates::{self, Iso};
use crate::store::registry::DeviceChange;
use crate::store::{Device, Product};

/// What to change about a device. One of these at least; the last three within a product only.
#[derive(Deserialize, ToSchema, Default)]
#[serde(default)]
pub(super) struct DeviceFields {
    /// Its name, unique among its owner's devices.
    name: Option<String>,
    /// Free text; null takes it away.
    #[schema(value_type = Option<String>)]
    notes: Option<Json>,
    /// Whether it shall show itself by its light.
    #[schema(value_type = Option<bool>)]
    signal: Option<Json>,
    /// Whether updates are forced on it.
    firmware_updates_forced: Option<bool>,
    /// Whether it is for trying firmware out.
    development: Option<bool>,
    /// The firmware that it alone shall have; null is that of its groups.
    #[schema(value_type = Option<u16>)]
    desired_firmware_version: Option<Json>,
    /// The groups that it shall be in, and in no others.
    groups: Option<Vec<String>>,
}

/// `PUT /v1/devices/{device}`
#[utoipa::path(put, path = "/v1/devices/{device}", tag = "devices", request_body = DeviceFields,
    security(("token" = ["devices:update"])), responses((status = 200, description = "What was changed.", body = Object), (status = 500, description = "The device that shall show itself is offline: clients want this status for that.", body = Object)))]
pub(super) async fn update(
    State(context): State<Context>,
    Path(OfDevice { device }): Path<OfDevice>,
    call: Call,
) -> Result<Response, ApiError> {
    let device = context.device(&call, &device)?;
    if call.body.get("app_id").is_some() {
        return Err(ApiError::no_updates());
    }
    if let Some(on) = call.body.flag("signal") {
        return signal(&context, &call, device.id(), on).await;
    }
    let change = change(&call)?;
    if change == DeviceChange::default() {
        return Err(ApiError::nothing_to_do());
    }
    if let (Place::Product(product), Some(Some(version))) = (&call.place, change.desired_firmware_version) {
        let known = context.registry().firmware_version(product.id, version).await?;
        known.ok_or_else(|| ApiError::api(StatusCode::NOT_FOUND, "Firmware not found."))?;
    }
    let changed = context.registry_of(&call).change_device(call.place.realm(), device.id(), change.clone()).await;
    let changed = changed.map_err(|error| ApiError::of_device(error, &context.settings().public_url))?;
    Ok(ok(&shown(&context, &changed, &change)))
}

fn change(call: &Call) -> Result<DeviceChange, ApiError> {
    let fields: DeviceFields = call.body.read()?;
    Ok(DeviceChange {
        name: fields.name,
        notes: call.body.text_or_null("notes"),
        firmware_updates_forced: fields.firmware_updates_forced,
        development: fields.development,
        desired_firmware_version: call.body.get("desired_firmware_version").cloned().map(version).transpose()?,
        groups: fields.groups.as_deref().map(names).transpose()?,
        ..DeviceChange::default()
    })
}

/// A version, or none; forms write null as a word.
fn version(value: Json) -> Result<Option<u16>, ApiError> {
    match text(value).as_deref() {
        None | Some("null" | "") => Ok(None),
        Some(number) => {
            let read = number.parse().map(Some);
            read.map_err(|_| ApiError::bad_request("desired_firmware_version must be the version of a firmware"))
        }
    }
}

/// The fields that were changed, as they are now. Older clients want the very name they sent.
fn shown(context: &Context, device: &Device, change: &DeviceChange) -> Json {
    let membership = device.membership();
    let product = device.product().and_then(|product| context.registry().products().find(product));
    let groups = |product: &Product| json!(product.names_of(&membership.groups));
    let fields = [
        ("id", Some(device.id().to_string().into())),
        ("name", change.name.as_ref().map(|_| device.name().into())),
        ("notes", change.notes.as_ref().map(|_| device.notes().into())),
        ("firmware_updates_forced", change.firmware_updates_forced.map(|_| membership.firmware_updates_forced.into())),
        ("development", change.development.map(|_| membership.development.into())),
        ("desired_firmware_version", change.desired_firmware_version.map(|_| membership.desired_firmware_version.into())),
        ("groups", change.groups.as_ref().and(product.as_deref()).map(groups)),
        ("updated_at", Some(Iso(dates::now()).to_string().into())),
    ];
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect::<Map<_, _>>().into()
}

async fn signal(context: &Context, call: &Call, device: DeviceId, on: bool) -> Result<Response, ApiError> {
    if let Some(seat) = &call.seat {
        seat.ask_device(call.caller.user).await?;
    }
    let answer = context.gateway().signal(device, on, call.deadline);
    context.answer(call.deadline, answer).await.map_err(ApiError::signal)?;
    Ok(ok(&json!({ "id": device.to_string(), "connected": true, "signaling": on })))
}
