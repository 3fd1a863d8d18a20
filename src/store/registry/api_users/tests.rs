//! Tests of API users.

use super::super::tests::{account, open, product, registry};
use super::*;

fn scopes(text: &str) -> Scopes {
    Scopes::parse(text).expect("scopes")
}

#[tokio::test]
async fn an_api_user_reaches_its_product_with_one_token_at_a_time() {
    let (directory, registry) = registry().await;
    let owner = account(&registry, "a").await;
    let id = product(&registry, owner, "x").await;
    let made = registry.create_api_user(id, "My Robot", scopes("devices:list")).await.expect("an API user");
    assert!(made.user.username.starts_with("my-robot+") && made.user.username.ends_with("@api.holdfast"), "{}", made.user.username);
    let record = registry.tokens().find(&made.token.hash()).expect("a token");
    assert_eq!((record.holder, record.user, record.expires_at), (Holder::ApiUser { product: id, id: made.user.id }, owner, None));
    assert_eq!(record.scopes, scopes("devices:list"));
    assert!(registry.list_tokens(Some(owner)).await.expect("an answer").is_empty(), "it is not the owner's own");
    assert_eq!(registry.revoke_all_tokens(owner).await.expect("an answer"), 0);

    let changed = registry.set_api_user_scopes(id, &made.user.username, scopes("events:get")).await.expect("other scopes");
    assert_eq!(registry.tokens().find(&made.token.hash()), None);
    registry.close().await;
    let registry = open(&directory).await;
    assert_eq!(registry.tokens().len(), 1);
    let record = registry.tokens().find(&changed.token.hash()).expect("a token");
    assert_eq!((record.holder, &record.scopes), (Holder::ApiUser { product: id, id: made.user.id }, &scopes("events:get")));
    assert_eq!(registry.api_users(id).await.expect("an answer"), [changed.user]);

    registry.remove_api_user(id, &made.user.username).await.expect("removed");
    assert!(registry.tokens().is_empty());
    assert!(matches!(registry.remove_api_user(id, &made.user.username).await, Err(RegistryError::NoSuch("API user"))));
}

#[tokio::test]
async fn an_api_user_is_found_in_its_own_product_only() {
    let (_directory, registry) = registry().await;
    let owner = account(&registry, "a").await;
    let (one, other) = (product(&registry, owner, "x").await, product(&registry, owner, "y").await);
    let username = registry.create_api_user(one, "robot", scopes("devices:list")).await.expect("an API user").user.username;
    assert!(matches!(registry.set_api_user_scopes(other, &username, Scopes::All).await, Err(RegistryError::NoSuch("API user"))));
    assert!(matches!(registry.remove_api_user(other, &username).await, Err(RegistryError::NoSuch("API user"))));
    assert!(registry.api_users(other).await.expect("an answer").is_empty());
    for bad in ["", "two\nlines", &"n".repeat(65)] {
        assert!(matches!(registry.create_api_user(one, bad, Scopes::All).await, Err(RegistryError::Unfit(_))), "{bad:?}");
    }
}

#[tokio::test]
async fn nobody_signs_up_with_the_name_of_a_program() {
    let (_directory, registry) = registry().await;
    for bad in ["robot+0123456789@api.holdfast", "me@API.Holdfast"] {
        assert!(matches!(registry.add_user(bad, "password").await, Err(RegistryError::BadEmail)), "{bad}");
    }
}
