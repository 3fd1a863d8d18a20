//! Devices by what is printed on them.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use firmware_protocol::id::DeviceId;
use serde::Deserialize;
use serde_json::json;

use super::Context;
use super::error::ApiError;
use super::json::ok;
use super::request::Call;
use crate::store::registry::DeviceFilter;
use crate::store::{Device, Holder, Registry};

/// A path with a serial number.
#[derive(Deserialize)]
pub(super) struct OfSerialNumber {
    serial_number: String,
}

/// `GET /v1/serial_numbers/{serial_number}`: among the caller's devices and those of products that the caller looks after.
#[utoipa::path(get, path = "/v1/serial_numbers/{serial_number}", tag = "devices", security(("token" = ["devices:get"])), responses((status = 200, description = "Which device has it.", body = Object)))]
pub(super) async fn look_up(
    State(context): State<Context>,
    Path(OfSerialNumber { serial_number }): Path<OfSerialNumber>,
    call: Call,
) -> Result<Response, ApiError> {
    context.probes().look_up(&call)?;
    let (registry, holder, wanted) = (context.registry().clone(), call.caller.record.holder, serial_number.clone());
    // An account may have a million devices.
    let found = tokio::task::spawn_blocking(move || find(&registry, &holder, &wanted)).await.ok().flatten();
    let (id, platform_id) = found.ok_or_else(|| ApiError::api(StatusCode::NOT_FOUND, "No device of yours has this serial number"))?;
    let id = id.to_string();
    Ok(ok(&json!({ "ok": true, "deviceID": id, "device_id": id, "serial_number": serial_number, "platform_id": platform_id })))
}

fn find(registry: &Registry, holder: &Holder, wanted: &str) -> Option<(DeviceId, Option<u16>)> {
    let has_it = |device: &Device| device.serial_number().is_some_and(|serial| serial.eq_ignore_ascii_case(wanted));
    let book = registry.devices();
    let own = holder.user().map_or_else(Vec::new, |user| book.owned_by(user));
    let own = own.into_iter().filter_map(|id| book.find(id)).find(|device| has_it(device));
    let filter = DeviceFilter { serial_number: Some(wanted.to_owned()), ..Default::default() };
    let in_products = || {
        let products = registry.products().list_for(holder);
        products.iter().flat_map(|product| registry.devices_of_product(product.id, &filter)).find(|device| has_it(device))
    };
    own.or_else(in_products).map(|device| (device.id(), device.platform_id()))
}
