//! Answers in JSON.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Serialize;

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const CSV: HeaderValue = HeaderValue::from_static("text/csv; charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// An answer with `body` as JSON.
pub(super) fn json_response(status: StatusCode, body: &impl Serialize) -> Response {
    let text = serde_json::to_vec(body).expect("answers are made of strings, numbers and lists");
    respond(status, JSON, text.into())
}

/// A good answer.
pub(super) fn ok(body: &impl Serialize) -> Response {
    json_response(StatusCode::OK, body)
}

/// A good answer whose JSON is already written, perhaps not yet to its end.
pub(super) fn ok_written(body: Body) -> Response {
    respond(StatusCode::OK, JSON, body)
}

/// A good answer as bare text, for `format=raw`.
pub(super) fn raw(text: String) -> Response {
    respond(StatusCode::OK, TEXT, text.into())
}

/// A good answer as a table.
pub(super) fn csv(text: String) -> Response {
    respond(StatusCode::OK, CSV, text.into())
}

fn respond(status: StatusCode, content_type: HeaderValue, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}
