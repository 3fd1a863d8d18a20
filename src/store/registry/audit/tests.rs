//! Tests of the log of acts.

use std::net::{IpAddr, Ipv4Addr};

use firmware_protocol::id::DeviceId;

use super::super::tests::{device, key, open, owned, registry, token};
use super::*;
use crate::store::{Actor, Who};

async fn tampered(registry: &Registry, statement: &'static str) -> AuditVerdict {
    sqlx::query(statement).execute(registry.pool()).await.expect("done");
    registry.verify_audit().await.expect("an answer")
}

fn broken_at(verdict: &AuditVerdict) -> Option<u64> {
    match verdict {
        AuditVerdict::Broken { number, .. } => Some(*number),
        AuditVerdict::Whole { .. } => None,
    }
}

#[tokio::test]
async fn an_act_says_who_did_what_to_what_and_from_where() {
    let (directory, registry) = registry().await;
    let operator = registry.by(Actor::OPERATOR);
    let user = operator.add_user("a@example.com", "correct horse").await.expect("a user").id;
    let home = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
    let person = registry.by(Actor::at(Who::User(user), home));
    person.add_devices(vec![owned(1, user, "kelp"), device(2, key())]).await.expect("devices");
    person.remove_device(DeviceId([1; 12])).await.expect("it was there");

    let rows = registry.audit(None, 10).await.expect("an answer");
    let told: Vec<_> = rows.iter().map(|row| (row.number(), row.who.as_str(), row.act.as_str(), row.object.as_str())).collect();
    assert_eq!(
        told,
        [
            (3, "user:1", "device.remove", "device:010101010101010101010101"),
            (2, "user:1", "device.add", "device:010101010101010101010101"),
            (1, "operator", "user.add", "user:1"),
        ]
    );
    assert_eq!((rows[0].address.as_deref(), rows[2].address.as_deref()), (Some("192.0.2.7"), None));
    assert_eq!(registry.audit(Some(2), 10).await.expect("an answer"), rows[2..]);
    assert_eq!(registry.audit(None, 1).await.expect("an answer"), rows[..1]);

    drop((registry, operator, person));
    let again = open(&directory).await;
    assert!(matches!(again.verify_audit().await.expect("an answer"), AuditVerdict::Whole { rows: 3, .. }));
}

#[tokio::test]
async fn what_was_not_done_is_not_in_the_log() {
    let (_directory, registry) = registry().await;
    registry.add_devices(vec![device(1, key())]).await.expect("a device");
    assert!(registry.add_devices(vec![device(1, key())]).await.is_err());
    assert!(registry.remove_device(DeviceId([9; 12])).await.is_err());
    assert_eq!(registry.audit(None, 10).await.expect("an answer").len(), 1);
}

#[tokio::test]
async fn no_secret_is_in_the_log() {
    let (_directory, registry) = registry().await;
    let user = registry.add_user("a@example.com", "correct horse").await.expect("a user").id;
    let issued = registry.issue_token(token(user)).await.expect("a token");
    registry.revoke_token(issued.access.hash()).await.expect("an answer");
    let text = format!("{:?}", registry.audit(None, 10).await.expect("an answer"));
    assert!(text.contains("token.issue") && text.contains("token.revoke") && text.contains(&issued.id));
    for secret in [issued.access.reveal(), issued.refresh.as_ref().expect("a refresh token").reveal(), "correct horse"] {
        assert!(!text.contains(secret));
    }
    assert!(!text.contains(&hex::encode(issued.access.hash().0)));
}

#[tokio::test]
async fn a_row_that_was_changed_or_taken_out_or_put_in_is_found() {
    for (statement, found) in [
        ("UPDATE audit_log SET who = 'operator' WHERE number = 2", 2),
        ("UPDATE audit_log SET at = at + 1 WHERE number = 3", 3),
        ("UPDATE audit_log SET address = '' WHERE number = 1", 1),
        ("UPDATE audit_log SET hash = lower(hash) || '0' WHERE number = 4", 4),
        ("DELETE FROM audit_log WHERE number = 3", 3),
        ("DELETE FROM audit_log WHERE number = 1", 1),
        ("DELETE FROM audit_log WHERE number >= 4", 4),
        ("DELETE FROM audit_log", 1),
        ("INSERT INTO audit_log SELECT 6, at, who, address, act, object, detail, hash FROM audit_log WHERE number = 5", 6),
        ("UPDATE audit_head SET next = 5", 5),
        ("UPDATE audit_head SET last_hash = before_hash", 5),
    ] {
        let (_directory, registry) = registry().await;
        for number in 1..=5 {
            registry.add_devices(vec![device(number, key())]).await.expect("a device");
        }
        assert!(matches!(registry.verify_audit().await.expect("an answer"), AuditVerdict::Whole { rows: 5, .. }));
        let verdict = tampered(&registry, statement).await;
        assert_eq!(broken_at(&verdict), Some(found), "{statement}: {verdict:?}");
    }
}

#[tokio::test]
async fn a_log_that_lost_its_beginning_in_order_is_whole() {
    let (_directory, registry) = registry().await;
    for number in 1..=5 {
        registry.add_devices(vec![device(number, key())]).await.expect("a device");
    }
    let mut connection = registry.pool().acquire().await.expect("a connection");
    drop_first(&mut connection, 1).await.expect("dropped");
    drop_first(&mut connection, 2).await.expect("dropped");
    drop(connection);
    assert!(matches!(registry.verify_audit().await.expect("an answer"), AuditVerdict::Whole { rows: 3, .. }));
    let verdict = tampered(&registry, "DELETE FROM audit_log WHERE number = 3").await;
    assert_eq!(broken_at(&verdict), Some(3));
}

#[test]
fn long_texts_are_cut_between_characters() {
    assert_eq!(cut("ü".repeat(300)).len(), 512);
    assert_eq!(cut(format!("a{}", "ü".repeat(300))).len(), 511);
    assert_eq!(cut("short".to_owned()), "short");
}
