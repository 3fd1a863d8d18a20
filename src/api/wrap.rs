//! What every answer has in common, whichever handler made it: a request id, a line in the log, JSON in every refusal.

use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument;
use uuid::Uuid;

use super::error::ApiError;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Runs the handler and finishes its answer. The log has the route and never the address, which may hold a token.
pub(super) async fn wrap(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = Uuid::now_v7().to_string();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let span = tracing::debug_span!("request", %id, %method, route);
    let mut response = in_json(next.run(request).instrument(span.clone()).await);
    span.in_scope(|| tracing::debug!(status = response.status().as_u16(), micros = started.elapsed().as_micros(), "answered"));
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// A refusal that is not JSON yet, such as the router's own, becomes JSON with the same status and headers.
fn in_json(response: Response) -> Response {
    let status = response.status();
    let is_json = response.headers().get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
    if is_json || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let refusal = match status.as_u16() {
        404 => ApiError::not_found(),
        _ => ApiError::api(status, status.canonical_reason().unwrap_or("The request was refused")),
    };
    let (mut parts, body) = refusal.into_response().into_parts();
    for name in [header::ALLOW, header::RETRY_AFTER] {
        if let Some(value) = response.headers().get(&name) {
            parts.headers.insert(name, value.clone());
        }
    }
    Response::from_parts(parts, body)
}
