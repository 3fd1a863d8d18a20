//! OAuth clients: programs that people register for themselves or for a product.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use utoipa::ToSchema;

use super::Context;
use super::error::ApiError;
use super::json::ok;
use super::request::Call;
use crate::store::registry::{ClientEdit, ClientKind, NewClient, OAuthClient};
use crate::store::{RegistryError, Scopes};

/// A path with a client in it.
#[derive(Deserialize)]
pub(super) struct OfClient {
    client: String,
}

/// What a client shall be.
#[derive(Deserialize, ToSchema, Default)]
#[serde(default)]
pub(super) struct ClientFields {
    name: Option<String>,
    /// `installed` or `web`.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Where browsers are sent back to, of one for the web.
    redirect_uri: Option<String>,
    /// What its tokens may be used for, with blanks between; everything if it is not said.
    scope: Option<String>,
}

fn scopes(context: &Context, text: Option<&str>) -> Result<Option<Scopes>, ApiError> {
    text.filter(|text| !text.is_empty()).map(|text| context.needs().scopes(text)).transpose()
}

fn object(client: &OAuthClient) -> Json {
    let mut object = json!({ "name": client.name, "type": client.kind.word(), "id": client.id, "scope": client.scopes.to_string() });
    if let Some(address) = &client.redirect_uri {
        object["redirect_uri"] = address.as_str().into();
    }
    object
}

fn refused(error: RegistryError) -> ApiError {
    match error {
        RegistryError::NoSuch(_) => ApiError::api(StatusCode::NOT_FOUND, "Client not found."),
        error => error.into(),
    }
}

/// `GET /v1/clients`
#[utoipa::path(get, path = "/v1/clients", tag = "accounts", security(("token" = ["clients:list"])),
    responses((status = 200, description = "As `clients`, without their secrets.", body = Object)))]
pub(super) async fn list(State(context): State<Context>, call: Call) -> Result<Response, ApiError> {
    let clients = context.registry().clients(call.place.realm()).await?;
    Ok(ok(&json!({ "ok": true, "clients": clients.iter().map(object).collect::<Vec<_>>() })))
}

/// `POST /v1/clients`
#[utoipa::path(post, path = "/v1/clients", tag = "accounts", request_body = ClientFields, security(("token" = ["clients:create"])),
    responses((status = 200, description = "As `client`, with the secret, which is shown only now.", body = Object)))]
pub(super) async fn create(State(context): State<Context>, call: Call) -> Result<Response, ApiError> {
    let fields: ClientFields = call.body.read()?;
    let kind = match fields.kind.as_deref() {
        Some("installed") => ClientKind::Installed,
        Some("web") => ClientKind::Web,
        _ => return Err(ApiError::bad_request("type must be installed or web")),
    };
    let (name, scopes) = (fields.name.unwrap_or_default(), scopes(&context, fields.scope.as_deref())?.unwrap_or(Scopes::All));
    let new = NewClient { name, kind, redirect_uri: fields.redirect_uri, scopes };
    let issued = context.registry_of(&call).create_client(call.place.realm(), new).await?;
    let mut client = object(&issued.client);
    client["secret"] = issued.secret.reveal().into();
    Ok(ok(&json!({ "ok": true, "client": client })))
}

/// `PUT /v1/clients/{client}`
#[utoipa::path(put, path = "/v1/clients/{client}", tag = "accounts", request_body = ClientFields, security(("token" = ["clients:update"])),
    responses((status = 200, description = "As it is now, as `client`.", body = Object)))]
pub(super) async fn update(
    State(context): State<Context>,
    Path(OfClient { client }): Path<OfClient>,
    call: Call,
) -> Result<Response, ApiError> {
    let fields: ClientFields = call.body.read()?;
    let edit = ClientEdit { name: fields.name, scopes: scopes(&context, fields.scope.as_deref())? };
    let client = context.registry_of(&call).edit_client(call.place.realm(), &client, edit).await.map_err(refused)?;
    Ok(ok(&json!({ "ok": true, "client": object(&client) })))
}

/// `DELETE /v1/clients/{client}`: its tokens end.
#[utoipa::path(delete, path = "/v1/clients/{client}", tag = "accounts", security(("token" = ["clients:remove"])),
    responses((status = 204, description = "It is gone.")))]
pub(super) async fn remove(
    State(context): State<Context>,
    Path(OfClient { client }): Path<OfClient>,
    call: Call,
) -> Result<Response, ApiError> {
    context.registry_of(&call).remove_client(call.place.realm(), &client).await.map_err(refused)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
