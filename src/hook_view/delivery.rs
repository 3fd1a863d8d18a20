//! A delivery: in a list, and whole with its event's data and its attempts.

use router::content;
use router::event::{Event, Position};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use utoipa::ToSchema;
use webhooks::delivery::{DeliveryId, Outcome};
use webhooks::hook::HookId;
use webhooks::sign::message_id;

use super::moment;
use crate::dates::Iso;
use crate::deliveries::{Attempt, DeliveriesError, Delivery, Listed, Reader, State};

/// A delivery in a list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryLine {
    /// Its id, which is the hook's own.
    pub id: String,
    /// What its requests carry as `webhook-id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_id: Option<String>,
    /// `pending`, `delivered`, `expired` or `rejected`.
    pub state: String,
    /// Why it was rejected: `exhausted`, `gone`, `unsendable`, `disabled`, `removed` or `overflow`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The name of its event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// The device that published the event.
    #[serde(default, rename = "deviceID", skip_serializing_if = "Option::is_none")]
    pub device_id: Option<String>,
    /// When the event was accepted.
    pub published_at: String,
    /// Attempts that ended.
    pub attempt_count: u16,
    /// It is not tried before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<String>,
    /// When it was done with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
    /// Those after it did not wait for it.
    pub out_of_order: bool,
    /// It was made in a replay.
    pub replayed: bool,
    /// How its last attempt ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Ended>,
}

/// How an attempt ended: with a status, or in a phase with an error.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// The status code of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// When to come again, as the answer said, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u64>,
    /// How far it came: `render`, `guard`, `dns`, `connect`, `tls`, `write`, `wait` or `body`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// What went wrong, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A delivery, whole.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryView {
    /// What a list says of it.
    #[serde(flatten)]
    pub line: DeliveryLine,
    /// The data of its event: a text, or null if it has none.
    #[schema(value_type = Option<String>)]
    pub data: Json,
    /// Its last attempts, at most 16, in order.
    pub attempts: Vec<AttemptView>,
}

/// One request, and what came of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttemptView {
    /// Which, from 1.
    pub number: u16,
    /// When it began.
    pub at: String,
    /// How long it took, in milliseconds.
    pub took_ms: u32,
    /// What it carried as `webhook-id`.
    pub request: String,
    /// How it ended.
    #[serde(flatten)]
    pub ended: Ended,
    /// How the answer began: at most 4096 bytes, as text.
    pub answer: String,
}

impl From<&Outcome> for Ended {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Answered { status, retry_after_s } => Self { status: Some(*status), retry_after_s: *retry_after_s, ..Self::default() },
            Outcome::Failed { phase, error } => Self { phase: Some(phase.to_string()), error: Some(error.clone()), ..Self::default() },
        }
    }
}

impl From<&Listed> for DeliveryLine {
    fn from(Listed { id, delivery, event }: &Listed) -> Self {
        Self::new(*id, delivery, event.as_deref())
    }
}

impl DeliveryLine {
    fn new(id: DeliveryId, delivery: &Delivery, event: Option<&Event>) -> Self {
        let (state, reason) = match delivery.state {
            State::Pending => ("pending", None),
            State::Delivered => ("delivered", None),
            State::Expired => ("expired", None),
            State::Rejected(reason) => ("rejected", Some(reason.name().to_owned())),
        };
        Self {
            id: id.position.to_string(),
            webhook_id: event.map(|event| message_id(event.id, id.hook)),
            state: state.to_owned(),
            reason,
            event: event.map(|event| event.name.clone()),
            device_id: delivery.device.map(|device| device.to_string()),
            published_at: Iso(delivery.published_at).to_string(),
            attempt_count: delivery.attempts,
            due: moment(delivery.due),
            finished_at: moment(delivery.finished_at),
            out_of_order: delivery.out_of_order,
            replayed: delivery.replayed,
            last: delivery.last.as_ref().map(Ended::from),
        }
    }
}

impl From<&Attempt> for AttemptView {
    fn from(attempt: &Attempt) -> Self {
        Self {
            number: attempt.number,
            at: Iso(attempt.began_at).to_string(),
            took_ms: attempt.took_ms,
            request: attempt.request.clone(),
            ended: (&attempt.outcome).into(),
            answer: String::from_utf8_lossy(&attempt.answer).into_owned(),
        }
    }
}

/// A delivery of a hook with its attempts, if there is one at this position.
///
/// # Errors
/// The database cannot be read.
pub fn delivery(reader: &Reader, hook: HookId, position: Position) -> Result<Option<DeliveryView>, DeliveriesError> {
    let id = DeliveryId { hook, position };
    let Some((delivery, attempts)) = reader.show(id)? else { return Ok(None) };
    let event = reader.event(position)?;
    let data = event.as_ref().map_or(Json::Null, |event| content::to_json(event.content_format, event.data.as_deref()));
    let line = DeliveryLine::new(id, &delivery, event.as_deref());
    Ok(Some(DeliveryView { line, data, attempts: attempts.iter().map(AttemptView::from).collect() }))
}
