//! The synthetic hook: every half minute an event goes through every shard, the journal and the dispatcher to a receiver in this process, which looks at
//! its signature, its place in the order and the time it took. When nothing arrives there, nothing arrives anywhere, whosever fault other hooks' failures are.
//!
//! Its events belong to an account that there is not: numbers of accounts are those that the registry gives, which keeps them in 63 bits. Nobody can
//! subscribe to them or see the hook.

mod ledger;
mod receiver;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use firmware_protocol::coap::format;
use firmware_protocol::entropy::Entropy;
use firmware_protocol::id::{DeviceId, OwnerId};
use openssl::error::ErrorStack;
use router::event::{Audience, NewEvent, Source};
use router::shard::Input;
use serde_json::{Map, json};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;
use webhooks::client::{Client, ClientConfig, Limits, SystemResolver};
use webhooks::dispatcher::TenantId;
use webhooks::guard::{Allowed, Guard, GuardConfig};
use webhooks::hook::{Hook, HookError, HookId};
use webhooks::sign::{Scheme, SigningKey, SigningKeys};

use self::ledger::{Ledger, Message};
use self::receiver::Judge;
use super::book::Listed;
use crate::clock::Clock;
use crate::entropy::SystemEntropy;
use crate::metrics::{SyntheticFailure, SyntheticMetrics};
use crate::server::DataPlaneHandle;
use crate::shards::Reply;

/// Whose the events are. The registry's numbers of accounts have 63 bits, so none is this one.
pub(super) const OWNER: OwnerId = OwnerId(u64::MAX);
/// What the events are called.
pub(super) const EVENT: &str = "holdfast/synthetic";
/// The hook. Ids of others are made of twelve random bytes.
pub(super) const HOOK: HookId = HookId(*b"synthetic\0\0\0");
/// How often each shard gets an event.
const EVERY: Duration = Duration::from_secs(30);
/// The first one: a start has better things to do.
const FIRST_AFTER: Duration = Duration::from_secs(10);
/// How long an attempt may take, in seconds.
const TIMEOUT_S: u64 = 10;
/// Connections to the receiver.
const CONNECTIONS_MAX: usize = 8;

/// There is no synthetic hook.
#[derive(Debug, Error)]
pub(super) enum SyntheticError {
    /// Its receiver has no port.
    #[error("the receiver of synthetic deliveries cannot listen: {0}")]
    Listen(#[from] io::Error),
    /// The cryptographic library failed.
    #[error("no key for synthetic deliveries can be made: {0}")]
    Library(#[from] ErrorStack),
    /// It says something that hooks cannot say.
    #[error("the synthetic hook is none: {0}")]
    Hook(#[from] HookError),
}

/// The hook, its receiver, and whoever publishes for it.
#[derive(Debug)]
pub(super) struct Synthetic {
    listed: Listed,
    client: Arc<Client>,
    listener: StdListener,
    judge: Arc<Judge>,
    shards: usize,
}

impl Synthetic {
    /// For so many shards. Its receiver listens from now on, and answers once it runs.
    ///
    /// # Errors
    /// There is no port for it, or no key.
    pub(super) fn new(shards: usize, clock: Clock, metrics: SyntheticMetrics) -> Result<Self, SyntheticError> {
        let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let key = SigningKey::generate(Scheme::Ed25519)?;
        let mut run = [0; 8];
        SystemEntropy.fill(&mut run);
        let ledger = Mutex::new(Ledger::new(u64::from_le_bytes(run), shards));
        let judge = Arc::new(Judge { key: key.verifying()?, ledger, clock, metrics });
        let listed = Listed {
            hook: Arc::new(hook(address)?),
            name: EVENT.into(),
            keys: Some(Arc::new(SigningKeys::new(key))),
            tenant: TenantId(OWNER.0),
            updated_at: clock.now().unix,
            publishes: false,
            is_own: true,
        };
        Ok(Self { listed, client: Arc::new(client(address)?), listener, judge, shards })
    }

    /// The hook, for the book. It is another after every start.
    pub(super) fn listed(&self) -> Listed {
        self.listed.clone()
    }

    /// The client for its requests, which reaches its receiver and nobody else.
    pub(super) fn client(&self) -> Arc<Client> {
        Arc::clone(&self.client)
    }

    /// Publishes and receives for as long as it is polled.
    pub(super) async fn run(self, plane: Arc<DataPlaneHandle>) {
        let publish = |shard, event| {
            let reply = Reply::Published(oneshot::channel().0);
            plane.tell_shard(shard, Input::Publish { event, reply })
        };
        let Self { listener, judge, shards, .. } = self;
        let listener = match TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "there are no synthetic deliveries"),
        };
        tokio::select! {
            () = receiver::serve(listener, Arc::clone(&judge)) => {}
            () = keep_publishing(&judge, shards, publish) => {}
        }
    }
}

async fn keep_publishing(judge: &Judge, shards: usize, publish: impl Fn(usize, NewEvent) -> bool) {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + FIRST_AFTER, EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let missing = judge.ledger.lock().unwrap_or_else(PoisonError::into_inner).give_up(judge.clock.now().unix);
        (0..missing).for_each(|_| judge.metrics.failed(SyntheticFailure::Missing));
        (0..shards).for_each(|shard| judge.publish(shard, &publish));
    }
}

impl Judge {
    /// Gives a shard its next event.
    fn publish(&self, shard: usize, publish: impl Fn(usize, NewEvent) -> bool) {
        let ledger = || self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        // Noted before: it may arrive at once.
        let sent = ledger().send(self.clock.now().unix, shard);
        let Some((message, event)) = sent.and_then(|message| Some((message, event(shard, &message)?))) else { return };
        if publish(shard, event) {
            self.metrics.sent.inc();
        } else {
            ledger().withdraw(&message);
            self.metrics.failed(SyntheticFailure::Unsent);
        }
    }
}

/// Each shard has a device of its own, so that its events keep their order like those of any device.
fn event(shard: usize, message: &Message) -> Option<NewEvent> {
    let mut device = *b"synthetic\0\0\0";
    device[10..].copy_from_slice(&u16::try_from(shard).ok()?.to_be_bytes());
    Some(NewEvent {
        owner: OWNER,
        product: None,
        source: Source::Device(DeviceId(device)),
        name: EVENT.to_owned(),
        content_format: format::TEXT,
        data: Some(serde_json::to_vec(message).ok()?),
        ttl_s: 60,
    })
}

/// The hook: its requests carry the data of its events and nothing else.
fn hook(receiver: SocketAddr) -> Result<Hook, HookError> {
    let members = [
        ("event", json!(EVENT)),
        ("url", json!(format!("http://{receiver}/"))),
        ("body", json!("{{{PARTICLE_EVENT_VALUE}}}")),
        ("timeout", json!(TIMEOUT_S)),
    ];
    let definition: Map<_, _> = members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Hook::parse(HOOK, Audience::Owner(OWNER), &definition)
}

fn client(receiver: SocketAddr) -> Result<Client, ErrorStack> {
    // One that cannot be read allows nothing.
    let allow: Vec<Allowed> = receiver.to_string().parse().into_iter().collect();
    let guard = Guard::new(GuardConfig { allow, deny: Vec::new(), ports: Vec::new(), plain_http: true, own_names: Vec::new() });
    let limits = Limits { connections_max: CONNECTIONS_MAX, idle_max: CONNECTIONS_MAX, ..Limits::default() };
    Client::new(guard, Arc::new(SystemResolver::new()), ClientConfig { limits, roots_pem: None })
}
