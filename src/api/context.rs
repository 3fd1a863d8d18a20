//! What every request handler has at hand.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use firmware_protocol::id::DeviceId;
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;

use super::access::Needs;
use super::bulkhead::{Bulkheads, Classes};
use super::counters::Counters;
use super::error::ApiError;
use super::gateway::{CallError, Gateway, Later, Presence};
use super::hooks::Places;
use super::place::Place;
use super::probes::Probes;
use super::rates::Rates;
use super::request::Call;
use super::throttle::Throttle;
use super::versions::Versions;
use crate::config::{Config, Limit, Network, SignUp};
use crate::dispatch::Desk;
use crate::mail::Mail;
use crate::store::{Actor, Device, Registry, Who};

/// The longest silence of an event stream: clients give up after 15 seconds.
const HEARTBEAT: Duration = Duration::from_secs(9);
/// How long the head of a request may take, and how long a connection may wait for its next request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// How long a request waits for the registry's database. Callers are told within a second that it cannot be used.
const REGISTRY_PATIENCE: Duration = Duration::from_millis(900);
/// How long after its deadline an answer of the gateway is still waited for. One that has not come by then never will.
const GRACE: Duration = Duration::from_secs(2);

/// What of the configuration the API needs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How clients reach the API; no slash at the end.
    pub public_url: String,
    /// Whose X-Forwarded-For is believed.
    pub trusted_proxies: Vec<Network>,
    /// Open connections.
    pub connections: Limit,
    /// Open event streams.
    pub streams: Limit,
    /// Requests that wait for devices.
    pub calls: Limit,
    /// Those of one account.
    pub calls_per_account: Limit,
    /// Requests from one address in five minutes.
    pub requests_per_address: Limit,
    /// Event streams that one address opens in five minutes.
    pub streams_per_address: Limit,
    /// Requests without a token, such as logins, from one address in five minutes.
    pub logins_per_address: Limit,
    /// Who may create an account.
    pub sign_up: SignUp,
    /// How mail is sent; `None` is not at all.
    pub mail: Option<Mail>,
    /// Where hooks are carried out; `None` is nowhere.
    pub desk: Option<Desk>,
    /// Wrong passwords from one address in five minutes.
    pub failed_logins: Limit,
    /// How long a caller waits for a device.
    pub call_timeout: Duration,
    /// The longest silence of an event stream.
    pub heartbeat: Duration,
    /// How long the head of a request may take, and how long a connection may wait for its next request.
    pub head_timeout: Duration,
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Self {
        Self {
            public_url: config.public_url(),
            trusted_proxies: config.http.trusted_proxies.clone(),
            connections: config.http.connections,
            streams: config.http.streams,
            calls: config.calls.at_once,
            calls_per_account: config.calls.at_once_per_account,
            requests_per_address: config.http.requests_per_address,
            streams_per_address: config.http.streams_per_address,
            logins_per_address: config.accounts.logins_per_address,
            sign_up: config.accounts.sign_up,
            mail: config.mail.clone().map(Mail::new),
            desk: None,
            failed_logins: config.accounts.failed_logins,
            call_timeout: config.calls.timeout,
            heartbeat: HEARTBEAT,
            head_timeout: HEAD_TIMEOUT,
        }
    }
}

/// The address a connection came from, as an extension of its requests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// Shared by all handlers. A handle: clones are the same.
#[derive(Clone)]
pub(super) struct Context {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    gateway: Arc<dyn Gateway>,
    settings: Settings,
    throttle: Throttle,
    probes: Probes,
    versions: Versions,
    rates: Rates,
    bulkheads: Bulkheads,
    counters: Arc<Counters>,
    needs: Needs,
    classes: Classes,
    hook_places: Places,
    shutdown: CancellationToken,
}

impl Context {
    pub(super) fn new(
        registry: Registry,
        gateway: Arc<dyn Gateway>,
        settings: Settings,
        needs: Needs,
        shutdown: CancellationToken,
    ) -> Self {
        let (versions, hook_places, counters): (_, _, Arc<Counters>) = Default::default();
        let (throttle, probes) = (Throttle::new(settings.failed_logins), Probes::new(Arc::clone(&counters)));
        let (rates, classes) = (Rates::new(&settings), Classes::of(&needs));
        let bulkheads = Bulkheads::new(&settings, Arc::clone(&counters));
        let registry = registry.with_patience(REGISTRY_PATIENCE);
        let inner = Inner {
            registry,
            gateway,
            settings,
            throttle,
            probes,
            versions,
            rates,
            bulkheads,
            counters,
            needs,
            classes,
            hook_places,
            shutdown,
        };
        Self { inner: Arc::new(inner) }
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.inner.registry
    }

    /// The registry for changes that the caller makes, as the log of acts will say.
    pub(super) fn registry_of(&self, call: &Call) -> Registry {
        self.registry().by(Actor::at(Who::from(&call.caller.record.holder), call.address))
    }

    pub(super) fn gateway(&self) -> &dyn Gateway {
        &*self.inner.gateway
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    pub(super) fn throttle(&self) -> &Throttle {
        &self.inner.throttle
    }

    pub(super) fn probes(&self) -> &Probes {
        &self.inner.probes
    }

    pub(super) fn rates(&self) -> &Rates {
        &self.inner.rates
    }

    pub(super) fn bulkheads(&self) -> &Bulkheads {
        &self.inner.bulkheads
    }

    /// Which class each route belongs to.
    pub(super) fn classes(&self) -> &Classes {
        &self.inner.classes
    }

    /// Versions of firmware, for streams of products.
    pub(super) fn versions(&self) -> &Versions {
        &self.inner.versions
    }

    pub(super) fn counters(&self) -> &Arc<Counters> {
        &self.inner.counters
    }

    /// What each route wants of its caller.
    pub(super) fn needs(&self) -> &Needs {
        &self.inner.needs
    }

    /// Places for what takes long about hooks.
    pub(super) fn hook_places(&self) -> &Places {
        &self.inner.hook_places
    }

    /// Cancelled when the server wants to stop.
    pub(super) fn shutdown(&self) -> &CancellationToken {
        &self.inner.shutdown
    }

    /// The device with this id or name in the place that the call is about; in a product, by its id only.
    pub(super) fn device(&self, call: &Call, id_or_name: &str) -> Result<Arc<Device>, ApiError> {
        self.device_in(&call.place, id_or_name)
    }

    /// The device with this id or name in a place, likewise.
    pub(super) fn device_in(&self, place: &Place, id_or_name: &str) -> Result<Arc<Device>, ApiError> {
        let devices = self.registry().devices();
        let found = match place {
            Place::Own(user) => devices.find_owned(*user, id_or_name),
            Place::Product(product) => id_or_name.parse().ok().and_then(|id| devices.find_in_product(product.id, id)),
        };
        found.ok_or_else(|| ApiError::unknown_device(&self.settings().public_url))
    }

    /// What is known about one device.
    pub(super) async fn presence(&self, device: DeviceId) -> Presence {
        self.gateway().presences(vec![device]).await.pop().unwrap_or_default()
    }

    /// Waits for an answer that the gateway owes by `deadline`, but not for ever, should it break its word.
    pub(super) async fn answer<T>(&self, deadline: Instant, answer: Later<'_, Result<T, CallError>>) -> Result<T, CallError> {
        timeout_at((deadline + GRACE).into(), answer).await.unwrap_or(Err(CallError::Unavailable))
    }
}
