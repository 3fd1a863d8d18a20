//! How each thread of the data plane begins: with what it shares, what it was left, and its ends of the wiring.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use firmware_protocol::entropy::{Entropy, SeededEntropy};
use firmware_protocol::time::UnixMillis;
use prometheus::IntCounter;
use router::device::{AwaitedDevice, RestoredDevice};
use router::shard::{Input, Shard};

use super::DataPlaneHandle;
use super::threads::Threads;
use crate::admission::{Admission, HandshakeLimits};
use crate::config::Config;
use crate::entropy::SystemEntropy;
use crate::handshakes::Handshakes;
use crate::history::{self, Feed, Keeper};
use crate::journal::{self, CompactionOptions, Journal, SealedSegment};
use crate::mailbox::{Lane, Mailbox};
use crate::server::{Opened, StartError};
use crate::shards::{Reply, ShardLanes, ShardThread, SubscribedOwners, shard_of};
use crate::store::Registry;
use crate::terminators::tcp::{RsaHandshakes, TcpDoor, TcpLanes, TcpWorker, ToRsaHandshakes};
use crate::terminators::{FormerSession, Shared, ToHandshakes, ToTerminator, Udp, Unlabelled, Worker, WorkerLanes, owner_of};
use crate::writer::{Append, Writer, WriterLanes};

/// How much handshakes give way: at 5 a thread gets a third of what one at 0 gets.
const HANDSHAKE_NICENESS: i32 = 5;
/// How long a retired session is remembered, for late comers.
const TOMBSTONE_LIFE: Duration = Duration::from_secs(60 * 24 * 3600);
/// How soon a change in the registry reaches sessions.
const KEY_CHANGES_EVERY: Duration = Duration::from_millis(100);

/// A data plane on its way up.
pub(super) struct Launch<'a> {
    pub(super) config: &'a Config,
    pub(super) opened: &'a Opened,
    pub(super) shared: Shared,
    pub(super) threads: Threads,
}

impl Launch<'_> {
    /// The journal's writer, and the history behind it. Returns where the history will stand and what feeds it.
    pub(super) fn journal(
        &mut self,
        journal: Journal,
        (mailbox, lanes): (Mailbox<Append>, WriterLanes),
        missed: IntCounter,
    ) -> Result<(history::Shelf, Feed), StartError> {
        let Opened { data, metrics, clock, .. } = self.opened;
        let limits = history::Limits { age_ms: self.config.history.age_ms(), bytes: self.config.history.bytes };
        let (keeper, feed) = Keeper::new(data.history_dir(), journal.events(), limits, Arc::new(metrics.history()));
        let (shelf, bell, sealed) = (keeper.shelf(), mailbox.bell(), journal.sealed_segments().to_vec());
        let writer = Writer::new(journal, mailbox, lanes, Arc::new(metrics.journal()), missed);
        self.threads.spawn("journal", bell, move |stop| writer.run(stop))?;
        self.threads.spawn_plain("history", move |stop| keeper.run(stop))?;
        pack(data.journal_dir(), sealed, clock.now().unix);
        Ok((shelf, feed))
    }

    /// The shards, each with its share of `devices`, and of those that are `awaited`.
    pub(super) fn shards(
        &mut self,
        ends: Vec<(Mailbox<Input<Reply>>, ShardLanes, Arc<SubscribedOwners>)>,
        devices: Vec<RestoredDevice>,
        awaited: Vec<AwaitedDevice>,
    ) -> Result<(), StartError> {
        let (clock, metrics) = (self.shared.clock, Arc::new(self.opened.metrics.shards()));
        let shares = shared_out(devices, ends.len(), |device| shard_of(device.identity.device, ends.len()));
        let awaited = shared_out(awaited, ends.len(), |device| shard_of(device.identity.device, ends.len()));
        for (index, (((mailbox, lanes, subscribed), devices), awaited)) in ends.into_iter().zip(shares).zip(awaited).enumerate() {
            let bell = mailbox.bell();
            let mut shard = Shard::new(Box::new(SeededEntropy::new(random())));
            let metrics = Arc::clone(&metrics);
            self.threads.spawn(&format!("shard-{index}"), bell, move |stop| {
                shard.restore(clock.now(), devices);
                awaited.into_iter().for_each(|device| shard.expect(clock.now(), device));
                ShardThread::new(shard, mailbox, lanes, clock, metrics, subscribed).run(stop);
            })?;
        }
        Ok(())
    }

    /// One thread for handshakes of each kind, behind one admission.
    pub(super) fn handshakes(
        &mut self,
        (mailbox, lanes): (Mailbox<ToHandshakes>, Vec<Lane<ToTerminator>>),
        (rsa_mailbox, rsa_lanes): (Mailbox<ToRsaHandshakes>, Vec<Lane<ToTerminator>>),
    ) -> Result<Arc<Admission>, StartError> {
        let (Opened { registry, keys, metrics, .. }, limits) = (self.opened, &self.config.handshakes);
        let half_open = HandshakeLimits {
            per_address: limits.half_open_per_address.as_usize(),
            total: limits.half_open.as_usize(),
            per_second: limits.per_second,
        };
        let admission = Admission::new(half_open, Arc::clone(&self.shared.backlog));
        let (clock, strangers, metrics) = (self.shared.clock, &self.shared.strangers, Arc::new(metrics.handshakes()));
        let (bell, rsa_bell) = (mailbox.bell(), rsa_mailbox.bell());
        let handshakes = Handshakes::new(
            keys.ec().clone(),
            Arc::clone(&admission),
            limits.half_open_life,
            mailbox,
            lanes,
            Arc::clone(registry.keys()),
            Arc::clone(strangers),
            clock,
            Arc::clone(&metrics),
        )?;
        self.threads.spawn("handshakes", bell, move |stop| {
            yield_to_sessions();
            handshakes.run(stop);
        })?;
        let (registry, strangers) = (Arc::clone(registry), Arc::clone(strangers));
        let own = Arc::clone(&admission);
        let handshakes = RsaHandshakes::new(keys.rsa().clone(), own, rsa_mailbox, rsa_lanes, registry, strangers, clock, metrics);
        self.threads.spawn("handshakes-tcp", rsa_bell, move |stop| {
            yield_to_sessions();
            handshakes.run(stop);
        })?;
        Ok(admission)
    }

    /// The terminators on UDP, each with its share of `sessions`. They are taken over by their threads, all at once; what devices send meanwhile waits.
    pub(super) fn workers(
        &mut self,
        sockets: Vec<Udp>,
        ends: Vec<(Mailbox<ToTerminator>, WorkerLanes)>,
        sessions: Vec<FormerSession>,
    ) -> Result<(), StartError> {
        let (workers, unlabelled, since) = (ends.len(), Arc::new(Unlabelled::default()), self.shared.clock.now().at);
        let shares = shared_out(sessions, workers, |session| owner_of(session.stored.connection, workers));
        for (index, ((udp, (mailbox, lanes)), sessions)) in sockets.into_iter().zip(ends).zip(shares).enumerate() {
            for socket in udp.sockets() {
                mailbox.watch(socket)?;
            }
            let bell = mailbox.bell();
            let mut worker = Worker::new(number(index), workers, udp, mailbox, lanes, Arc::clone(&unlabelled), self.shared.clone())?;
            self.threads.spawn(&format!("terminator-{index}"), bell, move |stop| {
                worker.restore(since, sessions);
                worker.run(stop);
            })?;
        }
        Ok(())
    }

    /// The terminator on TCP, whose number is behind those of all `workers`.
    pub(super) fn tcp(
        &mut self,
        workers: usize,
        listener: TcpListener,
        admission: Arc<Admission>,
        (mailbox, lanes): (Mailbox<ToTerminator>, TcpLanes),
    ) -> Result<(), StartError> {
        let (bell, metrics) = (mailbox.bell(), self.opened.metrics.tcp());
        let door = TcpDoor { listener, connections_max: self.config.tcp.connections, admission };
        let worker = TcpWorker::new(number(workers), door, mailbox, lanes, metrics, self.shared.clone())?;
        self.threads.spawn("terminator-tcp", bell, move |stop| worker.run(stop))?;
        Ok(())
    }

    /// Passes on what the registry changes: within a fraction of a second, a removed device has no session.
    pub(super) fn key_changes(&mut self, handle: &Arc<DataPlaneHandle>, registry: &Arc<Registry>) -> Result<(), StartError> {
        let (handle, registry) = (Arc::clone(handle), Arc::clone(registry));
        let mut changes = registry.keys().subscribe();
        self.threads.spawn_plain("key-changes", move |stop| {
            while !stop.load(Ordering::Acquire) {
                while let Some(change) = changes.next_change() {
                    handle.registry_changed(registry.devices(), change);
                }
                thread::sleep(KEY_CHANGES_EVERY);
            }
        })?;
        Ok(())
    }
}

/// A number that nobody else knows.
pub(super) fn random() -> u64 {
    u64::from_be_bytes(SystemEntropy.array())
}

fn number(terminator: usize) -> u16 {
    u16::try_from(terminator).unwrap_or(u16::MAX)
}

fn shared_out<T>(all: Vec<T>, shares: usize, share_of: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut each: Vec<Vec<T>> = (0..shares).map(|_| Vec::new()).collect();
    for one in all {
        each[share_of(&one)].push(one);
    }
    each
}

/// Lowers the calling thread's priority: a storm of handshakes must not hold up established sessions.
fn yield_to_sessions() {
    if let Err(error) = rustix::process::nice(HANDSHAKE_NICENESS) {
        tracing::warn!(%error, "handshakes run at the priority of everything else");
    }
}

/// Packs the sealed segments in the background, so that the next start reads one snapshot.
fn pack(directory: PathBuf, sealed: Vec<SealedSegment>, now: UnixMillis) {
    if sealed.is_empty() {
        return;
    }
    let life = u64::try_from(TOMBSTONE_LIFE.as_millis()).unwrap_or(u64::MAX);
    let options = CompactionOptions { forget_retired_before: UnixMillis(now.0.saturating_sub(life)) };
    let packing = thread::Builder::new().name("compaction".to_owned()).spawn(move || {
        if let Err(error) = journal::compact(&directory, &sealed, options) {
            tracing::warn!(%error, "the journal could not be packed");
        }
    });
    if let Err(error) = packing {
        tracing::warn!(%error, "the journal is not packed");
    }
}
