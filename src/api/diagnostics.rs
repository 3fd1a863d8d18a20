//! Vitals of devices: the last, those of a month, and a wish for new ones.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use firmware_protocol::time::UnixMillis;
use serde_json::{Value as Json, json};

use super::Context;
use super::error::ApiError;
use super::fields::Fields;
use super::json::{csv, json_response, ok};
use super::path::OfDevice;
use super::request::Call;
use crate::dates::{self, Iso};
use crate::history::Record;
use crate::store::Device;

/// Most records in one answer; of more, the newest.
const RECORDS_MAX: usize = 2_000;

/// `POST /v1/diagnostics/{device}/update`: answered when the device is being asked. What it says comes as an event.
#[utoipa::path(post, path = "/v1/diagnostics/{device}/update", tag = "diagnostics", security(("token" = ["devices.diagnostics:update"])), responses((status = 202, description = "The device is being asked.", body = Object)))]
pub(super) async fn update(
    State(context): State<Context>,
    Path(OfDevice { device }): Path<OfDevice>,
    call: Call,
) -> Result<Response, ApiError> {
    let device = context.device(&call, &device)?;
    let answer = context.gateway().ask_vitals(device.id(), call.deadline);
    context.answer(call.deadline, answer).await.map_err(|error| ApiError::call(error, "Not found"))?;
    Ok(json_response(StatusCode::ACCEPTED, &json!({ "ok": true })))
}

/// `GET /v1/diagnostics/{device}/last`
#[utoipa::path(get, path = "/v1/diagnostics/{device}/last", tag = "diagnostics", security(("token" = ["devices.diagnostics:get"])), responses((status = 200, description = "The last vitals.", body = Object)))]
pub(super) async fn last(
    State(context): State<Context>,
    Path(OfDevice { device }): Path<OfDevice>,
    call: Call,
) -> Result<Response, ApiError> {
    let device = context.device(&call, &device)?;
    let record = context.gateway().last_vitals(call.place.audience(), device.id()).await?;
    let record = record.ok_or_else(|| ApiError::api(StatusCode::NOT_FOUND, "The device has not reported any vitals"))?;
    Ok(ok(&json!({ "diagnostics": shown(&device, &record) })))
}

/// `GET /v1/diagnostics/{device}`: the newest first, as JSON or, if the client wants that, as CSV.
#[utoipa::path(get, path = "/v1/diagnostics/{device}", tag = "diagnostics", params(("start_date" = Option<String>, Query, description = "The first moment, as 2026-11-21T10:00:00Z."), ("end_date" = Option<String>, Query, description = "The last moment.")), security(("token" = ["devices.diagnostics:get"])), responses((status = 200, description = "The newest first; a table if the client accepts text/csv.", body = Object)))]
pub(super) async fn history(
    State(context): State<Context>,
    Path(OfDevice { device }): Path<OfDevice>,
    call: Call,
) -> Result<Response, ApiError> {
    let device = context.device(&call, &device)?;
    let span = date(&call.query, "start_date")?.unwrap_or(UnixMillis(0))..=date(&call.query, "end_date")?.unwrap_or(UnixMillis(u64::MAX));
    let records = context.gateway().vitals(call.place.audience(), device.id(), span, RECORDS_MAX).await?;
    if wants_csv(&call.headers) {
        return Ok(csv(table(&device, &records)));
    }
    let shown: Vec<Json> = records.iter().map(|record| shown(&device, record)).collect();
    Ok(ok(&json!({ "diagnostics": shown })))
}

fn date(query: &Fields, name: &str) -> Result<Option<UnixMillis>, ApiError> {
    let Some(text) = query.text(name).filter(|text| !text.is_empty()) else { return Ok(None) };
    dates::parse(&text).map(Some).ok_or_else(|| ApiError::bad_date(&format!("{name} is no date such as 2026-11-21T10:00:00Z")))
}

fn wants_csv(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).is_some_and(|accept| accept.starts_with("text/csv"))
}

fn shown(device: &Device, record: &Record) -> Json {
    json!({ "updated_at": Iso(record.at).to_string(), "deviceID": device.id().to_string(), "payload": payload(record) })
}

fn payload(record: &Record) -> Json {
    serde_json::from_slice(&record.payload).unwrap_or(Json::Null)
}

/// A line for each record and a column for each value that any of them has, named by its path.
fn table(device: &Device, records: &[Record]) -> String {
    let rows: Vec<(UnixMillis, BTreeMap<String, String>)> = records
        .iter()
        .map(|record| {
            let mut row = BTreeMap::new();
            flatten(String::new(), &payload(record), &mut row);
            (record.at, row)
        })
        .collect();
    let columns: BTreeSet<&str> = rows.iter().flat_map(|(_, row)| row.keys().map(String::as_str)).collect();
    let heads = ["updated_at", "deviceID"].into_iter().chain(columns.iter().copied());
    let mut text = line(heads.map(str::to_owned));
    for (at, row) in &rows {
        let cells = columns.iter().map(|column| row.get(*column).cloned().unwrap_or_default());
        text += &line([Iso(*at).to_string(), device.id().to_string()].into_iter().chain(cells));
    }
    text
}

fn flatten(path: String, value: &Json, row: &mut BTreeMap<String, String>) {
    match value {
        Json::Object(members) => {
            for (name, member) in members {
                flatten(if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, member, row);
            }
        }
        Json::String(text) => _ = row.insert(path, text.clone()),
        other => _ = row.insert(path, other.to_string()),
    }
}

fn line(cells: impl Iterator<Item = String>) -> String {
    let quoted = |cell: String| if cell.contains([',', '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell };
    cells.map(quoted).collect::<Vec<_>>().join(",") + "\n"
}
