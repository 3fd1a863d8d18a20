//! What the operator asked for: file and environment → a checked, typed [`Config`].
//!
//! Everything is checked here, before any port is bound, and every problem names its key. What was typed is in [`file`], how variables of
//! the environment override it in `environment`, and the rules in `check`. Defaults are documented in `config.default.toml`, from which `page`
//! makes the document for readers; tests hold all three together.

mod check;
mod environment;
mod error;
mod file;
mod limit;
mod mail;
mod network;
mod page;
mod settings;
mod webhooks;

use std::fs;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use router::takeover::Cure;

use crate::store::KeySource;

pub use environment::VARIABLE_PREFIX;
pub use error::{ConfigError, Problem};
pub use limit::Limit;
pub use mail::{Mail, MailLogin, MailSecurity, Password};
pub use network::Network;
pub use page::page;
pub use settings::{Settings, hash};
pub use webhooks::{Certificates, Webhooks};

use file::File;

/// The commented defaults, as shipped.
pub const DEFAULT_FILE: &str = include_str!("../config.default.toml");

/// Everything that can be configured, checked and ready for use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Where keys, registry and journal live.
    pub data_dir: PathBuf,
    /// Devices that speak DTLS.
    pub udp: Udp,
    /// Devices that speak TCP.
    pub tcp: Tcp,
    /// How devices are divided.
    pub shards: Shards,
    /// The REST API.
    pub http: Http,
    /// Metrics and health.
    pub admin: Admin,
    /// Accounts and logins.
    pub accounts: Accounts,
    /// Mail to people; `None` is without.
    pub mail: Option<Mail>,
    /// Calls to devices.
    pub calls: Calls,
    /// Admission of handshakes.
    pub handshakes: Handshakes,
    /// What devices may send.
    pub limits: Limits,
    /// How secrets of hooks are kept.
    pub secrets: Secrets,
    /// What is kept of events.
    pub journal: Journal,
    /// What is kept of what devices said.
    pub history: History,
    /// Where hooks may go, and what is kept of their deliveries.
    pub webhooks: Webhooks,
    /// What is done about threads that stall.
    pub watchdog: Watchdog,
    /// Logs.
    pub log: Log,
}

/// The sockets of devices that speak DTLS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Udp {
    /// Address to bind.
    pub listen: SocketAddr,
    /// Terminators to start.
    pub workers: NonZeroUsize,
}

/// The connections of devices that speak TCP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tcp {
    /// Address to bind.
    pub listen: SocketAddr,
    /// Open connections.
    pub connections: Limit,
}

/// How devices are divided.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shards {
    /// Shards to start.
    pub count: NonZeroUsize,
}

/// The REST API.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Http {
    /// Address to bind.
    pub listen: SocketAddr,
    /// Plain HTTP beyond loopback was asked for in so many words.
    pub insecure_http: bool,
    /// How clients reach the API; no slash at the end.
    pub public_url: Option<String>,
    /// Whose X-Forwarded-For is believed.
    pub trusted_proxies: Vec<Network>,
    /// Certificate files; `None` is plain HTTP.
    pub tls: Option<Tls>,
    /// Open connections.
    pub connections: Limit,
    /// Open event streams.
    pub streams: Limit,
    /// Event streams that one address opens in five minutes.
    pub streams_per_address: Limit,
    /// Requests from one address in five minutes.
    pub requests_per_address: Limit,
}

/// Certificate files for HTTPS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tls {
    /// PEM chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// PEM private key.
    pub key: PathBuf,
}

/// Metrics and health checks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admin {
    /// Address to bind.
    pub listen: SocketAddr,
}

/// Accounts and logins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Accounts {
    /// Who may create an account.
    pub sign_up: SignUp,
    /// Wrong passwords from one address in five minutes.
    pub failed_logins: Limit,
    /// Requests without a token, such as logins, from one address in five minutes.
    pub logins_per_address: Limit,
}

/// Who may create an account over the API.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SignUp {
    /// Nobody: the operator adds users on the command line.
    Closed,
    /// Everybody.
    Open,
}

/// Calls to devices.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Calls {
    /// How long the caller waits for the device.
    pub timeout: Duration,
    /// Callers that wait at the same time.
    pub at_once: Limit,
    /// Those of one account.
    pub at_once_per_account: Limit,
}

/// Admission of handshakes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Handshakes {
    /// Half-open handshakes from one address.
    pub half_open_per_address: Limit,
    /// Half-open handshakes in all.
    pub half_open: Limit,
    /// How long a half-open handshake is kept.
    pub half_open_life: Duration,
    /// Handshakes that begin in a second; the rest waits.
    pub per_second: Limit,
}

/// What devices may send in a second, and twice as much at once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Events of one device.
    pub device_events_per_s: Limit,
    /// Events of all devices of one account.
    pub owner_events_per_s: Limit,
    /// Records of one device, whatever is in them.
    pub device_records_per_s: Limit,
}

/// How secrets of hooks are kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Secrets {
    /// Where the master keys come from.
    pub keys: KeySource,
}

/// What is kept of events. What is beyond either goes, the oldest first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Journal {
    /// How long, in seconds.
    pub keep_for_s: Limit,
    /// Bytes of the journal's segments.
    pub keep_bytes: Limit,
}

/// What is kept of what devices said about themselves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct History {
    /// How long.
    pub age: Duration,
    /// Bytes of it, not compressed.
    pub bytes: Limit,
}

impl History {
    /// How long, in milliseconds.
    pub fn age_ms(&self) -> u64 {
        u64::try_from(self.age.as_millis()).unwrap_or(u64::MAX)
    }
}

/// What is done about threads that stall.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Watchdog {
    /// What is done about a thread that stalls.
    pub cure: Cure,
}

/// Logs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Log {
    /// How a line looks.
    pub format: LogFormat,
    /// A filter that tracing-subscriber understands (checked).
    pub filter: String,
}

/// How a log line looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl Config {
    /// Reads `file` if one is given, else starts from the defaults; then lets `environment` override, and checks the whole.
    ///
    /// # Errors
    /// The file cannot be read, is not TOML, has a key nobody knows, or a value fails its check; likewise for variables.
    pub fn load(file: Option<&Path>, environment: impl IntoIterator<Item = (String, String)>) -> Result<Config, ConfigError> {
        let text = match file {
            Some(path) => fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_path_buf(), source })?,
            None => String::new(),
        };
        Config::parse(&text, environment)
    }

    /// Like [`Config::load`] from the text of a file.
    ///
    /// # Errors
    /// As for [`Config::load`].
    pub fn parse(text: &str, environment: impl IntoIterator<Item = (String, String)>) -> Result<Config, ConfigError> {
        // Read once for itself, because only then an error can point at its line.
        toml::from_str::<File>(text).map_err(|source| ConfigError::Syntax(Box::new(source)))?;
        let mut table: toml::Table = text.parse().map_err(|source| ConfigError::Syntax(Box::new(source)))?;
        environment::apply(&mut table, environment)?;
        let file: File = table.try_into().map_err(|source| ConfigError::Syntax(Box::new(source)))?;
        check::check(file)
    }

    /// How clients reach the API: as configured, else by the address it listens on.
    pub fn public_url(&self) -> String {
        let scheme = if self.http.tls.is_some() { "https" } else { "http" };
        self.http.public_url.clone().unwrap_or_else(|| format!("{scheme}://{}", self.http.listen))
    }
}

impl Default for Config {
    fn default() -> Self {
        check::check(File::default()).expect("the defaults pass their own checks, as a test asserts")
    }
}

#[cfg(test)]
mod tests;
