//! Groups of a product's devices.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use utoipa::ToSchema;

use super::Context;
use super::error::ApiError;
use super::json::{json_response, ok};
use super::request::Call;
use crate::dates::Iso;
use crate::store::registry::{GroupEdit, NewGroup};
use crate::store::{BadGroupName, Group, GroupName};

/// A path with a group in it.
#[derive(Deserialize)]
pub(super) struct OfGroup {
    group: String,
}

/// What a group shall be.
#[derive(Deserialize, ToSchema, Default)]
#[serde(default)]
pub(super) struct GroupFields {
    /// From 1 to 32 lower-case letters, digits, hyphens and underscores.
    name: Option<String>,
    /// What it is for; null takes it away.
    description: Option<String>,
    /// How it is shown; null takes it away.
    color: Option<String>,
}

fn object(context: &Context, call: &Call, group: &Group) -> Result<Json, ApiError> {
    let count = context.registry().group_size(call.place.product()?.id, group.id);
    Ok(json!({
        "name": group.name.as_str(),
        "description": group.description,
        "color": group.color,
        "fw_version": group.firmware_version,
        "device_count": count,
        "created_at": Iso(group.created_at).to_string(),
        "updated_at": Iso(group.updated_at).to_string(),
    }))
}

fn name(text: &str) -> Result<GroupName, ApiError> {
    text.parse().map_err(|error: BadGroupName| ApiError::bad_request(&error.to_string()))
}

fn unknown() -> ApiError {
    ApiError::api(StatusCode::NOT_FOUND, "Group not found.")
}

fn find(call: &Call, named: &str) -> Result<Group, ApiError> {
    let name: GroupName = named.parse().map_err(|_| unknown())?;
    call.place.product()?.group(&name).cloned().ok_or_else(unknown)
}

/// `GET /v1/products/{product}/groups`
#[utoipa::path(get, path = "/v1/products/{product}/groups", tag = "products", security(("token" = ["groups:list"])),
    params(("name" = Option<String>, Query, description = "Part of the name.")),
    responses((status = 200, description = "As `groups`.", body = Object)))]
pub(super) async fn list(State(context): State<Context>, call: Call) -> Result<Response, ApiError> {
    let groups = context.registry().groups(call.place.product()?.id, &call.query.text("name").unwrap_or_default())?;
    let objects = groups.iter().map(|group| object(&context, &call, group)).collect::<Result<Vec<_>, _>>()?;
    Ok(ok(&json!({ "groups": objects })))
}

/// `POST /v1/products/{product}/groups`
#[utoipa::path(post, path = "/v1/products/{product}/groups", tag = "products", request_body = GroupFields,
    security(("token" = ["groups:create"])), responses((status = 201, description = "As `group`.", body = Object)))]
pub(super) async fn create(State(context): State<Context>, call: Call) -> Result<Response, ApiError> {
    let GroupFields { name: named, description, color } = call.body.read()?;
    let new = NewGroup { name: name(&named.unwrap_or_default())?, description, color };
    let group = context.registry_of(&call).create_group(call.place.product()?.id, new).await?;
    Ok(json_response(StatusCode::CREATED, &json!({ "group": object(&context, &call, &group)? })))
}

/// `GET /v1/products/{product}/groups/{group}`
#[utoipa::path(get, path = "/v1/products/{product}/groups/{group}", tag = "products", security(("token" = ["groups:get"])),
    responses((status = 200, description = "As `group`.", body = Object)))]
pub(super) async fn show(State(context): State<Context>, Path(OfGroup { group }): Path<OfGroup>, call: Call) -> Result<Response, ApiError> {
    let group = find(&call, &group)?;
    Ok(ok(&json!({ "group": object(&context, &call, &group)? })))
}

/// `PUT /v1/products/{product}/groups/{group}`
#[utoipa::path(put, path = "/v1/products/{product}/groups/{group}", tag = "products", request_body = GroupFields,
    security(("token" = ["groups:update"])), responses((status = 200, description = "As it is now, as `group`.", body = Object)))]
pub(super) async fn update(
    State(context): State<Context>,
    Path(OfGroup { group }): Path<OfGroup>,
    call: Call,
) -> Result<Response, ApiError> {
    let group = find(&call, &group)?;
    let fields: GroupFields = call.body.read()?;
    let edit = GroupEdit {
        name: fields.name.as_deref().map(name).transpose()?,
        description: call.body.text_or_null("description"),
        color: call.body.text_or_null("color"),
        firmware_version: None,
    };
    let group = context.registry_of(&call).edit_group(call.place.product()?.id, group.name, edit).await?;
    Ok(ok(&json!({ "group": object(&context, &call, &group)? })))
}

/// `DELETE /v1/products/{product}/groups/{group}`: its devices stay.
#[utoipa::path(delete, path = "/v1/products/{product}/groups/{group}", tag = "products", security(("token" = ["groups:remove"])),
    responses((status = 204, description = "It is gone.")))]
pub(super) async fn remove(
    State(context): State<Context>,
    Path(OfGroup { group }): Path<OfGroup>,
    call: Call,
) -> Result<Response, ApiError> {
    let group = find(&call, &group)?;
    context.registry_of(&call).remove_group(call.place.product()?.id, group.name).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
