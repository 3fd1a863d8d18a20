//! Refusals, in the words that clients know.
//!
//! Status 401 and the words "access token" make a client forget its login. They are used for tokens and for nothing else.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value as Json, json};

use super::bulkhead::Class;
use super::gateway::{CallError, HistoryUnavailable, PublishError};
use super::json::json_response;
use crate::dates::Iso;
use crate::store::{RegistryError, Role};

/// Seconds after which a caller may try again, where we say so.
const RETRY_AFTER_S: u32 = 2;

/// Seconds after which some claim codes of an account with too many have expired.
const CODES_RETRY_AFTER_S: u32 = 600;

/// A request that was not served.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    body: Json,
    retry_after_s: Option<u32>,
    nothing_done: Option<NothingDone>,
}

/// That a request was refused before anything was done for it, as an extension of the answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct NothingDone;

impl ApiError {
    /// The family `{"error","error_description"}`.
    pub(super) fn oauth(status: StatusCode, code: &str, description: &str) -> Self {
        Self::new(status, json!({ "error": code, "error_description": description }))
    }

    /// The family `{"ok":false,"error"}`.
    pub(super) fn api(status: StatusCode, text: &str) -> Self {
        Self::new(status, json!({ "ok": false, "error": text }))
    }

    /// The family `{"ok":false,"errors"}`.
    pub(super) fn list(status: StatusCode, error: Json) -> Self {
        Self::new(status, json!({ "ok": false, "errors": [error] }))
    }

    /// No token came with the request.
    pub(super) fn token_missing() -> Self {
        Self::oauth(StatusCode::BAD_REQUEST, "invalid_request", "The access token was not found")
    }

    /// A token came that is none of ours.
    pub(super) fn token_invalid() -> Self {
        Self::oauth(StatusCode::UNAUTHORIZED, "invalid_token", "The access token provided is invalid.")
    }

    /// A token came whose time is over.
    pub(super) fn token_expired() -> Self {
        Self::oauth(StatusCode::UNAUTHORIZED, "invalid_token", "The access token provided has expired.")
    }

    /// The token is good, but not for this.
    pub(super) fn scope_missing(scope: &str) -> Self {
        Self::oauth(StatusCode::FORBIDDEN, "insufficient_scope", &format!("This request needs the scope {scope}"))
    }

    /// No device of the caller has this id or name. `public_url` is how clients reach us.
    pub(super) fn unknown_device(public_url: &str) -> Self {
        let info = format!("I didn't recognize that device name or ID, try opening {public_url}/v1/devices?access_token=…");
        Self::new(StatusCode::FORBIDDEN, json!({ "error": "Permission Denied", "info": info }))
    }

    /// A device that somebody else has, in words by which clients know that.
    pub(super) fn foreign_device() -> Self {
        Self::api(StatusCode::FORBIDDEN, "This device belongs to someone else")
    }

    /// Something that this server does not do.
    pub(super) fn not_implemented(text: &str) -> Self {
        Self::api(StatusCode::NOT_IMPLEMENTED, text)
    }

    /// Firmware for a device.
    pub(super) fn no_updates() -> Self {
        Self::not_implemented("This server cannot update firmware over the air")
    }

    /// No product of this number or slug that the caller has something to do with.
    pub(super) fn unknown_product() -> Self {
        Self::api(StatusCode::NOT_FOUND, "Product not found.")
    }

    /// Whether it says that something is not there.
    pub(super) fn is_not_found(&self) -> bool {
        self.status == StatusCode::NOT_FOUND
    }

    /// The caller looks after the product, but not so far.
    pub(super) fn role_missing(role: Role) -> Self {
        Self::oauth(StatusCode::FORBIDDEN, "insufficient_role", &format!("The role {} does not allow this request", role.word()))
    }

    /// A program that acts for a product wants something outside of it.
    pub(super) fn not_for_programs() -> Self {
        Self::oauth(StatusCode::BAD_REQUEST, "unauthorized", "API users are not allowed to call this endpoint")
    }

    /// What the registry did not do with a device: one that is not there is answered like any that is unknown.
    pub(super) fn of_device(error: RegistryError, public_url: &str) -> Self {
        match error {
            RegistryError::NoSuchDevice(_) => Self::unknown_device(public_url),
            error => error.into(),
        }
    }

    /// A change of a device that changes nothing.
    pub(super) fn nothing_to_do() -> Self {
        Self::list(StatusCode::BAD_REQUEST, json!({ "error": "Nothing to do?" }))
    }

    /// No such route.
    pub(super) fn not_found() -> Self {
        Self::api(StatusCode::NOT_FOUND, "Not found")
    }

    /// The request cannot be understood.
    pub(super) fn bad_request(text: &str) -> Self {
        Self::api(StatusCode::BAD_REQUEST, text)
    }

    /// A date that is none, in the words of the diagnostics.
    pub(super) fn bad_date(description: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, json!({ "error": "bad_request", "description": description }))
    }

    /// There is no room for one more of its class; there may be after so many seconds.
    pub(super) fn crowded(class: Class, retry_after_s: u32) -> Self {
        match class {
            Class::Streams => Self::api(StatusCode::TOO_MANY_REQUESTS, "Too many event streams are open"),
            Class::Logins => Self::api(StatusCode::SERVICE_UNAVAILABLE, "Too many logins at the same time"),
            _ => Self::api(StatusCode::SERVICE_UNAVAILABLE, "Too many requests at the same time"),
        }
        .retry_after(retry_after_s)
        .before_anything()
    }

    /// Its time was over before its turn came.
    pub(super) fn not_begun() -> Self {
        let info = "The request waited for its turn until its time was over. It was not begun.";
        Self::new(StatusCode::REQUEST_TIMEOUT, json!({ "ok": false, "error": "Timed out.", "info": info, "outcome": "not_begun" }))
            .before_anything()
    }

    /// Something that will pass.
    pub(super) fn unavailable(text: &str) -> Self {
        Self::api(StatusCode::SERVICE_UNAVAILABLE, text).retry_after(RETRY_AFTER_S)
    }

    /// The same, with word when to come back.
    pub(super) fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// The same, with word that nothing was done, so that a repetition may be.
    pub(super) fn before_anything(mut self) -> Self {
        self.nothing_done = Some(NothingDone);
        self
    }

    /// A function or variable that was not called or read. `missing` is what to say when the device has no such thing.
    pub(super) fn call(error: CallError, missing: &str) -> Self {
        let timed_out = |info: &str| Self::new(StatusCode::REQUEST_TIMEOUT, json!({ "ok": false, "error": "Timed out.", "info": info }));
        let mut refusal = match error {
            CallError::Offline => timed_out("The device is offline."),
            CallError::AsleepUntil(time) => timed_out(&format!("The device is asleep until {}.", Iso(time))),
            CallError::TimedOut { delivered: true } => timed_out("The device received the request and did not answer in time."),
            CallError::TimedOut { delivered: false } => timed_out("The device did not acknowledge the request."),
            CallError::Interrupted => timed_out("The server was interrupted. The request may have been carried out."),
            CallError::NoSuchFunction | CallError::NoSuchVariable => Self::api(StatusCode::NOT_FOUND, missing),
            CallError::NotDescribed => Self::unavailable("The device has not said yet what functions and variables it has"),
            // Nobody should try again without thinking about it.
            CallError::Malformed => Self::api(StatusCode::BAD_GATEWAY, "The answer of the device makes no sense"),
            CallError::Busy => {
                Self::api(StatusCode::TOO_MANY_REQUESTS, "Too many requests to this device are waiting").retry_after(1).before_anything()
            }
            CallError::TooLarge => Self::bad_request("The name or the argument is longer than the device takes"),
            CallError::NotSupported => Self::bad_request("The firmware of this device cannot do that"),
            CallError::Unavailable => Self::unavailable("The server cannot reach the device now"),
        };
        refusal.body["outcome"] = error.outcome().into();
        if let CallError::AsleepUntil(time) = error {
            refusal.body["asleep_until"] = Iso(time).to_string().into();
        }
        refusal
    }

    /// A device that did not take a signal.
    pub(super) fn signal(error: CallError) -> Self {
        let outcome = error.outcome();
        match error {
            CallError::Offline | CallError::AsleepUntil(_) | CallError::TimedOut { .. } | CallError::Interrupted => {
                let error = json!({ "error": "Timed out, didn't hear back from device service" });
                let body = json!({ "ok": false, "code": 500, "errors": [error], "outcome": outcome });
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, body)
            }
            other => Self::call(other, "Not found"),
        }
    }

    fn new(status: StatusCode, body: Json) -> Self {
        Self { status, body, retry_after_s: None, nothing_done: None }
    }
}

impl From<RegistryError> for ApiError {
    /// What the caller did wrong is told; what is wrong here is logged.
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::NameTaken => Self::list(StatusCode::FORBIDDEN, error.to_string().into()),
            RegistryError::TooManyClaimCodes => {
                Self::api(StatusCode::TOO_MANY_REQUESTS, &error.to_string()).retry_after(CODES_RETRY_AFTER_S)
            }
            RegistryError::Busy => Self::unavailable("Too many logins at the same time").before_anything(),
            RegistryError::Interrupted => Self::unavailable("The server is shutting down"),
            error if error.is_callers_fault() => Self::list(StatusCode::BAD_REQUEST, error.to_string().into()),
            // The registry has counted it, and said so once.
            error if error.trouble().is_some() => Self::unavailable("The registry cannot be reached now"),
            error => {
                tracing::error!(%error, "the registry failed");
                Self::unavailable("The registry cannot be reached now")
            }
        }
    }
}

impl From<HistoryUnavailable> for ApiError {
    fn from(error: HistoryUnavailable) -> Self {
        Self::unavailable(&error.to_string())
    }
}

impl From<PublishError> for ApiError {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::TooLarge => Self::api(StatusCode::PAYLOAD_TOO_LARGE, "The event is too large"),
            PublishError::Busy => Self::unavailable("The server accepts no events now").before_anything(),
            // Nobody should try again without thinking about it.
            PublishError::Interrupted => {
                Self::api(StatusCode::SERVICE_UNAVAILABLE, "The server was interrupted. The event may have been accepted.")
            }
            PublishError::Unavailable => Self::unavailable("The server cannot accept events"),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = json_response(self.status, &self.body);
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(nothing) = self.nothing_done {
            response.extensions_mut().insert(nothing);
        }
        response
    }
}
