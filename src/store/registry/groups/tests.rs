//! Tests of groups.

use firmware_protocol::id::DeviceId;

use super::super::GroupsChange;
use super::super::tests::{account, device, key, open, product, registry};
use super::*;

fn name(text: &str) -> GroupName {
    text.parse().expect("a name")
}

fn new(text: &str) -> NewGroup {
    NewGroup { name: name(text), description: None, color: None }
}

fn names(groups: &[Group]) -> Vec<&str> {
    groups.iter().map(|group| group.name.as_str()).collect()
}

#[tokio::test]
async fn groups_are_created_edited_listed_and_removed() {
    let (directory, registry) = registry().await;
    let id = product(&registry, account(&registry, "a").await, "x").await;
    let other = product(&registry, account(&registry, "b").await, "y").await;
    for text in ["beta", "alpha", "alpha-2"] {
        registry.create_group(id, new(text)).await.expect("a group");
    }
    assert!(matches!(registry.create_group(id, new("beta")).await, Err(RegistryError::Taken(_))));
    registry.create_group(other, new("beta")).await.expect("another product's");
    let edit = GroupEdit {
        name: Some(name("zeta")),
        description: Some(Some("slow".into())),
        color: Some(Some("#00ff00".into())),
        firmware_version: Some(Some(3)),
    };
    let edited = registry.edit_group(id, name("beta"), edit).await.expect("edited");
    assert_eq!((edited.name.as_str(), edited.firmware_version), ("zeta", Some(3)));
    let taken = GroupEdit { name: Some(name("alpha")), ..Default::default() };
    assert!(matches!(registry.edit_group(id, name("zeta"), taken).await, Err(RegistryError::Taken(_))));
    assert!(matches!(registry.edit_group(id, name("beta"), GroupEdit::default()).await, Err(RegistryError::NoSuch("group"))));
    assert_eq!(names(&registry.groups(id, "").expect("groups")), ["alpha", "alpha-2", "zeta"]);
    registry.close().await;

    let registry = open(&directory).await;
    assert_eq!(names(&registry.groups(id, "pha").expect("groups")), ["alpha", "alpha-2"]);
    assert_eq!(registry.groups(id, "zeta").expect("groups"), [edited]);
    registry.remove_group(id, name("alpha")).await.expect("removed");
    assert!(matches!(registry.remove_group(id, name("alpha")).await, Err(RegistryError::NoSuch("group"))));
    assert_eq!(names(&registry.groups(id, "").expect("groups")), ["alpha-2", "zeta"]);
    assert_eq!(names(&registry.groups(other, "").expect("groups")), ["beta"]);
    for bad in [NewGroup { description: Some("d".repeat(1_025)), ..new("q") }, NewGroup { color: Some("c".repeat(33)), ..new("q") }] {
        assert!(matches!(registry.create_group(id, bad).await, Err(RegistryError::Unfit(_))));
    }
}

#[tokio::test]
async fn a_group_that_is_removed_leaves_no_device_in_it() {
    let (directory, registry) = registry().await;
    let id = product(&registry, account(&registry, "a").await, "x").await;
    registry.add_devices(vec![device(1, key()), device(2, key())]).await.expect("devices");
    let devices = vec![DeviceId([1; 12]), DeviceId([2; 12])];
    registry.import_devices(id, devices.iter().map(|id| id.to_string()).collect()).await.expect("imported");
    let change = GroupsChange { devices, add: vec![name("beta"), name("slow")], remove: vec![] };
    registry.change_groups(id, change).await.expect("in groups");
    let groups = registry.groups(id, "").expect("groups");
    assert_eq!(groups.iter().map(|group| registry.group_size(id, group.id)).collect::<Vec<_>>(), [2, 2]);

    registry.remove_group(id, name("beta")).await.expect("removed");
    registry.close().await;
    let registry = open(&directory).await;
    let groups = registry.groups(id, "").expect("groups");
    let of = |number| registry.devices().find(DeviceId([number; 12])).expect("a device").membership().groups.to_vec();
    assert_eq!((of(1), of(2)), (vec![groups[0].id], vec![groups[0].id]));
    let held = registry.products().find(id).expect("a product");
    assert_eq!(held.names_of(&of(1)), ["slow"]);
}
