//! The devices of a product: listed by the page, imported, put into groups, let go.

use std::cmp::Reverse;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use firmware_protocol::id::DeviceId;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::Context;
use super::device_object::DeviceObject;
use super::error::ApiError;
use super::gateway::Presence;
use super::json::ok;
use super::path::OfDevice;
use super::request::Call;
use crate::store::registry::{DeviceFilter, GroupsChange};
use crate::store::{BadGroupName, Device, GroupName, Product};

const PER_PAGE: usize = 25;
const PER_PAGE_MAX: usize = 1_000;
/// The part of an upload that is a list of devices.
const LIST_FILE: &str = "file";

/// Which devices, in which order, and which page of them.
#[derive(Deserialize, utoipa::IntoParams, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Page {
    /// Part of the id.
    device_id: Option<String>,
    /// Part of the name.
    device_name: Option<String>,
    /// Part of the serial number.
    serial_number: Option<String>,
    /// Names of groups with commas between: those in one of them.
    groups: Option<Vec<String>>,
    /// Whether they wait for approval.
    quarantined: Option<bool>,
    /// `deviceId`, `firmwareVersion` or `lastConnection`.
    sort_attr: Option<String>,
    /// `asc` or `desc`.
    sort_dir: Option<String>,
    /// From 1.
    page: Option<u32>,
    /// Devices in a page, 25 if it is not said, at most 1000.
    #[serde(alias = "per_page")]
    per_page: Option<u32>,
}

impl Page {
    fn filter(&self) -> Result<DeviceFilter, ApiError> {
        Ok(DeviceFilter {
            id: self.device_id.clone(),
            name: self.device_name.clone(),
            serial_number: self.serial_number.clone(),
            groups: names(self.groups.as_deref().unwrap_or_default())?,
            quarantined: self.quarantined,
        })
    }

    fn len(&self) -> usize {
        self.per_page.map_or(PER_PAGE, |len| len as usize).clamp(1, PER_PAGE_MAX)
    }

    fn start(&self) -> usize {
        (self.page.unwrap_or(1).max(1) as usize - 1).saturating_mul(self.len())
    }
}

/// Names of groups, or word which is none.
pub(super) fn names(texts: &[String]) -> Result<Vec<GroupName>, ApiError> {
    let name = |text: &String| text.parse().map_err(|error: BadGroupName| ApiError::bad_request(&error.to_string()));
    texts.iter().filter(|text| !text.is_empty()).map(name).collect()
}

/// `GET /v1/products/{product}/devices`
#[utoipa::path(get, path = "/v1/products/{product}/devices", tag = "products", params(Page), security(("token" = ["devices:list"])),
    responses((status = 200, description = "One page, as `devices`.", body = Object)))]
pub(super) async fn list(State(context): State<Context>, call: Call) -> Result<Response, ApiError> {
    let (product, page): (_, Page) = (call.place.product()?, call.query.read()?);
    let devices = context.registry().devices_of_product(product.id, &page.filter()?);
    let total = devices.len();
    let shown = in_order(&context, devices, &page).await;
    let objects: Vec<_> = shown.iter().map(|(device, presence)| DeviceObject::new(device, presence, None, Some(product))).collect();
    let meta = json!({
        "page": page.start() / page.len() + 1,
        "per_page": page.len(),
        "total_pages": total.div_ceil(page.len()),
        "total_devices": total,
    });
    Ok(ok(&json!({ "devices": objects, "customers": [], "meta": meta })))
}

type Known = (Arc<Device>, Presence);

/// The devices of the page. What shards know is asked for those of the page only, unless it decides the order.
async fn in_order(context: &Context, mut devices: Vec<Arc<Device>>, page: &Page) -> Vec<Known> {
    let is_descending = page.sort_dir.as_deref() == Some("desc");
    let by = page.sort_attr.as_deref().unwrap_or("deviceId");
    if !matches!(by, "firmwareVersion" | "lastConnection") {
        if is_descending {
            devices.reverse();
        }
        let shown = devices.into_iter().skip(page.start()).take(page.len()).collect();
        return known(context, shown).await;
    }
    let mut all = known(context, devices).await;
    if by == "firmwareVersion" {
        all.sort_by_key(|(_, presence)| presence.firmware_version);
    } else {
        all.sort_by_key(|(_, presence)| Reverse(presence.last_handshake_at.map(Reverse)));
    }
    if is_descending {
        all.reverse();
    }
    all.into_iter().skip(page.start()).take(page.len()).collect()
}

async fn known(context: &Context, devices: Vec<Arc<Device>>) -> Vec<Known> {
    let presences = context.gateway().presences(devices.iter().map(|device| device.id()).collect()).await;
    devices.into_iter().zip(presences).collect()
}

/// A device to import; a list of them is uploaded as the file `file`, one in a line.
#[derive(Deserialize, ToSchema, Default)]
#[serde(default)]
pub(super) struct DevicesToImport {
    /// Its id.
    id: Option<String>,
}

/// `POST /v1/products/{product}/devices`: brings devices in, registered or not yet, and approves those that wait for it.
#[utoipa::path(post, path = "/v1/products/{product}/devices", tag = "products", security(("token" = ["devices:import"])),
    request_body(content((DevicesToImport = "application/json"), (DevicesToImport = "multipart/form-data"))),
    responses((status = 200, description = "How many, and those that could not be.", body = Object)))]
pub(super) async fn import(State(context): State<Context>, call: Call) -> Result<Response, ApiError> {
    let product = call.place.product()?.id;
    let ids: Vec<String> = match call.files.iter().find(|file| file.part == LIST_FILE) {
        Some(file) => String::from_utf8_lossy(&file.bytes).lines().map(|line| line.trim().to_owned()).filter(|id| !id.is_empty()).collect(),
        None => call.body.read::<DevicesToImport>()?.id.into_iter().collect(),
    };
    if ids.is_empty() {
        return Err(ApiError::bad_request("id is missing, or a file with one in each line"));
    }
    let imported = context.registry_of(&call).import_devices(product, ids).await?;
    let nonmember: Vec<String> = imported.nonmember.iter().map(ToString::to_string).collect();
    Ok(ok(&json!({ "updated": imported.updated, "nonmemberDeviceIds": nonmember, "invalidDeviceIds": imported.invalid })))
}

/// What to do with many devices.
#[derive(Deserialize, ToSchema)]
pub(super) struct Batch {
    /// `groups`.
    action: String,
    /// Ids.
    devices: Vec<String>,
    /// Groups to `add` and to `remove`.
    #[serde(default)]
    metadata: BatchGroups,
}

/// Groups to put devices into and to take them out of.
#[derive(Deserialize, ToSchema, Default)]
#[serde(default)]
pub(super) struct BatchGroups {
    add: Vec<String>,
    remove: Vec<String>,
}

/// `PUT /v1/products/{product}/devices`
#[utoipa::path(put, path = "/v1/products/{product}/devices", tag = "products", request_body = Batch,
    security(("token" = ["devices:update"])), responses((status = 200, description = "All are changed.", body = Object)))]
pub(super) async fn batch(State(context): State<Context>, call: Call) -> Result<Response, ApiError> {
    let product = call.place.product()?.id;
    let Batch { action, devices, metadata } = call.body.read()?;
    if action != "groups" {
        return Err(ApiError::bad_request("action must be groups"));
    }
    let ids: Result<Vec<DeviceId>, _> = devices.iter().map(|id| id.parse()).collect();
    let ids = ids.map_err(|_| ApiError::bad_request("devices must be ids"))?;
    let change = GroupsChange { devices: ids, add: names(&metadata.add)?, remove: names(&metadata.remove)? };
    context.registry_of(&call).change_groups(product, change).await?;
    Ok(ok(&json!({ "ok": true })))
}

/// What else to do with a device that is removed.
#[derive(Deserialize, ToSchema, Default)]
#[serde(default)]
pub(super) struct Removal {
    /// It stays, and nothing that it says is anybody's until it is imported again.
    deny: bool,
}

/// `DELETE /v1/products/{product}/devices/{device}`
#[utoipa::path(delete, path = "/v1/products/{product}/devices/{device}", tag = "products", request_body = Removal,
    security(("token" = ["devices:remove"])), responses((status = 204, description = "It is in the product no more, or denied.")))]
pub(super) async fn remove(
    State(context): State<Context>,
    Path(OfDevice { device }): Path<OfDevice>,
    call: Call,
) -> Result<Response, ApiError> {
    let product: &Arc<Product> = call.place.product()?;
    let id = device.parse().map_err(|_| ApiError::unknown_device(&context.settings().public_url))?;
    let Removal { deny } = call.body.read()?;
    let removed = context.registry_of(&call).remove_from_product(product.id, id, deny).await;
    removed.map_err(|error| ApiError::of_device(error, &context.settings().public_url))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `DELETE /v1/products/{product}/devices/{device}/owner`
#[utoipa::path(delete, path = "/v1/products/{product}/devices/{device}/owner", tag = "products",
    security(("token" = ["devices:release"])), responses((status = 200, description = "It is the product's alone.", body = Object)))]
pub(super) async fn remove_owner(
    State(context): State<Context>,
    Path(OfDevice { device }): Path<OfDevice>,
    call: Call,
) -> Result<Response, ApiError> {
    let product = call.place.product()?.id;
    let device = context.device(&call, &device)?;
    context.registry_of(&call).remove_device_owner(product, device.id()).await?;
    Ok(ok(&json!({ "ok": true })))
}
