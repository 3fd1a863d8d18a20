//! Tests of claim codes of products. Those of accounts alone are among the registry's tests.

use super::super::NewDevice;
use super::super::tests::{account, device, key, open, owned, product, registry};
use super::*;
use crate::store::Role;

fn id(number: u8) -> DeviceId {
    DeviceId([number; 12])
}

async fn present(registry: &Registry, number: u8, user: OwnerId, product: ProductId) -> Claimed {
    let code = registry.create_claim_code_for(user, Some(product)).await.expect("a code");
    registry.claim_device(id(number), code.hash()).await.expect("an answer")
}

fn whose(registry: &Registry, number: u8) -> (Option<OwnerId>, Option<ProductId>) {
    let device = registry.devices().find(id(number)).expect("a device");
    (device.owner(), device.product())
}

#[tokio::test]
async fn a_code_of_a_product_brings_a_device_there_and_to_its_account() {
    let (directory, registry) = registry().await;
    let user = account(&registry, "a").await;
    let product = product(&registry, user, "x").await;
    let within = NewDevice { product: Some(product), ..device(3, key()) };
    registry.add_devices(vec![device(1, key()), owned(2, user, "mine"), within]).await.expect("devices");
    let code = registry.create_claim_code_for(user, Some(product)).await.expect("a code");
    registry.close().await;
    let registry = open(&directory).await;
    assert!(matches!(registry.claim_device(id(1), code.hash()).await, Ok(Claimed::Now(_))));
    assert!(matches!(present(&registry, 2, user, product).await, Claimed::Before(_)));
    assert!(matches!(present(&registry, 3, user, product).await, Claimed::Now(_)));
    registry.close().await;
    let registry = open(&directory).await;
    for number in [1, 2, 3] {
        assert_eq!(whose(&registry, number), (Some(user), Some(product)), "{number}");
    }
    assert_eq!(registry.devices().find(id(2)).expect("a device").name(), Some("mine"));
}

#[tokio::test]
async fn a_code_takes_no_device_out_of_another_product_or_from_somebody_else() {
    let (_directory, registry) = registry().await;
    let (user, other) = (account(&registry, "a").await, account(&registry, "b").await);
    let (ours, elsewhere) = (product(&registry, user, "x").await, product(&registry, user, "y").await);
    let within = NewDevice { product: Some(elsewhere), ..device(1, key()) };
    registry.add_devices(vec![within, owned(2, other, "theirs"), device(3, key())]).await.expect("devices");
    assert_eq!(present(&registry, 1, user, ours).await, Claimed::Refused);
    assert_eq!(present(&registry, 2, user, ours).await, Claimed::Refused);
    assert_eq!((whose(&registry, 1), whose(&registry, 2)), ((None, Some(elsewhere)), (Some(other), None)));
    // Who looks after the product no more has made the code in vain.
    registry.put_member(ours, "b@example.com", Role::Developer).await.expect("a member");
    let code = registry.create_claim_code_for(other, Some(ours)).await.expect("a code");
    registry.remove_member(ours, other).await.expect("removed");
    assert_eq!(registry.claim_device(id(3), code.hash()).await.expect("an answer"), Claimed::Refused);
    assert_eq!(whose(&registry, 3), (None, None));
}
