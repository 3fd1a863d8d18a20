//! A proxy at work: a thread that listens in place of a server.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use firmware_protocol::time::Millis;

use super::counts::Counts;
use super::rules::Weather;
use super::{tcp, udp};

/// Where a proxy stands.
#[derive(Clone, Debug)]
pub struct ProxyPlan {
    /// Where devices come to: a loopback address; port 0 is any.
    pub listen: SocketAddr,
    /// Where the server is: a loopback address.
    pub server: SocketAddr,
    /// What happens on the way.
    pub weather: Weather,
    /// Most devices, or TCP connections at a time. Each takes a socket towards the server; with TCP, one towards the device as well.
    pub links_max: usize,
}

/// A running proxy. It ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

/// What a proxy's thread and its owner share.
#[derive(Debug)]
pub(super) struct Shared {
    origin: Instant,
    stop: AtomicBool,
    calm: AtomicBool,
    counts: Mutex<Counts>,
}

impl Proxy {
    /// For datagrams.
    pub fn udp(plan: ProxyPlan) -> Result<Self> {
        check(&plan)?;
        let shared = Arc::new(Shared::new());
        let (address, forwarder) = udp::Forwarder::open(plan, shared.clone())?;
        let thread = thread::Builder::new().name("chaos-udp".to_owned()).spawn(|| forwarder.run())?;
        Ok(Self { address, shared, thread: Some(thread) })
    }

    /// For TCP connections.
    pub fn tcp(plan: ProxyPlan) -> Result<Self> {
        check(&plan)?;
        let shared = Arc::new(Shared::new());
        let (address, forwarder) = tcp::Forwarder::open(plan, shared.clone())?;
        let thread = thread::Builder::new().name("chaos-tcp".to_owned()).spawn(|| forwarder.run())?;
        Ok(Self { address, shared, thread: Some(thread) })
    }

    /// Where devices find it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        *self.shared.counts()
    }

    /// From now on no TCP connection is cut, so that all devices can be connected at the same time.
    pub fn calm(&self) {
        self.shared.calm.store(true, Ordering::Release);
    }

    /// Ends it: what was counted. What is on the way is gone.
    pub fn stop(mut self) -> Result<Counts> {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.join().ok().context("a proxy's thread panicked")??;
        }
        Ok(self.counts())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
    }
}

impl Shared {
    fn new() -> Self {
        Self { origin: Instant::now(), stop: AtomicBool::new(false), calm: AtomicBool::new(false), counts: Mutex::default() }
    }

    pub(super) fn now(&self) -> Millis {
        Millis(0) + self.origin.elapsed()
    }

    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    pub(super) fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Acquire)
    }

    pub(super) fn show(&self, counts: &Counts) {
        *self.counts() = *counts;
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check(plan: &ProxyPlan) -> Result<()> {
    for address in [plan.listen, plan.server] {
        ensure!(address.ip().is_loopback(), "{address} is no loopback address: a bad network stays on its machine");
    }
    ensure!(plan.listen.is_ipv4() == plan.server.is_ipv4(), "{} and {} are of different families", plan.listen, plan.server);
    ensure!(plan.links_max > 0, "a proxy serves at least one device");
    Ok(())
}

/// What the weather knows a device by: its address, and which one of several behind that address it is. Ports differ from run to run.
pub(super) fn name(ip: IpAddr, nth: u32) -> Vec<u8> {
    let mut name = match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    name.extend(nth.to_be_bytes());
    name
}
