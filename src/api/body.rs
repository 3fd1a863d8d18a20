//! Reading a request's body: all of it, up to a length and within a time.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::error::ApiError;

/// Bytes of a request's body: an event of the largest size in Base64, and room.
pub(super) const BODY_LEN_MAX: usize = 64 * 1024;
/// Bytes of a body with files in it.
pub(super) const UPLOAD_LEN_MAX: usize = 3 * 1024 * 1024;
/// How long a body may take to arrive.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// The bytes of a body of at most so many.
pub(super) async fn read(headers: &HeaderMap, body: Body, len_max: usize) -> Result<Bytes, ApiError> {
    let too_large = || ApiError::api(StatusCode::PAYLOAD_TOO_LARGE, "The body is too large");
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|len| len > len_max as u64) {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, len_max).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(ApiError::bad_request("The body could not be read")),
        Err(_) => Err(ApiError::api(StatusCode::REQUEST_TIMEOUT, "The body took too long")),
    }
}
