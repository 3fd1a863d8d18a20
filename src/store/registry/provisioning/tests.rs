//! Tests of keys that callers send.

use std::time::Duration;

use firmware_protocol::id::ProductId;

use super::super::tests::{account, device, key, open, owned, product, registry};
use super::*;
use crate::store::KeyChange;

fn id(number: u8) -> DeviceId {
    DeviceId([number; 12])
}

async fn send(registry: &Registry, user: OwnerId, number: u8) -> Provisioned {
    registry.provision(user, id(number), key()).await.expect("an answer")
}

fn whose(registry: &Registry, number: u8) -> (Option<OwnerId>, Option<ProductId>) {
    registry.devices().find(id(number)).map_or((None, None), |device| (device.owner(), device.product()))
}

fn is_done(provisioned: &Provisioned) -> bool {
    matches!(provisioned, Provisioned::Done(_))
}

#[tokio::test]
async fn ones_own_device_gets_another_key_and_is_the_same_with_the_one_it_has() {
    let (directory, registry) = registry().await;
    let user = account(&registry, "a").await;
    registry.add_devices(vec![owned(1, user, "mine")]).await.expect("a device");
    let mut changes = registry.keys().subscribe();
    let new = key();
    for _ in 0..2 {
        assert!(is_done(&registry.provision(user, id(1), new.clone()).await.expect("an answer")));
    }
    assert_eq!((changes.next_change(), changes.next_change()), (Some(KeyChange::Changed(id(1))), None));
    registry.close().await;
    let registry = open(&directory).await;
    let device = registry.devices().find(id(1)).expect("it is there");
    assert_eq!((device.key(), device.owner(), device.name()), (Some(new.hash()), Some(user), Some("mine")));
}

#[tokio::test]
async fn nobody_sets_the_key_of_a_device_that_is_not_theirs_to_bring_along() {
    let (_directory, registry) = registry().await;
    let (user, other) = (account(&registry, "a").await, account(&registry, "b").await);
    let theirs = product(&registry, other, "x").await;
    let in_product = NewDevice { product: Some(theirs), ..device(2, key()) };
    registry.add_devices(vec![owned(1, other, "theirs"), in_product, device(3, key())]).await.expect("devices");
    registry.import_devices(theirs, vec![id(4).to_string()]).await.expect("a list");
    let before = [1, 2, 3].map(|number| registry.devices().find(id(number)).expect("a device"));
    registry.pairing().open(dates::now(), Duration::from_secs(60), Some(other));
    for (number, expected) in [
        (1, Provisioned::Foreign),
        (2, Provisioned::Foreign),
        (3, Provisioned::Unlisted),
        (4, Provisioned::Unlisted),
        (5, Provisioned::Unlisted),
    ] {
        assert_eq!(send(&registry, user, number).await, expected, "{number}");
    }
    registry.pairing().open(dates::now(), Duration::from_secs(60), Some(user));
    assert_eq!((send(&registry, user, 1).await, send(&registry, user, 2).await), (Provisioned::Foreign, Provisioned::Foreign));
    assert_eq!([1, 2, 3].map(|number| registry.devices().find(id(number)).expect("a device")), before);
    assert_eq!(registry.devices().len(), 3);
}

#[tokio::test]
async fn whoever_looks_after_a_product_brings_its_devices_along() {
    let (_directory, registry) = registry().await;
    let user = account(&registry, "a").await;
    let product = product(&registry, user, "x").await;
    registry.add_devices(vec![NewDevice { product: Some(product), ..device(1, key()) }]).await.expect("a device");
    registry.import_devices(product, vec![id(2).to_string()]).await.expect("a list");
    for number in [1, 2] {
        assert!(is_done(&send(&registry, user, number).await), "{number}");
        assert_eq!(whose(&registry, number), (None, Some(product)), "{number}");
    }
    assert!(registry.known_devices(product, None, 10).await.expect("a list").is_empty());
    registry.remove_from_product(product, id(1), true).await.expect("denied");
    assert_eq!(send(&registry, user, 1).await, Provisioned::Unlisted);
}

#[tokio::test]
async fn what_comes_through_the_pairing_window_is_its_bringers_and_counted() {
    let (directory, registry) = registry().await;
    let (user, other) = (account(&registry, "a").await, account(&registry, "b").await);
    let stray = NewDevice { name: Some("mine".into()), ..device(2, key()) };
    registry.add_devices(vec![owned(1, user, "mine"), stray]).await.expect("devices");
    let (now, span) = (dates::now(), Duration::from_secs(60));
    registry.pairing().open(now, span, None);
    assert!(is_done(&send(&registry, user, 2).await) && is_done(&send(&registry, other, 3).await));
    // One's own device needs no window.
    assert!(is_done(&send(&registry, user, 1).await));
    assert_eq!(registry.pairing().view(now).map(|window| window.paired), Some(2));
    registry.close().await;
    let registry = open(&directory).await;
    assert_eq!((whose(&registry, 2), whose(&registry, 3)), ((Some(user), None), (Some(other), None)));
    assert_eq!(registry.devices().find(id(2)).expect("it is there").name(), None);
    assert_eq!(send(&registry, user, 4).await, Provisioned::Unlisted);
}

#[tokio::test]
async fn a_key_is_one_devices_only() {
    let (_directory, registry) = registry().await;
    let user = account(&registry, "a").await;
    let taken = key();
    registry.add_devices(vec![device(1, taken.clone()), owned(2, user, "mine")]).await.expect("devices");
    let refused = registry.provision(user, id(2), taken).await;
    assert!(matches!(refused, Err(RegistryError::KeyTaken { .. })), "{refused:?}");
}
