//! Tests of what holders change about their accounts.

use firmware_protocol::id::DeviceId;
use serde_json::json;

use super::super::tests::{account, acts, device, key, open, owned, product, registry, token};
use super::super::{Claimed, ClientKind, NewClient, NewToken};
use super::*;
use crate::store::{Role, Scopes};

fn email(text: &str) -> AccountEdit {
    AccountEdit { email: Some(text.into()), ..Default::default() }
}

fn password(text: &str) -> AccountEdit {
    AccountEdit { password: Some(text.into()), ..Default::default() }
}

#[tokio::test]
async fn address_and_password_are_changed_by_whoever_knows_the_current_password() {
    let (_directory, registry) = registry().await;
    let user = account(&registry, "a").await;
    account(&registry, "b").await;
    for current in [None, Some("Password"), Some(""), Some(&*"x".repeat(2_000))] {
        for edit in [email("c@example.com"), password("new password")] {
            assert!(matches!(registry.edit_account(user, current, edit).await, Err(RegistryError::WrongPassword)), "{current:?}");
        }
    }
    let current = Some("password");
    assert!(matches!(registry.edit_account(user, current, email("B@example.com")).await, Err(RegistryError::EmailTaken)));
    assert!(matches!(registry.edit_account(user, current, email("nobody")).await, Err(RegistryError::BadEmail)));
    assert!(matches!(registry.edit_account(user, current, password("short")).await, Err(RegistryError::BadPassword)));
    registry.edit_account(user, current, email("c@example.com")).await.expect("another address");
    registry.edit_account(user, current, password("new password")).await.expect("another password");
    for (email, password, opens) in
        [("c@example.com", "new password", true), ("c@example.com", "password", false), ("a@example.com", "new password", false)]
    {
        assert_eq!(registry.log_in(email, password).await.expect("an answer").is_some(), opens, "{email} {password}");
    }
}

#[tokio::test]
async fn what_people_say_of_themselves_is_kept_as_long_as_it_is_short() {
    let (directory, registry) = registry().await;
    let user = account(&registry, "a").await;
    assert_eq!(registry.account_info(user).await.expect("an answer"), json!({}));
    let said = json!({ "first_name": "Ada", "business_account": false });
    registry.edit_account(user, None, AccountEdit { info: Some(said.clone()), ..Default::default() }).await.expect("said");
    for bad in [json!([]), json!("text"), json!({ "company_name": "c".repeat(4_096) })] {
        let edit = AccountEdit { info: Some(bad), ..Default::default() };
        assert!(matches!(registry.edit_account(user, None, edit).await, Err(RegistryError::Unfit(_))));
    }
    registry.close().await;
    assert_eq!(open(&directory).await.account_info(user).await.expect("an answer"), said);
}

#[tokio::test]
async fn tokens_end_when_their_holder_wants_it() {
    let (_directory, registry) = registry().await;
    let user = account(&registry, "a").await;
    let other = account(&registry, "b").await;
    registry.issue_token(token(user)).await.expect("a token");
    let theirs = registry.issue_token(token(other)).await.expect("a token");
    let id = product(&registry, user, "x").await;
    let program = registry.create_api_user(id, "robot", Scopes::All).await.expect("an API user");
    registry.edit_account(user, None, AccountEdit { end_tokens: true, ..Default::default() }).await.expect("ended");
    let is_good = |hash| registry.tokens().find(&hash).is_some();
    assert!(is_good(theirs.access.hash()) && is_good(program.token.hash()), "they are not its own");
    assert_eq!(registry.tokens().len(), 2);
}

#[tokio::test]
async fn an_account_that_is_removed_leaves_its_devices_to_nobody() {
    let (directory, registry) = registry().await;
    let (user, other) = (account(&registry, "a").await, account(&registry, "b").await);
    let own = product(&registry, user, "x").await;
    let theirs = product(&registry, other, "y").await;
    registry.put_member(theirs, "a@example.com", Role::Developer).await.expect("a member");
    registry.add_devices(vec![owned(1, user, "mine"), owned(2, other, "theirs"), device(3, key())]).await.expect("devices");
    registry.import_devices(theirs, vec![DeviceId([1; 12]).to_string()]).await.expect("imported");
    let code = registry.create_claim_code(user).await.expect("a code");
    let issued = registry.issue_token(NewToken { life_ms: None, ..token(user) }).await.expect("a token");
    let new = NewClient { name: "app".into(), kind: ClientKind::Installed, redirect_uri: None, scopes: Scopes::All };
    let client = registry.create_client(Realm::User(user), new).await.expect("a client").client;
    registry.issue_client_token(&client, None).await.expect("a token");

    assert!(matches!(registry.delete_account(user, "password").await, Err(RegistryError::Refused(_))));
    registry.remove_product(own).await.expect("removed");
    assert!(matches!(registry.delete_account(user, "Password").await, Err(RegistryError::WrongPassword)));
    registry.delete_account(user, "password").await.expect("removed");

    assert_eq!((registry.tokens().find(&issued.access.hash()), registry.tokens().len()), (None, 0));
    assert_eq!(registry.claim_device(DeviceId([3; 12]), code.hash()).await.expect("an answer"), Claimed::Refused);
    let expect = |registry: &Registry| {
        let device = registry.devices().find(DeviceId([1; 12])).expect("a device");
        assert_eq!((device.owner(), device.name()), (None, None));
        assert_eq!((acts(registry, 1), acts(registry, 2)), ((Some(other), Some(theirs)), (Some(other), None)));
        assert_eq!(registry.products().find(theirs).expect("a product").role_of(user), None);
    };
    expect(&registry);
    registry.close().await;
    let registry = open(&directory).await;
    expect(&registry);
    assert_eq!(registry.log_in("a@example.com", "password").await.expect("an answer"), None);
    assert!(registry.clients(Realm::User(user)).await.expect("an answer").is_empty());
    assert_ne!(account(&registry, "a").await, user, "its number is nobody else's");
}
