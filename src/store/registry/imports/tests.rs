//! Tests of lists of devices.

use super::super::tests::{account, acts, device, key, open, owned, product, registry};
use super::super::{Arrival, NewDevice};
use super::*;
use crate::store::Role;

fn id(number: u8) -> DeviceId {
    DeviceId([number; 12])
}

async fn import(registry: &Registry, product: ProductId, numbers: &[u8]) -> Imported {
    let ids = numbers.iter().map(|number| id(*number).to_string().to_uppercase()).collect();
    registry.import_devices(product, ids).await.expect("imported")
}

#[tokio::test]
async fn a_list_brings_in_what_is_there_and_awaits_the_rest() {
    let (directory, registry) = registry().await;
    let user = account(&registry, "a").await;
    let product = product(&registry, user, "x").await;
    registry.add_devices(vec![device(1, key()), owned(2, user, "mine")]).await.expect("devices");
    let mut ids: Vec<_> = [1, 2, 3, 3].map(|number| id(number).to_string()).into();
    ids.extend([format!(" {} ", id(4)), "nonsense".into(), "x".repeat(100)]);
    let imported = registry.import_devices(product, ids).await.expect("imported");
    assert_eq!((imported.updated, &imported.nonmember[..]), (4, &[][..]));
    assert_eq!(imported.invalid, ["nonsense".to_owned(), "x".repeat(64)]);
    assert_eq!((acts(&registry, 1), acts(&registry, 2)), ((Some(user), Some(product)), (Some(user), Some(product))));
    assert_eq!(registry.devices().find(id(1)).expect("a device").owner(), None, "it acts for somebody and is still nobody's");

    let awaited = registry.known_devices(product, None, 10).await.expect("an answer");
    assert_eq!(awaited.iter().map(|known| known.id).collect::<Vec<_>>(), [id(3), id(4)]);
    assert_eq!(registry.known_devices(product, Some(id(3)), 10).await.expect("an answer"), awaited[1..]);
    assert_eq!(registry.known_devices(product, None, 1).await.expect("an answer"), awaited[..1]);
    registry.close().await;

    let registry = open(&directory).await;
    registry.add_devices(vec![device(3, key()), device(5, key())]).await.expect("devices");
    assert_eq!((acts(&registry, 3), acts(&registry, 5)), ((Some(user), Some(product)), (None, None)));
    assert_eq!(registry.known_devices(product, None, 10).await.expect("an answer"), awaited[1..]);
    assert_eq!(import(&registry, product, &[1, 2, 3]).await.updated, 3);
}

#[tokio::test]
async fn what_belongs_to_somebody_else_is_not_brought_in() {
    let (_directory, registry) = registry().await;
    let (one, other) = (account(&registry, "a").await, account(&registry, "b").await);
    let (ours, theirs) = (product(&registry, one, "x").await, product(&registry, other, "y").await);
    registry.add_devices(vec![owned(1, other, "theirs"), device(2, key())]).await.expect("devices");
    import(&registry, theirs, &[2, 3]).await;
    let imported = import(&registry, ours, &[1, 2, 3, 4]).await;
    assert_eq!((imported.updated, imported.nonmember), (1, vec![id(1), id(2), id(3)]));
    assert_eq!((acts(&registry, 1), acts(&registry, 2)), ((Some(other), None), (Some(other), Some(theirs))));

    registry.put_member(ours, "b@example.com", Role::Developer).await.expect("a member");
    assert_eq!(import(&registry, ours, &[1]).await.updated, 1, "a member's device");
    assert_eq!(acts(&registry, 1), (Some(other), Some(ours)));
}

#[tokio::test]
async fn a_list_takes_no_device_away_from_the_account_it_is_registered_for() {
    let (_directory, registry) = registry().await;
    let (one, other) = (account(&registry, "a").await, account(&registry, "b").await);
    let ours = product(&registry, one, "x").await;
    import(&registry, ours, &[1, 2, 3]).await;
    let said = NewDevice { product: Some(ProductId(10_009)), ..device(3, key()) };
    registry.add_devices(vec![owned(1, other, "theirs"), owned(2, one, "ours"), said]).await.expect("devices");
    assert_eq!((acts(&registry, 1), acts(&registry, 2)), ((Some(other), None), (Some(one), Some(ours))));
    assert_eq!(acts(&registry, 3), (None, Some(ProductId(10_009))));
    // What it says itself is another matter.
    assert_eq!(registry.arrive_in_product(id(1), ours).await.expect("an answer"), Arrival::Member);
    assert_eq!(acts(&registry, 1), (Some(other), Some(ours)));
}

#[tokio::test]
async fn long_lists_are_refused() {
    let (_directory, registry) = registry().await;
    let product = product(&registry, account(&registry, "a").await, "x").await;
    let ids = (0..=IMPORT_MAX).map(|number| format!("{number:024x}")).collect::<Vec<_>>();
    assert!(matches!(registry.import_devices(product, ids[1..].to_vec()).await, Ok(Imported { updated: IMPORT_MAX, .. })));
    assert!(matches!(registry.import_devices(product, ids).await, Err(RegistryError::TooMany(_))));
    assert!(matches!(registry.import_devices(ProductId(10_009), vec![]).await, Err(RegistryError::NoSuch("product"))));
}
