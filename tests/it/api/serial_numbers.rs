//! Devices are found by what is printed on them.

use holdfast::store::Realm;
use holdfast::store::registry::{DeviceChange, NewDevice, NewProduct};
use serde_json::json;

use crate::rig::{DEVICE, FOREIGN_DEVICE, Rig, id, key};

const IN_PRODUCT: &str = "e00fce68aabbccddeeff0044";

/// Three devices with serial numbers: one's own, one of one's product, and one of somebody else.
async fn rig() -> Rig {
    let rig = Rig::start().await;
    let new = NewProduct { name: "kelp".into(), description: None, platform_id: 13, settings: Default::default() };
    let product = rig.registry.create_product(rig.user, new).await.expect("a product").id;
    let device = NewDevice { id: id(IN_PRODUCT), key: key(), owner: None, product: Some(product), platform_id: Some(13), name: None };
    rig.registry.add_devices(vec![device]).await.expect("a device");
    let other = rig.registry.devices().find(id(FOREIGN_DEVICE)).and_then(|device| device.owner()).expect("an owner");
    let printed = [
        (DEVICE, Realm::User(rig.user), "P0001"),
        (IN_PRODUCT, Realm::Product(product), "P0002"),
        (FOREIGN_DEVICE, Realm::User(other), "P0003"),
    ];
    for (device, realm, serial) in printed {
        let change = DeviceChange { serial_number: Some(Some(serial.into())), ..Default::default() };
        rig.registry.change_device(realm, id(device), change).await.expect("changed");
    }
    rig
}

#[tokio::test]
async fn a_serial_number_finds_ones_own_device_and_those_of_ones_products() {
    let rig = rig().await;
    for (serial, device, platform) in [("P0001", DEVICE, 12), ("p0002", IN_PRODUCT, 13)] {
        let expected = json!({ "ok": true, "deviceID": device, "device_id": device, "serial_number": serial, "platform_id": platform });
        assert_eq!(rig.get(&format!("/v1/serial_numbers/{serial}")).await.json(), expected);
    }
    for serial in ["P0003", "P000", "P00011", "P9999"] {
        assert_eq!(rig.get(&format!("/v1/serial_numbers/{serial}")).await.status, 404, "{serial}");
    }
}

#[tokio::test]
async fn serial_numbers_are_not_looked_up_for_ever() {
    let rig = rig().await;
    for _ in 0..50 {
        assert_eq!(rig.get("/v1/serial_numbers/P0001").await.status, 200);
    }
    let refused = rig.get("/v1/serial_numbers/P0001").await;
    assert_eq!((refused.status, refused.header("retry-after").is_some()), (429, true));
}
