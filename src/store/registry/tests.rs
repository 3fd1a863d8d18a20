//! Tests of the registry: what is written is in memory at once and there again after a restart.

use std::os::unix::fs::PermissionsExt;

use firmware_protocol::id::{DeviceId, OwnerId, ProductId};
use firmware_protocol::time::UnixMillis;
use openssl::ec::{EcGroup, EcKey};
use openssl::nid::Nid;
use openssl::pkey::PKey;
use tempfile::TempDir;

use super::*;
use crate::store::{KeyChange, PublicKey, Scopes};

pub(super) async fn registry() -> (TempDir, Registry) {
    let directory = tempfile::tempdir().expect("a directory");
    let registry = open(&directory).await;
    (directory, registry)
}

pub(super) async fn open(directory: &TempDir) -> Registry {
    Registry::open(&directory.path().join("registry.db")).await.expect("a registry")
}

pub(super) fn key() -> PublicKey {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).expect("a known curve");
    let pair = PKey::from_ec_key(EcKey::generate(&group).expect("a key")).expect("a key");
    PublicKey::from_spki(&pair.public_key_to_der().expect("DER")).expect("a public key")
}

pub(super) fn device(number: u8, key: PublicKey) -> NewDevice {
    NewDevice { id: DeviceId([number; 12]), key, owner: None, product: None, platform_id: Some(12), name: None }
}

pub(super) fn owned(number: u8, owner: OwnerId, name: &str) -> NewDevice {
    NewDevice { owner: Some(owner), name: Some(name.into()), ..device(number, key()) }
}

/// An account.
pub(super) async fn account(registry: &Registry, name: &str) -> OwnerId {
    registry.add_user(&format!("{name}@example.com"), "password").await.expect("a user").id
}

/// A product of an account.
pub(super) async fn product(registry: &Registry, owner: OwnerId, name: &str) -> ProductId {
    let new = NewProduct { name: name.into(), description: None, platform_id: 13, settings: Default::default() };
    registry.create_product(owner, new).await.expect("a product").id
}

/// What the key ring says of a device: for whom it acts, and in which product.
pub(super) fn acts(registry: &Registry, number: u8) -> (Option<OwnerId>, Option<ProductId>) {
    let key = registry.devices().find(DeviceId([number; 12])).expect("a device").key().expect("a key");
    let identity = registry.keys().identity(&key).expect("it has a key");
    (identity.owner, identity.product)
}

pub(super) fn token(user: OwnerId) -> NewToken {
    NewToken { user, client: "particle".into(), scopes: Scopes::All, life_ms: Some(60_000), refreshable: true }
}

#[tokio::test]
async fn the_file_is_private() {
    let (directory, registry) = registry().await;
    registry.add_user("a@example.com", "password").await.expect("a user");
    for entry in directory.path().read_dir().expect("a directory") {
        let entry = entry.expect("an entry");
        assert_eq!(entry.metadata().expect("metadata").permissions().mode() & 0o077, 0, "{entry:?}");
    }
}

#[tokio::test]
async fn an_address_has_one_account_whatever_its_case() {
    let (_directory, registry) = registry().await;
    let user = registry.add_user(" Dev@Example.com ", "password").await.expect("a user");
    assert_eq!(user.email, "Dev@Example.com");
    assert!(matches!(registry.add_user("dev@example.COM", "password").await, Err(RegistryError::EmailTaken)));
    assert_eq!(registry.user_by_email("DEV@example.com").await.expect("an answer"), Some(user.clone()));
    assert_eq!(registry.user(user.id).await.expect("an answer"), Some(user.clone()));
    assert_eq!(registry.users().await.expect("an answer"), std::slice::from_ref(&user));

    assert_eq!(registry.log_in("dev@example.com", "password").await.expect("an answer"), Some(user));
    for (email, password) in [("dev@example.com", "Password"), ("dev@example.com", ""), ("other@example.com", "password"), ("", "")] {
        assert_eq!(registry.log_in(email, password).await.expect("an answer"), None, "{email} {password}");
    }
}

#[tokio::test]
async fn accounts_need_an_address_and_a_password() {
    let (_directory, registry) = registry().await;
    for bad in ["", "a", "@b", "a@", "a@b@c", "a b@c", "a@b\n"] {
        let result = registry.add_user(bad, "password").await;
        assert!(bad.trim() == "a@b" || matches!(result, Err(RegistryError::BadEmail)), "{bad:?}");
    }
    for bad in ["1234567", "", &"x".repeat(1025)] {
        assert!(matches!(registry.add_user("a@c", bad).await, Err(RegistryError::BadPassword)));
    }
}

#[tokio::test]
async fn what_is_registered_is_there_after_a_restart() {
    let (directory, registry) = registry().await;
    let user = registry.add_user("a@example.com", "password").await.expect("a user");
    registry.add_devices(vec![owned(1, user.id, "kitchen"), device(2, key())]).await.expect("two devices");
    registry.edit_device(DeviceId([1; 12]), DeviceEdit { name: None, notes: Some(Some("by the window".into())) }).await.expect("notes");
    let issued = registry.issue_token(token(user.id)).await.expect("a token");
    let before = (registry.devices().all(), registry.tokens().find(&issued.access.hash()));
    registry.close().await;

    let again = open(&directory).await;
    assert_eq!((again.devices().all(), again.tokens().find(&issued.access.hash())), before);
    assert_eq!(again.keys().len(), 2);
    let kitchen = again.devices().find_owned(user.id, "kitchen").expect("the device");
    assert_eq!(kitchen.notes(), Some("by the window"));
    assert_eq!(again.keys().identity(&kitchen.key().expect("a key")), kitchen.identity());
    assert_eq!(again.device_key(kitchen.id()).await.expect("an answer").map(|key| key.hash()), kitchen.key());
}

#[tokio::test]
async fn devices_are_added_all_or_none() {
    let (_directory, registry) = registry().await;
    let shared = key();
    registry.add_devices(vec![device(1, shared.clone())]).await.expect("one device");

    let again = registry.add_devices(vec![device(1, shared.clone()), device(2, key())]).await.expect("one known, one new");
    assert_eq!(again, Added { added: 1, unchanged: 1 });

    let taken = registry.add_devices(vec![device(3, key()), device(4, shared)]).await;
    assert!(matches!(taken, Err(RegistryError::KeyTaken { held_by, .. }) if held_by == DeviceId([1; 12])));
    let other_key = registry.add_devices(vec![device(3, key()), device(1, key())]).await;
    assert!(matches!(other_key, Err(RegistryError::DeviceExists(id)) if id == DeviceId([1; 12])));
    let twins = key();
    assert!(registry.add_devices(vec![device(3, twins.clone()), device(4, twins)]).await.is_err());
    assert_eq!((registry.devices().len(), registry.keys().len()), (2, 2));
}

#[tokio::test]
async fn a_name_is_unique_among_the_devices_of_its_owner() {
    let (_directory, registry) = registry().await;
    let one = registry.add_user("a@example.com", "password").await.expect("a user").id;
    let other = registry.add_user("b@example.com", "password").await.expect("a user").id;
    registry.add_devices(vec![owned(1, one, "x"), owned(2, one, "y"), owned(3, other, "x")]).await.expect("three devices");

    let rename = |id, name: &str| registry.edit_device(DeviceId([id; 12]), DeviceEdit { name: Some(name.into()), notes: None });
    assert!(matches!(rename(2, "x").await, Err(RegistryError::NameTaken)));
    assert_eq!(registry.devices().find_named(one, "x"), Some(DeviceId([1; 12])));
    assert_eq!(rename(2, "My Device").await.expect("a free name").name(), Some("My Device"));
    assert_eq!(registry.devices().find_named(one, "y"), None);
    for bad in ["", "a/b", "events", "null", " x", "x\n", "e00fce68aabbccddeeff0011", &"n".repeat(65)] {
        assert!(matches!(rename(2, bad).await, Err(RegistryError::BadName)), "{bad:?}");
    }
    assert!(matches!(registry.set_device_owner(DeviceId([3; 12]), Some(one)).await, Err(RegistryError::NameTaken)));
    assert!(matches!(rename(9, "z").await, Err(RegistryError::NoSuchDevice(_))));
}

#[tokio::test]
async fn the_key_ring_follows_every_change_of_a_device() {
    let (_directory, registry) = registry().await;
    let user = registry.add_user("a@example.com", "password").await.expect("a user").id;
    let mut changes = registry.keys().subscribe();
    let (id, first, second) = (DeviceId([1; 12]), key(), key());

    registry.add_devices(vec![device(1, first.clone())]).await.expect("a device");
    assert_eq!(changes.next_change(), Some(KeyChange::Added(id)));
    registry.set_device_owner(id, Some(user)).await.expect("an owner");
    assert_eq!(changes.next_change(), Some(KeyChange::Changed(id)));
    assert_eq!(registry.keys().identity(&first.hash()).and_then(|identity| identity.owner), Some(user));
    registry.set_device_key(id, second.clone()).await.expect("another key");
    assert_eq!(changes.next_change(), Some(KeyChange::Changed(id)));
    assert_eq!(registry.keys().identity(&first.hash()), None);
    registry.edit_device(id, DeviceEdit { name: Some("x".into()), notes: None }).await.expect("a name");
    registry.remove_device(id).await.expect("it was there");
    assert_eq!(changes.next_change(), Some(KeyChange::Removed(id)));
    assert_eq!(registry.keys().identity(&second.hash()), None);
    assert!(registry.devices().is_empty());
    assert!(matches!(registry.remove_device(id).await, Err(RegistryError::NoSuchDevice(_))));
    registry.add_devices(vec![device(2, second)]).await.expect("the key is free again");
}

#[tokio::test]
async fn a_revoked_token_is_gone_at_once() {
    let (_directory, registry) = registry().await;
    let user = registry.add_user("a@example.com", "password").await.expect("a user").id;
    let (one, two) = (registry.issue_token(token(user)).await.expect("a token"), registry.issue_token(token(user)).await.expect("a token"));
    let record = registry.tokens().find(&one.access.hash()).expect("it is known");
    assert_eq!((record.user, record.client.as_str(), &record.scopes), (user, "particle", &Scopes::All));
    assert_eq!(registry.list_tokens(Some(user)).await.expect("a list").len(), 2);
    assert_eq!(registry.list_tokens(Some(OwnerId(99))).await.expect("a list").len(), 0);

    assert!(registry.revoke_token(one.access.hash()).await.expect("an answer"));
    assert!(!registry.revoke_token(one.access.hash()).await.expect("an answer"));
    assert!(!registry.revoke_token_named(OwnerId(99), &two.id).await.expect("an answer"), "it is somebody else's");
    assert!(registry.revoke_token_named(user, &two.id).await.expect("an answer"));
    assert!(!registry.revoke_any_token_named("nothing").await.expect("an answer"));
    assert!(registry.tokens().is_empty());
    assert_eq!(registry.list_tokens(None).await.expect("a list").len(), 0);
}

#[tokio::test]
async fn a_refresh_token_is_good_once() {
    let (_directory, registry) = registry().await;
    let user = registry.add_user("a@example.com", "password").await.expect("a user").id;
    let first = registry.issue_token(token(user)).await.expect("a token");
    let refresh = first.refresh.expect("a refresh token");
    let second = registry.refresh_token(refresh.hash()).await.expect("an answer").expect("a new pair");
    assert_eq!(registry.tokens().find(&first.access.hash()), None);
    assert!(registry.tokens().find(&second.access.hash()).is_some());
    assert_eq!(registry.refresh_token(refresh.hash()).await.expect("an answer"), None);
    assert_eq!(registry.refresh_token(second.access.hash()).await.expect("an answer"), None);
}

#[tokio::test]
async fn tokens_that_ended_long_ago_are_forgotten() {
    let (_directory, registry) = registry().await;
    let user = registry.add_user("a@example.com", "password").await.expect("a user").id;
    let ends = registry.issue_token(token(user)).await.expect("a token");
    let stays = registry.issue_token(NewToken { life_ms: None, ..token(user) }).await.expect("a token");
    assert_eq!(registry.forget_expired_tokens(UnixMillis(0)).await.expect("an answer"), 0);
    assert_eq!(registry.forget_expired_tokens(UnixMillis(u64::MAX / 4)).await.expect("an answer"), 1);
    assert_eq!(registry.tokens().find(&ends.access.hash()), None);
    assert!(registry.tokens().find(&stays.access.hash()).is_some());
}

#[tokio::test]
async fn a_client_has_a_printable_name() {
    let (_directory, registry) = registry().await;
    let user = registry.add_user("a@example.com", "password").await.expect("a user").id;
    for bad in ["", "line\nbreak", "über", &"c".repeat(65)] {
        let new = NewToken { client: bad.into(), ..token(user) };
        assert!(matches!(registry.issue_token(new).await, Err(RegistryError::BadClient)), "{bad:?}");
    }
}

#[tokio::test]
async fn a_change_outlives_its_caller() {
    let (_directory, registry) = registry().await;
    let id = DeviceId([1; 12]);
    tokio::select! {
        biased;
        _ = registry.add_devices(vec![device(1, key())]) => panic!("the database cannot be that fast"),
        () = std::future::ready(()) => {}
    }
    for _ in 0..500 {
        if registry.devices().find(id).is_some() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the change was lost");
}

#[tokio::test]
async fn other_files_are_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("registry.db");
    std::fs::write(&file, [0x55; 4096]).expect("written");
    assert!(matches!(Registry::open(&file).await, Err(RegistryError::Database(_) | RegistryError::Migration(_))));
}

#[tokio::test]
async fn a_claim_code_makes_a_device_of_nobody_its_accounts_once() {
    let (directory, registry) = registry().await;
    let user = registry.add_user("a@example.com", "password").await.expect("a user").id;
    registry.add_devices(vec![device(1, key()), device(2, key())]).await.expect("devices");
    let code = registry.create_claim_code(user).await.expect("a code");
    registry.close().await;
    let registry = open(&directory).await;
    let mut changes = registry.keys().subscribe();

    let claimed = registry.claim_device(DeviceId([1; 12]), code.hash()).await.expect("an answer");
    assert!(matches!(&claimed, Claimed::Now(device) if device.owner() == Some(user)), "{claimed:?}");
    assert_eq!(changes.next_change(), Some(KeyChange::Changed(DeviceId([1; 12]))));
    assert_eq!(registry.claim_device(DeviceId([2; 12]), code.hash()).await.expect("an answer"), Claimed::Refused);
    registry.close().await;
    let registry = open(&directory).await;
    assert_eq!(registry.devices().owned_by(user), [DeviceId([1; 12])]);
    assert_eq!(registry.claim_device(DeviceId([2; 12]), code.hash()).await.expect("an answer"), Claimed::Refused);
}

#[tokio::test]
async fn a_device_that_has_an_owner_is_never_moved() {
    let (_directory, registry) = registry().await;
    let user = registry.add_user("a@example.com", "password").await.expect("a user").id;
    let other = registry.add_user("b@example.com", "password").await.expect("a user").id;
    registry.add_devices(vec![owned(1, user, "mine"), NewDevice { name: Some("mine".into()), ..device(2, key()) }]).await.expect("devices");
    let theirs = registry.create_claim_code(other).await.expect("a code");
    assert_eq!(registry.claim_device(DeviceId([1; 12]), theirs.hash()).await.expect("an answer"), Claimed::Refused);
    assert_eq!(registry.devices().owned_by(user), [DeviceId([1; 12])]);
    let again = registry.create_claim_code(user).await.expect("a code");
    assert!(matches!(registry.claim_device(DeviceId([1; 12]), again.hash()).await, Ok(Claimed::Before(_))));
    assert_eq!(registry.claim_device(DeviceId([1; 12]), again.hash()).await.expect("an answer"), Claimed::Refused, "it is used up");

    let named = registry.create_claim_code(user).await.expect("a code");
    assert!(matches!(registry.claim_device(DeviceId([2; 12]), named.hash()).await, Ok(Claimed::Now(device)) if device.name().is_none()));
    assert!(matches!(registry.claim_device(DeviceId([9; 12]), theirs.hash()).await, Err(RegistryError::NoSuchDevice(_))));
}

#[tokio::test]
async fn claim_codes_are_few_and_short_lived() {
    let (_directory, registry) = registry().await;
    let user = registry.add_user("a@example.com", "password").await.expect("a user").id;
    let first = registry.create_claim_code(user).await.expect("a code");
    for _ in 1..100 {
        registry.create_claim_code(user).await.expect("a code");
    }
    assert!(matches!(registry.create_claim_code(user).await, Err(RegistryError::TooManyClaimCodes)));
    assert_eq!(registry.forget_expired_claim_codes(UnixMillis(u64::MAX / 4)).await.expect("an answer"), 100);
    registry.add_devices(vec![device(1, key())]).await.expect("a device");
    assert_eq!(registry.claim_device(DeviceId([1; 12]), first.hash()).await.expect("an answer"), Claimed::Refused);
    registry.create_claim_code(user).await.expect("there is room again");
}

#[tokio::test]
async fn a_database_whose_file_is_gone_is_not_changed_until_it_is_back() {
    let (directory, registry) = registry().await;
    let user = registry.add_user("a@example.com", "password").await.expect("a user").id;
    let issued = registry.issue_token(token(user)).await.expect("a token");
    let (file, away) = (directory.path().join("registry.db"), directory.path().join("away.db"));
    std::fs::rename(&file, &away).expect("moved");
    for _ in 0..2 {
        assert!(matches!(registry.issue_token(token(user)).await, Err(RegistryError::Gone)));
        assert!(!registry.is_up() && registry.tokens().find(&issued.access.hash()).is_some());
        std::fs::write(&file, "something else").expect("written");
    }
    std::fs::rename(&away, &file).expect("moved");
    registry.issue_token(token(user)).await.expect("a token");
    assert!(registry.is_up());
}

#[tokio::test]
async fn whoever_is_impatient_is_told_and_does_not_begin() {
    let (_directory, registry) = registry().await;
    let impatient = registry.with_patience(Duration::from_millis(30));
    let held = registry.inner.changing.lock().await;
    assert!(matches!(impatient.add_devices(vec![device(1, key())]).await, Err(RegistryError::TimedOut)));
    drop(held);
    registry.add_devices(vec![device(2, key())]).await.expect("added");
    assert_eq!(registry.devices().len(), 1, "what was refused was not done later");
}

#[tokio::test]
async fn a_newer_database_is_refused_in_words() {
    let (directory, registry) = registry().await;
    let insert = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (99, 'later', TRUE, '', 0)";
    sqlx::query(insert).execute(registry.pool()).await.expect("inserted");
    registry.close().await;
    let error = Registry::open(&directory.path().join("registry.db")).await.err().expect("refused").to_string();
    assert!(error.contains("of version 99") && error.contains("up to 11") && error.contains("Start"), "{error}");
}

/// A copy of the database of a version, opened.
async fn golden(version: &str) -> (TempDir, Registry) {
    let directory = tempfile::tempdir().expect("a directory");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/registry").join(version).with_extension("db");
    std::fs::copy(golden, directory.path().join("registry.db")).expect("copied");
    let registry = open(&directory).await;
    (directory, registry)
}

/// The databases of all versions, with an account of the password "correct horse", a token and a device.
#[tokio::test]
async fn every_version_keeps_opening() {
    for version in ["v1", "v2", "v3", "v4", "v5", "v10"] {
        let (_directory, registry) = golden(version).await;
        let user = registry.log_in("dev@example.com", "correct horse").await.expect("an answer").expect("the password is right");
        assert_eq!((registry.tokens().len(), registry.devices().owned_by(user.id).len()), (1, 1), "{version}");
        let id = "e00fce68aabbccddeeff0011".parse().expect("an id");
        assert_eq!(registry.devices().find(id).expect("a device").name(), Some("kelp"));
        assert!(registry.device_key(id).await.expect("an answer").is_some());
        registry.create_claim_code(user.id).await.expect("a code");
    }
}

/// In version 10 what a hook says stood there in the clear.
#[tokio::test]
async fn secrets_that_were_stored_in_the_clear_are_sealed_and_read_as_before() {
    let (directory, registry) = golden("v10").await;
    let hooks = registry.all_hooks().await.expect("an answer");
    let [Ok(hook)] = &hooks[..] else { panic!("one hook") };
    assert_eq!(hook.text.url, "https://hooks.example.com/in?key=wrack");
    assert!(hook.text.definition.contains("ebb-and-flow"));
    registry.close().await;
    let bytes = std::fs::read(directory.path().join("registry.db")).expect("a file");
    for secret in ["ebb-and-flow", "key=wrack"] {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret} is still in the file");
    }
}

#[tokio::test]
async fn whoever_compares_sessions_with_the_registry_is_told_to_when_all_of_it_is_there() {
    let (directory, registry) = registry().await;
    registry.add_devices(vec![device(1, key()), device(2, key())]).await.expect("devices");
    drop(registry);
    let registry =
        Registry::open_unread(&directory.path().join("registry.db"), &KeySource::Own, Metrics::new().registry()).await.expect("a registry");
    let mut changes = registry.keys().subscribe();
    registry.fill().await.expect("it can be read");
    assert_eq!(changes.next_change(), None, "or every session would be taken for that of a removed device");
    registry.set_filled();
    assert_eq!((changes.next_change(), registry.devices().len()), (Some(KeyChange::Missed), 2));
}
