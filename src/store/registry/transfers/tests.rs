//! Tests of devices that are asked for.

use super::super::tests::{account, device, key, open, owned, registry};
use super::super::{DeviceChange, NewDevice};
use super::*;
use crate::store::{KeyChange, Realm};

fn id(number: u8) -> DeviceId {
    DeviceId([number; 12])
}

#[tokio::test]
async fn a_device_goes_to_whoever_asked_when_its_owner_agrees() {
    let (directory, registry) = registry().await;
    let (one, other, third) = (account(&registry, "a").await, account(&registry, "b").await, account(&registry, "c").await);
    registry.add_devices(vec![owned(1, one, "kelp"), owned(2, other, "kelp"), device(3, key())]).await.expect("devices");
    let noted = DeviceChange { notes: Some(Some("mine".into())), ..Default::default() };
    registry.change_device(Realm::User(one), id(1), noted).await.expect("changed");
    let asked = registry.request_transfer(other, id(1)).await.expect("asked");
    assert_eq!(registry.request_transfer(other, id(1)).await.expect("asked"), asked, "once is enough");
    let rival = registry.request_transfer(third, id(1)).await.expect("asked");
    for (user, number) in [(one, 1), (one, 3)] {
        assert!(matches!(registry.request_transfer(user, id(number)).await, Err(RegistryError::Refused(_))));
    }
    assert!(matches!(registry.request_transfer(one, id(9)).await, Err(RegistryError::NoSuchDevice(_))));
    registry.close().await;

    let registry = open(&directory).await;
    let mut changes = registry.keys().subscribe();
    assert_eq!(registry.transfers(one).await.expect("an answer").len(), 2);
    assert_eq!(registry.transfers(other).await.expect("an answer"), std::slice::from_ref(&asked));
    for stranger in [other, third] {
        assert!(matches!(registry.accept_transfer(stranger, asked.id).await, Err(RegistryError::NoSuch("transfer"))));
    }
    let device = registry.accept_transfer(one, asked.id).await.expect("accepted");
    assert_eq!((device.owner(), device.name(), device.notes()), (Some(other), None, None));
    assert_eq!(changes.next_change(), Some(KeyChange::Changed(id(1))));
    assert!(registry.transfers(one).await.expect("an answer").is_empty());
    assert!(matches!(registry.accept_transfer(one, rival.id).await, Err(RegistryError::NoSuch("transfer"))));
    registry.close().await;
    let device = open(&directory).await.devices().find(id(1)).expect("a device");
    assert_eq!((device.owner(), device.name(), device.notes()), (Some(other), None, None));
}

#[tokio::test]
async fn a_request_ends_when_either_side_says_so_or_nobody_says_anything() {
    let (_directory, registry) = registry().await;
    let (one, other, third) = (account(&registry, "a").await, account(&registry, "b").await, account(&registry, "c").await);
    registry.add_devices(vec![owned(1, one, "kelp")]).await.expect("a device");
    for user in [one, other] {
        let asked = registry.request_transfer(other, id(1)).await.expect("asked");
        assert!(matches!(registry.end_transfer(third, asked.id).await, Err(RegistryError::NoSuch("transfer"))));
        registry.end_transfer(user, asked.id).await.expect("ended");
        assert!(matches!(registry.accept_transfer(one, asked.id).await, Err(RegistryError::NoSuch("transfer"))));
    }
    let asked = registry.request_transfer(other, id(1)).await.expect("asked");
    let end = UnixMillis(asked.created_at.0 + LIFE_MS);
    assert_eq!(registry.forget_expired_transfers(UnixMillis(end.0 - 1)).await.expect("an answer"), 0);
    assert_eq!(registry.forget_expired_transfers(end).await.expect("an answer"), 1);
    assert!(matches!(registry.accept_transfer(one, asked.id).await, Err(RegistryError::NoSuch("transfer"))));

    registry.request_transfer(other, id(1)).await.expect("asked");
    registry.set_device_owner(id(1), Some(third)).await.expect("another owner");
    assert!(registry.transfers(one).await.expect("an answer").len() == 1);
    let stale = registry.transfers(one).await.expect("an answer").remove(0);
    assert!(matches!(registry.accept_transfer(one, stale.id).await, Err(RegistryError::NoSuch("transfer"))));
    assert_eq!(registry.request_transfer(other, id(1)).await.expect("asked").from, third);
}

#[tokio::test]
async fn requests_are_few() {
    let (_directory, registry) = registry().await;
    let (one, other) = (account(&registry, "a").await, account(&registry, "b").await);
    let count = u8::try_from(ASKED_PER_USER_MAX).expect("few");
    let new = |number| NewDevice { owner: Some(one), ..device(number, key()) };
    registry.add_devices((0..=count).map(new).collect()).await.expect("devices");
    for number in 0..count {
        registry.request_transfer(other, id(number)).await.expect("asked");
    }
    assert!(matches!(registry.request_transfer(other, id(count)).await, Err(RegistryError::TooMany(_))));
}
