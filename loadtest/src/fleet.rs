//! Many protocol-true devices in one process, on a few threads and many sockets.
//!
//! A server tells devices that handshake apart by their address, and devices with a session by connection id; what it sends carries neither. One
//! socket for each device is therefore the plain way, good for as many devices as the process may open files. Beyond that, `per_socket` devices
//! share one: they handshake one after the other, and a record is tried against the key of each, about 0.2 µs a try.

mod audit;
mod member;
mod tally;
pub mod text;
mod wire;
mod worker;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use firmware_protocol::crypto::{PublicKey, digest64};
use firmware_protocol::entropy::SeededEntropy;
use firmware_protocol::time::Millis;

use crate::keys::DeviceKey;

pub use self::member::{Fate, Ledger, Work};
pub use self::tally::{Moment, Tally};

use self::member::{Job, Member};
use self::tally::Gauges;
use self::wire::Wire;
pub(crate) use self::wire::allow_sockets;
use self::worker::{Legacy, Worker};

/// Devices that come for the first time, each second: a storm is a drill of its own.
const ARRIVALS_PER_S: u64 = 2000;
/// Most devices behind one socket.
pub const PER_SOCKET_MAX: usize = 256;
/// How long workers may take to follow an order.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a fleet is made of.
#[derive(Clone, Debug)]
pub struct FleetPlan {
    /// The server's address for devices; a loopback address.
    pub server: SocketAddr,
    /// The key that devices have pinned.
    pub server_key: PublicKey,
    /// The devices.
    pub keys: Vec<DeviceKey>,
    /// What they do.
    pub work: Work,
    /// Decides what is random.
    pub seed: u64,
    /// Goes into the text of every publish.
    pub run: u32,
    /// Devices behind one socket, 1 to [`PER_SOCKET_MAX`].
    pub per_socket: usize,
    /// Whether to remember all record numbers and the fate of all publishes.
    pub audit: bool,
    /// Threads.
    pub threads: usize,
    /// The fleet stops by itself after this.
    pub lasts: Duration,
}

/// A fleet at work.
#[derive(Debug)]
pub struct Fleet {
    posts: Vec<Arc<Post>>,
    workers: Vec<JoinHandle<Result<Legacy>>>,
}

/// What a fleet did.
#[derive(Debug)]
pub struct FleetReport {
    /// Everything that was counted.
    pub tally: Tally,
    /// With `audit`: the fate of every publish.
    pub ledgers: Vec<Ledger>,
}

impl Fleet {
    /// Opens sockets and starts threads. Devices come at once; they rest until [`Fleet::work`].
    pub fn start(plan: FleetPlan) -> Result<Self> {
        ensure!(plan.server.ip().is_loopback(), "{} is no loopback address: fleets stay on their machine", plan.server);
        ensure!((1..=PER_SOCKET_MAX).contains(&plan.per_socket), "a socket is shared by 1 to {PER_SOCKET_MAX} devices");
        ensure!(!plan.keys.is_empty() && plan.threads > 0, "a fleet has at least one device and one thread");
        allow_sockets(plan.keys.len().div_ceil(plan.per_socket))?;
        let origin = Instant::now();
        let mut fleet = Self { posts: Vec::new(), workers: Vec::new() };
        let share = plan.keys.len().div_ceil(plan.threads).next_multiple_of(plan.per_socket);
        for (number, keys) in plan.keys.chunks(share).enumerate() {
            let post = Arc::new(Post::default());
            let worker = enlist(&plan, number * share, keys, origin, post.clone())?;
            fleet.posts.push(post);
            fleet.workers.push(thread::Builder::new().name(format!("fleet-{number}")).spawn(|| worker.run())?);
        }
        Ok(fleet)
    }

    /// Tells all devices to work or to rest, and returns when all have heard it.
    pub fn work(&self, working: bool) -> Result<()> {
        self.order(if working { Orders::WORK } else { Orders::REST })
    }

    fn order(&self, kind: u64) -> Result<()> {
        let expected: Vec<Orders> = self.posts.iter().map(|post| post.order(kind)).collect();
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

    /// The fleet now.
    pub fn moment(&self) -> Moment {
        let mut moment = Moment::default();
        self.posts.iter().for_each(|post| post.gauges.add_to(&mut moment));
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
        let mut report = FleetReport { tally: Tally::default(), ledgers: Vec::new() };
        for worker in std::mem::take(&mut self.workers) {
            let legacy = worker.join().ok().context("a thread of the fleet panicked")??;
            report.tally.merge(&legacy.tally);
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

/// Makes one worker with the devices `first..` of the plan.
fn enlist(plan: &FleetPlan, first: usize, keys: &[DeviceKey], origin: Instant, post: Arc<Post>) -> Result<Worker> {
    let job = Job { server_key: plan.server_key, work: plan.work, run: plan.run, audit: plan.audit };
    let arrival_span_ms = plan.keys.len() as u64 * 1000 / ARRIVALS_PER_S + 1;
    let (mut wires, mut members) = (Vec::new(), Vec::new());
    for key in keys {
        let mut entropy = SeededEntropy::new(plan.seed ^ digest64(&key.id.0));
        let start = Millis(entropy.below(arrival_span_ms));
        members.push(Member::new(key.clone(), job, members.len() / plan.per_socket, entropy, start));
    }
    let indices: Vec<usize> = (0..members.len()).collect();
    for (index, own) in indices.chunks(plan.per_socket).enumerate() {
        wires.push(Wire::open(first / plan.per_socket + index, plan.server, own.to_vec())?);
    }
    Worker::new(origin, origin + plan.lasts, post, wires, members, plan.audit)
}

/// Where a worker finds its orders and shows its counts.
#[derive(Default, Debug)]
struct Post {
    given: AtomicU64,
    followed: AtomicU64,
    gauges: Gauges,
}

/// A running number of orders, with the last order in its two lowest bits.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Orders(u64);

impl Orders {
    const REST: u64 = 0;
    const WORK: u64 = 1;
    const STOP: u64 = 2;

    fn working(self) -> bool {
        self.0 & 3 == Self::WORK
    }

    fn stop(self) -> bool {
        self.0 & 3 == Self::STOP
    }
}

impl Post {
    /// Gives an order; only the fleet's owner does.
    fn order(&self, kind: u64) -> Orders {
        let number = (self.given.load(Ordering::Acquire) >> 2) + 1;
        self.given.store(number << 2 | kind, Ordering::Release);
        Orders(number << 2 | kind)
    }

    fn stop(&self) {
        self.order(Orders::STOP);
    }

    fn orders(&self) -> Orders {
        Orders(self.given.load(Ordering::Acquire))
    }

    fn have_followed(&self, orders: Orders) {
        self.followed.store(orders.0, Ordering::Release);
    }

    fn followed(&self) -> Orders {
        Orders(self.followed.load(Ordering::Acquire))
    }
}
