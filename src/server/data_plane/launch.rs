//! How each thread of the data plane begins: with what it shares, what it was left, and its ends of the wiring.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use firmware_protocol::entropy::{Entropy, SeededEntropy};
use prometheus::IntCounter;
use router::epoch::Epoch;
use router::progress::{Heartbeat, Part};
use router::shard::{Input, Shard};
use router::takeover::{Cure, Takeovers};
use tokio::sync::mpsc;

use super::DataPlaneHandle;
use super::registry;
use super::rewiring::Rewiring;
use super::takeover::TakeoverThread;
use super::threads::{Place, Threads};
use crate::admission::{Admission, HandshakeLimits};
use crate::clock::Clock;
use crate::config::Config;
use crate::cursors::Cursors;
use crate::diagnose::Sampler;
use crate::entropy::SystemEntropy;
use crate::fan_out::account::cursors_of_shards;
use crate::fan_out::{FanOut, ToFanOut};
use crate::former::{Former, FormerDevice, FormerSession};
use crate::handshakes::Handshakes;
use crate::history::{self, Feed, Keeper};
use crate::journal::{Covered, Events, Journal};
use crate::mailbox::{Lane, Mailbox};
use crate::metrics::{ShardMetrics, TakeoverMetrics};
use crate::priority::Priority;
use crate::retention::Retention;
use crate::server::{Opened, StartError};
use crate::shards::{Reply, ShardLanes, ShardThread, SubscribedOwners};
use crate::stale::Detector;
use crate::stock::{Bookmark, StockTaking};
use crate::store::Registry;
use crate::streams::Replayer;
use crate::takeover::TakenOver;
use crate::terminators::tcp::{RsaHandshakes, TcpDoor, TcpLanes, TcpWorker, ToRsaHandshakes};
use crate::terminators::{Shared, ToHandshakes, ToTerminator, Udp, Unlabelled, Worker, WorkerLanes};
use crate::watchdog::{self, DiskProbe, Watch, Watchdog, WatchdogLanes, Watched};
use crate::writer::{ToWriter, Writer, WriterLanes};

/// How soon a change in the registry reaches sessions.
const KEY_CHANGES_EVERY: Duration = Duration::from_millis(100);

/// What every thread of a shard gets, the first and those that take its place.
#[derive(Clone)]
pub(super) struct Outfit {
    pub(super) clock: Clock,
    pub(super) watch: Watch,
    metrics: Arc<ShardMetrics>,
    subscribed: Arc<SubscribedOwners>,
}

/// A data plane on its way up.
pub(super) struct Launch<'a> {
    pub(super) config: &'a Config,
    pub(super) opened: &'a Opened,
    pub(super) shared: Shared,
    /// Held by whoever still takes sessions or devices over.
    pub(super) restoring: mpsc::Sender<()>,
    pub(super) threads: Threads,
}

impl Launch<'_> {
    /// The journal's writer, whoever reads it again, what keeps it small, and the history. Returns where the history will stand and what feeds it. What
    /// reads for sinks comes next: see [`Launch::fan_out`].
    pub(super) fn journal(
        &mut self,
        (journal, covered): (Journal, Option<Covered>),
        replayer: Replayer,
        (mailbox, lanes): (Mailbox<ToWriter>, WriterLanes),
        cursors: Cursors,
        missed: IntCounter,
    ) -> Result<(history::Shelf, Feed), StartError> {
        let (Opened { data, metrics, .. }, clock) = (self.opened, self.shared.clock);
        let limits = history::Limits { age_ms: self.config.history.age_ms(), bytes: self.config.history.bytes };
        let (keeper, feed) = Keeper::new(data.history_dir(), journal.events(), limits, Arc::new(metrics.history()));
        let (shelf, bell) = (keeper.shelf(), mailbox.bell());
        let retention = Arc::new(metrics.retention());
        let place = (data.journal_dir(), journal.segments());
        let retention = Retention::new(place, covered, cursors, self.config.journal, retention);
        let writer = Writer::new(journal, mailbox, lanes, Arc::new(metrics.journal()), missed, &self.shared.watch);
        self.threads.spawn("journal", bell, move |stop| writer.run(stop))?;
        self.threads.spawn_plain("history", move |stop| keeper.run(stop))?;
        self.threads.spawn_plain("catch-up", move |stop| {
            yield_to_sessions();
            replayer.run(stop);
        })?;
        self.threads.spawn_plain("compaction", move |stop| {
            yield_to_sessions();
            retention.run(clock, stop);
        })?;
        Ok((shelf, feed))
    }

    /// What brings events to subscribed devices, and who keeps its books. Shards come after these, so that they end before them.
    pub(super) fn fan_out(
        &mut self,
        (events, cursors): (Events, Cursors),
        (mailbox, lanes): (Mailbox<ToFanOut>, Vec<Lane<Input<Reply>>>),
        subscribed: Arc<SubscribedOwners>,
    ) -> Result<(), StartError> {
        let (metrics, clock) = (&self.opened.metrics, self.shared.clock);
        let of_shards = cursors_of_shards(&cursors, lanes.len(), events.last())?;
        let bookmarks: Vec<_> = of_shards.into_iter().map(Bookmark::new).collect();
        let shards = lanes.into_iter().zip(bookmarks.iter().map(Bookmark::account)).collect();
        let stock = StockTaking::new(events.clone(), cursors, bookmarks, metrics.stock());
        let bell = mailbox.bell();
        let fan_out = FanOut::new(events, shards, mailbox, subscribed, clock, metrics.fan_out(), self.shared.watch.watched(Part::FanOut));
        self.threads.spawn_plain("stock", move |stop| {
            yield_to_sessions();
            stock.run(clock, stop);
        })?;
        self.threads.spawn("fan-out", bell, move |stop| fan_out.run(stop))?;
        Ok(())
    }

    /// The shards, each with its share of `devices`. What the next thread of each gets, and where.
    pub(super) fn shards(
        &mut self,
        ends: Vec<(Mailbox<Input<Reply>>, ShardLanes)>,
        subscribed: &Arc<SubscribedOwners>,
        (former, devices): (&Arc<Former>, Vec<Vec<FormerDevice>>),
    ) -> Result<(Outfit, Vec<Place>), StartError> {
        let outfit = Outfit {
            clock: self.shared.clock,
            watch: self.shared.watch.clone(),
            metrics: Arc::new(self.opened.metrics.shards()),
            subscribed: Arc::clone(subscribed),
        };
        let mut places = Vec::new();
        for (index, ((mailbox, lanes), devices)) in ends.into_iter().zip(devices).enumerate() {
            let (bell, part) = (mailbox.bell(), Part::Shard(number(index)));
            let mut shard = Shard::new(Box::new(SeededEntropy::new(random())));
            let (outfit, restoring, former) = (outfit.clone(), self.restoring.clone(), Arc::clone(former));
            let watched = self.shared.watch.watched(part);
            places.push(self.threads.spawn(&part.to_string(), bell, move |stop| {
                shard.restore(outfit.clock.now(), devices.iter().filter_map(|device| former.restored(*device)));
                drop((former, devices, restoring));
                let mut thread = outfit.thread((index, shard), mailbox, lanes, (watched, Epoch::FIRST));
                drop(outfit);
                thread.note_restored();
                thread.run(Vec::new(), stop);
            })?);
        }
        Ok((outfit, places))
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
        let (known, rsa_known) = (Registry::clone(registry), Registry::clone(registry));
        self.threads.spawn("handshakes", bell, move |stop| {
            yield_to_sessions();
            registry::wait(&known, stop);
            handshakes.run(stop);
        })?;
        let (registry, strangers) = (Arc::clone(registry), Arc::clone(strangers));
        let own = Arc::clone(&admission);
        let handshakes = RsaHandshakes::new(keys.rsa().clone(), own, rsa_mailbox, rsa_lanes, registry, strangers, clock, metrics);
        self.threads.spawn("handshakes-tcp", rsa_bell, move |stop| {
            yield_to_sessions();
            registry::wait(&rsa_known, stop);
            handshakes.run(stop);
        })?;
        Ok(admission)
    }

    /// The terminators on UDP, each with its share of `sessions`. They are taken over by their threads, all at once; what devices send meanwhile waits.
    pub(super) fn workers(
        &mut self,
        sockets: Vec<Udp>,
        ends: Vec<(Mailbox<ToTerminator>, WorkerLanes)>,
        (former, sessions): (&Arc<Former>, Vec<Vec<FormerSession>>),
    ) -> Result<(), StartError> {
        let (workers, unlabelled, since) = (ends.len(), Arc::new(Unlabelled::default()), self.shared.clock.now().at);
        for (index, ((udp, (mailbox, lanes)), sessions)) in sockets.into_iter().zip(ends).zip(sessions).enumerate() {
            for socket in udp.sockets() {
                mailbox.watch(socket)?;
            }
            let bell = mailbox.bell();
            let mut worker = Worker::new(number(index), workers, udp, mailbox, lanes, Arc::clone(&unlabelled), self.shared.clone())?;
            let (restoring, former) = (self.restoring.clone(), Arc::clone(former));
            self.threads.spawn(&format!("terminator-{index}"), bell, move |stop| {
                worker.restore(since, &former, &sessions);
                drop((former, sessions, restoring));
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

    /// What gives a shard whose thread stands still to another thread.
    pub(super) fn takeover(
        &mut self,
        rewiring: Rewiring,
        (outfit, places): (Outfit, Vec<Place>),
        plane: &Arc<DataPlaneHandle>,
        metrics: TakeoverMetrics,
    ) -> Result<(), StartError> {
        let Opened { data, registry, changes, .. } = self.opened;
        let changes = changes.clone();
        let (plane, registry, journal, bell) = (Arc::clone(plane), Arc::clone(registry), data.journal_dir(), rewiring.orders.bell());
        let thread = TakeoverThread { rewiring, outfit, places, plane, registry, journal, metrics, changes };
        self.threads.spawn("takeover", bell, move |stop| thread.run(stop))?;
        Ok(())
    }

    /// Who watches all these, and what asks the disk for it. The last to begin and the first to end.
    pub(super) fn watchdog(
        &mut self,
        ends: (WatchdogLanes, Mailbox<TakenOver>),
        api_heartbeats: mpsc::Receiver<Heartbeat>,
    ) -> Result<(), StartError> {
        let (watch, clock) = (&self.shared.watch, self.shared.clock);
        self.opened.metrics.watchdog(watch, clock);
        let (probe, prober) = DiskProbe::new(self.opened.data.path())?;
        let cure = self.config.watchdog.cure;
        if cure == Cure::None {
            tracing::warn!("whatever stalls is only told, as watchdog.cure says: nothing cures it");
            watch.bulletin.only_tell();
        }
        let takeovers = Takeovers::new(cure);
        let (watchdog, news) = Watchdog::new(watch, ends, takeovers, probe, clock);
        tokio::spawn(watchdog::log(news, clock));
        tokio::spawn(watchdog::answer_for_api(api_heartbeats, watch.board.clone()));
        let detector = Detector::new(self.opened.metrics.roll(), self.opened.metrics.stale(), Arc::clone(&watch.detector), clock.now().at);
        self.threads.spawn_plain("detector", move |stop| detector.run(clock, stop))?;
        self.threads.spawn("disk-probe", prober.bell(), move |stop| prober.run(stop))?;
        self.threads.spawn_plain("watchdog", move |stop| watchdog.run(stop))?;
        Ok(())
    }

    /// Who takes samples of what is counted, for whoever asks later what is wrong.
    pub(super) fn sampler(&mut self, sampler: Sampler) -> Result<(), StartError> {
        self.threads.spawn_plain("samples", move |stop| {
            yield_to_sessions();
            sampler.run(stop);
        })?;
        Ok(())
    }
}

impl Outfit {
    /// A thread's worth of a shard, in this epoch.
    pub(super) fn thread(
        &self,
        (index, shard): (usize, Shard<Reply>),
        mailbox: Mailbox<Input<Reply>>,
        lanes: ShardLanes,
        (watched, epoch): (Watched, Epoch),
    ) -> ShardThread {
        let (metrics, subscribed) = (Arc::clone(&self.metrics), Arc::clone(&self.subscribed));
        let (tenure, passage) = (self.watch.epochs.tenure(index, epoch), self.watch.evidence.passage(index));
        ShardThread::new((index, shard), mailbox, lanes, self.clock, metrics, subscribed, (watched, tenure, passage))
    }
}

/// A number that nobody else knows.
pub(super) fn random() -> u64 {
    u64::from_be_bytes(SystemEntropy.array())
}

fn number(of_many: usize) -> u16 {
    u16::try_from(of_many).unwrap_or(u16::MAX)
}

/// Lowers the calling thread's priority: neither a storm of handshakes nor a chore may hold up established sessions.
fn yield_to_sessions() {
    Priority::Chores.take();
}
