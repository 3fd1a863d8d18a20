//! What a hook says: which events it is for, and what is made of them. Read once from the definition that is stored, and typed.

mod definition;
mod error;
mod fields;
mod names;
mod reader;
mod secrets;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use firmware_protocol::id::DeviceId;
use firmware_protocol::session::publish::is_system_name;
use hyper::Method;
use router::event::{Audience, Event, Source};
use serde_json::{Map, Value as Json};
use url::Url;

use crate::template::Template;

pub use definition::{BODIES, DEVICE_FIELDS};
pub use error::{HookError, Problem};
pub use fields::{FIELDS_MAX, Fields, JsonTemplate, Shape};
pub use names::Names;
pub use secrets::{MASK, each_secret, mask, unmask};

/// Most bytes of all templates of a hook together.
pub const TEMPLATES_LEN_MAX: usize = 262_144;
/// Time for an attempt, if the hook says none.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(20);
/// The times that it may say, in seconds.
pub const TIMEOUT_S: std::ops::RangeInclusive<u64> = 1..=30;

/// The id of a hook: 24 hex digits, which clients take for text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HookId(pub [u8; 12]);

/// A hook. It may hold secrets anywhere, so its debug output shows which it is and no more.
#[derive(Clone, PartialEq)]
pub struct Hook {
    /// Which.
    pub id: HookId,
    /// Whose: of an account, or of a product.
    pub audience: Audience,
    /// How the names of its events begin.
    pub prefix: String,
    /// The only device whose events it is for, if there is one.
    pub device: Option<DeviceId>,
    /// Whether it does nothing for now.
    pub is_disabled: bool,
    /// Where requests go.
    pub url: Template,
    /// How.
    pub method: Method,
    /// What the body is made of.
    pub body: Body,
    /// What is added to the query.
    pub query: Fields,
    /// Headers of its own.
    pub headers: Fields,
    /// Who the receiver is told that it is.
    pub auth: Option<Auth>,
    /// Whether the four fields that every request has are left out.
    pub no_defaults: bool,
    /// Whether the certificate of the other side must be good.
    pub verifies_tls: bool,
    /// What is published of answers.
    pub answers: Answers,
    /// Whether events of a device wait for each other.
    pub ordering: Ordering,
    /// Time for an attempt.
    pub timeout: Duration,
    /// How requests are signed.
    pub signature: Signature,
    /// Where its owner is told that it fails.
    pub notify_url: Option<Url>,
    /// What its templates name.
    pub names: Names,
}

/// What the body of a request is made of. Requests that have none take a form into their query.
#[derive(Clone, PartialEq, Debug)]
pub enum Body {
    /// The defaults, as a form.
    Default,
    /// JSON, into which the defaults go if it is an object.
    Json(Shape),
    /// A form, with the defaults.
    Form(Fields),
    /// A text of its own.
    Text(Template),
}

/// Who the receiver is told that the hook is.
#[derive(Clone, PartialEq, Eq)]
pub enum Auth {
    /// A name and a password.
    Basic {
        /// The name.
        user: Template,
        /// The password.
        password: Template,
    },
    /// A token.
    Bearer(Template),
}

/// What is published of answers.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Answers {
    /// The name of events with answers, if not the usual one.
    pub topic: Option<Template>,
    /// The name of events with errors, if not the usual one.
    pub error_topic: Option<Template>,
    /// What is made of an answer that is JSON.
    pub template: Option<Shape>,
    /// Whether it is one event, whatever its size.
    pub is_whole: bool,
    /// Whether it is published as bytes rather than as text; readers see a data URL.
    pub is_binary: bool,
}

/// Whether events wait for each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Ordering {
    /// Those of a device do.
    #[default]
    PerDevice,
    /// None does.
    None,
}

/// How requests are signed (Standard Webhooks 1.0).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Signature {
    /// `v1a`: with a private key, the public half of which receivers can read.
    #[default]
    Ed25519,
    /// `v1`: HMAC-SHA256 with a secret that both know.
    Hmac,
    /// Not at all.
    None,
}

impl Hook {
    /// Reads the definition that is stored for a hook.
    ///
    /// # Errors
    /// A field is missing, or not what it must be: the error names it.
    pub fn parse(id: HookId, audience: Audience, definition: &Map<String, Json>) -> Result<Self, HookError> {
        definition::read(id, audience, definition)
    }

    /// Whether an event is one of its own: its name begins so, its device is the one, the hook's audience hears of it, and it was not made for a hook.
    pub fn matches(&self, event: &Event) -> bool {
        let is_device = self.device.is_none_or(|device| event.source == Source::Device(device));
        !self.is_disabled && event.name.starts_with(&self.prefix) && is_device && self.audience.hears(event) && !is_made_for_a_hook(event)
    }
}

/// Whether the cloud published an event because of a hook: such events trigger none, so that no hook can go round in circles.
///
/// Whatever else the cloud publishes has a name of the system, which events of hooks never have (see [`crate::response`]), so an event needs to say no
/// more of itself than who published it.
pub fn is_made_for_a_hook(event: &Event) -> bool {
    event.source == Source::Cloud && !is_system_name(&event.name)
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook").field("id", &self.id).field("audience", &self.audience).field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Basic { .. } => "Basic",
            Self::Bearer(_) => "Bearer",
        })
    }
}

impl HookId {
    /// No hook has this one.
    pub const NOBODY: Self = Self([0; 12]);
}

impl fmt::Display for HookId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for HookId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for HookId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut id = [0; 12];
        hex::decode_to_slice(text, &mut id).map_err(|_| ())?;
        Ok(Self(id))
    }
}

#[cfg(test)]
mod tests;
