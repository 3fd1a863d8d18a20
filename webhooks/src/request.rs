//! Makes of a hook and an event the request that is sent. What an attempt adds, which is the signature and the number of the attempt, is not for here.

mod body;
mod headers;
mod variables;

use std::fmt;

use bytes::Bytes;
use hyper::{HeaderMap, Method};
use router::event::Event;
use serde_json::Value as Json;
use thiserror::Error;
use url::Url;

use crate::delivery::{Outcome, Phase};
use crate::hook::{Body, Hook};
use crate::template::{Budget, RenderError, STEPS_MAX};

pub use headers::USER_AGENT;
pub use variables::{EventFacts, variables};

/// Longest address, in bytes.
pub const URL_LEN_MAX: usize = 8_192;
/// Most bytes of all headers, with two for each that stand between its name and its value, and two for the end of its line.
pub const HEADERS_LEN_MAX: usize = 16_384;
/// Longest body, in bytes.
pub const BODY_LEN_MAX: usize = 1 << 20;

/// A request, but for what each attempt adds. It may hold secrets anywhere, so its debug output shows where it goes and no more.
#[derive(Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// How.
    pub method: Method,
    /// Where to: of http or https, without credentials and fragment.
    pub url: Url,
    /// What it says of itself. Neither `Host` nor `Content-Length` is there: whoever sends knows these.
    pub headers: HeaderMap,
    /// What it carries.
    pub body: Bytes,
}

/// Why there is no request.
#[derive(Debug, Error, PartialEq, Eq, Clone)]
pub enum RequestError {
    /// A template was not filled in.
    #[error("{0}: {1}")]
    Render(&'static str, RenderError),
    /// What the address's template made is none.
    #[error("the address is none of http or https")]
    NoAddress,
    /// The address has a character in it that no address has.
    #[error("the address has a control character in it")]
    ControlInAddress,
    /// The address is too long.
    #[error("the address has more than {URL_LEN_MAX} bytes")]
    AddressTooLong,
    /// The name of a header is none.
    #[error("{0:?} is no name of a header")]
    HeaderName(String),
    /// The value of a header would end its line, or has another character in it that none has.
    #[error("the header {0} has a control character in it")]
    HeaderValue(String),
    /// The headers are too long.
    #[error("the headers have more than {HEADERS_LEN_MAX} bytes")]
    HeadersTooLong,
    /// What the text of a JSON body made is no JSON.
    #[error("the body is no JSON: {0}")]
    NotJson(String),
    /// The body is too long.
    #[error("the body has more than {BODY_LEN_MAX} bytes")]
    BodyTooLong,
}

impl From<RequestError> for Outcome {
    fn from(error: RequestError) -> Self {
        Self::Failed { phase: Phase::Render, error: error.to_string() }
    }
}

impl Outgoing {
    /// The request that a hook makes of an event.
    ///
    /// Credentials in the address become basic authentication, if the hook says no other.
    ///
    /// # Errors
    /// A template was not filled in, or what came out cannot be sent.
    pub fn new(hook: &Hook, event: &Event, facts: &EventFacts) -> Result<Self, RequestError> {
        let view = variables(event, facts, hook.names);
        let mut filling = Filling { hook, view, defaults: variables::defaults(event), budget: budget() };
        let mut url = filling.address()?;
        let credentials = headers::take_credentials(&mut url);
        filling.add_query(&mut url)?;
        let body = if has_body(&hook.method) { filling.body()? } else { body::Made::default() };
        if body.bytes.len() > BODY_LEN_MAX {
            return Err(RequestError::BodyTooLong);
        }
        let headers = filling.headers(credentials, body.kind)?;
        Ok(Self { method: hook.method.clone(), url, headers, body: body.bytes })
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Outgoing");
        shown.field("method", &self.method).field("host", &self.url.host_str()).field("body_len", &self.body.len()).finish_non_exhaustive()
    }
}

fn has_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT)
}

fn budget() -> Budget {
    Budget { bytes: URL_LEN_MAX + HEADERS_LEN_MAX + BODY_LEN_MAX, steps: STEPS_MAX }
}

/// A hook whose templates are being filled in.
struct Filling<'h> {
    hook: &'h Hook,
    view: Json,
    /// The fields that every request has, unless the hook says that it has none.
    defaults: [(&'static str, Json); 4],
    budget: Budget,
}

impl Filling<'_> {
    fn address(&mut self) -> Result<Url, RequestError> {
        let text = self.hook.url.render_within(&self.view, &mut self.budget).map_err(|error| RequestError::Render("url", error))?;
        let text = text.trim();
        if text.len() > URL_LEN_MAX {
            return Err(RequestError::AddressTooLong);
        }
        // What reads addresses drops some of them without a word.
        if text.contains(char::is_control) {
            return Err(RequestError::ControlInAddress);
        }
        let mut url = Url::parse(text).map_err(|_| RequestError::NoAddress)?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(RequestError::NoAddress);
        }
        url.set_fragment(None);
        Ok(url)
    }

    /// Requests without a body carry the defaults and the form in the query.
    fn add_query(&mut self, url: &mut Url) -> Result<(), RequestError> {
        let mut pairs = Vec::new();
        if !has_body(&self.hook.method) {
            pairs.extend(self.default_pairs());
            if let Body::Form(form) = &self.hook.body {
                put(&mut pairs, form.render(&self.view, &mut self.budget).map_err(|error| RequestError::Render("form", error))?);
            }
        }
        put(&mut pairs, self.hook.query.render(&self.view, &mut self.budget).map_err(|error| RequestError::Render("query", error))?);
        if !pairs.is_empty() {
            url.query_pairs_mut().extend_pairs(pairs);
        }
        if url.as_str().len() > URL_LEN_MAX {
            return Err(RequestError::AddressTooLong);
        }
        Ok(())
    }

    /// The defaults as fields of a form. An event without data has an empty one there.
    fn default_pairs(&self) -> Vec<(String, String)> {
        let wanted = self.defaults.iter().filter(|_| !self.hook.no_defaults);
        wanted.map(|(name, value)| ((*name).to_owned(), value.as_str().unwrap_or_default().to_owned())).collect()
    }
}

/// Adds fields. One that is there already is replaced: what a hook says goes before what every request has.
fn put(pairs: &mut Vec<(String, String)>, added: Vec<(String, String)>) {
    pairs.retain(|(name, _)| !added.iter().any(|(other, _)| other == name));
    pairs.extend(added);
}

#[cfg(test)]
mod tests;
