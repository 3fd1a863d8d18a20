//! Firmware of products: uploaded, described, released, given back, removed. It is stored; nothing here sends it to a device.

use std::collections::HashMap;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use utoipa::ToSchema;

use super::Context;
use super::error::ApiError;
use super::json::{json_response, ok};
use super::product_devices::names;
use super::request::Call;
use super::upload::File;
use crate::dates::Iso;
use crate::firmware_module::application;
use crate::store::registry::{Firmware, FirmwareEdit, NewFirmware, Release};
use crate::store::{GroupName, Product, RegistryError};

/// Names that the part with the binary has had.
const PARTS: [&str; 2] = ["file", "binary"];
const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// A path with a version in it.
#[derive(Deserialize)]
pub(super) struct OfVersion {
    version: String,
}

/// Firmware to store; the binary is the file `file` or `binary`.
#[derive(Deserialize, ToSchema)]
pub(super) struct Upload {
    /// The number that was built into it.
    version: u16,
    title: String,
    description: Option<String>,
    /// Whether devices may not go on without it.
    #[serde(default)]
    mandatory: bool,
}

/// What to change about firmware.
#[derive(Deserialize, ToSchema, Default)]
#[serde(default)]
pub(super) struct FirmwareFields {
    title: Option<String>,
    /// Null takes it away.
    description: Option<String>,
    mandatory: Option<bool>,
}

/// Whom a version is released to.
#[derive(Deserialize, ToSchema)]
pub(super) struct ReleaseFields {
    version: u16,
    /// Every device that nothing else is said of.
    #[serde(default)]
    product_default: bool,
    #[serde(default)]
    groups: Vec<String>,
    /// Accepted and repeated: devices choose the moment of an update themselves.
    #[serde(default)]
    intelligent: bool,
}

fn unknown() -> ApiError {
    ApiError::api(StatusCode::NOT_FOUND, "Firmware not found.")
}

fn refused(error: RegistryError) -> ApiError {
    match error {
        RegistryError::NoSuch("firmware") => unknown(),
        error => error.into(),
    }
}

async fn find(context: &Context, call: &Call, version: &str) -> Result<Firmware, ApiError> {
    let version = version.parse().map_err(|_| unknown())?;
    let found = context.registry().firmware_version(call.place.product()?.id, version).await?;
    found.ok_or_else(unknown)
}

/// How many devices of a product shall have each version.
fn wishes(context: &Context, product: &Product) -> HashMap<u16, usize> {
    let mut wishes = HashMap::new();
    for version in
        context.registry().devices().in_product(product.id).iter().filter_map(|device| device.membership().desired_firmware_version)
    {
        *wishes.entry(version).or_default() += 1;
    }
    wishes
}

async fn object(context: &Context, product: &Product, firmware: &Firmware) -> Result<Json, ApiError> {
    shown(context, product, firmware, &wishes(context, product)).await
}

async fn shown(context: &Context, product: &Product, firmware: &Firmware, wishes: &HashMap<u16, usize>) -> Result<Json, ApiError> {
    let by = match firmware.uploaded_by {
        Some(user) => context.registry().user(user).await?.map(|user| user.email),
        None => None,
    };
    let groups: Vec<&str> = firmware.groups.iter().map(GroupName::as_str).collect();
    Ok(json!({
        "_id": format!("{:012x}{:012x}", product.id.0, firmware.version),
        "version": firmware.version,
        "title": firmware.title,
        "description": firmware.description,
        "name": firmware.file_name,
        "size": firmware.size,
        "sha256": firmware.sha256,
        "product_id": product.id.0,
        "product_default": firmware.product_default,
        "current": firmware.product_default,
        "uploaded_on": Iso(firmware.uploaded_on).to_string(),
        "updated_at": Iso(firmware.updated_at).to_string(),
        "uploaded_by": { "username": by },
        "groups": groups,
        "device_count": wishes.get(&firmware.version).copied().unwrap_or_default(),
        "mandatory": firmware.mandatory,
        "intelligent": false,
    }))
}

/// `GET /v1/products/{product}/firmware`
#[utoipa::path(get, path = "/v1/products/{product}/firmware", tag = "firmware", security(("token" = ["firmware:list"])),
    responses((status = 200, description = "All versions.", body = [Object])))]
pub(super) async fn list(State(context): State<Context>, call: Call) -> Result<Response, ApiError> {
    let product = call.place.product()?;
    let (wishes, mut objects) = (wishes(&context, product), Vec::new());
    for firmware in context.registry().firmware(product.id).await? {
        objects.push(shown(&context, product, &firmware, &wishes).await?);
    }
    Ok(ok(&objects))
}

/// `GET /v1/products/{product}/firmware/{version}`
#[utoipa::path(get, path = "/v1/products/{product}/firmware/{version}", tag = "firmware", security(("token" = ["firmware:get"])),
    responses((status = 200, description = "What it is.", body = Object)))]
pub(super) async fn show(
    State(context): State<Context>,
    Path(OfVersion { version }): Path<OfVersion>,
    call: Call,
) -> Result<Response, ApiError> {
    let firmware = find(&context, &call, &version).await?;
    Ok(ok(&object(&context, call.place.product()?, &firmware).await?))
}

/// `POST /v1/products/{product}/firmware`
#[utoipa::path(post, path = "/v1/products/{product}/firmware", tag = "firmware", security(("token" = ["firmware:create"])),
    request_body(content = Upload, content_type = "multipart/form-data"),
    responses((status = 201, description = "It is stored.", body = Object)))]
pub(super) async fn create(State(context): State<Context>, call: Call) -> Result<Response, ApiError> {
    let product = call.place.product()?;
    let Upload { version, title, description, mandatory } = call.body.read()?;
    let file = call.files.iter().find(|file| PARTS.contains(&file.part.as_str()));
    let file = file.ok_or_else(|| ApiError::bad_request("The file is missing"))?;
    check(product, version, file)?;
    let (file_name, uploaded_by) = (file.name.clone(), call.caller.record.holder.user());
    let new = NewFirmware { version, title, description, mandatory, file_name, bytes: file.bytes.to_vec(), uploaded_by };
    let firmware = context.registry_of(&call).add_firmware(product.id, new).await?;
    Ok(json_response(StatusCode::CREATED, &object(&context, product, &firmware).await?))
}

/// The numbers that were built in must be those that are said: a device tells which version it runs by them.
fn check(product: &Product, version: u16, file: &File) -> Result<(), ApiError> {
    let built = application(&file.bytes).map_err(|error| ApiError::bad_request(&error.to_string()))?;
    if built.product.map(u32::from) != Some(product.id.0) {
        return Err(ApiError::bad_request("The firmware was built for another product"));
    }
    if built.version != Some(version) {
        return Err(ApiError::bad_request("The firmware was built with another version"));
    }
    if built.platform_id != product.platform_id {
        return Err(ApiError::bad_request("The firmware was built for another platform"));
    }
    Ok(())
}

/// `PUT /v1/products/{product}/firmware/{version}`
#[utoipa::path(put, path = "/v1/products/{product}/firmware/{version}", tag = "firmware", request_body = FirmwareFields,
    security(("token" = ["firmware:update"])), responses((status = 200, description = "As it is now.", body = Object)))]
pub(super) async fn update(
    State(context): State<Context>,
    Path(OfVersion { version }): Path<OfVersion>,
    call: Call,
) -> Result<Response, ApiError> {
    let (product, firmware) = (call.place.product()?, find(&context, &call, &version).await?);
    let FirmwareFields { title, mandatory, .. } = call.body.read()?;
    let edit = FirmwareEdit { title, description: call.body.text_or_null("description"), mandatory };
    let edited = context.registry_of(&call).edit_firmware(product.id, firmware.version, edit).await.map_err(refused)?;
    Ok(ok(&object(&context, product, &edited).await?))
}

/// `PUT /v1/products/{product}/firmware/release`: it is noted; devices do not get it yet.
#[utoipa::path(put, path = "/v1/products/{product}/firmware/release", tag = "firmware", request_body = ReleaseFields,
    security(("token" = ["firmware:release"])), responses((status = 200, description = "As it is now.", body = Object)))]
pub(super) async fn release(State(context): State<Context>, call: Call) -> Result<Response, ApiError> {
    let product = call.place.product()?;
    let ReleaseFields { version, product_default, groups, intelligent } = call.body.read()?;
    let release = Release { product_default, groups: names(&groups)? };
    let released = context.registry_of(&call).release_firmware(product.id, version, release).await.map_err(refused)?;
    let mut object = object(&context, product, &released).await?;
    object["intelligent"] = intelligent.into();
    Ok(ok(&object))
}

/// `GET /v1/products/{product}/firmware/{version}/binary`
#[utoipa::path(get, path = "/v1/products/{product}/firmware/{version}/binary", tag = "firmware",
    security(("token" = ["firmware.binary:get"])),
    responses((status = 200, description = "The bytes.", body = String, content_type = "application/octet-stream")))]
pub(super) async fn binary(
    State(context): State<Context>,
    Path(OfVersion { version }): Path<OfVersion>,
    call: Call,
) -> Result<Response, ApiError> {
    let firmware = find(&context, &call, &version).await?;
    let bytes = context.registry().firmware_bytes(call.place.product()?.id, firmware.version).await.map_err(refused)?;
    Ok(([(header::CONTENT_TYPE, BINARY)], Bytes::from(bytes)).into_response())
}

/// `DELETE /v1/products/{product}/firmware/{version}`: unless it was ever released.
#[utoipa::path(delete, path = "/v1/products/{product}/firmware/{version}", tag = "firmware",
    security(("token" = ["firmware:remove"])), responses((status = 204, description = "It is gone.")))]
pub(super) async fn remove(
    State(context): State<Context>,
    Path(OfVersion { version }): Path<OfVersion>,
    call: Call,
) -> Result<Response, ApiError> {
    let firmware = find(&context, &call, &version).await?;
    context.registry_of(&call).remove_firmware(call.place.product()?.id, firmware.version).await.map_err(refused)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
