//! Sends requests of hooks: one attempt, one answer or the reason why there is none.
//!
//! Every connection belongs to one hook, goes to addresses that the [`Guard`] has looked at, and is kept for the hook's next request for a while. There are
//! limits to everything that the other side can make long: the name to be looked up, the connection, TLS, the head of the answer, its body, and all of it
//! together. Redirects are answers like any other. A request runs in the task that sends it, and nothing of it is left when that is dropped.
//!
//! **When a kept connection turns out to be closed.** Receivers close connections that they do not need, and a request can cross that on its way. Nobody
//! can tell then whether it was read (RFC 9112 §9.3.1). If not a byte of it was written, it goes out once more on a new connection: that is the same attempt. If
//! some was, and no byte of an answer came, it goes out once more only if the receiver can tell that it is the same: if its method says so (RFC 9110 §9.2.2), or it
//! carries a `webhook-id`, by which receivers are told to recognise what they have seen. Otherwise the attempt has failed, and the schedule says when
//! there is another.

mod answer;
mod attempt;
mod connect;
mod exchange;
mod limits;
mod pool;
mod progress;
mod resolve;
mod stream;
#[cfg(test)]
mod tests;
mod tls;
mod words;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use openssl::error::ErrorStack;
use tokio::sync::Semaphore;

use crate::delivery::Phase;
use crate::guard::{Guard, Target};
use crate::hook::HookId;
use crate::sign::WEBHOOK_ID;
use connect::Origin;
use exchange::{Broken, Live, Sending};
use limits::Counters;
use pool::Pool;
use progress::Stage;

pub use answer::{RETRY_AFTER_MAX_S, retry_after};
pub use attempt::{Answer, Attempt, BODY_READ_MAX, Failure};
pub use limits::{ClientConfig, Counts, Limits};
pub use resolve::{LookupError, Resolve, Resolving, SystemResolver};

/// The client.
#[derive(Debug)]
pub struct Client {
    guard: Guard,
    resolver: Arc<dyn Resolve>,
    limits: Limits,
    tls: tls::Contexts,
    pool: Mutex<Pool>,
    connections: Arc<Semaphore>,
    counters: Counters,
}

impl Client {
    /// A client.
    ///
    /// # Errors
    /// If the certificates are none, or the cryptographic library fails.
    pub fn new(guard: Guard, resolver: Arc<dyn Resolve>, config: ClientConfig) -> Result<Self, ErrorStack> {
        let limits = config.limits;
        Ok(Self {
            guard,
            resolver,
            limits,
            tls: tls::Contexts::new(config.roots_pem.as_deref())?,
            pool: Mutex::new(Pool::new(limits.idle_max)),
            connections: Arc::new(Semaphore::new(limits.connections_max)),
            counters: Counters::default(),
        })
    }

    /// Sends a request and waits for its answer, for as long as it may take.
    ///
    /// # Errors
    /// If there is no whole answer; what is more than is wanted of its body does not count.
    pub async fn send(&self, attempt: Attempt<'_>) -> Result<Answer, Failure> {
        let target = self.guard.check_url(attempt.url).map_err(|refusal| {
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
            Failure::new(Phase::Guard, refusal.to_string())
        })?;
        let (stage, limit) = (Stage::default(), attempt.timeout);
        let sent = tokio::time::timeout(limit, self.send_to(target, attempt, &stage)).await;
        sent.unwrap_or_else(|_| Err(Failure::new(stage.phase(), words::late(stage.phase(), limit))))
    }

    /// Closes kept connections that have not been used for long. To be called every few seconds.
    pub fn tidy(&self) {
        let old = self.pool().remove_expired(Instant::now());
        drop(old);
    }

    /// Closes the kept connections of a hook that is gone or goes elsewhere now.
    pub fn forget(&self, hook: HookId) {
        let kept = self.pool().remove_hook(hook);
        drop(kept);
    }

    /// What it has done.
    pub fn counts(&self) -> Counts {
        let Counters { opened, reused, repeated, refused, evicted } = &self.counters;
        let [opened, reused, repeated, refused, evicted] =
            [opened, reused, repeated, refused, evicted].map(|count| count.load(Ordering::Relaxed));
        let idle = self.pool().len() as u64;
        let connections = self.limits.connections_max.saturating_sub(self.connections.available_permits()) as u64;
        Counts { opened, reused, repeated, refused, evicted, idle, connections }
    }

    async fn send_to(&self, target: Target<'_>, attempt: Attempt<'_>, stage: &Stage) -> Result<Answer, Failure> {
        let Attempt { hook, method, url, headers, body, verify_tls, keep_max, .. } = attempt;
        let can_repeat = method.is_idempotent() || headers.contains_key(WEBHOOK_ID);
        let sending = Sending::new(method, url, headers, body, keep_max)?;
        if let Some(mut live) = self.kept(hook, target, verify_tls).await {
            self.counters.reused.fetch_add(1, Ordering::Relaxed);
            match live.exchange(sending.clone(), stage).await {
                Ok(answer) => return Ok(self.finish(hook, live, answer)),
                Err(broken) if !broken.is_repeatable(can_repeat) => return Err(broken.failure),
                Err(_) => self.counters.repeated.fetch_add(1, Ordering::Relaxed),
            };
            drop(live);
        }
        let mut live = self.connect(target, verify_tls, stage).await?;
        let answered = live.exchange(sending, stage).await;
        let answer = answered.map_err(|Broken { failure, .. }| failure)?;
        Ok(self.finish(hook, live, answer))
    }

    /// A kept connection that is still open, as far as one can see from here.
    async fn kept(&self, hook: HookId, target: Target<'_>, verify_tls: bool) -> Option<Live> {
        loop {
            let mut live = self.pool().take(hook, target, verify_tls, Instant::now())?;
            if live.is_open().await {
                return Some(live);
            }
        }
    }

    /// Keeps a connection for the next request, if there can be one.
    fn finish(&self, hook: HookId, live: Live, answer: Answer) -> Answer {
        if let Some(idle) = live.idle_for(self.limits.idle) {
            let evicted = self.pool().put(hook, live, Instant::now() + idle);
            self.counters.evicted.fetch_add(u64::from(evicted.is_some()), Ordering::Relaxed);
            drop(evicted);
        }
        answer
    }

    /// A new connection, to addresses that the guard has looked at.
    async fn connect(&self, target: Target<'_>, verify_tls: bool, stage: &Stage) -> Result<Live, Failure> {
        stage.set(Phase::Dns);
        let addresses = connect::look_up(&*self.resolver, target.host, self.limits.lookup).await?;
        let addresses = self.guard.filter(target.port, addresses).map_err(|refusal| {
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
            Failure::new(Phase::Guard, refusal.to_string())
        })?;
        stage.set(Phase::Connect);
        let permit = self.permit().await?;
        let stream = connect::dial(&addresses, target.port, self.limits.connect).await?;
        let origin = Origin::new(target, verify_tls);
        let stream = if target.tls {
            stage.set(Phase::Tls);
            self.tls.agree(stream, &origin, self.limits.tls).await?
        } else {
            stream::Stream::Plain(stream)
        };
        self.counters.opened.fetch_add(1, Ordering::Relaxed);
        stage.set(Phase::Write);
        Live::new(stream, origin, permit).await
    }

    /// The right to have one more connection: one that is kept makes room, and if all are used, this waits.
    async fn permit(&self) -> Result<tokio::sync::OwnedSemaphorePermit, Failure> {
        if let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() {
            return Ok(permit);
        }
        let oldest = self.pool().remove_oldest();
        self.counters.evicted.fetch_add(u64::from(oldest.is_some()), Ordering::Relaxed);
        drop(oldest);
        let permit = Arc::clone(&self.connections).acquire_owned().await;
        permit.map_err(|_| Failure::new(Phase::Connect, "this server is ending"))
    }

    fn pool(&self) -> std::sync::MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
