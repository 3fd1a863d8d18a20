//! The hook, its client and its receiver, with whoever dispatches played by hand.

use std::cell::RefCell;

use firmware_protocol::time::UnixMillis;
use router::event::Event;
use webhooks::client::{Answer, Attempt, Failure};
use webhooks::request::{EventFacts, Outgoing};
use webhooks::sign::{Envelope, message_id};

use super::*;
use crate::metrics::Metrics;

/// A hook whose receiver runs.
struct World {
    metrics: Metrics,
    hook: Arc<Hook>,
    keys: Arc<SigningKeys>,
    client: Arc<Client>,
    judge: Arc<Judge>,
}

impl World {
    fn new() -> Self {
        let (metrics, clock) = (Metrics::new(), Clock::start());
        let synthetic = Synthetic::new(2, clock, metrics.webhooks().synthetic).unwrap();
        let (Listed { hook, keys, .. }, client) = (synthetic.listed(), synthetic.client());
        let (judge, keys) = (Arc::clone(&synthetic.judge), keys.unwrap());
        tokio::spawn(receiver::serve(TcpListener::from_std(synthetic.listener).unwrap(), Arc::clone(&judge)));
        Self { metrics, hook, keys, client, judge }
    }

    /// What a shard is given.
    fn published(&self, shard: usize) -> Event {
        let taken = RefCell::new(None);
        self.judge.publish(shard, |_, event| taken.replace(Some(event)).is_none());
        taken.into_inner().expect("an event").accept(UnixMillis(1_767_225_600_000), [7; 10])
    }

    async fn send(&self, event: &Event, keys: &SigningKeys, attempt: u32) -> Result<Answer, Failure> {
        assert!(self.hook.matches(event));
        let Outgoing { method, url, mut headers, body } = Outgoing::new(&self.hook, event, &EventFacts::default()).unwrap();
        let id = message_id(event.id, HOOK);
        let timestamp_s = self.judge.clock.now().unix.0 / 1_000;
        Envelope { id: &id, timestamp_s, attempt, replay: None }.write(&mut headers, &body, Some(keys)).unwrap();
        let timeout = self.hook.timeout;
        self.client.send(Attempt { hook: HOOK, method, url: &url, headers, body, verify_tls: true, timeout, keep_max: 0 }).await
    }

    fn told(&self, line: &str) -> bool {
        self.metrics.render().lines().any(|told| told == line)
    }
}

#[tokio::test]
async fn what_a_shard_is_given_arrives_signed_and_is_verified() {
    let world = World::new();
    for shard in [0, 1, 1] {
        let event = world.published(shard);
        assert_eq!(world.send(&event, &world.keys, 1).await.unwrap().status, 204);
    }
    assert!(world.told("holdfast_synthetic_delivery_seconds_count 3") && world.told("holdfast_synthetic_events_total 3"));
    assert!(!world.told("holdfast_synthetic_delivery_timestamp_seconds 0"));
    assert_eq!(world.client.counts().opened, 1, "its connection is kept");
}

#[tokio::test]
async fn what_is_not_as_it_should_be_is_told_apart() {
    let world = World::new();
    let (one, two, mut other) = (world.published(0), world.published(0), world.published(1));
    let foreign = SigningKeys::new(SigningKey::generate(Scheme::Ed25519).unwrap());
    assert_eq!(world.send(&one, &foreign, 1).await.unwrap().status, 401);
    assert_eq!(world.send(&two, &world.keys, 1).await.unwrap().status, 204);
    assert_eq!(world.send(&one, &world.keys, 1).await.unwrap().status, 204);
    other.data = Some(b"{\"run\":1}".to_vec());
    assert_eq!(world.send(&other, &world.keys, 1).await.unwrap().status, 400);
    other.data = Some(vec![b'x'; 5_000]);
    assert_eq!(world.send(&other, &world.keys, 1).await.unwrap().status, 400);
    for (why, count) in [("signature", 1), ("disorder", 1), ("malformed", 1), ("late", 0), ("missing", 0)] {
        assert!(world.told(&format!("holdfast_synthetic_delivery_failures_total{{why=\"{why}\"}} {count}")), "{why}");
    }
    world.judge.publish(0, |_, _| false);
    assert!(world.told("holdfast_synthetic_delivery_failures_total{why=\"unsent\"} 1"));
}

#[tokio::test]
async fn its_client_reaches_its_receiver_and_nobody_else() {
    let world = World::new();
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    let url = format!("http://{other}/").parse().unwrap();
    let attempt = Attempt {
        hook: HOOK,
        method: hyper::Method::POST,
        url: &url,
        headers: hyper::HeaderMap::new(),
        body: bytes::Bytes::new(),
        verify_tls: true,
        timeout: Duration::from_secs(1),
        keep_max: 0,
    };
    assert!(world.client.send(attempt).await.is_err() && world.client.counts().refused == 1);
}

#[test]
fn no_account_hears_of_its_events() {
    let message = Ledger::new(1, 2).send(UnixMillis(0), 1).unwrap();
    let event = event(1, &message).unwrap().accept(UnixMillis(0), [0; 10]);
    assert!(i64::try_from(OWNER.0).is_err(), "the registry gives no such number");
    assert_eq!(event.whose().audiences().collect::<Vec<_>>(), [Audience::Owner(OWNER)]);
}
