//! The client against receivers on this machine, good and bad.

mod connections;
mod http;
mod names;
mod receiver;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::{HeaderMap, Method};
use url::Url;

use super::*;
use crate::delivery::Outcome;
use crate::guard::GuardConfig;
use receiver::Names;

/// Longer than anything takes that shall come to its end.
const AMPLE: Duration = Duration::from_secs(20);
/// Shorter than whoever waits has patience for.
const BRIEF: Duration = Duration::from_millis(150);
const HOOK: HookId = HookId([1; 12]);

fn guard(allow: &[&str]) -> Guard {
    Guard::new(GuardConfig { allow: allow.iter().map(|text| text.parse().unwrap()).collect(), ..GuardConfig::default() })
}

fn client_with(limits: Limits, names: Names, allow: &[&str]) -> Client {
    Client::new(guard(allow), Arc::new(names), ClientConfig { limits, roots_pem: None }).unwrap()
}

/// One that may reach this machine.
fn client() -> Client {
    client_with(Limits::default(), Names::none(), &["127.0.0.0/8"])
}

fn post(url: &Url) -> Attempt<'_> {
    let (headers, body) = (HeaderMap::new(), Bytes::from_static(b"{}"));
    Attempt { hook: HOOK, method: Method::POST, url, headers, body, verify_tls: true, timeout: AMPLE, keep_max: 4096 }
}

fn get(url: &Url) -> Attempt<'_> {
    Attempt { method: Method::GET, body: Bytes::new(), ..post(url) }
}

fn with_id(mut attempt: Attempt<'_>) -> Attempt<'_> {
    attempt.headers.insert(WEBHOOK_ID, "event_hook".parse().unwrap());
    attempt
}

fn phase(result: &Result<Answer, Failure>) -> Option<Phase> {
    result.as_ref().err().map(|failure| failure.phase)
}

fn status(result: &Result<Answer, Failure>) -> Option<u16> {
    result.as_ref().ok().map(|answer| answer.status)
}
