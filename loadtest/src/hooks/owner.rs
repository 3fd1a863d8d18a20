//! An account with hooks, by what the API offers to whoever owns them.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use firmware_protocol::time::UnixMillis;
use router::dates::Iso;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use webhooks::sign::VerifyingKey;

use crate::api::Api;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// What a server does not know yet, it is asked again after so long, so often.
const PAUSE: Duration = Duration::from_millis(200);
const TRIES: u32 = 100;

/// Whoever has hooks.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    api: Api,
}

/// How a hook is.
#[derive(Clone, PartialEq, Eq, Deserialize, Debug)]
pub(crate) struct HookView {
    /// `healthy`, `degraded`, `failing`, `open` or `disabled`.
    pub(crate) state: String,
    counts: Map<String, Value>,
}

impl HookView {
    /// All deliveries that there ever were.
    pub(crate) fn accepted(&self) -> u64 {
        self.count("accepted")
    }

    /// Those that were made.
    pub(crate) fn delivered(&self) -> u64 {
        self.count("delivered")
    }

    /// Those that are to be made.
    pub(crate) fn pending(&self) -> u64 {
        self.count("pending")
    }

    /// Those that will not be made any more.
    pub(crate) fn given_up(&self) -> u64 {
        self.count("expired") + self.count("rejected")
    }

    /// Whether each delivery has become one of these.
    pub(crate) fn adds_up(&self) -> bool {
        self.accepted() == self.delivered() + self.pending() + self.given_up()
    }

    fn count(&self, name: &str) -> u64 {
        total(self.counts.get(name).unwrap_or(&Value::Null))
    }
}

/// A number, or the sum of some by reason.
fn total(value: &Value) -> u64 {
    match value {
        Value::Object(parts) => parts.values().map(total).sum(),
        value => value.as_u64().unwrap_or(0),
    }
}

impl Owner {
    /// By the account's token.
    pub(crate) fn new(api: Api) -> Self {
        Self { api }
    }

    /// The account as a caller.
    pub(crate) fn api(&self) -> &Api {
        &self.api
    }

    /// Makes a hook: its id.
    pub(crate) fn create(&self, definition: &Value) -> Result<String> {
        let made = self.ask("POST", "/v1/integrations", Some(definition), 201)?;
        Ok(made["id"].as_str().context("a hook has an id")?.to_owned())
    }

    /// Replaces what a hook says.
    pub(crate) fn replace(&self, hook: &str, definition: &Value) -> Result<()> {
        self.ask("PUT", &path(hook, ""), Some(definition), 200).map(drop)
    }

    /// How a hook is. A server that has just been started leaves that out for a moment.
    pub(crate) fn view(&self, hook: &str) -> Result<HookView> {
        self.learn(&path(hook, ""), |shown| serde_json::from_value(shown["integration"].clone()).ok())
    }

    /// What tells whether a request of a hook is signed as it should be.
    pub(crate) fn key(&self, hook: &str) -> Result<VerifyingKey> {
        let text = |shown: &Value| ["publicKey", "secret"].into_iter().find_map(|name| shown[name].as_str().map(str::to_owned));
        Ok(VerifyingKey::parse(&self.learn(&path(hook, "/signing_key"), text)?)?)
    }

    /// Asks until the answer has what is looked for.
    fn learn<T>(&self, path: &str, find: impl Fn(&Value) -> Option<T>) -> Result<T> {
        let mut shown = Value::Null;
        for _ in 0..TRIES {
            shown = self.ask("GET", path, None, 200)?;
            if let Some(found) = find(&shown) {
                return Ok(found);
            }
            thread::sleep(PAUSE);
        }
        bail!("GET {path} does not say what it should: {shown}")
    }

    /// Has the deliveries of a span of time made again.
    pub(crate) fn replay(&self, hook: &str, from: UnixMillis, before: UnixMillis) -> Result<()> {
        let span = json!({ "from": Iso(from).to_string(), "before": Iso(before).to_string() });
        let answer = self.api.ask("POST", &path(hook, "/replays"), Some(&span), PATIENCE)?;
        ensure!((200..300).contains(&answer.status), "a replay was answered {}: {}", answer.status, answer.body);
        Ok(())
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>, status: u16) -> Result<Value> {
        let answer = self.api.ask(method, path, body, PATIENCE).with_context(|| format!("{method} {path}"))?;
        ensure!(answer.status == status, "{method} {path} was answered {}: {}", answer.status, answer.body);
        serde_json::from_str(&answer.body).with_context(|| format!("{method} {path} was answered no JSON: {}", answer.body))
    }
}

fn path(hook: &str, rest: &str) -> String {
    format!("/v1/integrations/{hook}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_adds_up_if_each_delivery_has_become_something() -> Result<()> {
        let view = |delivered: u64| -> Result<HookView> {
            let rejected = json!({ "gone": 1, "exhausted": 2 });
            let counts = json!({ "accepted": 10, "delivered": delivered, "pending": 2, "expired": 1, "rejected": rejected, "replayed": 7 });
            Ok(serde_json::from_value(json!({ "state": "open", "since": "x", "counts": counts }))?)
        };
        assert!(view(4)?.adds_up() && !view(5)?.adds_up());
        assert_eq!((view(4)?.pending(), view(4)?.given_up()), (2, 4));
        Ok(())
    }
}
