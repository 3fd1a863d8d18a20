//! Tests of products.

use super::super::tests::{account, acts, device, key, open, owned, product, registry};
use super::*;
use crate::store::{Holder, ProductKey, Role};
use firmware_protocol::id::DeviceId;

fn new(name: &str) -> NewProduct {
    NewProduct { name: name.into(), description: Some("pumps".into()), platform_id: 13, settings: ProductSettings::default() }
}

#[tokio::test]
async fn a_product_has_a_number_and_a_slug_of_its_own_and_is_there_after_a_restart() {
    let (directory, registry) = registry().await;
    let user = account(&registry, "a").await;
    let first = registry.create_product(user, new("Kelp Farm")).await.expect("a product");
    let second = registry.create_product(user, new("kelp farm")).await.expect("a product");
    let digits = registry.create_product(user, new("2024")).await.expect("a product");
    let slugs: Vec<_> = [&first, &second, &digits].iter().map(|product| (product.id.0, product.slug.as_str())).collect();
    assert_eq!(slugs, [(10_001, "kelp-farm"), (10_002, "kelp-farm-2"), (10_003, "product-2024")]);

    let edit = ProductEdit {
        name: Some("Weed Farm".into()),
        description: Some(None),
        settings: Some(ProductSettings { quarantine: true, ..Default::default() }),
        device_protection: Some(Protection::Active),
    };
    let edited = registry.edit_product(first.id, edit).await.expect("edited");
    assert_eq!((edited.name.as_str(), edited.slug.as_str(), &edited.description), ("Weed Farm", "kelp-farm", &None));
    assert!(edited.settings.quarantine && edited.device_protection == Protection::Active);
    registry.close().await;

    let again = open(&directory).await;
    let holder = Holder::User(user);
    assert_eq!(again.products().find_for(&holder, &ProductKey::from("kelp-farm")), Some((edited, Role::Owner)));
    assert_eq!(again.products().list_for(&holder).len(), 3);
    let other = account(&again, "b").await;
    assert_eq!(again.products().find_for(&Holder::User(other), &ProductKey::from("kelp-farm")), None);
}

#[tokio::test]
async fn a_product_needs_a_name_on_one_line() {
    let (_directory, registry) = registry().await;
    let user = account(&registry, "a").await;
    for bad in ["", " x", "two\nlines", &"n".repeat(65)] {
        assert!(matches!(registry.create_product(user, new(bad)).await, Err(RegistryError::Unfit(_))), "{bad:?}");
    }
    let long = NewProduct { description: Some("d".repeat(1_025)), ..new("x") };
    assert!(matches!(registry.create_product(user, long).await, Err(RegistryError::Unfit(_))));
    assert!(registry.edit_product(ProductId(10_001), ProductEdit::default()).await.is_err());
}

#[tokio::test]
async fn a_number_is_never_given_again_and_not_where_devices_carry_it() {
    let (_directory, registry) = registry().await;
    let user = account(&registry, "a").await;
    let first = product(&registry, user, "x").await;
    registry.remove_product(first).await.expect("removed");
    assert!(registry.products().is_empty());
    assert!(matches!(registry.remove_product(first).await, Err(RegistryError::NoSuch("product"))));
    let carried = super::super::NewDevice { product: Some(ProductId(10_002)), ..device(1, key()) };
    registry.add_devices(vec![carried]).await.expect("a device");
    let next = registry.create_product(user, new("x")).await.expect("a product");
    assert_eq!((next.id.0, next.slug.as_str()), (10_003, "x"));
}

#[tokio::test]
async fn a_product_with_devices_is_not_removed_and_what_waits_there_is_let_go() {
    let (directory, registry) = registry().await;
    let user = account(&registry, "a").await;
    let id = product(&registry, user, "x").await;
    registry.add_devices(vec![device(1, key()), owned(2, user, "kelp")]).await.expect("devices");
    registry.import_devices(id, vec![DeviceId([1; 12]).to_string(), DeviceId([3; 12]).to_string()]).await.expect("imported");
    assert!(matches!(registry.remove_product(id).await, Err(RegistryError::Refused(_))));

    registry.remove_from_product(id, DeviceId([1; 12]), false).await.expect("removed");
    let settings = ProductSettings { quarantine: true, ..Default::default() };
    registry.edit_product(id, ProductEdit { settings: Some(settings), ..Default::default() }).await.expect("edited");
    registry.arrive_in_product(DeviceId([2; 12]), id).await.expect("an answer");
    assert_eq!(acts(&registry, 2), (None, None));
    let program = registry.create_api_user(id, "robot", crate::store::Scopes::All).await.expect("an API user");
    registry.remove_product(id).await.expect("removed");
    assert_eq!((acts(&registry, 2), registry.devices().count_in_product(id)), ((Some(user), None), 0));
    assert_eq!(registry.tokens().find(&program.token.hash()), None);
    registry.close().await;

    let again = open(&directory).await;
    assert_eq!((acts(&again, 2), again.products().len(), again.tokens().len()), ((Some(user), None), 0, 0));
    assert_eq!(again.known_devices(id, None, 10).await.expect("an answer"), []);
}

#[tokio::test]
async fn devices_of_nobody_follow_their_product_to_another_owner() {
    let (directory, registry) = registry().await;
    let (one, other) = (account(&registry, "a").await, account(&registry, "b").await);
    let id = product(&registry, one, "x").await;
    registry.put_member(id, "b@example.com", Role::Viewer).await.expect("a member");
    registry.add_devices(vec![device(1, key()), owned(2, one, "mine")]).await.expect("devices");
    registry.import_devices(id, [1, 2].map(|number| DeviceId([number; 12]).to_string()).into()).await.expect("imported");
    let program = registry.create_api_user(id, "robot", crate::store::Scopes::All).await.expect("an API user");
    assert_eq!((acts(&registry, 1), acts(&registry, 2)), ((Some(one), Some(id)), (Some(one), Some(id))));

    let mut changes = registry.keys().subscribe();
    let product = registry.set_product_owner(id, other).await.expect("handed on");
    assert_eq!((product.owner, product.members.len()), (other, 0));
    let expected = ((Some(other), Some(id)), (Some(one), Some(id)));
    assert_eq!((acts(&registry, 1), acts(&registry, 2)), expected);
    assert_eq!(changes.next_change(), Some(crate::store::KeyChange::Changed(DeviceId([1; 12]))));
    assert_eq!(changes.next_change(), None);
    let record = |registry: &Registry| registry.tokens().find(&program.token.hash()).expect("a token");
    assert_eq!((record(&registry).user, record(&registry).holder.realm()), (other, Realm::Product(id)));
    assert!(registry.products().list_for(&Holder::User(one)).is_empty());
    registry.close().await;
    let again = open(&directory).await;
    assert_eq!((acts(&again, 1), acts(&again, 2)), expected);
    assert_eq!(record(&again).user, other);
}
