//! Tests of hooks.

use super::super::tests::{account, open, product, registry};
use super::*;

fn text(event: &str) -> HookText {
    HookText {
        event: event.into(),
        name: format!("{event} for example.com"),
        url: "https://example.com/?key=hunter2".into(),
        enabled: true,
        definition: r#"{"event":"temp","url":"https://example.com/?key=hunter2","headers":{"Authorization":"Bearer hunter2"}}"#.into(),
    }
}

#[tokio::test]
async fn hooks_are_created_replaced_listed_and_removed() {
    let (directory, registry) = registry().await;
    let realm = Realm::User(account(&registry, "a").await);
    let first = registry.create_hook(realm, text("temp")).await.expect("a hook");
    let second = registry.create_hook(realm, text("hum")).await.expect("a hook");
    assert_eq!(first.id.to_string().len(), 24);
    let other = HookText { enabled: false, definition: "{}".into(), ..text("temperature") };
    let replaced = registry.replace_hook(realm, first.id, other.clone()).await.expect("replaced");
    assert_eq!((&replaced.text, replaced.created_at, replaced.id), (&other, first.created_at, first.id));
    registry.close().await;

    let registry = open(&directory).await;
    let mut listed = registry.hooks(realm).await.expect("an answer");
    listed.sort_by_key(|hook| hook.text.event.len());
    assert_eq!(listed, [second.clone(), replaced.clone()]);
    assert_eq!(registry.hook(realm, first.id).await.expect("an answer"), Some(replaced));
    registry.remove_hook(realm, first.id).await.expect("removed");
    assert_eq!(registry.hook(realm, first.id).await.expect("an answer"), None);
    assert!(matches!(registry.remove_hook(realm, first.id).await, Err(RegistryError::NoSuch("hook"))));
    assert_eq!(registry.hooks(realm).await.expect("an answer"), [second]);
}

#[tokio::test]
async fn a_change_after_one_that_was_given_up_waits_for_its_end() {
    let (_directory, registry) = registry().await;
    let realm = Realm::User(account(&registry, "a").await);
    // Given up, and rolled back a while later.
    let mut given_up = registry.begin().await.expect("a change");
    sqlx::query("DELETE FROM hooks").execute(&mut *given_up).await.expect("deleted");
    let later = tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        drop(given_up);
    });
    registry.create_hook(realm, text("temp")).await.expect("a hook");
    later.await.expect("rolled back");
}

#[tokio::test]
async fn a_hook_is_found_only_where_it_belongs_and_goes_with_its_product() {
    let (_directory, registry) = registry().await;
    let (one, other) = (account(&registry, "a").await, account(&registry, "b").await);
    let id = product(&registry, one, "x").await;
    let (own, shared) = (Realm::User(one), Realm::Product(id));
    let hook = registry.create_hook(shared, text("temp")).await.expect("a hook").id;
    for realm in [own, Realm::User(other), Realm::Product(firmware_protocol::id::ProductId(10_002))] {
        assert_eq!(registry.hook(realm, hook).await.expect("an answer"), None);
        assert!(matches!(registry.replace_hook(realm, hook, text("temp")).await, Err(RegistryError::NoSuch("hook"))));
        assert!(matches!(registry.remove_hook(realm, hook).await, Err(RegistryError::NoSuch("hook"))));
    }
    registry.create_hook(Realm::User(other), text("temp")).await.expect("a hook");
    registry.remove_product(id).await.expect("removed");
    registry.delete_account(other, "password").await.expect("removed");
    for realm in [shared, Realm::User(other)] {
        assert!(registry.hooks(realm).await.expect("an answer").is_empty());
    }
}

#[tokio::test]
async fn what_does_not_do_is_refused() {
    let (_directory, registry) = registry().await;
    let realm = Realm::User(account(&registry, "a").await);
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(DEFINITION_LEN_MAX));
    for bad in [
        text(""),
        text(&"e".repeat(65)),
        HookText { name: String::new(), ..text("temp") },
        HookText { url: String::new(), ..text("temp") },
        HookText { url: "u".repeat(4_097), ..text("temp") },
        HookText { definition: "[]".into(), ..text("temp") },
        HookText { definition: "{".into(), ..text("temp") },
        HookText { definition: long, ..text("temp") },
    ] {
        assert!(matches!(registry.create_hook(realm, bad.clone()).await, Err(RegistryError::Unfit(_))), "{bad:?}");
    }
    registry.create_hook(realm, text("temp")).await.expect("a hook");
    let fill = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1 - 1) INSERT INTO hooks \
                SELECT i, realm, event, name, url, enabled, definition, created_at, updated_at FROM hooks, n";
    sqlx::query(fill).bind(HOOKS_PER_REALM_MAX).execute(registry.pool()).await.expect("filled");
    assert!(matches!(registry.create_hook(realm, text("temp")).await, Err(RegistryError::TooMany("hooks"))));
}

#[tokio::test]
async fn what_a_hook_holds_is_neither_shown_nor_in_the_log() {
    let (_directory, registry) = registry().await;
    let realm = Realm::User(account(&registry, "a").await);
    let hook = registry.create_hook(realm, text("temp")).await.expect("a hook");
    registry.replace_hook(realm, hook.id, text("temp")).await.expect("replaced");
    let told = format!("{hook:?} {:?}", registry.audit(None, 10).await.expect("an answer"));
    assert!(told.contains("hook.replace") && !told.contains("hunter2"));
}
