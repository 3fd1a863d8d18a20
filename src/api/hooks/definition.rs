//! What a hook says: the fields as clients write them, brought to one spelling and checked as whoever carries it out reads them. Secrets are shown as masks,
//! and a mask that comes back stands for what is stored.

use firmware_protocol::id::DeviceId;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use utoipa::ToSchema;
use webhooks::hook::{BODIES, DEVICE_FIELDS, Hook, HookError, HookId, mask, unmask};

use crate::api::error::ApiError;
use crate::api::request::Call;
use crate::store::registry::{HookText, StoredHook};

/// The kind of integration that there is.
const WEBHOOK: &str = "Webhook";
/// What else is kept as it was said.
const KEPT: [&str; 18] = [
    "json",
    "form",
    "body",
    "query",
    "headers",
    "auth",
    "responseTopic",
    "errorResponseTopic",
    "responseTemplate",
    "unchunked",
    "dataUrlResponseEvent",
    "template",
    "parameters",
    "secrets",
    "ordering",
    "timeout",
    "signature",
    "notifyUrl",
];

/// What a hook shall say.
#[derive(Deserialize, ToSchema, Default)]
#[serde(default, rename_all = "camelCase")]
pub(in crate::api) struct HookFields {
    /// How the names of its events begin.
    event: Option<String>,
    /// The same, as files say it from which clients make hooks.
    event_name: Option<String>,
    /// Where its requests go. Templates may stand in it.
    url: Option<String>,
    /// `GET`, `POST`, `PUT` or `DELETE`; `POST` if it is not said.
    request_type: Option<String>,
    /// Its name.
    name: Option<String>,
    /// `Webhook`, the only kind that there is.
    #[serde(rename = "integration_type")]
    integration_type: Option<String>,
    /// Whether it does nothing for now.
    disabled: Option<bool>,
    /// Whether the fields that every request has are left out.
    no_defaults: Option<bool>,
    /// Whether the certificate of the other side must be good.
    reject_unauthorized: Option<bool>,
}

/// Reads what a request says of a hook, in the place of what is `stored` if there is something. `domain` stands in the name of one that has none.
pub(super) fn read(call: &Call, domain: &str, stored: Option<&StoredHook>) -> Result<HookText, ApiError> {
    let fields: HookFields = call.body.read()?;
    let event = fields.event.or(fields.event_name).unwrap_or_default();
    let url = address(fields.url)?;
    let host = domain.split("://").last().unwrap_or_default();
    let name = fields.name.filter(|name| !name.is_empty()).unwrap_or_else(|| format!("{event} for {host}"));
    let mut definition = Map::from_iter([
        ("event".to_owned(), json!(event)),
        ("name".to_owned(), json!(name)),
        ("url".to_owned(), json!(url)),
        ("requestType".to_owned(), json!(method(fields.request_type))),
        ("integration_type".to_owned(), json!(kind(fields.integration_type)?)),
        ("disabled".to_owned(), json!(fields.disabled.unwrap_or(false))),
        ("noDefaults".to_owned(), json!(fields.no_defaults.unwrap_or(false))),
        ("rejectUnauthorized".to_owned(), json!(fields.reject_unauthorized.unwrap_or(true))),
    ]);
    if let Some(device) = device(call)? {
        definition.insert("deviceID".to_owned(), json!(device.to_string()));
    }
    if BODIES.iter().filter(|field| said(call, field).is_some()).count() > 1 {
        return Err(ApiError::bad_request("json, form and body exclude each other"));
    }
    definition.extend(KEPT.iter().filter_map(|field| Some(((*field).to_owned(), said(call, field)?.clone()))));
    unmask(&mut definition, &stored.map(object).unwrap_or_default()).map_err(refused)?;
    Hook::parse(HookId::NOBODY, call.place.audience(), &definition).map_err(refused)?;
    let enabled = !fields.disabled.unwrap_or(false);
    Ok(HookText { event, name, url, enabled, definition: Json::Object(definition).to_string() })
}

/// What is stored of a hook, secrets included.
fn object(hook: &StoredHook) -> Map<String, Json> {
    serde_json::from_str(&hook.text.definition).unwrap_or_default()
}

/// What of it is shown.
pub(super) fn shown(hook: &StoredHook) -> Map<String, Json> {
    let mut object = object(hook);
    mask(&mut object);
    object
}

fn refused(error: HookError) -> ApiError {
    ApiError::bad_request(&error.to_string())
}

fn said<'a>(call: &'a Call, field: &str) -> Option<&'a Json> {
    call.body.get(field).filter(|value| !value.is_null())
}

/// An address may begin with a template, and is looked at again when that is filled in.
fn address(url: Option<String>) -> Result<String, ApiError> {
    let good = |url: &String| ["http://", "https://", "{{"].iter().any(|start| url.to_ascii_lowercase().starts_with(start));
    url.filter(good).ok_or_else(|| ApiError::bad_request("url must begin with http:// or https://"))
}

fn method(text: Option<String>) -> String {
    text.filter(|text| !text.is_empty()).map_or_else(|| "POST".to_owned(), |text| text.to_ascii_uppercase())
}

fn kind(text: Option<String>) -> Result<&'static str, ApiError> {
    match text.as_deref() {
        None | Some("" | WEBHOOK) => Ok(WEBHOOK),
        Some(_) => Err(ApiError::bad_request("integration_type must be Webhook: there is no other kind on this server")),
    }
}

fn device(call: &Call) -> Result<Option<DeviceId>, ApiError> {
    let text = DEVICE_FIELDS.iter().find_map(|field| call.body.text(field)).filter(|text| !text.is_empty());
    let read = text.map(|text| text.parse()).transpose();
    read.map_err(|_| ApiError::bad_request("deviceID must be the id of a device"))
}
