//! What the templates of a hook can name: the event and its data.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use firmware_protocol::id::OwnerId;
use router::content;
use router::dates::Iso;
use router::event::Event;
use serde_json::{Map, Value as Json, json};

use crate::hook::Names;

/// What an event does not say of the device that published it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EventFacts {
    /// Number of the product that the device is in, or else of its kind of hardware.
    pub product: Option<u32>,
    /// Version of the product's firmware that it runs.
    pub product_version: Option<u16>,
    /// Who has claimed it.
    pub product_user: Option<OwnerId>,
}

/// What templates are filled in from.
///
/// If the data of the event is a JSON object, its members are there by their names. They go before what is said of every event: a device can give
/// `PARTICLE_DEVICE_ID` another meaning, so receivers that need to know who it was do not ask its data.
///
/// What takes long is there only if it is among the `names` that somebody asks for.
pub fn variables(event: &Event, facts: &EventFacts, names: Names) -> Json {
    if !names.any {
        return Json::Object(Map::new());
    }
    let data = content::to_json(event.content_format, event.data.as_deref());
    let mut variables: Map<String, Json> = data.as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    for (name, value) in of_every_event(event, facts, data, names) {
        variables.entry(name).or_insert(value);
    }
    Json::Object(variables)
}

/// The fields that every request has, unless its hook says that it has none.
pub(super) fn defaults(event: &Event) -> [(&'static str, Json); 4] {
    [
        ("event", event.name.as_str().into()),
        ("data", content::to_json(event.content_format, event.data.as_deref())),
        ("published_at", Iso(event.published_at).to_string().into()),
        ("coreid", event.source.origin().into()),
    ]
}

fn of_every_event(event: &Event, facts: &EventFacts, data: Json, names: Names) -> impl Iterator<Item = (&'static str, Json)> {
    let (name, device, at) =
        (Json::from(event.name.as_str()), Json::from(event.source.origin()), Json::from(Iso(event.published_at).to_string()));
    let product = facts.product.or(event.product.map(|product| product.0));
    let user = facts.product_user.map(|user| user.0.to_string());
    let whole = || {
        let whole = json!({
            "id": event.id.to_string(), "name": name, "data": data, "ttl": event.ttl_s, "published_at": at, "coreid": device,
            "productID": product, "userid": user, "version": facts.product_version,
        });
        whole.to_string()
    };
    let whole = names
        .whole
        .then(whole)
        .map(|whole| [("PARTICLE_EVENT_BASE64", STANDARD.encode(&whole).into()), ("PARTICLE_EVENT_JSON", whole.into())]);
    [
        ("PARTICLE_EVENT_ID", event.id.to_string().into()),
        ("SPARK_CORE_ID", device.clone()),
        ("PARTICLE_DEVICE_ID", device),
        ("SPARK_EVENT_NAME", name.clone()),
        ("PARTICLE_EVENT_NAME", name),
        ("SPARK_EVENT_VALUE", data.clone()),
        ("PARTICLE_EVENT_VALUE", data),
        ("SPARK_PUBLISHED_AT", at.clone()),
        ("PARTICLE_PUBLISHED_AT", at),
        ("PRODUCT_ID", product.into()),
        ("PRODUCT_USER_ID", user.into()),
        ("PRODUCT_VERSION", facts.product_version.into()),
    ]
    .into_iter()
    .chain(whole.into_iter().flatten())
}
