//! Where requests come in: before token and body are looked at, and again when the body is there. A body that comes slowly has no place meanwhile,
//! or anybody could take them all with bodies that never end.

use std::net::IpAddr;
use std::time::Instant;

use axum::body::{Body, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::{Class, Seat};
use crate::api::body::{self, BODY_LEN_MAX};
use crate::api::context::{Context, Peer};
use crate::api::error::ApiError;
use crate::api::{address, request};

/// When a request's head had come, as an extension of it.
#[derive(Clone, Copy, Debug)]
pub(in crate::api) struct Arrived(pub(in crate::api) Instant);

/// When its caller wants to be answered at the latest, as an extension of it.
#[derive(Clone, Copy, Debug)]
pub(in crate::api) struct Deadline(pub(in crate::api) Instant);

/// The class of its route, as an extension of a request.
#[derive(Clone, Copy, Debug)]
pub(in crate::api) struct Route(pub(in crate::api) Class);

/// Lets a request go on to its handler when there is a place for it.
pub(in crate::api) async fn admit(State(context): State<Context>, request: Request, next: Next) -> Response {
    if request.extensions().get::<MatchedPath>().is_none() {
        // Nothing is cheaper than saying that there is no such route.
        return next.run(request).await;
    }
    match begin(&context, request).await {
        // The place is the request's and that of what is made of it: a stream has it until it ends.
        Ok((request, seat)) => {
            let response = next.run(request).await;
            drop(seat);
            response
        }
        Err(refusal) => refusal.into_response(),
    }
}

async fn begin(context: &Context, request: Request) -> Result<(Request, Seat), ApiError> {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let class = context.classes().at(request.method(), route);
    if let Some(caller) = caller(context, &request) {
        context.rates().admit(Instant::now(), caller, class)?;
    }
    context.bulkheads().look_in(class)?;
    let arrived = request.extensions().get::<Arrived>().map_or_else(Instant::now, |arrived| arrived.0);
    let deadline = arrived + request::patience(request.headers(), context.settings().call_timeout)?;
    let (mut request, entered) = match coming(&request) {
        Coming::Whole => (request, class),
        Coming::Soon => (whole(request).await?, class),
        Coming::Long => (request, Class::Uploads),
    };
    let seat = Seat::new(context.bulkheads().enter(entered, deadline).await?, class, deadline);
    request.extensions_mut().insert(Deadline(deadline));
    request.extensions_mut().insert(Route(class));
    request.extensions_mut().insert(seat.clone());
    Ok((request, seat))
}

fn caller(context: &Context, request: &Request) -> Option<IpAddr> {
    let Peer(peer) = request.extensions().get::<Peer>()?;
    Some(address::of_caller(peer.ip(), request.headers(), &context.settings().trusted_proxies))
}

/// What there is still to come of a request.
enum Coming {
    /// Nothing.
    Whole,
    /// A body that fits into memory.
    Soon,
    /// One that does not, or does not say whether it does.
    Long,
}

fn coming(request: &Request) -> Coming {
    if request.body().is_end_stream() {
        return Coming::Whole;
    }
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length <= BODY_LEN_MAX as u64) { Coming::Soon } else { Coming::Long }
}

async fn whole(request: Request) -> Result<Request, ApiError> {
    let (parts, body) = request.into_parts();
    let bytes = body::read(&parts.headers, body, BODY_LEN_MAX).await?;
    Ok(Request::from_parts(parts, Body::from(bytes)))
}
