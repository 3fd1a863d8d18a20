//! Headers of requests: what the hook says goes before what is said otherwise, but for what belongs to the connection and to signatures.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT as USER_AGENT_HEADER};
use url::{Url, form_urlencoded};

use super::body::Kind;
use super::{Filling, HEADERS_LEN_MAX, RequestError};
use crate::hook::Auth;
use crate::template::Template;

/// What requests say of who makes them, unless the hook says something else.
pub const USER_AGENT: &str = concat!("Holdfast/", env!("CARGO_PKG_VERSION"), " (+docs/webhooks.md)");

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
/// Headers that are left out when a hook says them: they are the connection's, or say how the answer may be packed.
const LEFT_OUT: [&str; 13] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "upgrade",
    "te",
    "trailer",
    "expect",
    "accept-encoding",
    "http2-settings",
];
/// The headers of Standard Webhooks begin so.
const SIGNATURES: &str = "webhook-";
/// What may stand around names and values without belonging to them.
const BLANKS: [char; 2] = [' ', '\t'];
/// Longest name of a header that an error repeats.
const SHOWN_LEN_MAX: usize = 64;

impl Filling<'_> {
    pub(super) fn headers(&mut self, credentials: Option<HeaderValue>, kind: Kind) -> Result<HeaderMap, RequestError> {
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT_HEADER, HeaderValue::from_static(USER_AGENT));
        match kind {
            Kind::Form => _ = headers.insert(CONTENT_TYPE, FORM),
            Kind::Json => {
                headers.insert(CONTENT_TYPE, JSON);
                headers.insert(ACCEPT, JSON);
            }
            Kind::Unsaid => {}
        }
        if let Some(value) = self.authorization()?.or(credentials) {
            headers.insert(AUTHORIZATION, value);
        }
        self.add_own(&mut headers)?;
        let len: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        if len > HEADERS_LEN_MAX { Err(RequestError::HeadersTooLong) } else { Ok(headers) }
    }

    fn authorization(&mut self) -> Result<Option<HeaderValue>, RequestError> {
        let hook = self.hook;
        let value = match &hook.auth {
            None => return Ok(None),
            Some(Auth::Basic { user, password }) => basic(&self.auth(user)?, &self.auth(password)?),
            Some(Auth::Bearer(token)) => format!("Bearer {}", self.auth(token)?),
        };
        self::value(&AUTHORIZATION, &value).map(Some)
    }

    fn auth(&mut self, template: &Template) -> Result<String, RequestError> {
        template.render_within(&self.view, &mut self.budget).map_err(|error| RequestError::Render("auth", error))
    }

    fn add_own(&mut self, headers: &mut HeaderMap) -> Result<(), RequestError> {
        let own = self.hook.headers.render(&self.view, &mut self.budget).map_err(|error| RequestError::Render("headers", error))?;
        for (name, text) in own {
            let name = name.trim_matches(BLANKS);
            let known = HeaderName::from_bytes(name.as_bytes());
            let name = known.map_err(|_| RequestError::HeaderName(name[..name.floor_char_boundary(SHOWN_LEN_MAX)].to_owned()))?;
            if !LEFT_OUT.contains(&name.as_str()) && !name.as_str().starts_with(SIGNATURES) {
                let value = value(&name, text.trim_matches(BLANKS))?;
                headers.insert(name, value);
            }
        }
        Ok(())
    }
}

/// Takes the name and the password out of an address.
pub(super) fn take_credentials(url: &mut Url) -> Option<HeaderValue> {
    let (user, password) = (decoded(url.username()), decoded(url.password().unwrap_or_default()));
    // Neither fails where there is a host.
    let _ = (url.set_username(""), url.set_password(None));
    let value = HeaderValue::try_from(basic(&user, &password)).ok().filter(|_| !user.is_empty() || !password.is_empty());
    value.map(sensitive)
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// Text whose percent signs stand for bytes. It is read as the name of a field of a form, in which two more characters mean something.
fn decoded(text: &str) -> String {
    let field = text.replace('+', "%2B").replace('&', "%26").replace('=', "%3D");
    form_urlencoded::parse(field.as_bytes()).next().map(|(name, _)| name.into_owned()).unwrap_or_default()
}

fn value(name: &HeaderName, text: &str) -> Result<HeaderValue, RequestError> {
    let bad = |_| RequestError::HeaderValue(name.as_str()[..name.as_str().len().min(SHOWN_LEN_MAX)].to_owned());
    let value = HeaderValue::from_bytes(text.as_bytes()).map_err(bad)?;
    Ok(if *name == AUTHORIZATION { sensitive(value) } else { value })
}

/// Kept out of what is logged.
fn sensitive(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}
