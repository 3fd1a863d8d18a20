//! Tests of codes for another password.

use super::super::tests::{account, registry, token};
use super::*;

#[tokio::test]
async fn a_code_is_good_once_and_ends_all_others_and_the_tokens() {
    let (_directory, registry) = registry().await;
    let user = account(&registry, "a").await;
    registry.issue_token(token(user)).await.expect("a token");
    let (first, ends) = registry.create_password_reset(user).await.expect("a code");
    let (second, _) = registry.create_password_reset(user).await.expect("a code");
    assert!(ends > dates::now() && ends.0 <= dates::now().0 + LIFE_MS);
    let reset = |code: &SecretText, password: &'static str| {
        let (registry, code) = (registry.clone(), code.hash());
        async move { registry.reset_password(code, password).await }
    };
    assert!(matches!(reset(&first, "short").await, Err(RegistryError::BadPassword)));
    assert_eq!(reset(&first, "another password").await.expect("an answer"), Some(user));
    for code in [&first, &second, &SecretText::random().expect("there is randomness")] {
        assert_eq!(reset(code, "a third password").await.expect("an answer"), None);
    }
    assert!(registry.tokens().is_empty());
    assert!(registry.log_in("a@example.com", "another password").await.expect("an answer").is_some());
    let told = format!("{:?}", registry.audit(None, 20).await.expect("an answer"));
    assert!(told.contains("user.reset-code") && told.contains("user.password"));
    assert!(!told.contains(first.reveal()) && !told.contains(&hex::encode(first.hash().bytes())) && !told.contains("another password"));
}

#[tokio::test]
async fn codes_are_few_and_end() {
    let (_directory, registry) = registry().await;
    let user = account(&registry, "a").await;
    assert!(matches!(registry.create_password_reset(OwnerId(99)).await, Err(RegistryError::NoSuch("account"))));
    let (first, _) = registry.create_password_reset(user).await.expect("a code");
    for _ in 1..CODES_PER_USER_MAX {
        registry.create_password_reset(user).await.expect("a code");
    }
    assert!(matches!(registry.create_password_reset(user).await, Err(RegistryError::TooMany(_))));
    sqlx::query("UPDATE password_resets SET expires_at = $1").bind(to_i64(dates::now().0)).execute(registry.pool()).await.expect("aged");
    assert_eq!(registry.reset_password(first.hash(), "another password").await.expect("an answer"), None);
    registry.create_password_reset(user).await.expect("there is room again");
}

#[tokio::test]
async fn an_operator_sets_a_password_and_with_it_ends_codes_and_tokens() {
    let (_directory, registry) = registry().await;
    let user = account(&registry, "a").await;
    registry.issue_token(token(user)).await.expect("a token");
    let (code, _) = registry.create_password_reset(user).await.expect("a code");
    registry.set_password(user, "another password").await.expect("set");
    assert!(registry.tokens().is_empty());
    assert_eq!(registry.reset_password(code.hash(), "a third password").await.expect("an answer"), None);
    assert!(registry.log_in("a@example.com", "another password").await.expect("an answer").is_some());
    assert!(matches!(registry.set_password(OwnerId(99), "another password").await, Err(RegistryError::NoSuch("account"))));
}
