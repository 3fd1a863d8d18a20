//! What a receiver does with what it is sent: it checks the signature, writes down what came and answers, or behaves as sick ones do, until it is cured.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::StatusCode;
use tokio::sync::watch;
use tokio::time::timeout;
use webhooks::sign::{Signed, VerifyingKey, verify};

use super::receivers::Handler;
use super::{Arrival, Post, now};

/// Longest wait for the key: whoever makes a hook can ask for it only then.
const KEY_LIMIT: Duration = Duration::from_secs(10);

/// How a receiver behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mood {
    /// It answers 200 to what is signed as it should be, and 401 to the rest.
    Well,
    /// It takes every request and answers none.
    Silent,
    /// The same as if it were well, but so late.
    Slow(Duration),
    /// It always answers this.
    Answers(StatusCode),
}

/// What a receiver has written down.
#[derive(Clone, Default, Debug)]
pub(crate) struct Book {
    /// What it said 200 to.
    pub(crate) arrivals: Vec<Arrival>,
    /// All requests.
    pub(crate) requests: u64,
    /// Those whose signature was wrong.
    pub(crate) wrong: u64,
    /// Those that were well signed, and of no event of a fleet.
    pub(crate) strange: u64,
}

/// Where requests to one receiver come to.
#[derive(Debug)]
pub(crate) struct Desk {
    mood: watch::Sender<Mood>,
    key: watch::Sender<Option<Arc<VerifyingKey>>>,
    book: Mutex<Book>,
}

impl Desk {
    /// One that behaves like this.
    pub(crate) fn new(mood: Mood) -> Arc<Self> {
        let (mood, key) = (watch::channel(mood).0, watch::channel(None).0);
        Arc::new(Self { mood, key, book: Mutex::default() })
    }

    /// What answers its requests.
    pub(crate) fn handler(self: &Arc<Self>) -> Handler {
        let desk = Arc::clone(self);
        Arc::new(move |post| {
            let desk = Arc::clone(&desk);
            Box::pin(async move { desk.receive(&post).await })
        })
    }

    /// From now on it is well, and so are those who wait.
    pub(crate) fn cure(&self) {
        self.mood.send_replace(Mood::Well);
    }

    /// From now on it believes what is signed with this key, and nothing else.
    pub(crate) fn believe(&self, key: VerifyingKey) {
        self.key.send_replace(Some(Arc::new(key)));
    }

    /// What it has written down so far.
    pub(crate) fn book(&self) -> Book {
        self.writing().clone()
    }

    /// How many it has said 200 to.
    pub(crate) fn arrived(&self) -> usize {
        self.writing().arrivals.len()
    }

    fn writing(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn receive(&self, post: &Post) -> StatusCode {
        self.writing().requests += 1;
        let mut mood = self.mood.subscribe();
        let behaves = *mood.borrow_and_update();
        match behaves {
            Mood::Well => {}
            Mood::Silent => drop(mood.changed().await),
            Mood::Slow(by) => drop(timeout(by, mood.changed()).await),
            Mood::Answers(status) => return status,
        }
        self.take(post).await
    }

    async fn take(&self, post: &Post) -> StatusCode {
        let mut key = self.key.subscribe();
        let known = timeout(KEY_LIMIT, key.wait_for(Option::is_some)).await.ok().and_then(|known| known.ok()?.clone());
        let Some(known) = known else { return StatusCode::SERVICE_UNAVAILABLE };
        let signed =
            Signed::read(&post.headers).and_then(|signed| verify(std::slice::from_ref(&*known), signed, &post.body, now().0 / 1000));
        let (mut book, arrival) = (self.writing(), Arrival::read(post));
        match (signed, arrival) {
            (Err(_), _) => book.wrong += 1,
            (Ok(()), None) => book.strange += 1,
            (Ok(()), Some(arrival)) => book.arrivals.push(arrival),
        }
        if signed.is_ok() { StatusCode::OK } else { StatusCode::UNAUTHORIZED }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::text::EventText;
    use bytes::Bytes;
    use firmware_protocol::id::DeviceId;
    use firmware_protocol::time::UnixMillis;
    use hyper::HeaderMap;
    use router::event::EventId;
    use webhooks::hook::HookId;
    use webhooks::sign::{Envelope, Scheme, SigningKey, SigningKeys, message_id};

    fn key() -> SigningKey {
        SigningKey::generate(Scheme::Ed25519).unwrap()
    }

    fn post(key: SigningKey) -> Post {
        let event = EventText { device: DeviceId([1; 12]), run: 1, count: 0 };
        let body = Bytes::from(format!("{{\"data\":\"{event}\",\"published_at\":\"2026-01-01T00:00:00.000Z\"}}"));
        let (mut headers, id) = (HeaderMap::new(), message_id(EventId([1; 16]), HookId([2; 12])));
        let envelope = Envelope { id: &id, timestamp_s: now().0 / 1000, attempt: 1, replay: None };
        envelope.write(&mut headers, &body, Some(&SigningKeys::new(key))).unwrap();
        Post { path: "/".into(), headers, body, at: UnixMillis(1) }
    }

    #[tokio::test]
    async fn what_is_signed_with_its_key_is_taken_and_nothing_else() {
        let (desk, key, other) = (Desk::new(Mood::Well), key(), key());
        desk.believe(key.verifying().unwrap());
        assert_eq!(desk.receive(&post(other)).await, StatusCode::UNAUTHORIZED);
        assert_eq!(desk.receive(&post(key)).await, StatusCode::OK);
        let book = desk.book();
        assert_eq!((book.requests, book.wrong, book.strange, book.arrivals.len(), desk.arrived()), (2, 1, 0, 1, 1));
    }

    #[tokio::test]
    async fn a_sick_one_takes_nothing_until_it_is_cured() {
        let failing = Desk::new(Mood::Answers(StatusCode::GONE));
        assert_eq!(failing.receive(&post(key())).await, StatusCode::GONE);
        for mood in [Mood::Silent, Mood::Slow(Duration::from_secs(3600))] {
            let (desk, key) = (Desk::new(mood), key());
            desk.believe(key.verifying().unwrap());
            let (waiting, waits) = (post(key), Duration::from_millis(20));
            let request = desk.receive(&waiting);
            tokio::pin!(request);
            assert!(timeout(waits, &mut request).await.is_err() && desk.arrived() == 0, "{mood:?}");
            desk.cure();
            assert_eq!((request.await, desk.arrived()), (StatusCode::OK, 1), "{mood:?}");
        }
    }

    #[tokio::test]
    async fn one_waits_for_its_key() {
        let (desk, key) = (Desk::new(Mood::Well), key());
        let verifying = key.verifying().unwrap();
        let (waiting, hears) = (post(key), desk.clone());
        let request = tokio::spawn(async move { hears.receive(&waiting).await });
        tokio::task::yield_now().await;
        desk.believe(verifying);
        assert_eq!(request.await.unwrap(), StatusCode::OK);
    }
}
