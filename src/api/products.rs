//! Products: listed, created, shown, changed, removed. What is in them has files of its own.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use utoipa::ToSchema;

use super::error::ApiError;
use super::fields::Fields;
use super::json::{json_response, ok};
use super::request::Call;
use super::{Context, hooks, platform};
use crate::dates::Iso;
use crate::store::registry::{NewProduct, ProductEdit};
use crate::store::{Product, ProductSettings};

/// A product.
#[derive(Serialize, ToSchema)]
pub(super) struct ProductObject<'a> {
    id: u32,
    /// What it may be called by in addresses.
    slug: &'a str,
    name: &'a str,
    description: Option<&'a str>,
    platform_id: u16,
    /// The number of the account that it belongs to.
    user: String,
    #[schema(value_type = Vec<String>)]
    groups: Vec<&'a str>,
    #[schema(value_type = Object)]
    settings: &'a ProductSettings,
    device_protection: &'static str,
    created_at: String,
    updated_at: String,
}

impl<'a> ProductObject<'a> {
    fn new(product: &'a Product) -> Self {
        Self {
            id: product.id.0,
            slug: &product.slug,
            name: &product.name,
            description: product.description.as_deref(),
            platform_id: product.platform_id,
            user: product.owner.0.to_string(),
            groups: product.groups.iter().map(|group| group.name.as_str()).collect(),
            settings: &product.settings,
            device_protection: product.device_protection.word(),
            created_at: Iso(product.created_at).to_string(),
            updated_at: Iso(product.updated_at).to_string(),
        }
    }
}

/// What a product shall be. Clients send it as it is, or as the member `product`.
#[derive(Deserialize, ToSchema, Default)]
#[serde(default)]
pub(super) struct ProductFields {
    name: Option<String>,
    /// What it is; null takes it away.
    description: Option<String>,
    /// The kind of hardware, which stays as it is.
    platform_id: Option<u16>,
    #[schema(value_type = Option<Object>)]
    settings: Option<Json>,
    /// `none` or `active`.
    device_protection: Option<String>,
}

/// The fields that are meant.
fn inner(body: &Fields) -> Fields {
    body.inner("product").unwrap_or_else(|| body.clone())
}

fn settings(given: Option<Json>) -> Result<Option<ProductSettings>, ApiError> {
    let read = given.filter(|given| !given.is_null()).map(serde_json::from_value).transpose();
    read.map_err(|_| ApiError::bad_request("settings are an object with location, known_application and quarantine"))
}

fn list_for(context: &Context, call: &Call) -> Response {
    let products = context.registry().products().list_for(&call.caller.record.holder);
    let objects: Vec<_> = products.iter().map(|product| ProductObject::new(product)).collect();
    ok(&json!({ "products": objects }))
}

/// `GET /v1/products`
#[utoipa::path(get, path = "/v1/products", tag = "products", security(("token" = ["products:list"])),
    responses((status = 200, description = "Those that the caller has something to do with.", body = Object)))]
pub(super) async fn list(State(context): State<Context>, call: Call) -> Response {
    list_for(&context, &call)
}

/// `GET /v1/user/products`
#[utoipa::path(get, path = "/v1/user/products", tag = "products", security(("token" = ["products:list"])),
    responses((status = 200, description = "Those that the caller has something to do with.", body = Object)))]
pub(super) async fn of_user(State(context): State<Context>, call: Call) -> Response {
    list_for(&context, &call)
}

/// `POST /v1/products`
#[utoipa::path(post, path = "/v1/products", tag = "products", request_body = ProductFields, security(("token" = ["products:create"])),
    responses((status = 200, description = "It is there, as `product`.", body = Object)))]
pub(super) async fn create(State(context): State<Context>, call: Call) -> Result<Response, ApiError> {
    create_for(&context, &call).await
}

/// `POST /v1/user/products`
#[utoipa::path(post, path = "/v1/user/products", tag = "products", request_body = ProductFields, security(("token" = ["products:create"])),
    responses((status = 200, description = "It is there, as `product`.", body = Object)))]
pub(super) async fn create_of_user(State(context): State<Context>, call: Call) -> Result<Response, ApiError> {
    create_for(&context, &call).await
}

async fn create_for(context: &Context, call: &Call) -> Result<Response, ApiError> {
    let owner = call.account()?;
    let fields: ProductFields = inner(&call.body).read()?;
    let name = fields.name.ok_or_else(|| ApiError::bad_request("name is missing"))?;
    let platform_id = fields.platform_id.ok_or_else(|| ApiError::bad_request("platform_id is missing"))?;
    let settings = settings(fields.settings)?.unwrap_or_default();
    let new = NewProduct { name, description: fields.description, platform_id, settings };
    let product = context.registry_of(call).create_product(owner, new).await?;
    Ok(ok(&json!({ "ok": true, "product": ProductObject::new(&product) })))
}

/// A path with a product in it.
#[derive(Deserialize)]
pub(super) struct OfProduct {
    product: String,
}

/// `GET /v1/products/{product}`. Of a device outside of products clients take its kind for the number of its product, and give up if that is not found.
#[utoipa::path(get, path = "/v1/products/{product}", tag = "products", security(("token" = ["products:get"])),
    responses((status = 200, description = "As `product`.", body = Object)))]
pub(super) async fn show(Path(OfProduct { product }): Path<OfProduct>, call: Result<Call, ApiError>) -> Result<Response, ApiError> {
    let kind = product.parse().ok().and_then(|id| Some((id, platform::name(id)?)));
    match (call, kind) {
        (Err(refused), Some((id, name))) if refused.is_not_found() => {
            Ok(ok(&json!({ "product": { "id": id, "platform_id": id, "name": name, "groups": [] } })))
        }
        (call, _) => Ok(ok(&json!({ "product": ProductObject::new(call?.place.product()?) }))),
    }
}

/// `PUT /v1/products/{product}`
#[utoipa::path(put, path = "/v1/products/{product}", tag = "products", request_body = ProductFields, security(("token" = ["products:update"])),
    responses((status = 200, description = "As it is now, as `product`.", body = Object)))]
pub(super) async fn update(State(context): State<Context>, call: Call) -> Result<Response, ApiError> {
    let product = call.place.product()?;
    let given = inner(&call.body);
    let fields: ProductFields = given.read()?;
    let protection = fields.device_protection.map(|word| word.parse()).transpose();
    let edit = ProductEdit {
        name: fields.name,
        description: given.text_or_null("description"),
        settings: settings(fields.settings)?,
        device_protection: protection.map_err(|()| ApiError::bad_request("device_protection is none or active"))?,
    };
    if edit == ProductEdit::default() {
        return Err(ApiError::nothing_to_do());
    }
    let product = context.registry_of(&call).edit_product(product.id, edit).await?;
    Ok(ok(&json!({ "product": ProductObject::new(&product) })))
}

/// `DELETE /v1/products/{product}`: one that still has devices stays.
#[utoipa::path(delete, path = "/v1/products/{product}", tag = "products", security(("token" = ["products:remove"])),
    responses((status = 204, description = "It is gone.")))]
pub(super) async fn remove(State(context): State<Context>, call: Call) -> Result<Response, ApiError> {
    let (registry, product) = (context.registry_of(&call), call.place.product()?.id);
    hooks::change(&context, async move { registry.remove_product(product).await }, |()| hooks::Told::All).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `GET /v1/orgs`
#[utoipa::path(get, path = "/v1/orgs", tag = "products", security(("token" = [])),
    responses((status = 200, description = "There are none on this server.", body = Object)))]
pub(super) async fn organizations(_: Call) -> Response {
    json_response(StatusCode::OK, &json!({ "organizations": [] }))
}
