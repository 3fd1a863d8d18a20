//! Tests of secrets at rest.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::super::tests::{account, open, registry};
use super::super::{HookText, StoredHook};
use super::*;
use crate::store::Realm;

const URL: &str = "https://example.com/?key=hunter2";
const DEFINITION: &str = r#"{"headers":{"Authorization":"Bearer hunter2"}}"#;

fn text() -> HookText {
    HookText { event: "temp".into(), name: "n".into(), url: URL.into(), enabled: true, definition: DEFINITION.into() }
}

async fn filled(hooks: usize) -> (TempDir, Registry, Realm) {
    let (directory, registry) = registry().await;
    let realm = Realm::User(account(&registry, "a").await);
    for _ in 0..hooks {
        registry.create_hook(realm, text()).await.unwrap();
    }
    (directory, registry, realm)
}

/// Puts what hooks say into the clear, as it was before there were envelopes.
async fn unseal(registry: &Registry) {
    let update = sqlx::query("UPDATE hooks SET url = $1, definition = $2");
    update.bind(URL).bind(DEFINITION).execute(registry.pool()).await.unwrap();
}

fn key_file(directory: &TempDir) -> PathBuf {
    directory.path().join("master-keys")
}

fn is_well(hooks: &[StoredHook]) -> bool {
    hooks.iter().all(|hook| hook.text == text())
}

#[tokio::test]
async fn nothing_secret_is_in_the_files_of_the_database() {
    let (directory, registry, realm) = filled(2).await;
    assert!(is_well(&registry.hooks(realm).await.unwrap()));
    registry.close().await;
    for entry in fs::read_dir(directory.path()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = if path.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        assert!(!bytes.windows(7).any(|window| window == b"hunter2"), "{}", path.display());
    }
}

#[tokio::test]
async fn what_stands_in_the_clear_is_sealed_at_the_next_start_and_not_twice() {
    let (directory, registry, realm) = filled(1).await;
    let fill = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 150) INSERT INTO hooks \
                SELECT printf('%024d', i), realm, event, name, url, enabled, definition, created_at, updated_at FROM hooks, n";
    sqlx::query(fill).execute(registry.pool()).await.unwrap();
    unseal(&registry).await;
    // An address that looks like an envelope and is none.
    sqlx::query("UPDATE hooks SET url = 'hf1:x' WHERE id = printf('%024d', 7)").execute(registry.pool()).await.unwrap();
    assert!(matches!(registry.hooks(realm).await, Err(RegistryError::Secret(EnvelopeError::Plain(_)))));
    registry.close().await;
    let registry = open(&directory).await;
    let hooks = registry.hooks(realm).await.unwrap();
    assert_eq!(hooks.iter().filter(|hook| hook.text.url == "hf1:x").count(), 1);
    assert_eq!(hooks.iter().filter(|hook| hook.text == text()).count(), 150);
    let before: Vec<String> = sqlx::query_scalar("SELECT url FROM hooks ORDER BY id").fetch_all(registry.pool()).await.unwrap();
    registry.close().await;
    let registry = open(&directory).await;
    let after: Vec<String> = sqlx::query_scalar("SELECT url FROM hooks ORDER BY id").fetch_all(registry.pool()).await.unwrap();
    assert_eq!(after, before);
}

#[tokio::test]
async fn an_envelope_that_was_moved_or_changed_is_a_typed_error_and_other_hooks_are_read() {
    let (_directory, registry, realm) = filled(3).await;
    let swap =
        "UPDATE hooks SET url = (SELECT url FROM hooks ORDER BY id DESC LIMIT 1) WHERE id = (SELECT id FROM hooks ORDER BY id LIMIT 1)";
    sqlx::query(swap).execute(registry.pool()).await.unwrap();
    assert!(matches!(registry.hooks(realm).await, Err(RegistryError::Secret(EnvelopeError::Forged { .. }))));
    let all = registry.all_hooks().await.unwrap();
    assert_eq!((all.len(), all.iter().filter(|hook| hook.is_ok()).count()), (3, 2));
    let report = registry.check_secrets().await.unwrap();
    assert_eq!((report.secrets, report.unreadable, report.reasons.len()), (6, 1, 1));
    assert!(matches!(registry.rotate_secrets().await, Err(RegistryError::Refused(_))));
    assert_eq!(registry.check_secrets().await.unwrap(), report, "nothing has begun");
}

#[tokio::test]
async fn all_secrets_are_sealed_anew_and_the_old_key_goes_when_nothing_needs_it() {
    let (directory, registry, realm) = filled(100).await;
    let hook = registry.hooks(realm).await.unwrap()[0].id;
    for key in ["whsec_a", "whsec_b"] {
        registry.set_signing_key(realm, hook, key.into(), firmware_protocol::time::UnixMillis(9)).await.unwrap();
    }
    let before = registry.check_secrets().await.unwrap();
    assert_eq!((before.secrets, before.stale(), before.by_key.len()), (202, 0, 1));
    assert!(matches!(registry.drop_master_key(before.current.clone()).await, Err(RegistryError::Refused(_))));
    let rotated = registry.rotate_secrets().await.unwrap();
    assert_eq!(rotated, Rotated { key: rotated.key.clone(), is_new: true, sealed: 202, secrets: 202 });
    assert_ne!(rotated.key, before.current);
    let after = registry.check_secrets().await.unwrap();
    assert_eq!((after.by_key[&before.current], after.by_key[&rotated.key], after.unreadable), (0, 202, 0));
    registry.drop_master_key(before.current.clone()).await.unwrap();
    assert!(matches!(registry.drop_master_key(before.current).await, Err(RegistryError::NoSuch(_))));
    assert!(matches!(registry.drop_master_key(rotated.key).await, Err(RegistryError::Refused(_))));
    registry.close().await;
    let registry = open(&directory).await;
    assert!(is_well(&registry.hooks(realm).await.unwrap()));
    assert_eq!(registry.signing_keys(realm, hook).await.unwrap().unwrap().current, "whsec_b");
    let acts = format!("{:?}", registry.audit(None, 100).await.unwrap());
    assert!(acts.contains("secrets.rotate") && acts.contains("secrets.drop"));
}

#[tokio::test]
async fn a_rotation_that_was_cut_off_is_gone_on_with() {
    let (directory, registry, realm) = filled(100).await;
    let old = registry.check_secrets().await.unwrap().current;
    registry.with_master(MasterKeyFile::add).await.unwrap();
    assert_eq!(registry.seal_some().await.unwrap(), 64);
    registry.close().await;
    let registry = open(&directory).await;
    assert!(is_well(&registry.hooks(realm).await.unwrap()), "both keys are there");
    assert!(matches!(registry.drop_master_key(old).await, Err(RegistryError::Refused(_))));
    let rotated = registry.rotate_secrets().await.unwrap();
    assert_eq!((rotated.is_new, rotated.sealed, rotated.secrets), (false, 136, 200));
}

#[tokio::test]
async fn a_missing_or_another_master_key_is_a_typed_error() {
    let (directory, registry, realm) = filled(1).await;
    registry.close().await;
    let file = directory.path().join("registry.db");
    let kept = fs::read(key_file(&directory)).unwrap();
    fs::remove_file(key_file(&directory)).unwrap();
    let error = Registry::open(&file).await.err().unwrap();
    assert!(matches!(&error, RegistryError::Secret(EnvelopeError::NoFile { .. })) && error.to_string().contains("Put the file back"));
    assert!(!key_file(&directory).exists(), "none is made");
    let elsewhere = tempfile::tempdir().unwrap();
    let given = elsewhere.path().join("keys");
    let id = String::from_utf8(kept.clone()).unwrap().split(':').next().unwrap().to_owned();
    for (name, is_forged) in [("another", false), (id.as_str(), true)] {
        durable::replace_file(&given, format!("{name}:{}=\n", "A".repeat(43)).as_bytes()).unwrap();
        let registry = Registry::open_with(&file, &KeySource::Given(given.clone())).await.unwrap();
        let error = registry.hooks(realm).await.unwrap_err();
        match error {
            RegistryError::Secret(EnvelopeError::Forged { .. }) => assert!(is_forged),
            RegistryError::Secret(EnvelopeError::Key { .. }) => assert!(!is_forged),
            other => panic!("{other}"),
        }
        registry.close().await;
    }
    durable::replace_file(&given, &kept).unwrap();
    let registry = Registry::open_with(&file, &KeySource::Given(given)).await.unwrap();
    assert!(is_well(&registry.hooks(realm).await.unwrap()));
}

#[tokio::test]
async fn a_key_that_somebody_put_into_the_file_is_taken_up() {
    let (directory, registry, realm) = filled(3).await;
    let before = fs::read_to_string(key_file(&directory)).unwrap();
    durable::replace_file(&key_file(&directory), format!("mine:{}=\n{before}", "A".repeat(43)).as_bytes()).unwrap();
    let rotated = registry.rotate_secrets().await.unwrap();
    assert_eq!((rotated.key.as_str(), rotated.is_new, rotated.sealed), ("mine", false, 6));
    assert!(is_well(&registry.hooks(realm).await.unwrap()));
}
