//! A request with files that nobody will keep: its caller is told so only when all of them have come, because many clients do not listen before.

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use http_body_util::BodyExt;

use super::{BODY_TIMEOUT, Fields, TOKEN_FIELD, admit, bearer, parameters, wants};
use crate::api::Context;
use crate::api::error::ApiError;
use crate::api::place::Place;

/// Bytes that are let go by: more than any firmware with its assets.
const LEN_MAX: usize = 32 * 1024 * 1024;

/// A request whose caller may make it, and whose body was let go by. The token stands in a header or in the query.
pub(in crate::api) struct Unread {
    pub(in crate::api) place: Place,
}

impl FromRequest<Context> for Unread {
    type Rejection = ApiError;

    async fn from_request(mut request: Request, context: &Context) -> Result<Self, Self::Rejection> {
        let parameters = parameters(&mut request, context).await?;
        let need = &wants(&request, context).need;
        let mut query = Fields::from_form(request.uri().query().unwrap_or_default().as_bytes())?;
        let in_query = query.take(TOKEN_FIELD);
        let token = bearer(request.headers()).or(in_query.as_ref().and_then(|token| token.as_str()));
        let (_, place) = admit(context, token.ok_or_else(ApiError::token_missing)?, need, &parameters)?;
        match tokio::time::timeout(BODY_TIMEOUT, drain(request.into_body())).await {
            Ok(drained) => drained.map(|()| Self { place }),
            Err(_) => Err(ApiError::api(StatusCode::REQUEST_TIMEOUT, "The body took too long")),
        }
    }
}

async fn drain(mut body: Body) -> Result<(), ApiError> {
    let mut len = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::bad_request("The body could not be read"))?;
        len += frame.data_ref().map_or(0, |data| data.len());
        if len > LEN_MAX {
            return Err(ApiError::api(StatusCode::PAYLOAD_TOO_LARGE, "The body is too large"));
        }
    }
    Ok(())
}
