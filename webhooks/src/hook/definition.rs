//! Reads the definition of a hook, as it is stored: Particle's fields, and `ordering`, `timeout`, `signature` and `notifyUrl`, which are our own.

use std::time::Duration;

use firmware_protocol::id::DeviceId;
use firmware_protocol::session::publish::is_system_name;
use hyper::Method;
use router::event::Audience;
use serde_json::{Map, Value as Json};
use url::Url;

use super::reader::Reader;
use super::{Answers, Auth, Body, Hook, HookError, HookId, Names, Ordering, Problem, Signature, TIMEOUT_DEFAULT, TIMEOUT_S};
use crate::request::URL_LEN_MAX;
use crate::template::Template;

/// Longest name of an event, in bytes.
const EVENT_NAME_LEN_MAX: usize = 64;
/// Three spellings of one field, each of which a client writes.
pub const DEVICE_FIELDS: [&str; 3] = ["deviceID", "deviceid", "deviceId"];
/// Of these there is one at most: each says what the body of the request is.
pub const BODIES: [&str; 3] = ["json", "form", "body"];

/// The hook that a definition says.
pub(super) fn read(id: HookId, audience: Audience, definition: &Map<String, Json>) -> Result<Hook, HookError> {
    let mut reader = Reader::new(definition);
    Ok(Hook {
        id,
        audience,
        prefix: reader.prefix()?,
        device: reader.device()?,
        is_disabled: reader.flag("disabled", false)?,
        url: reader.url()?,
        method: reader.method()?,
        body: reader.body()?,
        query: reader.fields("query")?,
        headers: reader.fields("headers")?,
        auth: reader.auth()?,
        no_defaults: reader.flag("noDefaults", false)?,
        verifies_tls: reader.flag("rejectUnauthorized", true)?,
        answers: reader.answers()?,
        ordering: reader.ordering()?,
        timeout: reader.timeout()?,
        signature: reader.signature()?,
        notify_url: reader.notify_url()?,
        names: Names::of(definition),
    })
}

impl Reader<'_> {
    fn prefix(&self) -> Result<String, HookError> {
        let text = self.text("event")?.filter(|text| text.len() <= EVENT_NAME_LEN_MAX);
        text.map(str::to_owned).ok_or_else(|| HookError::new("event", Problem::MustBe("from 1 to 64 bytes long")))
    }

    fn device(&self) -> Result<Option<DeviceId>, HookError> {
        let Some(field) = DEVICE_FIELDS.into_iter().find(|field| self.said(field).is_some()) else { return Ok(None) };
        let id = self.text(field)?.map(str::parse).transpose();
        id.map_err(|_| HookError::new(field, Problem::MustBe("the id of a device")))
    }

    /// What comes before the first tag must not go anywhere else, and an address without tags must be one.
    fn url(&mut self) -> Result<Template, HookError> {
        let bad = || HookError::new("url", Problem::MustBe("an address that begins with http:// or https://, of at most 8192 bytes"));
        let url = self.template("url", self.text("url")?.ok_or_else(bad)?.trim())?;
        let start = url.start().to_ascii_lowercase();
        let may_begin = ["http://", "https://"].iter().any(|scheme| start.starts_with(scheme) || scheme.starts_with(&start));
        let is_good = url.fixed().is_none_or(|text| text.len() <= URL_LEN_MAX && http_url(text).is_some());
        if may_begin && is_good { Ok(url) } else { Err(bad()) }
    }

    fn method(&self) -> Result<Method, HookError> {
        match self.text("requestType")?.unwrap_or("POST").to_ascii_uppercase().as_str() {
            "GET" => Ok(Method::GET),
            "POST" => Ok(Method::POST),
            "PUT" => Ok(Method::PUT),
            "DELETE" => Ok(Method::DELETE),
            _ => Err(HookError::new("requestType", Problem::MustBe("GET, POST, PUT or DELETE"))),
        }
    }

    fn body(&mut self) -> Result<Body, HookError> {
        let mut said = BODIES.into_iter().filter(|field| self.said(field).is_some());
        let (first, second) = (said.next(), said.next());
        if let (Some(first), Some(second)) = (first, second) {
            return Err(HookError::new(second, Problem::Excludes(first)));
        }
        Ok(match first {
            Some("json") => self.shape("json")?.map_or(Body::Default, Body::Json),
            Some("form") => Body::Form(self.fields("form")?),
            Some(field) => self.optional(field)?.map_or(Body::Default, Body::Text),
            None => Body::Default,
        })
    }

    fn auth(&mut self) -> Result<Option<Auth>, HookError> {
        let Some(auth) = self.object("auth")? else { return Ok(None) };
        let said = |names: [&'static str; 2]| names.into_iter().find(|name| auth.get(*name).is_some_and(|value| !value.is_null()));
        let mut of = |name: Option<&str>| match name {
            Some(name) => self.value(&format!("auth.{name}"), &auth[name]),
            None => Ok(Template::default()),
        };
        match (said(["username", "user"]), said(["password", "pass"]), said(["bearer", "bearer"])) {
            (None, None, None) => Ok(None),
            (None, None, token) => Ok(Some(Auth::Bearer(of(token)?))),
            (user, password, None) => Ok(Some(Auth::Basic { user: of(user)?, password: of(password)? })),
            _ => Err(HookError::new("auth.bearer", Problem::Excludes("a name and a password"))),
        }
    }

    fn answers(&mut self) -> Result<Answers, HookError> {
        Ok(Answers {
            topic: self.topic("responseTopic")?,
            error_topic: self.topic("errorResponseTopic")?,
            template: self.shape("responseTemplate")?,
            is_whole: self.flag("unchunked", false)?,
            is_binary: self.flag("dataUrlResponseEvent", false)?,
        })
    }

    fn topic(&mut self, field: &str) -> Result<Option<Template>, HookError> {
        let topic = self.optional(field)?;
        if topic.as_ref().is_some_and(|topic| is_system_name(topic.start())) {
            return Err(HookError::new(field, Problem::MustBe("a name that does not begin with spark or particle: those are reserved")));
        }
        Ok(topic)
    }

    fn ordering(&self) -> Result<Ordering, HookError> {
        match self.text("ordering")? {
            None | Some("per_device") => Ok(Ordering::PerDevice),
            Some("none") => Ok(Ordering::None),
            Some(_) => Err(HookError::new("ordering", Problem::MustBe("per_device or none"))),
        }
    }

    fn signature(&self) -> Result<Signature, HookError> {
        match self.text("signature")? {
            None | Some("ed25519") => Ok(Signature::Ed25519),
            Some("hmac") => Ok(Signature::Hmac),
            Some("none") => Ok(Signature::None),
            Some(_) => Err(HookError::new("signature", Problem::MustBe("ed25519, hmac or none"))),
        }
    }

    fn timeout(&self) -> Result<Duration, HookError> {
        let Some(said) = self.said("timeout") else { return Ok(TIMEOUT_DEFAULT) };
        let seconds = said.as_u64().or_else(|| said.as_str()?.parse().ok()).filter(|seconds| TIMEOUT_S.contains(seconds));
        seconds.map(Duration::from_secs).ok_or_else(|| HookError::new("timeout", Problem::MustBe("from 1 to 30 seconds")))
    }

    fn notify_url(&self) -> Result<Option<Url>, HookError> {
        let bad = || HookError::new("notifyUrl", Problem::MustBe("an address that begins with http:// or https://"));
        self.text("notifyUrl")?.map(|text| http_url(text).filter(|_| text.len() <= URL_LEN_MAX).ok_or_else(bad)).transpose()
    }
}

fn http_url(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}
