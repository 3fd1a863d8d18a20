//! Tests of teams.

use super::super::tests::{account, open, product, registry};
use super::*;
use crate::store::{Holder, ProductKey};

#[tokio::test]
async fn people_look_after_a_product_as_far_as_their_role_goes() {
    let (directory, registry) = registry().await;
    let (one, other) = (account(&registry, "a").await, account(&registry, "b").await);
    let id = product(&registry, one, "x").await;
    assert_eq!(registry.put_member(id, "B@example.com", Role::Viewer).await.expect("a member").id, other);
    registry.put_member(id, "b@example.com", Role::Administrator).await.expect("another role");
    for (email, role) in [("a@example.com", Role::Viewer), ("b@example.com", Role::Owner)] {
        assert!(matches!(registry.put_member(id, email, role).await, Err(RegistryError::Refused(_))), "{email}");
    }
    assert!(matches!(registry.put_member(id, "c@example.com", Role::Viewer).await, Err(RegistryError::NoSuchUser(_))));
    registry.close().await;

    let registry = open(&directory).await;
    let team = registry.team(id).await.expect("a team");
    let team: Vec<_> = team.iter().map(|(user, role)| (user.email.as_str(), *role)).collect();
    assert_eq!(team, [("a@example.com", Role::Owner), ("b@example.com", Role::Administrator)]);
    let seen = |registry: &Registry| registry.products().find_for(&Holder::User(other), &ProductKey::from(id)).map(|(_, role)| role);
    assert_eq!(seen(&registry), Some(Role::Administrator));
    registry.remove_member(id, other).await.expect("removed");
    assert_eq!(seen(&registry), None);
    assert!(matches!(registry.remove_member(id, other).await, Err(RegistryError::NoSuch(_))));
    registry.close().await;
    assert_eq!(seen(&open(&directory).await), None);
}
