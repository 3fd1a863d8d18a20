//! Claim codes.

use axum::extract::State;
use axum::response::Response;
use firmware_protocol::id::DeviceId;
use serde_json::json;

use super::Context;
use super::error::ApiError;
use super::json::ok;
use super::place::Place;
use super::request::Call;

/// `POST /v1/device_claims`: a code that a device of nobody can present to become the caller's. One of a product brings the device there as well.
#[utoipa::path(post, path = "/v1/device_claims", tag = "devices", security(("token" = ["devices:claim"])),
    responses((status = 200, description = "A code, and the devices here that are the caller's.", body = Object)))]
pub(super) async fn create(State(context): State<Context>, call: Call) -> Result<Response, ApiError> {
    let (user, registry) = (call.caller.user, context.registry_of(&call));
    let (product, owned) = match &call.place {
        Place::Own(user) => (None, registry.devices().owned_by(*user)),
        Place::Product(product) => {
            let devices = registry.devices().in_product(product.id);
            let owned = devices.iter().filter(|device| device.owner() == Some(user)).map(|device| device.id());
            (Some(product.id), owned.collect::<Vec<DeviceId>>())
        }
    };
    let code = registry.create_claim_code_for(user, product).await?;
    let device_ids: Vec<String> = owned.iter().map(ToString::to_string).collect();
    Ok(ok(&json!({ "claim_code": code.reveal(), "device_ids": device_ids })))
}
