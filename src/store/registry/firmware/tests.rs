//! Tests of firmware.

use std::path::PathBuf;

use tempfile::TempDir;

use super::super::NewGroup;
use super::super::tests::{account, open, product, registry};
use super::*;

fn new(version: u16, bytes: &[u8]) -> NewFirmware {
    NewFirmware {
        version,
        title: format!("Version {version}"),
        description: None,
        mandatory: false,
        file_name: "firmware.bin".into(),
        bytes: bytes.to_vec(),
        uploaded_by: Some(OwnerId(1)),
    }
}

fn files(directory: &TempDir) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(directory.path().join("firmware"));
    listed.map_or_else(|_| Vec::new(), |entries| entries.map(|entry| entry.expect("an entry").path()).collect())
}

#[tokio::test]
async fn firmware_is_kept_with_its_bytes_edited_released_and_found_again() {
    let (directory, registry) = registry().await;
    let id = product(&registry, account(&registry, "a").await, "x").await;
    let other = product(&registry, account(&registry, "b").await, "y").await;
    registry.create_group(id, NewGroup { name: "beta".parse().expect("a name"), description: None, color: None }).await.expect("a group");
    registry.add_firmware(id, new(2, b"two")).await.expect("added");
    let first = registry.add_firmware(id, new(1, b"one")).await.expect("added");
    assert_eq!((first.size, first.released_at, first.product_default), (3, None, false));
    assert!(matches!(registry.add_firmware(id, new(1, b"other")).await, Err(RegistryError::Taken("version"))));

    let edit = FirmwareEdit { title: Some("One".into()), description: Some(Some("first".into())), mandatory: Some(true) };
    registry.edit_firmware(id, 1, edit).await.expect("edited");
    let release = Release { product_default: true, groups: vec!["beta".parse().expect("a name")] };
    registry.release_firmware(id, 2, Release { product_default: true, groups: vec![] }).await.expect("released");
    let released = registry.release_firmware(id, 1, release).await.expect("released");
    assert!(released.product_default && released.released_at.is_some());
    assert_eq!(released.groups.iter().map(GroupName::as_str).collect::<Vec<_>>(), ["beta"]);
    let unknown = Release { product_default: true, groups: vec!["none".parse().expect("a name")] };
    assert!(matches!(registry.release_firmware(id, 2, unknown).await, Err(RegistryError::NoSuch("group"))));
    registry.close().await;

    let registry = open(&directory).await;
    let listed = registry.firmware(id).await.expect("an answer");
    let told: Vec<_> = listed.iter().map(|firmware| (firmware.version, firmware.title.as_str(), firmware.product_default)).collect();
    assert_eq!(told, [(1, "One", true), (2, "Version 2", false)]);
    assert_eq!(listed[0], released);
    assert_eq!(registry.firmware_version(id, 1).await.expect("an answer"), Some(released));
    assert_eq!(registry.firmware_bytes(id, 2).await.expect("bytes"), b"two");
    assert_eq!(registry.firmware_version(other, 1).await.expect("an answer"), None);
    assert!(matches!(registry.firmware_bytes(other, 1).await, Err(RegistryError::NoSuch("firmware"))));
    assert!(matches!(registry.edit_firmware(other, 1, FirmwareEdit::default()).await, Err(RegistryError::NoSuch("firmware"))));
    assert!(matches!(registry.remove_firmware(id, 1).await, Err(RegistryError::Refused(_))));
}

#[tokio::test]
async fn a_file_goes_with_the_last_firmware_that_it_belongs_to() {
    let (directory, registry) = registry().await;
    let owner = account(&registry, "a").await;
    let (one, other) = (product(&registry, owner, "x").await, product(&registry, owner, "y").await);
    registry.add_firmware(one, new(1, b"same")).await.expect("added");
    registry.add_firmware(other, new(7, b"same")).await.expect("added");
    registry.add_firmware(one, new(2, b"more")).await.expect("added");
    assert_eq!(files(&directory).len(), 2);
    assert!(registry.add_firmware(one, new(2, b"refused")).await.is_err());
    assert_eq!(files(&directory).len(), 2, "what was refused leaves nothing");
    registry.remove_firmware(one, 1).await.expect("removed");
    assert_eq!(registry.firmware_bytes(other, 7).await.expect("bytes"), b"same");
    registry.remove_firmware(other, 7).await.expect("removed");
    assert_eq!(files(&directory).len(), 1);
    registry.remove_product(one).await.expect("removed");
    assert!(files(&directory).is_empty());
}

#[tokio::test]
async fn what_an_interrupted_upload_left_goes_at_the_next_start_and_damage_is_told() {
    let (directory, registry) = registry().await;
    let id = product(&registry, account(&registry, "a").await, "x").await;
    let added = registry.add_firmware(id, new(1, b"one")).await.expect("added");
    let file = directory.path().join("firmware").join(&added.sha256);
    std::fs::write(file.with_file_name("0123"), "left over").expect("written");
    registry.close().await;
    let registry = open(&directory).await;
    assert_eq!(files(&directory), std::slice::from_ref(&file));
    std::fs::write(&file, "own").expect("written");
    let error = registry.firmware_bytes(id, 1).await.expect_err("damaged");
    assert!(matches!(error, RegistryError::Firmware(_)) && !error.is_callers_fault());
}

#[tokio::test]
async fn what_does_not_do_is_refused() {
    let (_directory, registry) = registry().await;
    let id = product(&registry, account(&registry, "a").await, "x").await;
    for bad in [
        new(1, b""),
        new(1, &vec![0; SIZE_MAX + 1]),
        NewFirmware { title: String::new(), ..new(1, b"x") },
        NewFirmware { title: "t".repeat(129), ..new(1, b"x") },
        NewFirmware { file_name: "two\nlines".into(), ..new(1, b"x") },
        NewFirmware { description: Some("d".repeat(1_025)), ..new(1, b"x") },
    ] {
        assert!(matches!(registry.add_firmware(id, bad).await, Err(RegistryError::Unfit(_))));
    }
    registry.add_firmware(id, new(1, &vec![0; SIZE_MAX])).await.expect("as long as it may be");
    let fill = "WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < $1) INSERT INTO firmware \
                SELECT product, i, title, description, mandatory, product_default, file_name, size, sha256, uploaded_by, uploaded_on, \
                updated_at, released_at FROM firmware, n";
    sqlx::query(fill).bind(VERSIONS_PER_PRODUCT_MAX).execute(registry.pool()).await.expect("filled");
    assert!(matches!(registry.add_firmware(id, new(5_000, b"x")).await, Err(RegistryError::TooMany(_))));
}
