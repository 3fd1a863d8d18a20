//! Tests of OAuth clients.

use super::super::tests::{account, open, product, registry};
use super::*;

fn new(name: &str) -> NewClient {
    let scopes = Scopes::parse("customers:create").expect("scopes");
    NewClient { name: name.into(), kind: ClientKind::Installed, redirect_uri: None, scopes }
}

async fn check(registry: &Registry, id: &str, secret: &str) -> ClientCheck {
    registry.check_client(id, secret).await.expect("an answer")
}

#[tokio::test]
async fn a_client_proves_itself_with_the_secret_that_was_shown_once() {
    let (directory, registry) = registry().await;
    let realm = Realm::User(account(&registry, "a").await);
    let made = registry.create_client(realm, new("My App")).await.expect("a client");
    let second = registry.create_client(realm, new("My App")).await.expect("a client");
    assert_eq!((made.client.id.as_str(), second.client.id.as_str()), ("my-app-1", "my-app-2"));
    registry.close().await;

    let registry = open(&directory).await;
    assert_eq!(registry.clients(realm).await.expect("an answer"), [made.client.clone(), second.client]);
    let secret = made.secret.reveal();
    assert_eq!(check(&registry, "my-app-1", secret).await, ClientCheck::Right(made.client));
    assert_eq!(check(&registry, "my-app-1", &secret.to_uppercase()).await, ClientCheck::Wrong);
    assert_eq!(check(&registry, "my-app-2", secret).await, ClientCheck::Wrong);
    for unknown in ["particle", "particle-cli", "CLI2", "my-app-01", "my-app-+1", "my-app-9", "app-1", "-1", "", &"a-".repeat(99)] {
        assert_eq!(check(&registry, unknown, secret).await, ClientCheck::Unknown, "{unknown}");
    }
}

#[tokio::test]
async fn a_clients_token_is_for_whoever_registered_it_and_ends_with_its_scopes_and_with_it() {
    let (directory, registry) = registry().await;
    let owner = account(&registry, "a").await;
    let id = product(&registry, owner, "x").await;
    let (realm, personal) = (Realm::Product(id), Realm::User(owner));
    let client = registry.create_client(realm, new("app")).await.expect("a client").client;
    let own = registry.create_client(personal, new("app")).await.expect("a client").client;
    let issued = registry.issue_client_token(&client, Some(60_000)).await.expect("a token");
    let mine = registry.issue_client_token(&own, None).await.expect("a token");
    registry.close().await;
    let registry = open(&directory).await;
    let record = |token: &IssuedToken| registry.tokens().find(&token.access.hash());
    let found = record(&issued).expect("a token");
    assert_eq!((found.holder, found.user), (Holder::Client { number: client.number, realm }, owner));
    assert_eq!((&found.scopes, found.client.as_str()), (&client.scopes, client.id.as_str()));
    assert_eq!(record(&mine).expect("a token").holder, Holder::Client { number: own.number, realm: personal });

    let rename = ClientEdit { name: Some("App 2".into()), scopes: None };
    assert_eq!(registry.edit_client(realm, &client.id, rename).await.expect("edited").id, client.id);
    assert!(record(&issued).is_some());
    let narrow = ClientEdit { name: None, scopes: Some(Scopes::parse("devices:list").expect("scopes")) };
    registry.edit_client(realm, &client.id, narrow).await.expect("edited");
    assert_eq!(record(&issued), None);
    let again = registry.issue_client_token(&client, None).await.expect("a token");
    assert_eq!(record(&again).expect("a token").scopes.to_string(), "devices:list", "as it is now");
    registry.remove_client(realm, &client.id).await.expect("removed");
    assert_eq!((record(&again), record(&mine).is_some()), (None, true));
    assert!(matches!(registry.issue_client_token(&client, None).await, Err(RegistryError::NoSuch("client"))));
}

#[tokio::test]
async fn a_client_is_changed_only_by_whoever_registered_it() {
    let (_directory, registry) = registry().await;
    let (one, other) = (account(&registry, "a").await, account(&registry, "b").await);
    let client = registry.create_client(Realm::User(one), new("app")).await.expect("a client").client;
    let id = product(&registry, one, "x").await;
    for realm in [Realm::User(other), Realm::Product(id)] {
        assert!(matches!(registry.edit_client(realm, &client.id, ClientEdit::default()).await, Err(RegistryError::NoSuch("client"))));
        assert!(matches!(registry.remove_client(realm, &client.id).await, Err(RegistryError::NoSuch("client"))));
        assert!(registry.clients(realm).await.expect("an answer").is_empty());
    }
    let product_client = registry.create_client(Realm::Product(id), new("app")).await.expect("a client").client;
    registry.remove_product(id).await.expect("removed");
    assert_eq!(check(&registry, &product_client.id, "").await, ClientCheck::Unknown);
}

#[tokio::test]
async fn what_does_not_do_is_refused_and_clients_are_few() {
    let (_directory, registry) = registry().await;
    let realm = Realm::User(account(&registry, "a").await);
    let web = |uri: Option<&str>| NewClient { kind: ClientKind::Web, redirect_uri: uri.map(str::to_owned), ..new("app") };
    let long = format!("https://{}", "a".repeat(512));
    for bad in [new(""), new(&"n".repeat(41)), web(None), web(Some("nowhere")), web(Some("https://a b")), web(Some(&long))] {
        assert!(matches!(registry.create_client(realm, bad.clone()).await, Err(RegistryError::Unfit(_))), "{bad:?}");
    }
    let made = registry.create_client(realm, web(Some("https://example.com/back"))).await.expect("a client");
    assert!(!format!("{made:?}").contains(made.secret.reveal()));
    for _ in 1..CLIENTS_PER_REALM_MAX {
        registry.create_client(realm, new("app")).await.expect("a client");
    }
    assert!(matches!(registry.create_client(realm, new("app")).await, Err(RegistryError::TooMany("clients"))));
}
