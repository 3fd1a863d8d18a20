//! Requests with an `Idempotency-Key` are done once: whoever repeats one, because it heard no answer, is given the answer to the first.
//!
//! A key is its holder's, and stands for one method, path and body. What was begun goes on when its caller leaves, so that there is an answer to be
//! given again.

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, Limited};
use openssl::sha::Sha256;
use tracing::Instrument;

use super::body::{self, BODY_LEN_MAX};
use super::bulkhead::{Class, Route};
use super::context::Context;
use super::error::{ApiError, NothingDone};
use super::request::bearer;
use crate::dates;
use crate::store::registry::{Begun, IdempotencyKey, StoredAnswer};
use crate::store::{Holder, TokenHash};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// Longest key.
const KEY_LEN_MAX: usize = 255;
/// When a request that is under way may be over.
const RETRY_AFTER_S: u32 = 1;
/// What of an answer's head is given again.
const KEPT: [HeaderName; 4] = [header::CONTENT_TYPE, header::LOCATION, header::ETAG, header::CACHE_CONTROL];

/// Does a request, or answers as it was answered before.
pub(super) async fn once(State(context): State<Context>, request: Request, next: Next) -> Response {
    let Some(name) = request.headers().get(&KEY).filter(|_| counts(&request)).cloned() else {
        return next.run(request).await;
    };
    let Some(holder) = holder(&context, request.headers()) else {
        // The handler says what is wrong with the token.
        return next.run(request).await;
    };
    match begin(&context, holder, &name, request).await {
        Ok((key, request)) => finish(context, key, request, next).await,
        Err(answer) => *answer,
    }
}

/// Whether a key says anything about such a request: one that changes something, of somebody who is known.
fn counts(request: &Request) -> bool {
    let changes = [Method::POST, Method::PUT, Method::DELETE, Method::PATCH].contains(request.method());
    let route = request.extensions().get::<Route>().map(|route| route.0);
    changes && route.is_some_and(|class| class != Class::Logins)
}

fn holder(context: &Context, headers: &HeaderMap) -> Option<Holder> {
    let record = context.registry().tokens().find(&TokenHash::of(bearer(headers)?)?)?;
    (!record.is_expired(dates::now())).then_some(record.holder)
}

/// Notes that a request has begun. The error is the answer to one that is not to be done.
async fn begin(
    context: &Context,
    holder: Holder,
    name: &HeaderValue,
    request: Request,
) -> Result<(IdempotencyKey, Request), Box<Response>> {
    let refused = |error: ApiError| Box::new(error.into_response());
    let name = name.to_str().unwrap_or_default();
    if !(1..=KEY_LEN_MAX).contains(&name.len()) || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(refused(ApiError::bad_request("An Idempotency-Key has 1 to 255 printable characters")));
    }
    let key = IdempotencyKey { holder, name: name.to_owned() };
    let (parts, body) = request.into_parts();
    let bytes = body::read(&parts.headers, body, BODY_LEN_MAX).await.map_err(refused)?;
    let hash = hash(&parts.method, &parts.uri.to_string(), &parts.headers, &bytes);
    match context.registry().begin_request(key.clone(), hash).await.map_err(|error| refused(error.into()))? {
        Begun::First => Ok((key, Request::from_parts(parts, Body::from(bytes)))),
        Begun::Answered(answer) => Err(Box::new(replay(answer))),
        Begun::UnderWay => Err(refused(conflict("The request with this Idempotency-Key is under way").retry_after(RETRY_AFTER_S))),
        Begun::Interrupted => {
            Err(refused(conflict("The request with this Idempotency-Key was interrupted. It may have been carried out.")))
        }
        Begun::Other => Err(refused(conflict("Another request had this Idempotency-Key"))),
    }
}

fn conflict(text: &str) -> ApiError {
    ApiError::api(StatusCode::CONFLICT, text)
}

/// What makes two requests the same. Each part says how long it is, so that no two run into each other.
fn hash(method: &Method, target: &str, headers: &HeaderMap, body: &[u8]) -> [u8; 32] {
    let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let mut hash = Sha256::new();
    for part in [method.as_str().as_bytes(), target.as_bytes(), kind, body] {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finish()
}

/// Does the request and keeps its answer, whether or not the caller still waits.
async fn finish(context: Context, key: IdempotencyKey, request: Request, next: Next) -> Response {
    let work = async move {
        let answer = next.run(request).await;
        keep(&context, key, answer).await
    };
    let done = tokio::spawn(work.in_current_span()).await;
    done.unwrap_or_else(|_| ApiError::unavailable("The request failed").into_response())
}

async fn keep(context: &Context, key: IdempotencyKey, answer: Response) -> Response {
    if did_nothing(&answer) {
        if let Err(error) = context.registry().abandon_request(key).await {
            tracing::debug!(%error, "an idempotency key stays");
        }
        return answer;
    }
    let (parts, body) = answer.into_parts();
    let Ok(bytes) = Limited::new(body, BODY_LEN_MAX).collect().await.map(http_body_util::Collected::to_bytes) else {
        return ApiError::unavailable("The answer is too long for a request with an Idempotency-Key").into_response();
    };
    let headers = KEPT.iter().filter_map(|name| Some((name.to_string(), parts.headers.get(name)?.to_str().ok()?.to_owned()))).collect();
    let stored = StoredAnswer { status: parts.status.as_u16(), headers, body: bytes.to_vec() };
    if let Err(error) = context.registry().finish_request(key, stored).await {
        // It was done, and is told so; a repetition will hear that it may have been.
        tracing::warn!(%error, "the answer to a request with an idempotency key is not kept");
    }
    Response::from_parts(parts, Body::from(bytes))
}

/// Whether the request may be tried again as if it had never come. When in doubt it may not: a device may have been asked.
fn did_nothing(answer: &Response) -> bool {
    let unknown_caller = answer.status() == StatusCode::UNAUTHORIZED;
    unknown_caller || answer.extensions().get::<NothingDone>().is_some()
}

fn replay(answer: StoredAnswer) -> Response {
    let mut response = Response::new(Body::from(Bytes::from(answer.body)));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in &answer.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_makes_another_request_makes_another_hash() {
        let of = |method: Method, target: &str, kind: &'static str, body: &str| {
            hash(&method, target, &HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(kind))]), body.as_bytes())
        };
        let one = of(Method::POST, "/a?b=c", "t", "body");
        assert_eq!(one, of(Method::POST, "/a?b=c", "t", "body"));
        for other in [
            of(Method::PUT, "/a?b=c", "t", "body"),
            of(Method::POST, "/a?b=d", "t", "body"),
            of(Method::POST, "/a?b=c", "u", "body"),
            of(Method::POST, "/a?b=c", "t", "bodz"),
            of(Method::POST, "/a?b=ct", "", "body"),
            of(Method::POST, "/a?b=c", "tbody", ""),
        ] {
            assert_ne!(one, other);
        }
    }
}
