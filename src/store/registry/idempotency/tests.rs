//! Tests of requests with keys.

use firmware_protocol::id::{OwnerId, ProductId};

use super::super::tests::{open, registry};
use super::*;
use crate::store::ApiUserId;

const REQUEST: [u8; 32] = [1; 32];

fn key(user: u64, name: &str) -> IdempotencyKey {
    IdempotencyKey { holder: Holder::User(OwnerId(user)), name: name.into() }
}

fn answer() -> StoredAnswer {
    StoredAnswer { status: 201, headers: vec![("location".into(), "/v1/x".into())], body: b"{\"ok\":true}".to_vec() }
}

async fn begin(registry: &Registry, key: IdempotencyKey) -> Begun {
    registry.begin_request(key, REQUEST).await.expect("an answer")
}

#[tokio::test]
async fn a_request_is_done_once_and_answered_as_often_as_it_is_sent() {
    let (directory, registry) = registry().await;
    assert_eq!(begin(&registry, key(1, "a")).await, Begun::First);
    assert_eq!(begin(&registry, key(1, "a")).await, Begun::UnderWay);
    registry.finish_request(key(1, "a"), answer()).await.expect("kept");
    assert_eq!(begin(&registry, key(1, "a")).await, Begun::Answered(answer()));
    assert_eq!(registry.begin_request(key(1, "a"), [2; 32]).await.expect("an answer"), Begun::Other);
    registry.close().await;
    assert_eq!(begin(&open(&directory).await, key(1, "a")).await, Begun::Answered(answer()));
}

#[tokio::test]
async fn the_same_text_from_somebody_else_is_another_key() {
    let (_directory, registry) = registry().await;
    let program = Holder::ApiUser { product: ProductId(1), id: ApiUserId(1) };
    for key in [key(1, "a"), key(2, "a"), key(1, "A"), IdempotencyKey { holder: program, name: "a".into() }] {
        assert_eq!(begin(&registry, key).await, Begun::First);
    }
}

#[tokio::test]
async fn what_another_process_began_may_have_been_done() {
    let (directory, registry) = registry().await;
    begin(&registry, key(1, "a")).await;
    registry.close().await;
    let registry = open(&directory).await;
    assert_eq!(begin(&registry, key(1, "a")).await, Begun::Interrupted);
    registry.abandon_request(key(1, "a")).await.expect("forgotten");
    assert_eq!(begin(&registry, key(1, "a")).await, Begun::First);
    let long = StoredAnswer { body: vec![0; BODY_LEN_MAX + 1], ..answer() };
    assert!(matches!(registry.finish_request(key(1, "a"), long).await, Err(RegistryError::Unfit(_))));
    assert_eq!(begin(&registry, key(1, "a")).await, Begun::Interrupted);
}

#[tokio::test]
async fn keys_are_few_and_end() {
    let (_directory, registry) = registry().await;
    for bad in ["", "two words", "ü", &"k".repeat(256)] {
        assert!(matches!(registry.begin_request(key(1, bad), REQUEST).await, Err(RegistryError::Unfit(_))), "{bad:?}");
    }
    begin(&registry, key(1, "first")).await;
    let fill = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1 - 1) INSERT INTO idempotency_keys \
                SELECT holder, 'key ' || i, request_hash, state, process, status, headers, body, expires_at FROM idempotency_keys, n";
    sqlx::query(fill).bind(KEYS_PER_HOLDER_MAX).execute(registry.pool()).await.expect("filled");
    assert!(matches!(registry.begin_request(key(1, "more"), REQUEST).await, Err(RegistryError::TooMany(_))));
    assert_eq!(begin(&registry, key(2, "more")).await, Begun::First);
    assert_eq!(begin(&registry, key(1, "first")).await, Begun::UnderWay);
    let end = UnixMillis(dates::now().0 + LIFE_MS);
    assert_eq!(registry.forget_idempotency_keys(UnixMillis(end.0 - 3_600_000)).await.expect("an answer"), 0);
    assert_eq!(registry.forget_idempotency_keys(end).await.expect("an answer"), 10_001);
    assert_eq!(begin(&registry, key(1, "first")).await, Begun::First);
}
