//! One attempt: makes the request, signs it, sends it, publishes what was answered, and tells how it ended.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use firmware_protocol::id::DeviceId;
use firmware_protocol::time::UnixMillis;
use futures_util::future::join_all;
use router::event::{Event, NewEvent, Source};
use webhooks::client::{Answer, Attempt, BODY_READ_MAX, Client};
use webhooks::delivery::{DeliveryId, Outcome, Phase};
use webhooks::dispatcher::JobId;
use webhooks::request::{EventFacts, Outgoing};
use webhooks::response::{self, Published};
use webhooks::sign::{Envelope, message_id};

use super::book::Listed;
use super::desk::Tested;
use super::message::{Ended, Message};
use crate::api::Gateway;
use crate::api::gateway::{Presence, PublishError};
use crate::clock::Clock;
use crate::deliveries::ANSWER_LEN_MAX;
use crate::metrics::WebhookMetrics;
use crate::store::Registry;

/// Events of one answer that are being published at the same time.
const PUBLISHED_AT_ONCE: usize = 32;
/// How long it is tried to publish what was answered, while the journal takes nothing.
const PUBLISH_PATIENCE: Duration = Duration::from_secs(30);
/// How long to wait between two tries.
const PUBLISH_PAUSE: Duration = Duration::from_millis(200);
/// How long a shard may take to say what a device is and runs.
const FACTS_PATIENCE: Duration = Duration::from_secs(2);

/// What is to be sent.
#[derive(Clone, Debug)]
pub(super) struct Order {
    /// Which delivery it is of.
    pub(super) delivery: DeliveryId,
    /// Which attempt, from 1.
    pub(super) attempt: u8,
    /// The replay that it belongs to.
    pub(super) job: Option<JobId>,
    /// The hook.
    pub(super) listed: Listed,
    /// The event.
    pub(super) event: Arc<Event>,
}

/// What couriers share.
#[derive(Clone)]
pub(super) struct Couriers {
    /// Sends.
    pub(super) client: Arc<Client>,
    /// Sends for the hook that tries the whole way, whose receiver is in this process.
    pub(super) own_client: Arc<Client>,
    /// Publishes answers.
    pub(super) gateway: Arc<dyn Gateway>,
    /// Knows devices.
    pub(super) registry: Registry,
    /// Where it is told how attempts ended.
    pub(super) inbox: Sender<Message>,
    /// The clocks.
    pub(super) clock: Clock,
    /// What is counted.
    pub(super) metrics: WebhookMetrics,
}

impl std::fmt::Debug for Couriers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Couriers").field("client", &self.client).finish_non_exhaustive()
    }
}

/// What came of a request.
struct Carried {
    result: Result<Answer, Outcome>,
    /// Where it went, as far as that is known.
    host: String,
}

impl Couriers {
    /// Makes an attempt, and tells the inbox how it ended, whatever happens.
    pub(super) async fn carry(self, order: Order) {
        let mut report = Report::new(&self, &order);
        let facts = self.facts(&order.listed, &order.event).await;
        let carried = self.send(&order, &facts, &report.request).await;
        report.took = report.begun.elapsed();
        let outcome = outcome_of(&carried.result);
        let published = if order.listed.publishes && order.job.is_none() {
            self.publish(events_of(&order, &facts, &carried, &outcome)).await
        } else {
            Ok(())
        };
        report.outcome = match (&carried.result, published) {
            (Ok(_), Err(error)) => failed(Phase::Body, format!("what was answered could not be published: {error}")),
            _ => outcome,
        };
        if let Ok(answer) = carried.result {
            report.answer = kept(answer.body);
        }
    }

    /// Sends one request and publishes nothing.
    pub(super) async fn test(self, listed: Listed, event: Event) -> Tested {
        let (began, facts) = (Instant::now(), self.facts(&listed, &event).await);
        let delivery = DeliveryId { hook: listed.hook.id, position: router::event::Position(0) };
        let order = Order { delivery, attempt: 1, job: None, listed, event: Arc::new(event) };
        let carried = self.send(&order, &facts, &message_id(order.event.id, delivery.hook)).await;
        let took_ms = millis(began.elapsed());
        match carried.result {
            Ok(answer) => {
                let text = String::from_utf8_lossy(&kept(answer.body)).into_owned();
                Tested { status: Some(answer.status), text, took_ms }
            }
            Err(outcome) => {
                let text = match outcome {
                    Outcome::Failed { phase, error } => format!("{phase}: {error}"),
                    Outcome::Answered { status, .. } => format!("status {status}"),
                };
                Tested { status: None, text, took_ms }
            }
        }
    }

    /// Sends a request under the name `id`.
    async fn send(&self, order: &Order, facts: &EventFacts, id: &str) -> Carried {
        let Order { listed, event, .. } = order;
        let mut request = match Outgoing::new(&listed.hook, event, facts) {
            Ok(request) => request,
            Err(error) => return Carried { result: Err(error.into()), host: String::new() },
        };
        let host = request.url.host_str().unwrap_or_default().to_owned();
        let replay = order.job.map(|job| job.0.to_string());
        let timestamp_s = self.clock.now().unix.0 / 1_000;
        let envelope = Envelope { id, timestamp_s, attempt: order.attempt.into(), replay: replay.as_deref() };
        if let Err(error) = envelope.write(&mut request.headers, &request.body, listed.keys.as_deref()) {
            return Carried { result: Err(failed(Phase::Render, error.to_string())), host };
        }
        let attempt = Attempt {
            hook: listed.hook.id,
            method: request.method,
            url: &request.url,
            headers: request.headers,
            body: request.body,
            verify_tls: listed.hook.verifies_tls,
            timeout: listed.hook.timeout,
            keep_max: if listed.publishes { BODY_READ_MAX } else { ANSWER_LEN_MAX },
        };
        let client = if listed.is_own { &self.own_client } else { &self.client };
        let result = client.send(attempt).await.map_err(|failure| failed(failure.phase, failure.error));
        Carried { result, host }
    }

    /// What the event does not say of the device that published it.
    async fn facts(&self, listed: &Listed, event: &Event) -> EventFacts {
        if !listed.hook.names.any {
            return EventFacts::default();
        }
        let Source::Device(id) = event.source else { return EventFacts::default() };
        let Some(device) = self.registry.devices().find(id) else { return EventFacts::default() };
        let known = event.product.map(|product| product.0).or(device.platform_id().map(u32::from));
        let asks = listed.hook.names.product && known.is_none() || listed.hook.names.version && event.product.is_some();
        let presence = if asks { self.presence(id).await } else { None }.unwrap_or_default();
        EventFacts {
            product: known.or(presence.platform_id.map(u32::from)),
            product_version: presence.firmware_version.filter(|_| event.product.is_some()),
            product_user: device.owner().filter(|_| listed.hook.names.user),
        }
    }

    async fn presence(&self, device: DeviceId) -> Option<Presence> {
        let asked = tokio::time::timeout(FACTS_PATIENCE, self.gateway.presences(vec![device])).await;
        asked.ok()?.pop()
    }

    /// Publishes events so that they are in the journal when it returns.
    async fn publish(&self, events: Vec<NewEvent>) -> Result<(), PublishError> {
        let until = Instant::now() + PUBLISH_PATIENCE;
        for some in events.chunks(PUBLISHED_AT_ONCE) {
            let published = join_all(some.iter().map(|event| self.publish_one(event, until))).await;
            published.into_iter().collect::<Result<(), _>>()?;
        }
        Ok(())
    }

    async fn publish_one(&self, event: &NewEvent, until: Instant) -> Result<(), PublishError> {
        loop {
            match self.gateway.publish(event.clone()).await {
                Err(PublishError::Busy | PublishError::Unavailable | PublishError::Interrupted) if Instant::now() < until => {
                    tokio::time::sleep(PUBLISH_PAUSE).await;
                }
                done => {
                    self.metrics.published(1, done.is_ok());
                    return done.map(drop);
                }
            }
        }
    }
}

/// Tells how an attempt ended when it goes, even if the attempt came to no end.
struct Report<'a> {
    couriers: &'a Couriers,
    order: &'a Order,
    /// The name of the message.
    request: String,
    began_at: UnixMillis,
    begun: Instant,
    took: Duration,
    outcome: Outcome,
    answer: Vec<u8>,
}

impl<'a> Report<'a> {
    fn new(couriers: &'a Couriers, order: &'a Order) -> Self {
        Self {
            couriers,
            order,
            request: message_id(order.event.id, order.delivery.hook),
            began_at: couriers.clock.now().unix,
            begun: Instant::now(),
            took: Duration::ZERO,
            outcome: failed(Phase::Write, "the attempt was broken off".to_owned()),
            answer: Vec::new(),
        }
    }
}

impl Drop for Report<'_> {
    fn drop(&mut self) {
        let Order { delivery, job, event, .. } = self.order;
        let ended = Ended {
            delivery: *delivery,
            job: *job,
            began_at: self.began_at,
            took: self.took,
            request: std::mem::take(&mut self.request),
            published_at: event.published_at,
            outcome: self.outcome.clone(),
            answer: std::mem::take(&mut self.answer),
        };
        // If nobody listens, the attempt is made again some day.
        let _ = self.couriers.inbox.send(Message::Ended(Box::new(ended)));
    }
}

/// What is published of an attempt.
fn events_of(order: &Order, facts: &EventFacts, carried: &Carried, outcome: &Outcome) -> Vec<NewEvent> {
    let Order { listed, event, .. } = order;
    let mut published: Vec<Published> = Vec::new();
    if !matches!(outcome, Outcome::Failed { phase, .. } if *phase < Phase::Wait) {
        published.push(response::sent(event));
    }
    match &carried.result {
        Ok(answer) if outcome.is_success() => {
            let answer = response::Answer { content_type: answer.content_type.as_deref(), body: &answer.body };
            published.extend(response::answered(&listed.hook, event, facts, &answer));
        }
        _ => published.push(response::failed(&listed.hook, event, facts, &carried.host, outcome)),
    }
    published.into_iter().map(|published| published.because_of(event)).collect()
}

fn outcome_of(result: &Result<Answer, Outcome>) -> Outcome {
    match result {
        Ok(answer) => Outcome::Answered { status: answer.status, retry_after_s: answer.retry_after_s },
        Err(outcome) => outcome.clone(),
    }
}

fn failed(phase: Phase, error: String) -> Outcome {
    Outcome::Failed { phase, error }
}

fn kept(mut body: Vec<u8>) -> Vec<u8> {
    body.truncate(ANSWER_LEN_MAX);
    body
}

pub(super) fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
