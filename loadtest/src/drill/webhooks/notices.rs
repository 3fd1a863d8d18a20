//! What owners are told when their hooks fail: received at an address of its own, and looked at in the end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use firmware_protocol::time::UnixMillis;
use hyper::StatusCode;
use serde::Deserialize;
use webhooks::sign::{Signed, VerifyingKey, verify};

use crate::hooks::{Post, Receivers};

/// Most notices that are kept.
const NOTICES_MAX: usize = 10_000;

/// The receiver of notices.
pub(super) struct Notices {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Post>>>,
}

/// What a notice says.
#[derive(Deserialize)]
struct Notice {
    #[serde(rename = "type")]
    kind: String,
    hook: OfHook,
}

#[derive(Deserialize)]
struct OfHook {
    id: String,
}

/// What was said of one hook.
#[derive(Clone, Default, Debug)]
pub(super) struct Said {
    /// When its owner was first told each of these.
    pub(super) first: BTreeMap<String, UnixMillis>,
    /// Notices that were not signed with the hook's key.
    pub(super) wrong: u64,
}

impl Said {
    /// When its owner was told anything.
    pub(super) fn at(&self) -> Option<UnixMillis> {
        self.first.values().copied().min()
    }
}

impl Notices {
    /// Opens it.
    pub(super) fn open(receivers: &Receivers) -> Result<Self> {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let book = Arc::clone(&heard);
        let address = receivers.open(Arc::new(move |post| {
            let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
            if book.len() < NOTICES_MAX {
                book.push(post);
            }
            Box::pin(async { StatusCode::OK })
        }))?;
        Ok(Self { address, heard })
    }

    /// Where it is.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was said of a hook whose requests are signed with `key`.
    pub(super) fn of(&self, hook: &str, key: VerifyingKey) -> Said {
        said(&self.heard.lock().unwrap_or_else(PoisonError::into_inner), hook, &[key])
    }
}

fn said(heard: &[Post], hook: &str, keys: &[VerifyingKey]) -> Said {
    let mut said = Said::default();
    for post in heard {
        let Some(notice) = serde_json::from_slice::<Notice>(&post.body).ok().filter(|notice| notice.hook.id == hook) else { continue };
        let signed = Signed::read(&post.headers).and_then(|signed| verify(keys, signed, &post.body, post.at.0 / 1000));
        said.wrong += u64::from(signed.is_err());
        let first = said.first.entry(notice.kind).or_insert(post.at);
        *first = (*first).min(post.at);
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use hyper::HeaderMap;
    use webhooks::sign::{Envelope, Scheme, SigningKey, SigningKeys};

    #[test]
    fn notices_are_told_apart_by_hook_and_kind() {
        let (key, other) = (SigningKey::generate(Scheme::Hmac).unwrap(), SigningKey::generate(Scheme::Hmac).unwrap());
        let (right, keys, others) = (key.verifying().unwrap(), SigningKeys::new(key), SigningKeys::new(other));
        let post = |at_s: u64, body: &'static str, keys: &SigningKeys| {
            let mut headers = HeaderMap::new();
            let envelope = Envelope { id: "n", timestamp_s: at_s, attempt: 1, replay: None };
            envelope.write(&mut headers, body.as_bytes(), Some(keys)).unwrap();
            Post { path: "/".into(), headers, body: Bytes::from(body), at: UnixMillis(at_s * 1000) }
        };
        let failing = "{\"type\":\"webhook.failing\",\"hook\":{\"id\":\"a\"}}";
        let heard = [
            post(9, failing, &keys),
            post(5, failing, &keys),
            post(3, "{\"type\":\"webhook.refused\",\"hook\":{\"id\":\"a\"}}", &others),
            post(1, "{\"type\":\"webhook.failing\",\"hook\":{\"id\":\"b\"}}", &keys),
            post(2, "nonsense", &keys),
        ];
        let said = said(&heard, "a", &[right]);
        let first = [("webhook.failing", 5_000), ("webhook.refused", 3_000)];
        assert_eq!(said.first, first.map(|(kind, at)| (kind.to_owned(), UnixMillis(at))).into());
        assert_eq!((said.wrong, said.at()), (1, Some(UnixMillis(3_000))));
    }
}
