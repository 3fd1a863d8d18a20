//! The last deliveries of a hook, and the last that failed, as clients show them in the record of a hook.

use std::collections::BTreeMap;

use router::content;
use router::event::Position;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use utoipa::ToSchema;
use webhooks::delivery::DeliveryId;
use webhooks::hook::HookId;

use super::delivery::{AttemptView, DeliveryLine};
use crate::deliveries::{DeliveriesError, Filter, Listed, Reader, Which};

/// Entries of each list.
const ENTRIES_MAX: usize = 10;
/// The last deliveries among which those that failed are looked for, besides those that were given up.
const LOOKED_AT_MAX: usize = 100;
/// Bytes of data and of answers that an entry has. The delivery has all that is kept.
const TEXT_LEN_MAX: usize = 1_024;

/// A delivery that was tried, with its last attempt.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct LogEntry {
    /// The id of the delivery.
    pub id: String,
    /// The event.
    pub event: LogEvent,
    /// The request.
    pub request: LogRequest,
    /// The answer, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<LogResponse>,
    /// What went wrong, in words, if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The event of an entry.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct LogEvent {
    /// Its name.
    pub name: Option<String>,
    /// How its data begins.
    #[schema(value_type = Option<String>)]
    pub data: Json,
    /// The device that published it, or null.
    #[serde(rename = "deviceID")]
    pub device_id: Option<String>,
    /// When it was accepted.
    pub published_at: String,
}

/// The request of an entry.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogRequest {
    /// What it carried as `webhook-id`.
    pub webhook_id: Option<String>,
    /// Which attempt it was, from 1.
    pub attempt: u16,
    /// When it began.
    pub at: String,
    /// How long it took, in milliseconds.
    pub took_ms: u32,
}

/// The answer of an entry.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct LogResponse {
    /// Its status code.
    pub status: u16,
    /// How it began.
    pub body: String,
}

/// The last deliveries, the newest first.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Recent {
    /// Those that were tried, at most 10.
    pub logs: Vec<LogEntry>,
    /// Those whose last attempt failed, at most 10.
    pub errors: Vec<LogEntry>,
}

/// The last deliveries of a hook.
///
/// # Errors
/// The database cannot be read.
pub fn recent(reader: &Reader, hook: HookId) -> Result<Recent, DeliveriesError> {
    let newest = |which, len| reader.list(hook, &Filter { which, ..Filter::default() }, None, len);
    let (last, dead) = (newest(Which::All, LOOKED_AT_MAX)?.deliveries, newest(Which::DeadLetters, ENTRIES_MAX)?.deliveries);
    let tried = last.iter().filter(|listed| listed.delivery.last.is_some()).take(ENTRIES_MAX);
    let logs = tried.filter_map(|listed| entry(reader, listed).transpose()).collect::<Result<_, _>>()?;
    let mut failed: BTreeMap<Position, &Listed> = BTreeMap::new();
    failed.extend(last.iter().chain(&dead).filter(|listed| has_failed(listed)).map(|listed| (listed.id.position, listed)));
    let failed = failed.into_values().rev().take(ENTRIES_MAX);
    let errors = failed.filter_map(|listed| entry(reader, listed).transpose()).collect::<Result<_, _>>()?;
    Ok(Recent { logs, errors })
}

fn has_failed(listed: &Listed) -> bool {
    listed.delivery.last.as_ref().is_some_and(|last| !last.is_success())
}

/// An entry; none if the delivery or its attempts have just gone.
fn entry(reader: &Reader, listed: &Listed) -> Result<Option<LogEntry>, DeliveriesError> {
    let id: DeliveryId = listed.id;
    let Some(attempt) = reader.show(id)?.and_then(|(_, attempts)| attempts.last().map(AttemptView::from)) else { return Ok(None) };
    let (line, event) = (DeliveryLine::from(listed), listed.event.as_deref());
    let data = event.map_or(Json::Null, |event| content::to_json(event.content_format, event.data.as_deref()));
    let response = attempt.ended.status.map(|status| LogResponse { status, body: cut(&attempt.answer).to_owned() });
    Ok(Some(LogEntry {
        id: line.id,
        event: LogEvent {
            name: line.event,
            data: data.as_str().map_or(Json::Null, |text| cut(text).into()),
            device_id: line.device_id,
            published_at: line.published_at,
        },
        request: LogRequest { webhook_id: line.webhook_id, attempt: attempt.number, at: attempt.at, took_ms: attempt.took_ms },
        response,
        error: attempt.ended.error,
    }))
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_LEN_MAX)]
}
