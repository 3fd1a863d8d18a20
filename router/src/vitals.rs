//! Vitals as clients of the API know them: each reading at its place in a tree, codes as words, and what the cloud knows.

use firmware_protocol::session::vitals::{Reading, Unit, VitalId, Vitals};
use serde_json::{Map, Value as Json, json};

/// Name of the event that brings vitals to the streams of the device's owner. No device sends it.
pub const EVENT: &str = "spark/device/diagnostics/update";

/// What the cloud adds from its own knowledge of the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Service {
    /// How long the device has been online without a break, in seconds.
    pub uptime_s: u64,
    /// Events taken from it in that time.
    pub published: u64,
}

/// Words of a code; an empty one is a code that is not used.
type Words = &'static [&'static str];

const NETWORK: Words = &["off", "turning_on", "disconnected", "connecting", "connected", "disconnecting", "", "turning_off"];
const NETWORK_REASON: Words = &["none", "error", "user", "network_off", "listening", "sleep", "reset", "unknown"];
const CLOUD: Words = &["disconnected", "connecting", "connected", "disconnecting"];
const CLOUD_REASON: Words =
    &["none", "error", "user", "network_disconnect", "listening", "system_reset", "sleep", "unknown", "server_moved"];
const BATTERY: Words = &["unknown", "not_charging", "charging", "charged", "discharging", "fault", "disconnected"];
const SOURCE: Words = &["unknown", "VIN", "USB host", "USB adapter", "USB OTG", "battery"];
const ACCESS: Words = &["", "Wi-Fi", "GSM", "EDGE", "UMTS", "CDMA", "LTE", "802.15.4", "LTE Cat-M1", "LTE Cat-NB1"];

/// Where a vital stands in the tree, and the words if it is a code.
const PLACES: [(u16, &[&str], Words); 31] = [
    (3, &["power", "battery", "charge"], &[]),
    (7, &["power", "battery", "state"], BATTERY),
    (24, &["power", "source"], SOURCE),
    (6, &["system", "uptime"], &[]),
    (25, &["system", "memory", "total"], &[]),
    (26, &["system", "memory", "used"], &[]),
    (8, &["network", "connection", "status"], NETWORK),
    (9, &["network", "connection", "error"], &[]),
    (12, &["network", "connection", "disconnects"], &[]),
    (27, &["network", "connection", "attempts"], &[]),
    (28, &["network", "connection", "disconnect_reason"], NETWORK_REASON),
    (33, &["network", "signal", "strength"], &[]),
    (34, &["network", "signal", "quality"], &[]),
    (35, &["network", "signal", "qualityv"], &[]),
    (36, &["network", "signal", "at"], ACCESS),
    (37, &["network", "signal", "strengthv"], &[]),
    (40, &["network", "cellular", "cell_global_identity", "mobile_country_code"], &[]),
    (41, &["network", "cellular", "cell_global_identity", "mobile_network_code"], &[]),
    (42, &["network", "cellular", "cell_global_identity", "location_area_code"], &[]),
    (43, &["network", "cellular", "cell_global_identity", "cell_id"], &[]),
    (10, &["cloud", "connection", "status"], CLOUD),
    (13, &["cloud", "connection", "error"], &[]),
    (14, &["cloud", "connection", "disconnects"], &[]),
    (29, &["cloud", "connection", "attempts"], &[]),
    (30, &["cloud", "connection", "disconnect_reason"], CLOUD_REASON),
    (44, &["cloud", "connection", "interface"], &["any", "", "", "ethernet", "cellular", "wifi"]),
    (20, &["cloud", "publish", "rate_limited"], &[]),
    (21, &["cloud", "coap", "retransmit"], &[]),
    (22, &["cloud", "coap", "unack"], &[]),
    (23, &["cloud", "coap", "transmit"], &[]),
    (31, &["cloud", "coap", "round_trip"], &[]),
];

/// The whole tree: the device's half from its page, the cloud's half from `service`.
///
/// A vital that the device could not read is `{"err":code}`. What has no place in the tree stands under `other`, by name or number.
pub fn payload(vitals: &Vitals, service: Service) -> Json {
    let mut device = Map::new();
    for (id, reading) in vitals.iter() {
        match PLACES.iter().find(|(own, ..)| *own == id.0) {
            Some((_, path, words)) => put(&mut device, path, value(id, reading, words)),
            None => {
                let name = id.name().map_or_else(|| id.0.to_string(), str::to_owned);
                put(&mut device, &["other", &name], value(id, reading, &[]));
            }
        }
    }
    if let Some(Json::Object(signal)) = device.get_mut("network").and_then(|network| network.get_mut("signal")) {
        name_units(signal, vitals);
    }
    json!({
        "device": device,
        "service": {
            "device": { "status": "ok" },
            "cloud": { "uptime": service.uptime_s, "publish": { "sent": service.published } },
        },
    })
}

fn value(id: VitalId, reading: Reading, words: Words) -> Json {
    let bits = match reading {
        Reading::Failed(error) => return json!({ "err": error }),
        Reading::Value(bits) => bits,
    };
    let word = usize::try_from(bits).ok().and_then(|code| words.get(code)).filter(|word| !word.is_empty());
    match (word, id.unit()) {
        (Some(word), _) => (*word).into(),
        (None, Unit::Percent | Unit::Dbm | Unit::Quality) => id.unit().amount(bits).into(),
        (None, Unit::Number | Unit::Bytes | Unit::Seconds | Unit::Milliseconds) => bits.into(),
    }
}

/// Puts a value at the end of a path. The first value of a place stays.
fn put(tree: &mut Map<String, Json>, path: &[&str], value: Json) {
    match path {
        [] => {}
        [name] => _ = tree.entry(*name).or_insert(value),
        [name, rest @ ..] => {
            if let Json::Object(branch) = tree.entry(*name).or_insert_with(|| Map::new().into()) {
                put(branch, rest, value);
            }
        }
    }
}

/// Units stand beside the values of a signal, and what was measured depends on the access technology.
fn name_units(signal: &mut Map<String, Json>, vitals: &Vitals) {
    let (strength, quality) = match vitals.reading(VitalId(36)) {
        Some(Reading::Value(1)) => (Some("RSSI"), Some("SNR")),
        Some(Reading::Value(2 | 3)) => (Some("RXLEV"), Some("RXQUAL")),
        Some(Reading::Value(4)) => (Some("RSCP"), Some("ECN0")),
        Some(Reading::Value(6 | 8 | 9)) => (Some("RSRP"), Some("RSRQ")),
        _ => (None, None),
    };
    for (name, units, kind) in
        [("strength", "%", None), ("quality", "%", None), ("strengthv", "dBm", strength), ("qualityv", "dB", quality)]
    {
        if signal.get(name).is_some_and(Json::is_number) {
            signal.insert(format!("{name}_units"), units.into());
            kind.map(|kind| signal.insert(format!("{name}_type"), kind.into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: Service = Service { uptime_s: 60, published: 3 };

    fn tree(readings: &[(u16, Reading)]) -> Json {
        payload(&readings.iter().map(|(id, reading)| (VitalId(*id), *reading)).collect(), SERVICE)["device"].take()
    }

    #[test]
    fn every_vital_stands_at_its_place() {
        use Reading::{Failed, Value};
        let all = tree(&[
            (3, Value(0x4280)),
            (7, Value(2)),
            (24, Value(2)),
            (6, Value(24)),
            (25, Failed(-100)),
            (8, Value(4)),
            (28, Value(0)),
            (33, Value(0x3200)),
            (36, Value(8)),
            (37, Value(-98 * 65_536)),
            (10, Value(2)),
            (31, Value(250)),
        ]);
        let expected = json!({
            "power": { "battery": { "charge": 66.5, "state": "charging" }, "source": "USB host" },
            "system": { "uptime": 24, "memory": { "total": { "err": -100 } } },
            "network": {
                "connection": { "status": "connected", "disconnect_reason": "none" },
                "signal": {
                    "at": "LTE Cat-M1", "strength": 50.0, "strength_units": "%",
                    "strengthv": -98.0, "strengthv_units": "dBm", "strengthv_type": "RSRP",
                },
            },
            "cloud": { "connection": { "status": "connected" }, "coap": { "round_trip": 250 } },
        });
        assert_eq!(all, expected);
    }

    #[test]
    fn the_cloud_adds_what_it_knows() {
        let whole = payload(&Vitals::default(), SERVICE);
        let service = json!({ "device": { "status": "ok" }, "cloud": { "uptime": 60, "publish": { "sent": 3 } } });
        assert_eq!(whole, json!({ "device": {}, "service": service }));
    }

    #[test]
    fn what_has_no_place_is_kept_and_unknown_codes_stay_numbers() {
        use Reading::{Failed, Value};
        let all =
            tree(&[(8, Value(6)), (10, Value(-1)), (1, Value(5)), (99, Value(1)), (0x8001, Value(-7)), (37, Failed(-210)), (8, Value(4))]);
        let expected = json!({
            "network": { "connection": { "status": 6 }, "signal": { "strengthv": { "err": -210 } } },
            "cloud": { "connection": { "status": -1 } },
            "other": { "sys:reset": 5, "99": 1, "32769": -7 },
        });
        assert_eq!(all, expected, "a page that says a thing twice is believed once");
    }
}
