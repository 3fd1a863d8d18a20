//! A device as clients see it: what is registered, and what is known of its session.

use std::collections::BTreeMap;

use firmware_protocol::time::UnixMillis;
use serde::Serialize;
use utoipa::ToSchema;

use super::gateway::{Presence, Record, VariableType};
use super::platform;
use crate::dates::Iso;
use crate::store::{Device, Product, Standing};

/// A device.
#[derive(Serialize, ToSchema)]
pub(super) struct DeviceObject<'a> {
    id: String,
    name: Option<&'a str>,
    last_ip_address: Option<String>,
    last_heard: Option<String>,
    last_handshake_at: Option<String>,
    product_id: Option<u32>,
    online: bool,
    /// The one clients decide by.
    connected: bool,
    platform_id: Option<u16>,
    cellular: bool,
    notes: Option<&'a str>,
    #[schema(value_type = Option<Vec<String>>)]
    functions: Option<&'a [String]>,
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    variables: Option<BTreeMap<&'a str, &'static str>>,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    asleep_until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offline_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_reset: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_reset_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_firmware_version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_build_target: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    firmware_version: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial_number: Option<&'a str>,
    firmware_updates_enabled: bool,
    firmware_updates_forced: bool,
    #[serde(flatten)]
    in_product: Option<InProduct<'a>>,
}

/// What is said of a device within its product.
#[derive(Serialize, ToSchema)]
struct InProduct<'a> {
    firmware_product_id: u32,
    desired_firmware_version: Option<u16>,
    #[schema(value_type = Vec<String>)]
    groups: Vec<&'a str>,
    development: bool,
    quarantined: bool,
    denied: bool,
    /// The number of the account that claimed it.
    owner: Option<String>,
}

impl<'a> InProduct<'a> {
    fn new(device: &Device, product: &'a Product) -> Self {
        let membership = device.membership();
        Self {
            firmware_product_id: product.id.0,
            desired_firmware_version: membership.desired_firmware_version,
            groups: product.names_of(&membership.groups),
            development: membership.development,
            quarantined: membership.standing == Standing::Quarantined,
            denied: membership.standing == Standing::Denied,
            owner: device.owner().map(|owner| owner.0.to_string()),
        }
    }
}

impl<'a> DeviceObject<'a> {
    /// `reset` is why the device started last, `product` where it is looked at, if that is in a product.
    pub(super) fn new(device: &'a Device, presence: &'a Presence, reset: Option<&Record>, product: Option<&'a Product>) -> Self {
        let platform_id = platform_id(device, presence);
        Self {
            id: device.id().to_string(),
            name: device.name(),
            last_ip_address: presence.last_ip.map(|address| address.to_canonical().to_string()),
            last_heard: iso(presence.last_heard),
            last_handshake_at: iso(presence.last_handshake_at),
            product_id: product_id(device, presence),
            online: presence.online,
            connected: presence.online,
            platform_id,
            cellular: platform::is_cellular(platform_id),
            notes: device.notes(),
            functions: presence.functions.as_deref(),
            variables: presence.variables.as_deref().map(types),
            status: if presence.safe_mode { "safe_mode" } else { "normal" },
            asleep_until: iso(presence.asleep_until),
            offline_reason: presence.left_for.filter(|_| !presence.online),
            last_reset: reset.map(|reset| String::from_utf8_lossy(&reset.payload).into_owned()),
            last_reset_at: iso(reset.map(|reset| reset.at)),
            system_firmware_version: presence.system_version.as_deref(),
            current_build_target: presence.system_version.as_deref(),
            firmware_version: presence.firmware_version,
            serial_number: device.serial_number(),
            firmware_updates_enabled: true,
            firmware_updates_forced: device.membership().firmware_updates_forced,
            in_product: product.map(|product| InProduct::new(device, product)),
        }
    }
}

/// What the device said last, else what was said of it.
fn platform_id(device: &Device, presence: &Presence) -> Option<u16> {
    presence.platform_id.or(device.platform_id())
}

/// Outside of products it is the platform.
pub(super) fn product_id(device: &Device, presence: &Presence) -> Option<u32> {
    device.product().map(|product| product.0).or_else(|| platform_id(device, presence).map(u32::from))
}

/// A time as text, if there is one.
pub(super) fn iso(time: Option<UnixMillis>) -> Option<String> {
    time.map(|time| Iso(time).to_string())
}

fn types(variables: &[(String, VariableType)]) -> BTreeMap<&str, &'static str> {
    variables.iter().map(|(name, kind)| (name.as_str(), type_name(*kind))).collect()
}

fn type_name(kind: VariableType) -> &'static str {
    match kind {
        VariableType::Bool => "bool",
        VariableType::Int => "int32",
        VariableType::String => "string",
        VariableType::Double => "double",
    }
}
