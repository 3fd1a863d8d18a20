//! What a request brings: its fields, from query and body, and its caller, from the token wherever that stands.

mod unread;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::RequestExt;
use axum::body::Body;
use axum::extract::{FromRequest, MatchedPath, RawPathParams, Request};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use firmware_protocol::id::OwnerId;

use super::access::{Need, Wants};
use super::body::{self, BODY_LEN_MAX, BODY_TIMEOUT, UPLOAD_LEN_MAX};
use super::bulkhead::{Deadline, Seat};
use super::context::Peer;
use super::error::ApiError;
use super::fields::{Fields, Malformed, Misfit};
use super::place::Place;
use super::upload::{self, File};
use super::{Context, address};
use crate::dates;
use crate::store::{TokenCache, TokenHash, TokenRecord};

pub(super) use unread::Unread;

/// How long any caller may wait for a device.
const PATIENCE_MAX: Duration = Duration::from_secs(300);
const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("request-timeout");
const TOKEN_FIELD: &str = "access_token";

/// The fields of a request, whoever sent it.
pub(super) struct Input {
    pub(super) headers: HeaderMap,
    pub(super) query: Fields,
    pub(super) body: Fields,
    pub(super) files: Vec<File>,
}

/// A request whose caller is known.
pub(super) struct Call {
    pub(super) caller: Caller,
    /// Where it acts.
    pub(super) place: Place,
    /// Where it came from.
    pub(super) address: IpAddr,
    pub(super) query: Fields,
    pub(super) body: Fields,
    pub(super) headers: HeaderMap,
    pub(super) files: Vec<File>,
    /// When the caller wants to be answered at the latest.
    pub(super) deadline: Instant,
    /// Its place among the requests at work.
    pub(super) seat: Option<Seat>,
}

/// Who holds the token that came with a request.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) user: OwnerId,
    pub(super) token: TokenHash,
    pub(super) record: Arc<TokenRecord>,
}

impl Caller {
    fn find(tokens: &TokenCache, text: &str) -> Result<Self, ApiError> {
        let found = TokenHash::of(text).and_then(|hash| Some((hash, tokens.find(&hash)?)));
        let (token, record) = found.ok_or_else(ApiError::token_invalid)?;
        if record.is_expired(dates::now()) {
            return Err(ApiError::token_expired());
        }
        Ok(Self { user: record.user, token, record })
    }

    /// Makes sure that the token may be used for what needs this.
    fn require(&self, need: &Need) -> Result<(), ApiError> {
        match need {
            Need::Scope(scope) if !self.record.scopes.allow(scope) => Err(ApiError::scope_missing(scope)),
            Need::Nothing | Need::Account | Need::Scope(_) => Ok(()),
        }
    }

    /// Whether the token would still be accepted: for requests that last.
    pub(super) fn is_still_good(&self, tokens: &TokenCache) -> bool {
        tokens.find(&self.token).is_some_and(|record| !record.is_expired(dates::now()))
    }
}

impl Call {
    /// The account of a person who calls; programs have none.
    ///
    /// # Errors
    /// It is a program that calls.
    pub(super) fn account(&self) -> Result<OwnerId, ApiError> {
        self.caller.record.holder.user().ok_or_else(ApiError::not_for_programs)
    }
}

impl FromRequest<Context> for Input {
    type Rejection = ApiError;

    async fn from_request(request: Request, context: &Context) -> Result<Self, Self::Rejection> {
        let takes_files = wants(&request, context).takes_files;
        let (parts, body) = request.into_parts();
        let query = Fields::from_form(parts.uri.query().unwrap_or_default().as_bytes())?;
        let kind = Kind::of(&parts.headers);
        if kind == Kind::Multipart {
            if !takes_files {
                return Err(no_uploads(&parts.method));
            }
            let bytes = body::read(&parts.headers, body, UPLOAD_LEN_MAX).await?;
            settle(&parts.extensions).await?;
            let headers = parts.headers.clone();
            let (body, files) = upload::read(Request::from_parts(parts, Body::from(bytes))).await?;
            return Ok(Self { headers, query, body, files });
        }
        let bytes = body::read(&parts.headers, body, BODY_LEN_MAX).await?;
        settle(&parts.extensions).await?;
        let body = match kind {
            Kind::Json => Fields::from_json(&bytes)?,
            Kind::Form => Fields::from_form(&bytes)?,
            _ if bytes.trim_ascii_start().starts_with(b"{") => Fields::from_json(&bytes)?,
            _ => Fields::from_form(&bytes)?,
        };
        Ok(Self { headers: parts.headers, query, body, files: Vec::new() })
    }
}

impl FromRequest<Context> for Call {
    type Rejection = ApiError;

    async fn from_request(mut request: Request, context: &Context) -> Result<Self, Self::Rejection> {
        let wants = wants(&request, context);
        if Kind::of(request.headers()) == Kind::Multipart && !wants.takes_files {
            let method = request.method().clone();
            Unread::from_request(request, context).await?;
            return Err(no_uploads(&method));
        }
        let parameters = parameters(&mut request, context).await?;
        let address = address_of(&request, context);
        let deadline = deadline(&request, context)?;
        let seat = request.extensions().get::<Seat>().cloned();
        let Input { headers, mut query, mut body, files } = Input::from_request(request, context).await?;
        // Taken out wherever it stands, so that it is never mistaken for a field of the request.
        let elsewhere = [query.take(TOKEN_FIELD), body.take(TOKEN_FIELD)];
        let elsewhere = elsewhere.iter().flatten().find_map(|token| token.as_str());
        let token = bearer(&headers).or(elsewhere).ok_or_else(ApiError::token_missing)?;
        let (caller, place) = admit(context, token, &wants.need, &parameters)?;
        if let Some(seat) = &seat {
            seat.count_for(caller.user)?;
        }
        Ok(Self { caller, place, address, query, body, headers, files, deadline, seat })
    }
}

/// Who holds the token, and where the request acts, if it may.
fn admit(context: &Context, token: &str, need: &Need, parameters: &RawPathParams) -> Result<(Caller, Place), ApiError> {
    let caller = Caller::find(context.registry().tokens(), token)?;
    caller.require(need)?;
    let place = Place::find(context.registry().products(), &caller, need, parameters)?;
    Ok((caller, place))
}

/// The person whose token came with a request that needs none, if it is good.
pub(super) fn person(context: &Context, input: &Input) -> Option<OwnerId> {
    let elsewhere = || input.query.text(TOKEN_FIELD).or_else(|| input.body.text(TOKEN_FIELD));
    let token = bearer(&input.headers).map(str::to_owned).or_else(elsewhere)?;
    Caller::find(context.registry().tokens(), &token).ok()?.record.holder.user()
}

/// What the route of a request wants of its caller.
fn wants<'a>(request: &Request, context: &'a Context) -> &'a Wants {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    context.needs().at(request.method(), route)
}

/// Where a request came from.
fn address_of(request: &Request, context: &Context) -> IpAddr {
    let peer = request.extensions().get::<Peer>().map_or(Ipv4Addr::UNSPECIFIED.into(), |Peer(peer)| peer.ip());
    address::of_caller(peer, request.headers(), &context.settings().trusted_proxies)
}

async fn parameters(request: &mut Request, context: &Context) -> Result<RawPathParams, ApiError> {
    let parameters = request.extract_parts_with_state::<RawPathParams, _>(context).await;
    parameters.map_err(|_| ApiError::bad_request("The path is not UTF-8"))
}

fn deadline(request: &Request, context: &Context) -> Result<Instant, ApiError> {
    match request.extensions().get::<Deadline>() {
        Some(Deadline(deadline)) => Ok(*deadline),
        None => Ok(Instant::now() + patience(request.headers(), context.settings().call_timeout)?),
    }
}

/// How long the caller waits: as the header `Request-Timeout` says, in seconds, but no longer than anybody may; else as is configured.
pub(super) fn patience(headers: &HeaderMap, configured: Duration) -> Result<Duration, ApiError> {
    let Some(value) = headers.get(REQUEST_TIMEOUT) else { return Ok(configured) };
    let seconds = value.to_str().ok().and_then(|text| text.trim().parse::<u32>().ok()).filter(|seconds| *seconds > 0);
    let seconds = seconds.ok_or_else(|| ApiError::bad_request("Request-Timeout must be a number of seconds"))?;
    Ok(Duration::from_secs(seconds.into()).min(PATIENCE_MAX))
}

/// What the body is said to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Json,
    Form,
    Multipart,
    Unsaid,
}

impl Kind {
    fn of(headers: &HeaderMap) -> Self {
        let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media_type = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match media_type.as_str() {
            "application/x-www-form-urlencoded" => Kind::Form,
            "application/json" => Kind::Json,
            other if other.ends_with("+json") => Kind::Json,
            other if other.starts_with("multipart/") => Kind::Multipart,
            _ => Kind::Unsaid,
        }
    }
}

/// Whether the body is said to be files.
pub(super) fn is_upload(headers: &HeaderMap) -> bool {
    Kind::of(headers) == Kind::Multipart
}

/// Whether the body is said to be a form.
pub(super) fn is_form(headers: &HeaderMap) -> bool {
    Kind::of(headers) == Kind::Form
}

/// A request whose body has come takes its place among those at work.
async fn settle(extensions: &axum::http::Extensions) -> Result<(), ApiError> {
    match extensions.get::<Seat>() {
        Some(seat) => seat.settle().await,
        None => Ok(()),
    }
}

pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    credentials(headers, "bearer")
}

/// What follows the name of the scheme in the Authorization header, if it is that scheme.
pub(super) fn credentials<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    let (name, rest) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    name.eq_ignore_ascii_case(scheme).then(|| rest.trim())
}

/// Files come with firmware only.
fn no_uploads(method: &Method) -> ApiError {
    match *method {
        Method::PUT => ApiError::no_updates(),
        _ => ApiError::api(StatusCode::UNSUPPORTED_MEDIA_TYPE, "The body must be JSON or a form"),
    }
}

impl From<Misfit> for ApiError {
    fn from(Misfit(text): Misfit) -> Self {
        Self::bad_request(&text)
    }
}

impl From<Malformed> for ApiError {
    fn from(Malformed(text): Malformed) -> Self {
        Self::bad_request(text)
    }
}
