//! `POST /oauth/token`: from a password, or a refresh token, to a token.
//!
//! It takes a form and nothing else, and does not look at bearer tokens: older clients send a stale one, or the word "null", along.

use std::net::IpAddr;
use std::time::Instant;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::context::Peer;
use super::counters::count;
use super::error::ApiError;
use super::json::ok;
use super::request::{Input, credentials, is_form};
use super::{Context, address};
use crate::dates;
use crate::store::registry::{ClientCheck, IssuedToken, NewToken, OAuthClient};
use crate::store::{RegistryError, Scopes, TokenHash};

/// Lifetime of a token when the client asks for none: 90 days.
const DEFAULT_LIFE_S: u64 = 7_776_000;
/// Longest lifetime that is told apart from "never": 100 years.
const LIFE_S_MAX: u64 = 3_155_760_000;
/// Clients that come with the tools, and the secrets they are known by. Any other client is welcome too.
const KNOWN_CLIENTS: [(&str, &str); 5] = [
    ("particle", "particle"),
    ("particle-api", "particle-api"),
    ("particle-cli", "particle-cli"),
    ("CLI2", "client_secret_here"),
    ("user", "client_secret_here"),
];
/// Who asks when nobody says who asks.
const DEFAULT_CLIENT: &str = "particle";

/// What a client asks a token for, and with what.
#[derive(Deserialize, ToSchema, Default)]
#[serde(default)]
pub(super) struct TokenRequest {
    /// `password`, `refresh_token` or `client_credentials`.
    grant_type: Option<String>,
    /// Of an account.
    username: Option<String>,
    /// Of that account.
    password: Option<String>,
    /// The refresh token that came with a token.
    refresh_token: Option<String>,
    /// The program that asks; Basic credentials say the same.
    client_id: Option<String>,
    /// What it is known by.
    client_secret: Option<String>,
    /// Seconds; 0 is for ever.
    expires_in: Option<String>,
    /// When it ends, instead.
    expires_at: Option<String>,
}

/// `POST /oauth/token`
#[utoipa::path(post, path = "/oauth/token", tag = "accounts", request_body(content = TokenRequest, content_type = "application/x-www-form-urlencoded"), security(()), responses((status = 200, description = "A token. `expires_in` is 0 if it never ends.", body = Object)))]
pub(super) async fn token(
    State(context): State<Context>,
    Extension(Peer(peer)): Extension<Peer>,
    Input { headers, body, .. }: Input,
) -> Result<Response, ApiError> {
    if !is_form(&headers) {
        return Err(invalid_request("The body must be application/x-www-form-urlencoded"));
    }
    let asked: TokenRequest = body.read()?;
    let (id, secret) = credentials_of_client(&headers, &asked);
    let caller = address::of_caller(peer.ip(), &headers, &context.settings().trusted_proxies);
    let issued = match asked.grant_type.as_deref() {
        Some("password") => {
            check_client(&context, caller, &id, &secret).await?;
            from_password(&context, caller, id, &asked).await?
        }
        Some("refresh_token") => from_refresh_token(&context, &asked).await?,
        Some("client_credentials") => from_client(&context, caller, (&id, &secret), &asked).await?,
        Some(_) => return Err(oauth("unsupported_grant_type", "This grant type is not supported")),
        None => return Err(invalid_request("Missing grant_type parameter")),
    };
    Ok(answer(&issued))
}

async fn from_password(context: &Context, caller: IpAddr, client: String, asked: &TokenRequest) -> Result<IssuedToken, ApiError> {
    let (Some(username), Some(password)) = (&asked.username, &asked.password) else {
        return Err(invalid_request("Missing parameters. \"username\" and \"password\" are required"));
    };
    let life_ms = life_ms(asked)?;
    admit(context, caller)?;
    let Some(user) = context.registry().log_in(username, password).await? else {
        context.throttle().failed(Instant::now(), caller);
        count(&context.counters().failed_logins);
        return Err(oauth("invalid_grant", "User credentials are invalid"));
    };
    let new = NewToken { user: user.id, client, scopes: Scopes::All, life_ms, refreshable: true };
    context.registry().issue_token(new).await.map_err(|error| match error {
        RegistryError::BadClient => invalid_client(),
        RegistryError::TooManyTokens => invalid_request(&error.to_string()),
        other => other.into(),
    })
}

async fn from_refresh_token(context: &Context, asked: &TokenRequest) -> Result<IssuedToken, ApiError> {
    let text = asked.refresh_token.as_deref().ok_or_else(|| invalid_request("Missing refresh_token parameter"))?;
    let issued = match TokenHash::of(text) {
        Some(hash) => context.registry().refresh_token(hash).await?,
        None => None,
    };
    issued.ok_or_else(|| oauth("invalid_grant", "Refresh token is invalid"))
}

/// Keeps addresses away that have guessed too often.
pub(super) fn admit(context: &Context, caller: IpAddr) -> Result<(), ApiError> {
    context.throttle().admit(Instant::now(), caller).map_err(|wait| {
        count(&context.counters().throttled_logins);
        let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).max(1);
        let text = format!("Too many failed logins from this address. Try again in {seconds} seconds");
        ApiError::oauth(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", &text).retry_after(seconds)
    })
}

/// The lifetime a client asks for; `None` is for ever.
fn life_ms(asked: &TokenRequest) -> Result<Option<u64>, ApiError> {
    if let Some(text) = &asked.expires_in {
        let seconds: u64 = text.parse().map_err(|_| invalid_request("expires_in must be a number of seconds"))?;
        return Ok((seconds > 0).then(|| seconds.min(LIFE_S_MAX) * 1000));
    }
    if let Some(text) = &asked.expires_at {
        let end = dates::parse(text).filter(|end| *end > dates::now());
        let end = end.ok_or_else(|| invalid_request("expires_at must be a date to come"))?;
        return Ok(Some(end.0 - dates::now().0));
    }
    Ok(Some(DEFAULT_LIFE_S * 1000))
}

/// A client's own token, for whoever registered it.
async fn from_client(context: &Context, caller: IpAddr, (id, secret): (&str, &str), asked: &TokenRequest) -> Result<IssuedToken, ApiError> {
    let life_ms = life_ms(asked)?;
    let client = check_client(context, caller, id, secret).await?.ok_or_else(invalid_client)?;
    Ok(context.registry().issue_client_token(&client, life_ms).await?)
}

/// The program that asks, from Basic credentials or from fields.
fn credentials_of_client(headers: &HeaderMap, asked: &TokenRequest) -> (String, String) {
    let fields = || Some((asked.client_id.clone()?, asked.client_secret.clone().unwrap_or_default()));
    basic(headers).or_else(fields).unwrap_or_else(|| (DEFAULT_CLIENT.to_owned(), DEFAULT_CLIENT.to_owned()))
}

/// The registered client, if it is one. A well-known or registered name with another secret than its own is refused.
async fn check_client(context: &Context, caller: IpAddr, id: &str, secret: &str) -> Result<Option<OAuthClient>, ApiError> {
    if let Some((_, expected)) = KNOWN_CLIENTS.iter().find(|(known, _)| *known == id) {
        return if *expected == secret { Ok(None) } else { Err(invalid_client()) };
    }
    admit(context, caller)?;
    match context.registry().check_client(id, secret).await? {
        ClientCheck::Unknown => Ok(None),
        ClientCheck::Right(client) => Ok(Some(client)),
        ClientCheck::Wrong => {
            context.throttle().failed(Instant::now(), caller);
            Err(invalid_client())
        }
    }
}

/// User and password of Basic credentials.
pub(super) fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let decoded = STANDARD.decode(credentials(headers, "basic")?).ok()?;
    let (user, password) = str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

fn answer(issued: &IssuedToken) -> Response {
    let left_ms = issued.expires_at.map(|end| end.0.saturating_sub(dates::now().0));
    let body = json!({
        "token_type": "bearer",
        "access_token": issued.access.reveal(),
        // Rounded, since a moment has passed; 0 is "never", so a short life must not become it.
        "expires_in": left_ms.map_or(0, |left| left.div_ceil(1000).max(1)),
        "refresh_token": issued.refresh.as_ref().map(|refresh| refresh.reveal()),
    });
    ([(header::CACHE_CONTROL, "no-store")], ok(&body)).into_response()
}

fn oauth(code: &str, description: &str) -> ApiError {
    ApiError::oauth(StatusCode::BAD_REQUEST, code, description)
}

fn invalid_request(description: &str) -> ApiError {
    oauth("invalid_request", description)
}

fn invalid_client() -> ApiError {
    oauth("invalid_client", "Client credentials are invalid")
}
