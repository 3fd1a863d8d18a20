//! Tells owners how their hooks are, by another way than the destination that fails: the hook's second address, or mail. Where neither is there, the log
//! and a metric have it.
//!
//! A notice goes through the same guard as any request of a hook and is signed with the hook's keys. It is tried a few times within two minutes. Nobody waits for
//! it: whoever tells runs on its own, and of more than can wait some are dropped and counted.

mod words;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use firmware_protocol::time::UnixMillis;
use hyper::header::{CONTENT_TYPE, HeaderValue, USER_AGENT};
use hyper::{HeaderMap, Method};
use router::event::Audience;
use tokio::sync::Semaphore;
use url::Url;
use webhooks::client::{Attempt, Client, Failure};
use webhooks::delivery::Phase;
use webhooks::dispatcher::messages::Notice;
use webhooks::hook::Hook;
use webhooks::request;
use webhooks::sign::Envelope;

use self::words::Words;
use super::book::Listed;
use crate::dates;
use crate::deliveries::Standing;
use crate::mail::{Mail, MailError};
use crate::metrics::{Way, WebhookMetrics};
use crate::store::{Registry, RegistryError, Role};

/// Notices that are told or wait for it.
const WAITING_MAX: usize = 256;
/// Notices that are told at once.
const AT_ONCE: usize = 8;
/// Before each try.
const WAITS: [Duration; 3] = [Duration::ZERO, Duration::from_secs(10), Duration::from_secs(60)];
/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Administrators of a product who get mail.
const READERS_MAX: usize = 8;

/// What a notice is about.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    /// The hook.
    pub(super) listed: Listed,
    /// How it is.
    pub(super) standing: Standing,
    /// When the event of the oldest delivery was accepted that is to be made.
    pub(super) oldest_pending: Option<UnixMillis>,
}

/// What is said of this server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Cloud {
    /// Its public address.
    pub(super) url: String,
    /// How long deliveries wait that are to be made.
    pub(super) waits: Duration,
}

/// Tells owners. A handle: clones are the same.
#[derive(Clone)]
pub(super) struct Notices(Arc<Inner>);

struct Inner {
    client: Client,
    mail: Option<Mail>,
    registry: Registry,
    metrics: WebhookMetrics,
    cloud: Cloud,
    waits: [Duration; 3],
    waiting: Semaphore,
    places: Semaphore,
}

impl std::fmt::Debug for Notices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notices").field("cloud", &self.0.cloud).finish_non_exhaustive()
    }
}

impl Notices {
    /// Those of one server. The client is not shared with hooks, so that notices wait for no hook's connections.
    pub(super) fn new(client: Client, mail: Option<Mail>, registry: Registry, metrics: WebhookMetrics, cloud: Cloud) -> Self {
        let (waiting, places) = (Semaphore::new(WAITING_MAX), Semaphore::new(AT_ONCE));
        Self(Arc::new(Inner { client, mail, registry, metrics, cloud, waits: WAITS, waiting, places }))
    }

    /// Tells the owner of a hook. Returns when it is told or given up, with the way by which it was.
    pub(super) async fn tell(&self, notice: Notice, subject: &Subject) -> Way {
        let id = subject.listed.hook.id;
        if subject.listed.is_own {
            tracing::error!(?notice, "the synthetic hook, whose receiver is in this process, is not well");
            return Way::None;
        }
        let Ok(_waiting) = self.0.waiting.try_acquire() else {
            tracing::warn!(hook = %id, ?notice, "too many owners of hooks are being told something: this one is not");
            self.0.metrics.noticed(Way::None, false);
            return Way::None;
        };
        self.0.tell(notice, subject).await
    }
}

impl Inner {
    async fn tell(&self, notice: Notice, subject: &Subject) -> Way {
        let words = Words::new(notice, subject, &self.cloud, dates::now());
        if let Some(url) = another_way(&subject.listed.hook)
            && self.tell_by_url(url, subject, &words).await
        {
            return Way::Url;
        }
        if let Some(mail) = &self.mail
            && self.tell_by_mail(mail, subject, &words).await
        {
            return Way::Mail;
        }
        self.metrics.noticed(Way::None, false);
        tracing::warn!(hook = %subject.listed.hook.id, ?notice, "the owner of a hook could not be told how it is");
        Way::None
    }

    async fn tell_by_url(&self, url: &Url, subject: &Subject, words: &Words<'_>) -> bool {
        for wait in self.waits {
            tokio::time::sleep(wait).await;
            match self.post(url, subject, words).await {
                Ok(200..300) => {
                    self.metrics.noticed(Way::Url, true);
                    return true;
                }
                Ok(status) => tracing::info!(hook = %subject.listed.hook.id, status, "a notice was not taken"),
                Err(Failure { phase, error }) => {
                    tracing::info!(hook = %subject.listed.hook.id, %phase, error, "a notice did not arrive");
                    if matches!(phase, Phase::Guard | Phase::Render) {
                        break;
                    }
                }
            }
        }
        self.metrics.noticed(Way::Url, false);
        false
    }

    async fn post(&self, url: &Url, subject: &Subject, words: &Words<'_>) -> Result<u16, Failure> {
        let _place = self.places.acquire().await;
        let body = Bytes::from(words.json());
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static(request::USER_AGENT));
        let envelope = Envelope { id: &words.id(), timestamp_s: dates::now().0 / 1_000, attempt: 1, replay: None };
        let signed = envelope.write(&mut headers, &body, subject.listed.keys.as_deref());
        signed.map_err(|error| Failure { phase: Phase::Render, error: error.to_string() })?;
        let (hook, method) = (subject.listed.hook.id, Method::POST);
        let attempt = Attempt { hook, method, url, headers, body, verify_tls: true, timeout: PATIENCE, keep_max: 0 };
        Ok(self.client.send(attempt).await?.status)
    }

    /// Whether somebody was told.
    async fn tell_by_mail(&self, mail: &Mail, subject: &Subject, words: &Words<'_>) -> bool {
        let readers = match self.readers(subject.listed.hook.audience).await {
            Ok(readers) => readers,
            Err(error) => {
                tracing::warn!(%error, "whoever owns a hook cannot be looked up");
                self.metrics.noticed(Way::Mail, false);
                return false;
            }
        };
        let mut is_told = false;
        for reader in readers {
            let is_sent = self.mail_to(mail, &reader, words).await;
            self.metrics.noticed(Way::Mail, is_sent);
            is_told |= is_sent;
        }
        is_told
    }

    async fn mail_to(&self, mail: &Mail, reader: &str, words: &Words<'_>) -> bool {
        for wait in self.waits {
            tokio::time::sleep(wait).await;
            let place = self.places.acquire().await;
            let sent = mail.send(reader, &words.title(), words.letter()).await;
            drop(place);
            match sent {
                Ok(()) => return true,
                Err(error) => {
                    tracing::info!(%error, "a notice was not mailed");
                    if matches!(error, MailError::Address(_) | MailError::Message(_)) {
                        return false;
                    }
                }
            }
        }
        false
    }

    /// The addresses of the account, or of those who administrate the product.
    async fn readers(&self, audience: Audience) -> Result<Vec<String>, RegistryError> {
        match audience {
            Audience::Owner(owner) => Ok(self.registry.user(owner).await?.into_iter().map(|user| user.email).collect()),
            Audience::Product(product) => {
                let team = self.registry.team(product).await?.into_iter().filter(|(_, role)| *role >= Role::Administrator);
                Ok(team.take(READERS_MAX).map(|(user, _)| user.email).collect())
            }
        }
    }
}

/// The hook's second address, if it is known to be at another place than the first.
fn another_way(hook: &Hook) -> Option<&Url> {
    let url = hook.notify_url.as_ref()?;
    let failing = destination(hook)?;
    (place(&failing) != place(url)).then_some(url)
}

/// An address at the place where requests of a hook go; `None` if a template decides about that.
fn destination(hook: &Hook) -> Option<Url> {
    if let Some(text) = hook.url.fixed() {
        return Url::parse(text.trim()).ok();
    }
    let start = hook.url.start().trim_start();
    let host = start.find("://")? + 3;
    let end = host + start[host..].find(['/', '?', '#', '\\'])?;
    Url::parse(&start[..end]).ok()
}

/// Host and port. A dot at the end of a name makes no difference.
fn place(url: &Url) -> (Option<&str>, Option<u16>) {
    (url.host_str().map(|host| host.strip_suffix('.').unwrap_or(host)), url.port_or_known_default())
}
