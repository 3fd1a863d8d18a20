//! Variables of the environment that override keys: `HOLDFAST_<SECTION>_<KEY>`.

use toml::{Table, Value};

use super::ConfigError;

/// What every variable of ours begins with.
pub const VARIABLE_PREFIX: &str = "HOLDFAST_";

/// Variables with our prefix that are not keys: an argument of the command line, where faults come in, what a build is made from, and what Kubernetes sets
/// for a service named holdfast.
const NOT_KEYS: [&str; 3] = ["CONFIG", "FAULTS", "REVISION"];
const NOT_OURS: [&str; 2] = ["SERVICE_", "PORT"];

/// What a key takes, so that a variable's text can be read accordingly.
#[derive(Clone, Copy, Debug)]
pub(super) enum Takes {
    Text,
    Number,
    Flag,
    NumberOrWord,
    /// Comma-separated in a variable.
    List,
}

/// Every key there is. A test compares it with `config.default.toml`.
pub(super) const KEYS: [(&[&str], Takes); 53] = [
    (&["data_dir"], Takes::Text),
    (&["udp", "listen"], Takes::Text),
    (&["udp", "workers"], Takes::NumberOrWord),
    (&["tcp", "listen"], Takes::Text),
    (&["tcp", "connections"], Takes::NumberOrWord),
    (&["shards", "count"], Takes::Number),
    (&["http", "listen"], Takes::Text),
    (&["http", "insecure_http"], Takes::Flag),
    (&["http", "public_url"], Takes::Text),
    (&["http", "trusted_proxies"], Takes::List),
    (&["http", "connections"], Takes::NumberOrWord),
    (&["http", "streams"], Takes::NumberOrWord),
    (&["http", "streams_per_address"], Takes::NumberOrWord),
    (&["http", "requests_per_address"], Takes::NumberOrWord),
    (&["http", "tls", "certificate"], Takes::Text),
    (&["http", "tls", "key"], Takes::Text),
    (&["admin", "listen"], Takes::Text),
    (&["accounts", "sign_up"], Takes::Text),
    (&["accounts", "failed_logins"], Takes::NumberOrWord),
    (&["accounts", "logins_per_address"], Takes::NumberOrWord),
    (&["mail", "server"], Takes::Text),
    (&["mail", "security"], Takes::Text),
    (&["mail", "user"], Takes::Text),
    (&["mail", "password_file"], Takes::Text),
    (&["mail", "from"], Takes::Text),
    (&["calls", "timeout_s"], Takes::Number),
    (&["calls", "at_once"], Takes::NumberOrWord),
    (&["calls", "at_once_per_account"], Takes::NumberOrWord),
    (&["handshakes", "half_open_per_address"], Takes::NumberOrWord),
    (&["handshakes", "half_open"], Takes::NumberOrWord),
    (&["handshakes", "half_open_life_s"], Takes::Number),
    (&["handshakes", "per_second"], Takes::NumberOrWord),
    (&["limits", "device_events_per_s"], Takes::NumberOrWord),
    (&["limits", "owner_events_per_s"], Takes::NumberOrWord),
    (&["limits", "device_records_per_s"], Takes::NumberOrWord),
    (&["secrets", "master_key_file"], Takes::Text),
    (&["journal", "keep_for_s"], Takes::NumberOrWord),
    (&["journal", "keep_bytes"], Takes::NumberOrWord),
    (&["history", "days"], Takes::Number),
    (&["history", "bytes"], Takes::NumberOrWord),
    (&["webhooks", "allow"], Takes::List),
    (&["webhooks", "deny"], Takes::List),
    (&["webhooks", "ports"], Takes::List),
    (&["webhooks", "plain_http"], Takes::Flag),
    (&["webhooks", "certificates"], Takes::Text),
    (&["webhooks", "at_once"], Takes::Number),
    (&["webhooks", "pending_hours"], Takes::Number),
    (&["webhooks", "pending_bytes"], Takes::NumberOrWord),
    (&["webhooks", "keep_days"], Takes::Number),
    (&["webhooks", "keep_bytes"], Takes::NumberOrWord),
    (&["watchdog", "cure"], Takes::Text),
    (&["log", "format"], Takes::Text),
    (&["log", "filter"], Takes::Text),
];

/// Puts the values of `variables` over those of `table`. Variables without our prefix are passed over.
pub(super) fn apply(table: &mut Table, variables: impl IntoIterator<Item = (String, String)>) -> Result<(), ConfigError> {
    for (name, text) in variables {
        let Some(rest) = name.strip_prefix(VARIABLE_PREFIX) else { continue };
        if NOT_KEYS.contains(&rest) || NOT_OURS.iter().any(|start| rest.starts_with(start)) {
            continue;
        }
        let Some((path, takes)) = KEYS.iter().find(|(path, _)| variable(path) == rest) else {
            return Err(ConfigError::UnknownVariable(name));
        };
        let value = read(*takes, &text).ok_or_else(|| ConfigError::Variable { name, key: path.join("."), takes: takes.words() })?;
        set(table, path, value);
    }
    Ok(())
}

fn variable(path: &[&str]) -> String {
    path.join("_").to_uppercase()
}

impl Takes {
    fn words(self) -> &'static str {
        match self {
            Takes::Text => "a text",
            Takes::Number => "a number",
            Takes::Flag => "true or false",
            Takes::NumberOrWord => "a number or a word",
            Takes::List => "a list with commas between",
        }
    }
}

fn read(takes: Takes, text: &str) -> Option<Value> {
    match takes {
        Takes::Text => Some(Value::String(text.to_owned())),
        Takes::Number => text.parse().ok().map(Value::Integer),
        Takes::Flag => text.parse().ok().map(Value::Boolean),
        Takes::NumberOrWord => Some(text.parse().map_or_else(|_| Value::String(text.to_owned()), Value::Integer)),
        Takes::List => Some(Value::Array(
            text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(|part| Value::String(part.into())).collect(),
        )),
    }
}

/// A section that is not a table in the file is left alone: reading the file as a whole then says what is wrong with it.
fn set(table: &mut Table, path: &[&str], value: Value) {
    let [sections @ .., key] = path else { return };
    let mut place = table;
    for section in sections {
        let entry = place.entry(*section).or_insert_with(|| Value::Table(Table::new()));
        let Value::Table(inner) = entry else { return };
        place = inner;
    }
    place.insert((*key).to_owned(), value);
}
