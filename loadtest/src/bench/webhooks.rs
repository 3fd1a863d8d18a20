//! Deliveries of hooks for each second of one server core, from the event that a caller publishes to the answer of the receiver that is recorded. The server
//! has a processor of its own, and everything that it does meanwhile counts; callers and receivers are on another.
//!
//! An event is asked for by many hooks, so that little of the figure is about publishing.

mod bare;
mod drain;
mod sick;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hyper::StatusCode;
use serde_json::{Value, json};

use super::{RUNS, Run, median};
use crate::callers::{Callers, CallersPlan};
use crate::cores::Cores;
use crate::dial::allow_sockets;
use crate::hooks::{Handler, Owner, Post, Receivers};
use crate::report::Measure;
use crate::server::Server;
use crate::threads::{self, Ticks};

pub(super) use self::drain::drain;
pub(super) use self::sick::sick;

/// Hooks that ask for each event, where nothing else is said.
const HOOKS: u64 = 20;
/// Events of one run, at least: as many more as callers have under way when there are enough.
const EVENTS: u64 = 3_000;
/// Events before the first run.
const EVENTS_BEFORE: u64 = 200;
/// Callers that publish.
const CALLERS: usize = 32;
/// Longest time for the deliveries of a run.
const RUN_LIMIT: Duration = Duration::from_secs(120);
/// What was answered is recorded by then.
const RECORDED: Duration = Duration::from_millis(200);
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Connections of receivers and callers, at most.
const SOCKETS: usize = 8_000;
const EVENT: &str = "bench";

/// How requests are signed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Signing {
    /// With a secret.
    Hmac,
    /// With a pair of keys.
    Ed25519,
}

impl Signing {
    fn word(self) -> &'static str {
        match self {
            Self::Hmac => "hmac",
            Self::Ed25519 => "ed25519",
        }
    }
}

/// What receivers have heard.
#[derive(Default, Debug)]
struct Heard {
    count: AtomicU64,
    /// One request, as an example.
    first: OnceLock<Post>,
}

/// A server with an account that has hooks, and their receivers.
struct Rig {
    server: Server,
    owner: Owner,
    receivers: Option<Receivers>,
    heard: Arc<Heard>,
    /// Where the receivers that count are.
    address: SocketAddr,
    hooks: Vec<(String, Value)>,
    /// Where the server's time went.
    spent: Ticks,
    cores: Cores,
}

/// What was delivered, and what it took of the server, in seconds of processor time and by the clock.
#[derive(Clone, Copy, Debug)]
struct Delivered {
    count: u64,
    cpu_s: f64,
    took_s: f64,
}

impl Delivered {
    fn rate(self) -> f64 {
        self.count as f64 / self.cpu_s
    }
}

impl Rig {
    fn new(holdfast: Option<&Path>) -> Result<Self> {
        allow_sockets(SOCKETS)?;
        let (cores, mut server) = (Cores::part()?, Server::prepare(holdfast)?);
        server.keep_to(cores.server());
        server.admit_receivers(None)?;
        server.start()?;
        server.cli().add_owner()?;
        let (owner, receivers, heard) = (Owner::new(server.api()?), Receivers::start()?, Arc::default());
        let address = receivers.open(counting(&heard))?;
        Ok(Self { server, owner, receivers: Some(receivers), heard, address, hooks: Vec::new(), spent: Ticks::new(), cores })
    }

    /// Makes a hook that goes to this address.
    fn hook(&mut self, url: &str, signing: Signing) -> Result<()> {
        let definition = json!({ "event": EVENT, "url": url, "json": { "from": "bench" }, "signature": signing.word() });
        let hook = self.owner.create(&definition)?;
        self.hooks.push((hook, definition));
        Ok(())
    }

    /// Makes so many that go to receivers that count, each to a path of its own.
    fn hooks(&mut self, count: u64, signing: Signing) -> Result<()> {
        let address = self.address;
        (0..count).try_for_each(|number| self.hook(&format!("http://{address}/{number}"), signing))
    }

    fn heard(&self) -> u64 {
        self.heard.count.load(Ordering::Relaxed)
    }

    /// Has so many events published, or a few more: how many.
    fn publish(&self, events: u64) -> Result<u64> {
        let api = self.owner.api();
        let body = format!("{{\"name\":\"{EVENT}\",\"data\":\"21.5\"}}");
        let request = api.request("POST", "/v1/devices/events", "1.1", "Content-Type: application/json\r\n", &body);
        let requests = vec![request.into_bytes().into()];
        let callers = Callers::start(CallersPlan { server: api.address(), callers: CALLERS, requests, every: None })?;
        callers.work(true);
        while callers.counts().served < events && callers.counts().unanswered == 0 {
            thread::sleep(Duration::from_micros(200));
        }
        callers.work(false);
        let mut last = callers.counts();
        loop {
            thread::sleep(RECORDED);
            let now = callers.counts();
            if std::mem::replace(&mut last, now) == now {
                break;
            }
        }
        callers.stop()?;
        ensure!(last.others + last.unanswered == 0, "not all publishes were accepted: {last:?}");
        Ok(last.served)
    }

    /// Waits until so many deliveries have come.
    fn wait(&mut self, count: u64, limit: Duration) -> Result<()> {
        let begun = Instant::now();
        while self.heard() < count {
            ensure!(begun.elapsed() < limit, "{} of {count} deliveries have come within {limit:?}", self.heard());
            thread::sleep(LOOK_EVERY);
        }
        self.server.check_alive()
    }

    /// What the server spends while `work` is done.
    fn spend(&mut self, work: impl FnOnce(&mut Self) -> Result<()>) -> Result<Delivered> {
        let (before, begun) = (self.server.cpu_by_thread()?, Instant::now());
        let (heard, cpu) = (self.heard(), self.server.cpu_time()?);
        work(self)?;
        let (heard, cpu) = (self.heard() - heard, self.server.cpu_time()? - cpu);
        threads::add_spent(&mut self.spent, &before, &self.server.cpu_by_thread()?);
        Ok(Delivered { count: heard, cpu_s: cpu.as_secs_f64(), took_s: begun.elapsed().as_secs_f64() })
    }

    /// Publishes so many events, of which each goes to so many receivers that are well, and waits until all have come.
    fn deliver(&mut self, events: u64, receivers: u64) -> Result<Delivered> {
        self.spend(|rig| {
            let before = rig.heard();
            let published = rig.publish(events)?;
            rig.wait(before + published * receivers, RUN_LIMIT)?;
            thread::sleep(RECORDED);
            Ok(())
        })
    }

    /// The same some times, each beside what a bare client does.
    fn runs(&mut self, events: u64, receivers: u64) -> Result<(Vec<Run>, f64)> {
        self.deliver(EVENTS_BEFORE.min(events), receivers)?;
        self.spent.clear();
        let (mut runs, mut rates) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            let limit = self.bare()?;
            let delivered = self.deliver(events, receivers)?;
            runs.push(Run { value: delivered.rate(), limit, ratio: delivered.rate() / limit });
            rates.push(delivered.count as f64 / delivered.took_s);
        }
        Ok((runs, median(&rates).context("no run")?))
    }

    /// Requests like the one that came, for each second of processor time of a bare client on the server's processor.
    fn bare(&self) -> Result<f64> {
        bare::measure(self.address, self.heard.first.get().context("nothing has come")?, self.cores.server())
    }

    /// Ends it; says which threads of the server spent its time.
    fn end(mut self) -> Result<String> {
        self.server.stop()?;
        Ok(threads::shares(&self.spent))
    }
}

/// Says 200 and counts.
fn counting(heard: &Arc<Heard>) -> Handler {
    let heard = Arc::clone(heard);
    Arc::new(move |post| {
        heard.count.fetch_add(1, Ordering::Relaxed);
        if heard.first.get().is_none() {
            heard.first.get_or_init(|| post);
        }
        Box::pin(async { StatusCode::OK })
    })
}

/// Deliveries to receivers that are well.
pub(super) fn deliveries(holdfast: Option<&Path>, signing: Signing) -> Result<Measure> {
    let mut rig = Rig::new(holdfast)?;
    rig.hooks(HOOKS, signing)?;
    let (runs, rate) = rig.runs(EVENTS, HOOKS)?;
    let note = format!(
        "{EVENTS} events a run that callers publish, each asked for by {HOOKS} hooks of one account, signed ({}): {rate:.0} deliveries a second on the one \
         processor that the server has; accepting and keeping the events and recording what became of each delivery included. Limit: one thread with the \
         same HTTP library on that processor that sends one of these requests again and again to the same receivers, signs nothing and keeps nothing. The \
         server's time by thread: {}.",
        signing.word(),
        rig.end()?
    );
    super::measure(&runs, "1/core-s", note)
}
