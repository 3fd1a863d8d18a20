//! Many protocol-true devices in one process, on a few threads and many sockets: some on UDP, some on TCP.
//!
//! Each device has an address of its own on the loopback network, and a socket, as long as the process may open as many files. Beyond that, `per_socket`
//! devices on UDP share one, and what they send says from whom it comes; on IPv4 only, where loopback has more than one address.
//!
//! Each thread has devices of one transport. What a device does, and what is counted, is the same for both; only how bytes come and go differs.

mod audit;
mod line;
mod member;
mod orders;
mod plan;
mod shout;
mod tally;
mod tcp;
pub mod text;
mod udp;
mod wire;
mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use firmware_protocol::crypto::digest64;
use firmware_protocol::entropy::SeededEntropy;
use firmware_protocol::time::Millis;
use serde_json::{Value, json};

use crate::dial::allow_sockets;
use crate::keys::DeviceKey;
use crate::stats::Latencies;

pub use self::member::{Fate, Ledger, Work};
pub use self::plan::{Crew, Devices, FleetPlan, PER_SOCKET_MAX, TcpDevices, Transport, UdpDevices};
pub use self::tally::{Moment, Tally};

use self::member::{Job, Member};
use self::orders::{Orders, Post};
use self::shout::Shouts;
use self::tcp::TcpLines;
use self::udp::UdpSockets;
use self::worker::{Carrier, Deck, Legacy, Worker};

/// How long workers may take to follow an order.
const PATIENCE: Duration = Duration::from_secs(30);

/// A fleet at work.
#[derive(Debug)]
pub struct Fleet {
    devices: usize,
    posts: Vec<Arc<Post>>,
    workers: Vec<JoinHandle<Result<Legacy>>>,
}

/// What a fleet did.
#[derive(Debug)]
pub struct FleetReport {
    /// Everything that was counted.
    pub tally: Tally,
    /// The same for the devices of each transport.
    pub parts: BTreeMap<Transport, Tally>,
    /// With `audit`: the fate of every publish.
    pub ledgers: Vec<Ledger>,
}

impl FleetReport {
    /// The tally; if there were devices of both kinds, each part as well under the transport's name.
    pub fn figures(&self) -> Value {
        let mut figures = json!(self.tally);
        for (transport, part) in self.parts.iter().filter(|_| self.parts.len() > 1) {
            figures[transport.name()] = json!(part);
        }
        figures
    }
}

impl Fleet {
    /// Opens sockets and starts threads. Devices come at once; they rest until [`Fleet::work`].
    pub fn start(plan: FleetPlan) -> Result<Self> {
        allow_sockets(plan.check()?)?;
        let (origin, mut fleet) = (Instant::now(), Self { devices: plan.devices(), posts: Vec::new(), workers: Vec::new() });
        let job = Job { work: plan.work, run: plan.run, audit: plan.audit };
        if let Some(devices) = &plan.crew.udp {
            let share = devices.keys.len().div_ceil(plan.threads).next_multiple_of(plan.per_socket);
            for (number, keys) in devices.keys.chunks(share).enumerate() {
                let carrier = UdpSockets::open(&plan, devices, number * share, keys.len())?;
                let arrivals = Arrivals::new(&plan, Transport::Udp, devices.keys.len());
                let members = arrivals.members(keys, job, |key, seed, start| udp::device(devices, key, job, seed, start));
                fleet.launch(&plan, number, origin, carrier, members)?;
            }
        }
        if let Some(devices) = &plan.crew.tcp {
            let share = devices.keys.len().div_ceil(plan.threads);
            for (number, keys) in devices.keys.chunks(share).enumerate() {
                let carrier = TcpLines::new(devices, number * share, keys.len());
                let arrivals = Arrivals::new(&plan, Transport::Tcp, devices.keys.len());
                let members = arrivals.members(keys, job, |key, seed, start| tcp::device(devices, key, seed, start));
                fleet.launch(&plan, number, origin, carrier, members)?;
            }
        }
        Ok(fleet)
    }

    /// Starts one thread.
    fn launch<C>(&mut self, plan: &FleetPlan, number: usize, origin: Instant, carrier: C, members: Vec<Member<C::Device>>) -> Result<()>
    where
        C: Carrier + Send + 'static,
        C::Device: Send,
    {
        let post = Arc::new(Post::new(C::TRANSPORT));
        let worker = Worker::new(origin + plan.lasts, post.clone(), carrier, Deck::new(origin, members)?)?;
        self.posts.push(post);
        let name = format!("fleet-{}-{number}", C::TRANSPORT.name());
        self.workers.push(thread::Builder::new().name(name).spawn(|| worker.run())?);
        Ok(())
    }

    /// Tells all devices to work or to rest, and returns when all have heard it.
    pub fn work(&self, working: bool) -> Result<()> {
        self.order(|post| post.order(if working { Orders::WORK } else { Orders::REST }))
    }

    /// How long publishes took whose end came since the start, or since the last call. The report is of those that end from now on.
    pub fn take_latencies(&self) -> Result<Latencies> {
        self.order(Post::order_latencies)?;
        let mut latencies = Latencies::default();
        self.posts.iter().for_each(|post| latencies.merge(&post.take_latencies()));
        Ok(latencies)
    }

    /// From now on [`Moment::unserved`] says of how many devices no publish was acknowledged that began later.
    pub fn roll_call(&self) -> Result<()> {
        self.order(Post::order_roll_call)
    }

    fn order(&self, give: impl Fn(&Post) -> Orders) -> Result<()> {
        let expected: Vec<Orders> = self.posts.iter().map(|post| give(post)).collect();
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let mut workers = self.workers.iter().zip(self.posts.iter().zip(&expected));
            if workers.all(|(worker, (post, orders))| post.followed() == *orders || worker.is_finished()) {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(1));
        }
        bail!("the fleet's threads did not follow within {PATIENCE:?}")
    }

    /// How many devices it has.
    pub(crate) fn devices(&self) -> usize {
        self.devices
    }

    /// The fleet now.
    pub fn moment(&self) -> Moment {
        self.sum(|_| true)
    }

    /// Its devices on one transport now.
    pub fn moment_of(&self, transport: Transport) -> Moment {
        self.sum(|own| own == transport)
    }

    fn sum(&self, counts: impl Fn(Transport) -> bool) -> Moment {
        let mut moment = Moment::default();
        self.posts.iter().filter(|post| counts(post.transport)).for_each(|post| post.gauges.add_to(&mut moment));
        moment
    }

    /// Waits until `done` or for `limit`, whichever comes first; says whether it is done. `watch` sees what happens meanwhile.
    pub fn wait(&self, limit: Duration, mut watch: impl FnMut(Moment), done: impl Fn(Moment) -> bool) -> bool {
        let begun = Instant::now();
        loop {
            let moment = self.moment();
            watch(moment);
            if done(moment) {
                return true;
            }
            if begun.elapsed() >= limit || self.workers.iter().any(JoinHandle::is_finished) {
                return false;
            }
            thread::sleep(Duration::from_millis(20).min(limit));
        }
    }

    /// Stops all threads. The devices fall silent, as if their power was cut.
    pub fn stop(mut self) -> Result<FleetReport> {
        self.posts.iter().for_each(|post| post.stop());
        let mut report = FleetReport { tally: Tally::default(), parts: BTreeMap::new(), ledgers: Vec::new() };
        for worker in std::mem::take(&mut self.workers) {
            let legacy = worker.join().ok().context("a thread of the fleet panicked")??;
            report.tally.merge(&legacy.tally);
            report.parts.entry(legacy.transport).or_default().merge(&legacy.tally);
            report.ledgers.extend(legacy.ledgers);
        }
        Ok(report)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.posts.iter().for_each(|post| post.stop());
    }
}

/// When devices come for the first time: anywhere within a span.
struct Arrivals {
    seed: u64,
    span_ms: u64,
}

impl Arrivals {
    fn new(plan: &FleetPlan, transport: Transport, devices: usize) -> Self {
        Self { seed: plan.seed, span_ms: devices as u64 * 1000 / transport.arrivals_per_s() + 1 }
    }

    /// A member for each key, with the device that `make` makes of a key, a seed and its moment.
    fn members<Pair, D: Shouts>(
        &self,
        keys: &[DeviceKey<Pair>],
        job: Job,
        make: impl Fn(&DeviceKey<Pair>, u64, Millis) -> D,
    ) -> Vec<Member<D>> {
        let member = |key: &DeviceKey<Pair>| {
            let mut entropy = SeededEntropy::new(self.seed ^ digest64(&key.id.0));
            let start = Millis(entropy.below(self.span_ms));
            Member::new(make(key, entropy.next_u64(), start), job, entropy)
        };
        keys.iter().map(member).collect()
    }
}
