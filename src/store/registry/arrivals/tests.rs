//! Tests of devices that say which product they are of.

use super::super::tests::{account, acts, device, key, open, owned, product, registry};
use super::super::{Claimed, ProductEdit};
use super::*;
use crate::store::{KeyChange, ProductSettings};

fn id(number: u8) -> DeviceId {
    DeviceId([number; 12])
}

async fn set_quarantine(registry: &Registry, product: ProductId, quarantine: bool) {
    let settings = Some(ProductSettings { quarantine, ..Default::default() });
    registry.edit_product(product, ProductEdit { settings, ..Default::default() }).await.expect("edited");
}

async fn arrive(registry: &Registry, number: u8, product: ProductId) -> Arrival {
    registry.arrive_in_product(id(number), product).await.expect("an answer")
}

async fn import(registry: &Registry, product: ProductId, number: u8) -> usize {
    registry.import_devices(product, vec![id(number).to_string()]).await.expect("imported").updated
}

#[tokio::test]
async fn a_device_that_nobody_awaits_is_nobodys_until_it_is_approved_and_denied_for_good() {
    let (directory, registry) = registry().await;
    let (one, other) = (account(&registry, "a").await, account(&registry, "b").await);
    let product = product(&registry, one, "x").await;
    registry.add_devices(vec![owned(1, other, "theirs")]).await.expect("a device");
    assert_eq!(arrive(&registry, 1, product).await, Arrival::Unlisted);
    assert_eq!(acts(&registry, 1), (Some(other), None));

    set_quarantine(&registry, product, true).await;
    let mut changes = registry.keys().subscribe();
    for _ in 0..2 {
        assert_eq!(arrive(&registry, 1, product).await, Arrival::Quarantined);
        assert_eq!(acts(&registry, 1), (None, None));
    }
    assert_eq!((changes.next_change(), changes.next_change()), (Some(KeyChange::Changed(id(1))), None));
    assert_eq!(import(&registry, product, 1).await, 1);
    assert_eq!((arrive(&registry, 1, product).await, acts(&registry, 1)), (Arrival::Member, (Some(other), Some(product))));
    assert_eq!(changes.next_change(), Some(KeyChange::Changed(id(1))));

    registry.remove_from_product(product, id(1), true).await.expect("denied");
    assert_eq!(changes.next_change(), Some(KeyChange::Changed(id(1))));
    registry.close().await;
    let registry = open(&directory).await;
    set_quarantine(&registry, product, false).await;
    assert_eq!((arrive(&registry, 1, product).await, acts(&registry, 1)), (Arrival::Denied, (None, None)));
    assert_eq!(import(&registry, product, 1).await, 1);
    assert_eq!(acts(&registry, 1), (Some(other), Some(product)));
    registry.remove_from_product(product, id(1), false).await.expect("removed");
    assert_eq!(acts(&registry, 1), (Some(other), None));
}

#[tokio::test]
async fn a_device_stays_in_the_product_that_it_belongs_to_and_leaves_one_in_which_it_waits() {
    let (_directory, registry) = registry().await;
    let user = account(&registry, "a").await;
    let (one, other) = (product(&registry, user, "x").await, product(&registry, user, "y").await);
    for product in [one, other] {
        set_quarantine(&registry, product, true).await;
    }
    registry.add_devices(vec![device(1, key()), device(2, key())]).await.expect("devices");
    import(&registry, one, 1).await;
    assert_eq!(arrive(&registry, 1, other).await, Arrival::Elsewhere);
    assert_eq!(acts(&registry, 1), (Some(user), Some(one)));

    assert_eq!(arrive(&registry, 2, one).await, Arrival::Quarantined);
    assert_eq!(arrive(&registry, 2, other).await, Arrival::Quarantined);
    assert_eq!((registry.devices().count_in_product(one), registry.devices().count_in_product(other)), (1, 1));
    assert_eq!(arrive(&registry, 2, ProductId(20_000)).await, Arrival::Unlisted);
    assert_eq!((acts(&registry, 2), registry.devices().count_in_product(other)), ((None, None), 0));
    assert!(matches!(registry.arrive_in_product(id(9), one).await, Err(RegistryError::NoSuchDevice(_))));
}

#[tokio::test]
async fn a_device_that_waits_cannot_be_claimed() {
    let (_directory, registry) = registry().await;
    let (one, other) = (account(&registry, "a").await, account(&registry, "b").await);
    let product = product(&registry, one, "x").await;
    set_quarantine(&registry, product, true).await;
    registry.add_devices(vec![device(1, key())]).await.expect("a device");
    arrive(&registry, 1, product).await;
    let code = registry.create_claim_code(other).await.expect("a code");
    assert_eq!(registry.claim_device(id(1), code.hash()).await.expect("an answer"), Claimed::Refused);
    assert_eq!(registry.claim_device_of_nobody(one, id(1)).await.expect("an answer"), Claimed::Refused);

    import(&registry, product, 1).await;
    assert_eq!(
        registry.claim_device_of_nobody(other, id(1)).await.expect("an answer"),
        Claimed::Refused,
        "it is left to the product's people"
    );
    assert!(matches!(registry.claim_device(id(1), code.hash()).await.expect("an answer"), Claimed::Now(_)), "a customer has a code");
    assert_eq!(acts(&registry, 1), (Some(other), Some(product)));
    registry.remove_device_owner(product, id(1)).await.expect("unclaimed");
    assert_eq!(acts(&registry, 1), (Some(one), Some(product)));
    assert!(matches!(registry.claim_device_of_nobody(one, id(1)).await.expect("an answer"), Claimed::Now(_)));
    assert!(matches!(registry.claim_device_of_nobody(one, id(1)).await.expect("an answer"), Claimed::Before(_)));
}
