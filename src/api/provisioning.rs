//! Keys of devices, as those who have the devices at hand send them.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use firmware_protocol::id::DeviceId;
use serde::Deserialize;
use serde_json::Value as Json;
use utoipa::ToSchema;

use super::Context;
use super::error::ApiError;
use super::json::ok;
use super::path::OfDevice;
use super::request::Call;
use crate::store::registry::Provisioned;
use crate::store::{Algorithm, PublicKey, RegistryError};

/// The key of a device.
#[derive(Deserialize, ToSchema)]
pub(super) struct DeviceKey {
    /// Its public key as PEM.
    #[serde(rename = "publicKey")]
    public_key: String,
    /// The kind of it, if the caller wants that checked.
    #[serde(default)]
    algorithm: Option<KeyKind>,
}

/// Kinds of keys as clients call them.
#[derive(Deserialize, ToSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum KeyKind {
    /// Devices on TCP.
    Rsa,
    /// Devices on UDP.
    Ecc,
}

/// `POST /v1/provisioning/{device}`
#[utoipa::path(post, path = "/v1/provisioning/{device}", tag = "devices", request_body = DeviceKey, security(("token" = ["devices:provision"])), responses((status = 200, description = "The device has the key. Sessions under another one are over.", body = String)))]
pub(super) async fn provision(
    State(context): State<Context>,
    Path(OfDevice { device }): Path<OfDevice>,
    call: Call,
) -> Result<Response, ApiError> {
    let key = key(call.body.read()?)?;
    context.probes().admit(&call)?;
    let Some(id) = id(&context, &call, &device) else { return Err(context.probes().missed(&call, unlisted())) };
    match context.registry_of(&call).provision(call.caller.user, id, key).await {
        Ok(Provisioned::Done(_)) => Ok(ok(&Json::from("Success!"))),
        Ok(Provisioned::Foreign) => Err(context.probes().missed(&call, ApiError::foreign_device())),
        Ok(Provisioned::Unlisted) => Err(context.probes().missed(&call, unlisted())),
        // Whose it is is nobody else's business.
        Err(RegistryError::KeyTaken { .. }) => {
            Err(context.probes().missed(&call, ApiError::bad_request("This is the key of another device")))
        }
        Err(error) => Err(error.into()),
    }
}

fn key(DeviceKey { public_key, algorithm }: DeviceKey) -> Result<PublicKey, ApiError> {
    let key = PublicKey::read(public_key.as_bytes()).map_err(|error| ApiError::bad_request(&error.to_string()))?;
    let kind = match key.algorithm() {
        Algorithm::EcP256 => KeyKind::Ecc,
        Algorithm::Rsa => KeyKind::Rsa,
    };
    if algorithm.is_some_and(|said| said != kind) {
        return Err(ApiError::bad_request("The key is not of the kind that algorithm says"));
    }
    Ok(key)
}

/// A device may be named by its owner; any other is known by its id.
fn id(context: &Context, call: &Call, id_or_name: &str) -> Option<DeviceId> {
    id_or_name.parse().ok().or_else(|| context.device(call, id_or_name).ok().map(|device| device.id()))
}

fn unlisted() -> ApiError {
    let text = "This device is not known here. Import its id into a product of yours, or ask the operator to run `holdfast device pair`";
    ApiError::api(StatusCode::FORBIDDEN, text)
}
