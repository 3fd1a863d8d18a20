//! How hooks begin to be carried out, and how that stops.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use axum::http::Uri;
use tokio::runtime::{Builder, Runtime};
use webhooks::client::{Client, ClientConfig, Limits as ClientLimits, SystemResolver};
use webhooks::guard::{Guard, GuardConfig};

use super::chores::Accountant;
use super::courier::Couriers;
use super::desk::{Desk, Shelf};
use super::keeper::Keeper;
use super::message::Message;
use super::notices::{Cloud, Notices};
use super::synthetic::Synthetic;
use super::worker::{DispatchError, Outfit, Worker};
use crate::api::Gateway;
use crate::config::{self, Config};
use crate::deliveries::{Deliveries, DeliveriesError, Limits};
use crate::mail::Mail;
use crate::priority::Priority;
use crate::server::{DataPlane, Opened, StartError};
use crate::store::{Actor, Registry};

/// Threads that send, of each of which a processor's worth can be had; no more are of use.
const THREADS_MAX: usize = 8;
/// How long to wait before a database that failed is opened again, at first and at most.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How often whoever waits looks whether it shall stop.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Hooks that are carried out.
pub struct Dispatch {
    desk: Desk,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    runtime: Option<Runtime>,
}

impl std::fmt::Debug for Dispatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dispatch").field("desk", &self.desk).finish_non_exhaustive()
    }
}

impl Dispatch {
    /// Starts the threads. Their database is opened by them: whatever is wrong with it keeps nobody else from being served.
    ///
    /// # Errors
    /// The system refuses a thread, or the certificates in the configuration are none.
    pub fn start(config: &Config, opened: &Opened, plane: &DataPlane, gateway: Arc<dyn Gateway>) -> Result<Self, StartError> {
        let ((inbox, messages), followed) = (channel(), plane.followed());
        let (stop, shelf, metrics) = (Arc::new(AtomicBool::new(false)), Shelf::default(), opened.metrics.webhooks());
        let runtime = runtime()?;
        let registry = Registry::clone(&opened.registry).by(Actor::SERVER);
        let new_client = || client(config).map_err(StartError::HookCertificates);
        let client = Arc::new(new_client()?);
        let cloud = Cloud { url: config.public_url(), waits: Duration::from_millis(config.webhooks.pending_ms) };
        let notices = Notices::new(new_client()?, config.mail.clone().map(Mail::new), registry.clone(), metrics.clone(), cloud);
        let synthetic = Synthetic::new(plane.handle().shards(), opened.clock, metrics.synthetic.clone());
        // Without it, it is missed, and somebody is paged for that.
        let synthetic = synthetic.inspect_err(|error| tracing::error!(%error, "there are no synthetic deliveries")).ok();
        let own_client = synthetic.as_ref().map_or_else(|| Arc::clone(&client), Synthetic::client);
        let (keeper, errands) = Keeper::new(registry.clone(), inbox.clone(), synthetic.as_ref().map(Synthetic::listed));
        synthetic.map(|synthetic| runtime.spawn(synthetic.run(plane.handle())));
        runtime.spawn(keeper.run());
        let rung = inbox.clone();
        followed.bell.listen(move || _ = rung.send(Message::Committed));
        let couriers =
            Couriers { own_client, client, gateway, registry, inbox: inbox.clone(), clock: opened.clock, metrics: metrics.clone() };
        let outfit = Outfit {
            events: followed.events.clone(),
            bell: followed.bell.clone(),
            cursors: followed.cursors.clone(),
            shelf: shelf.clone(),
            inbox: messages,
            keeper: errands,
            couriers,
            runtime: runtime.handle().clone(),
            notices,
            limits: limits(&config.webhooks),
            attempts_max: config.webhooks.at_once,
            clock: opened.clock,
            metrics,
        };
        let (directory, seen, counted) = (opened.data.deliveries_dir(), Arc::clone(&stop), outfit.metrics.clone());
        let worker = thread::Builder::new().name("hooks".into()).spawn(move || {
            Priority::Requests.take();
            run(&outfit, &directory, &seen);
        })?;
        let accountant = Accountant::start(shelf.clone(), Arc::clone(&stop), counted)?;
        Ok(Self { desk: Desk::new(inbox, shelf), stop, threads: vec![worker, accountant], runtime: Some(runtime) })
    }

    /// Where everybody else asks.
    pub fn desk(&self) -> Desk {
        self.desk.clone()
    }

    /// Stops it: attempts that are under way have a moment to end; those that do not are made again by the next process. It blocks.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Dispatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread that carries hooks out panicked");
            }
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Works, and begins anew with the database when it fails.
fn run(outfit: &Outfit, directory: &Path, stop: &AtomicBool) {
    let mut pause = PAUSE_MIN;
    while !stop.load(Ordering::Acquire) {
        let began = Instant::now();
        // A database that panics over its files must not end a process that serves sessions.
        let ended = catch_unwind(AssertUnwindSafe(|| work(outfit, directory, stop))).unwrap_or(Err(DispatchError::Panicked));
        outfit.shelf.put(None);
        let Err(error) = ended else { return };
        outfit.metrics.failed.set(1);
        pause = if began.elapsed() > PAUSE_MAX { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
        tracing::error!(%error, again_in_s = pause.as_secs(), "hooks are not carried out; their events wait in the journal");
        let until = Instant::now() + pause;
        while Instant::now() < until && !stop.load(Ordering::Acquire) {
            // Whoever asks meanwhile gets no answer, and sees that.
            drop(outfit.inbox.recv_timeout(LOOK_EVERY));
        }
    }
}

fn work(outfit: &Outfit, directory: &Path, stop: &AtomicBool) -> Result<(), DispatchError> {
    let opened = catch_unwind(AssertUnwindSafe(|| Deliveries::open(directory)));
    let mut worker = Worker::open(outfit, opened.unwrap_or(Err(DeliveriesError::Panicked))?)?;
    outfit.metrics.failed.set(0);
    worker.run(stop)
}

fn runtime() -> std::io::Result<Runtime> {
    let threads = thread::available_parallelism().map_or(1, |count| (count.get() / 2).clamp(1, THREADS_MAX));
    let begin = || Priority::Requests.take();
    Builder::new_multi_thread().worker_threads(threads).thread_name("couriers").on_thread_start(begin).enable_all().build()
}

fn client(config: &Config) -> Result<Client, openssl::error::ErrorStack> {
    let config::Webhooks { allow, deny, ports, plain_http, certificates, at_once, .. } = config.webhooks.clone();
    let own = config.http.public_url.as_ref().and_then(|url| Some(url.parse::<Uri>().ok()?.host()?.to_owned()));
    let guard = Guard::new(GuardConfig { allow, deny, ports, plain_http, own_names: own.into_iter().collect() });
    let connections_max = 2 * at_once as usize;
    let limits = ClientLimits { connections_max, idle_max: at_once as usize, ..ClientLimits::default() };
    let roots_pem = certificates.map(|certificates| certificates.pem);
    Client::new(guard, Arc::new(SystemResolver::default()), ClientConfig { limits, roots_pem })
}

fn limits(config: &config::Webhooks) -> Limits {
    Limits {
        pending_ms: config.pending_ms,
        pending_bytes: config.pending_bytes,
        finished_ms: config.keep_ms,
        finished_bytes: config.keep_bytes,
    }
}
