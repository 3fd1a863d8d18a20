//! Tests of devices within reach of accounts and products.

use super::super::ProductEdit;
use super::super::tests::{account, acts, device, key, open, owned, product, registry};
use super::*;
use crate::store::ProductSettings;

fn id(number: u8) -> DeviceId {
    DeviceId([number; 12])
}

fn name(text: &str) -> GroupName {
    text.parse().expect("a name")
}

fn names(registry: &Registry, product: ProductId, number: u8) -> Vec<String> {
    let device = registry.devices().find(id(number)).expect("a device");
    let product = registry.products().find(product).expect("a product");
    product.names_of(&device.membership().groups).into_iter().map(str::to_owned).collect()
}

/// Devices 1 to `count` in a product.
async fn fleet(registry: &Registry, count: u8) -> (OwnerId, ProductId) {
    let user = account(registry, "a").await;
    let product = product(registry, user, "x").await;
    registry.add_devices((1..=count).map(|number| device(number, key())).collect()).await.expect("devices");
    registry.import_devices(product, (1..=count).map(|number| id(number).to_string()).collect()).await.expect("imported");
    (user, product)
}

#[tokio::test]
async fn a_device_of_a_product_is_changed_and_is_so_after_a_restart() {
    let (directory, registry) = registry().await;
    let (_, product) = fleet(&registry, 2).await;
    let change = DeviceChange {
        name: Some("kelp".into()),
        notes: Some(Some("by the pier".into())),
        firmware_updates_forced: Some(true),
        serial_number: Some(Some("P00123".into())),
        development: Some(true),
        desired_firmware_version: Some(Some(7)),
        groups: Some(vec![name("slow"), name("beta"), name("slow")]),
    };
    let changed = registry.change_device(Realm::Product(product), id(1), change).await.expect("changed");
    let expect = |device: &Device| {
        let membership = device.membership();
        assert_eq!((device.name(), device.notes(), device.serial_number()), (Some("kelp"), Some("by the pier"), Some("P00123")));
        assert!(membership.development && membership.firmware_updates_forced && membership.standing == Standing::Accepted);
        assert_eq!((membership.desired_firmware_version, membership.groups.len()), (Some(7), 2));
    };
    expect(&changed);
    registry.close().await;

    let registry = open(&directory).await;
    expect(&registry.devices().find(id(1)).expect("a device"));
    assert_eq!((names(&registry, product, 1), names(&registry, product, 2)), (vec!["beta".to_owned(), "slow".into()], vec![]));
    let back = DeviceChange {
        notes: Some(None),
        firmware_updates_forced: Some(false),
        serial_number: Some(None),
        development: Some(false),
        desired_firmware_version: Some(None),
        groups: Some(vec![]),
        ..Default::default()
    };
    let plain = registry.change_device(Realm::Product(product), id(1), back).await.expect("changed");
    assert_eq!((plain.membership(), plain.serial_number(), plain.notes()), (&Membership::default(), None, None));
    assert_eq!(plain.name(), Some("kelp"), "what is not said stays");
}

#[tokio::test]
async fn whoever_does_not_reach_a_device_does_not_find_it() {
    let (_directory, registry) = registry().await;
    let (user, ours) = fleet(&registry, 1).await;
    let other = account(&registry, "b").await;
    let theirs = product(&registry, other, "y").await;
    registry.add_devices(vec![owned(2, user, "mine")]).await.expect("a device");
    let rename = || DeviceChange { name: Some("z".into()), ..Default::default() };
    for (realm, number) in
        [(Realm::User(other), 2), (Realm::User(user), 1), (Realm::Product(theirs), 1), (Realm::Product(ours), 2), (Realm::Product(ours), 9)]
    {
        let result = registry.change_device(realm, id(number), rename()).await;
        assert!(matches!(result, Err(RegistryError::NoSuchDevice(_))), "{realm} {number}");
    }
    assert!(matches!(registry.remove_device_owner(ours, id(2)).await, Err(RegistryError::NoSuchDevice(_))));
    assert!(matches!(registry.release_device(other, id(2)).await, Err(RegistryError::NoSuchDevice(_))));
    assert!(matches!(registry.remove_from_product(theirs, id(1), true).await, Err(RegistryError::NoSuchDevice(_))));
    registry.change_device(Realm::User(user), id(2), rename()).await.expect("its owner");
    registry.release_device(user, id(2)).await.expect("its owner");
    assert_eq!(acts(&registry, 2), (None, None));
}

#[tokio::test]
async fn an_accounts_own_device_has_no_groups() {
    let (_directory, registry) = registry().await;
    let user = account(&registry, "a").await;
    registry.add_devices(vec![owned(1, user, "mine")]).await.expect("a device");
    let realm = Realm::User(user);
    for bad in [
        DeviceChange { groups: Some(vec![]), ..Default::default() },
        DeviceChange { development: Some(true), ..Default::default() },
        DeviceChange { desired_firmware_version: Some(None), ..Default::default() },
        DeviceChange { serial_number: Some(Some("two words".into())), ..Default::default() },
    ] {
        assert!(matches!(registry.change_device(realm, id(1), bad.clone()).await, Err(RegistryError::Unfit(_))), "{bad:?}");
    }
    let forced = DeviceChange { firmware_updates_forced: Some(true), ..Default::default() };
    assert!(registry.change_device(realm, id(1), forced).await.expect("changed").membership().firmware_updates_forced);
    let bad = DeviceChange { name: Some("a/b".into()), ..Default::default() };
    assert!(matches!(registry.change_device(realm, id(1), bad).await, Err(RegistryError::BadName)));
    let bad = DeviceChange { notes: Some(Some("n".repeat(4097))), ..Default::default() };
    assert!(matches!(registry.change_device(realm, id(1), bad).await, Err(RegistryError::BadNotes)));
}

#[tokio::test]
async fn groups_of_many_devices_are_changed_for_all_or_none() {
    let (_directory, registry) = registry().await;
    let (_, product) = fleet(&registry, 3).await;
    let change = |devices: &[u8], add: &[&str], remove: &[&str]| {
        let names = |texts: &[&str]| texts.iter().map(|text| name(text)).collect();
        GroupsChange { devices: devices.iter().map(|number| id(*number)).collect(), add: names(add), remove: names(remove) }
    };
    registry.change_groups(product, change(&[1, 2], &["a", "b"], &["nothing"])).await.expect("changed");
    registry.change_groups(product, change(&[2, 3], &["c"], &["a"])).await.expect("changed");
    let all = || [1, 2, 3].map(|number| names(&registry, product, number).join(" "));
    assert_eq!(all(), ["a b", "b c", "c"]);
    let missing = registry.change_groups(product, change(&[1, 9], &["d"], &["a"])).await;
    assert!(matches!(missing, Err(RegistryError::NoSuchDevice(_))));
    assert_eq!((all(), registry.groups(product, "").expect("groups").len()), (["a b", "b c", "c"].map(str::to_owned), 3));
    let many: Vec<String> = (0..=GROUPS_PER_DEVICE_MAX).map(|number| format!("g{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(matches!(registry.change_groups(product, change(&[1], &many, &[])).await, Err(RegistryError::TooMany(_))));
}

#[tokio::test]
async fn a_filter_lets_through_what_fits_all_of_it() {
    let (_directory, registry) = registry().await;
    let (_, product) = fleet(&registry, 3).await;
    let realm = Realm::Product(product);
    let change = DeviceChange {
        name: Some("Kelp North".into()),
        serial_number: Some(Some("P00123".into())),
        groups: Some(vec![name("beta")]),
        ..Default::default()
    };
    registry.change_device(realm, id(1), change).await.expect("changed");
    let change = DeviceChange { name: Some("Kelp South".into()), groups: Some(vec![name("slow")]), ..Default::default() };
    registry.change_device(realm, id(2), change).await.expect("changed");
    let settings = Some(ProductSettings { quarantine: true, ..Default::default() });
    registry.edit_product(product, ProductEdit { settings, ..Default::default() }).await.expect("edited");
    registry.add_devices(vec![device(4, key())]).await.expect("a device");
    registry.arrive_in_product(id(4), product).await.expect("an answer");

    let found = |filter: DeviceFilter| registry.devices_of_product(product, &filter).iter().map(|row| row.id().0[0]).collect::<Vec<_>>();
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(found(DeviceFilter::default()), [1, 2, 3, 4]);
    assert_eq!(found(DeviceFilter { id: text("0303"), ..Default::default() }), [3]);
    assert_eq!(found(DeviceFilter { name: text("kelp"), ..Default::default() }), [1, 2]);
    assert_eq!(found(DeviceFilter { name: text(""), ..Default::default() }), [1, 2, 3, 4]);
    assert_eq!(found(DeviceFilter { serial_number: text("p001"), ..Default::default() }), [1]);
    assert_eq!(found(DeviceFilter { groups: vec![name("beta"), name("slow")], ..Default::default() }), [1, 2]);
    assert_eq!(found(DeviceFilter { groups: vec![name("beta")], name: text("south"), ..Default::default() }), [0; 0]);
    assert_eq!(found(DeviceFilter { groups: vec![name("unknown")], ..Default::default() }), [0; 0]);
    assert_eq!(found(DeviceFilter { quarantined: Some(true), ..Default::default() }), [4]);
    assert_eq!(found(DeviceFilter { quarantined: Some(false), ..Default::default() }), [1, 2, 3]);
    assert!(registry.devices_of_product(ProductId(10_009), &DeviceFilter::default()).is_empty());
}

#[tokio::test]
async fn a_device_that_leaves_a_product_keeps_what_is_its_own() {
    let (directory, registry) = registry().await;
    let (_, product) = fleet(&registry, 1).await;
    let change = DeviceChange {
        firmware_updates_forced: Some(true),
        serial_number: Some(Some("P1".into())),
        development: Some(true),
        groups: Some(vec![name("beta")]),
        ..Default::default()
    };
    registry.change_device(Realm::Product(product), id(1), change).await.expect("changed");
    registry.import_devices(product, vec![id(9).to_string()]).await.expect("imported");
    registry.remove_from_product(product, id(1), false).await.expect("removed");
    registry.remove_from_product(product, id(9), false).await.expect("it is awaited no more");
    assert!(registry.remove_from_product(product, id(9), false).await.is_err());
    registry.close().await;
    let registry = open(&directory).await;
    let device = registry.devices().find(id(1)).expect("a device");
    assert_eq!((device.product(), device.serial_number()), (None, Some("P1")));
    assert_eq!(*device.membership(), Membership { firmware_updates_forced: true, ..Default::default() });
    assert_eq!(registry.known_devices(product, None, 9).await.expect("an answer"), []);
}
