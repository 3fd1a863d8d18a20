//! The threads that serve devices: terminators, handshakes, shards and the journal's writer, and the lanes between them.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use firmware_protocol::entropy::{Entropy, SeededEntropy};
use firmware_protocol::id::{DeviceId, Identity};
use firmware_protocol::time::UnixMillis;
use router::device::DeviceView;
use router::shard::{Input, Shard};
use tokio::sync::{mpsc, oneshot};

use crate::admission::{Admission, HandshakeLimits};
use crate::clock::Clock;
use crate::config::Config;
use crate::entropy::SystemEntropy;
use crate::errands;
use crate::generation;
use crate::generations::Generations;
use crate::handshakes::Handshakes;
use crate::history::{self, Keeper};
use crate::journal::{self, CompactionOptions, Journal, Options, SealedSegment};
use crate::mailbox::{Bell, Lane, MailboxBuilder};
use crate::server::recovery::restore;
use crate::server::{Opened, StartError};
use crate::shards::{Reply, ShardLanes, ShardThread, SubscribedOwners, shard_of};
use crate::store::{DeviceBook, KeyChange, Registry};
use crate::strangers::Strangers;
use crate::streams::Streams;
use crate::terminators::tcp::{self, RsaHandshakes, TcpLanes, TcpShared, TcpWorker, ToRsaHandshakes};
use crate::terminators::{self, Limits, ToHandshakes, ToTerminator, Unlabelled, Worker, WorkerLanes, owner_of};
use crate::writer::{Append, Writer, WriterLanes};

/// How much handshakes give way: at 5 a thread gets a third of what one at 0 gets.
const HANDSHAKE_NICENESS: i32 = 5;
/// Room in a lane between two threads.
const LANE: usize = 4_096;
/// Room in a lane of the API, which many callers share.
const API_LANE: usize = 1_024;
/// How long a retired session is remembered, for late comers.
const TOMBSTONE_LIFE: Duration = Duration::from_secs(60 * 24 * 3600);
/// How soon a change in the registry reaches sessions.
const KEY_CHANGES_EVERY: Duration = Duration::from_millis(100);
/// Batches of events that wait for the streams.
const STREAM_BATCHES: usize = 1_024;

/// The running data plane.
pub struct DataPlane {
    threads: Vec<(JoinHandle<()>, Arc<AtomicBool>, Arc<Bell>)>,
    handle: Arc<DataPlaneHandle>,
    udp: SocketAddr,
    tcp: SocketAddr,
}

/// What the control plane holds of the data plane.
pub struct DataPlaneHandle {
    shards: Vec<Mutex<Lane<Input<Reply>>>>,
    /// Event streams.
    pub streams: Arc<Streams>,
    /// Unknown devices.
    pub strangers: Arc<Strangers>,
    /// What devices said over time, once it is open.
    pub history: history::Shelf,
    /// The clocks all deadlines are on.
    pub clock: Clock,
}

impl fmt::Debug for DataPlane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataPlane").field("threads", &self.threads.len()).field("udp", &self.udp).finish_non_exhaustive()
    }
}

impl fmt::Debug for DataPlaneHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataPlaneHandle").field("shards", &self.shards.len()).finish_non_exhaustive()
    }
}

impl DataPlaneHandle {
    /// Tells the shard of `device` something. `false` if there is no room: whoever waits for an answer sees that none will come.
    pub fn tell(&self, device: DeviceId, input: Input<Reply>) -> bool {
        self.tell_shard(shard_of(device, self.shards.len()), input)
    }

    /// Tells a shard something, likewise.
    pub fn tell_shard(&self, shard: usize, input: Input<Reply>) -> bool {
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner).send(input).is_ok()
    }

    /// Number of shards.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Tells shards what the registry says now. A lane that is full is tried again: a revocation must not be lost.
    fn registry_changed(&self, book: &DeviceBook, change: KeyChange) {
        let input = |device| match book.find(device).and_then(|device| device.identity()) {
            Some(identity) => Input::IdentityChanged(identity),
            None => Input::Revoked(device),
        };
        match change {
            KeyChange::Added(device) | KeyChange::Changed(device) | KeyChange::Removed(device) => {
                self.insist(shard_of(device, self.shards.len()), || input(device));
            }
            KeyChange::Missed => {
                let all = book.all().iter().filter_map(|device| device.identity()).map(|identity| (identity.device, identity)).collect();
                let all: Arc<HashMap<DeviceId, Identity>> = Arc::new(all);
                (0..self.shards.len()).for_each(|shard| self.insist(shard, || Input::Registered(Arc::clone(&all))));
            }
        }
    }

    fn insist(&self, shard: usize, input: impl Fn() -> Input<Reply>) {
        while !self.tell_shard(shard, input()) {
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// What shards know of devices now. Those of which nothing is known, and those whose shard is too busy to say, are left out.
    pub async fn views(&self, devices: &[DeviceId]) -> HashMap<DeviceId, DeviceView> {
        let mut waiting = Vec::new();
        for (shard, devices) in self.by_shard(devices.iter().copied()) {
            let (sender, receiver) = oneshot::channel();
            if self.tell_shard(shard, Input::View { devices, reply: Reply::Views(sender) }) {
                waiting.push(receiver);
            }
        }
        let mut known = HashMap::new();
        for receiver in waiting {
            known.extend(receiver.await.unwrap_or_default().into_iter().map(|view| (view.device, view)));
        }
        known
    }

    /// Groups devices by the shard they belong to.
    pub fn by_shard(&self, devices: impl IntoIterator<Item = DeviceId>) -> HashMap<usize, Vec<DeviceId>> {
        let mut groups: HashMap<usize, Vec<DeviceId>> = HashMap::new();
        for device in devices {
            groups.entry(shard_of(device, self.shards.len())).or_default().push(device);
        }
        groups
    }
}

impl DataPlane {
    /// Recovers what the last process left, binds the UDP port and starts all threads.
    pub fn start(config: &Config, opened: &Opened) -> Result<Self, StartError> {
        Self::start_with(config, opened, Options::new(u64::from_be_bytes(SystemEntropy.array())))
    }

    /// [`DataPlane::start`] with a journal of another shape: a test sees segments begin and end that are small.
    pub fn start_with(config: &Config, opened: &Opened, options: Options) -> Result<Self, StartError> {
        let began = Instant::now();
        let Opened { data, registry, keys, metrics, clock } = opened;
        let (clock, workers, shards) = (*clock, config.udp.workers.get(), config.shards.count.get());
        let now = clock.now();

        let generation = generation::raise(data.path(), now.unix)?;
        let ids = terminators::cid_keys::load(&data.keys_dir(), 1, !data.has_journal())?;
        let (journal, recovered) = Journal::open(&data.journal_dir(), options)?;
        if let Some(torn) = &recovered.report.torn_tail {
            tracing::warn!(segment = %torn.segment.display(), offset = torn.offset, bytes = torn.bytes_cut, what = %torn.what,
                "the journal's unfinished tail was cut");
        }
        let restored = restore(recovered.state, registry.keys(), generation, workers, now);
        let sockets = terminators::bind_group(config.udp.listen, workers)?;
        let udp = sockets[0].local_addr()?;
        let listener = tcp::bind(config.tcp.listen).map_err(|source| StartError::Listen { address: config.tcp.listen, source })?;
        let tcp = listener.local_addr()?;

        // The last one is that of TCP.
        let mut terminator_boxes = mailboxes::<ToTerminator>(workers + 1)?;
        let mut rsa_box = MailboxBuilder::<ToRsaHandshakes>::new()?;
        let mut shard_boxes = mailboxes::<Input<Reply>>(shards)?;
        let mut writer_box = MailboxBuilder::<Append>::new()?;
        let mut handshake_box = MailboxBuilder::<ToHandshakes>::new()?;

        let generations = Arc::new(Generations::new(data.path().to_owned(), generation));
        let strangers = Arc::new(Strangers::default());
        let stream_metrics = Arc::new(metrics.streams());
        let (stream_sender, stream_batches) = mpsc::channel(STREAM_BATCHES);
        let streams = Arc::new(Streams::new(Arc::clone(&stream_metrics)));
        let terminator_metrics = Arc::new(metrics.terminators());
        let shard_metrics = Arc::new(metrics.shards());

        let worker_lanes: Vec<WorkerLanes> = (0..workers)
            .map(|_| WorkerLanes {
                workers: lanes(&mut terminator_boxes, LANE),
                shards: lanes(&mut shard_boxes, LANE),
                writer: writer_box.lane(LANE),
                handshakes: handshake_box.lane(LANE),
            })
            .collect();
        let (errand_sender, errands) = mpsc::channel(errands::WAITING_MAX);
        let shard_lanes: Vec<ShardLanes> = (0..shards)
            .map(|_| ShardLanes {
                terminators: lanes(&mut terminator_boxes, LANE),
                writer: writer_box.lane(LANE),
                errands: errand_sender.clone(),
            })
            .collect();
        drop(errand_sender);
        let subscribed: Vec<Arc<SubscribedOwners>> = (0..shards).map(|_| Arc::default()).collect();
        let writer_lanes = WriterLanes {
            terminators: lanes(&mut terminator_boxes, LANE),
            shards: lanes(&mut shard_boxes, LANE).into_iter().zip(subscribed.iter().cloned()).collect(),
            streams: stream_sender,
        };
        let mut handshake_lanes = lanes(&mut terminator_boxes, LANE);
        handshake_lanes.truncate(workers);
        let tcp_lanes = TcpLanes { shards: lanes(&mut shard_boxes, LANE), handshakes: rsa_box.lane(LANE) };
        let rsa_lanes = lanes(&mut terminator_boxes, LANE);
        let api_lanes = lanes(&mut shard_boxes, API_LANE);

        let mut threads = Threads::default();
        let sessions = restored.sessions.len();
        let mut by_worker: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
        for (session, retired) in restored.sessions {
            by_worker[owner_of(session.connection(), workers)].push((session, retired));
        }
        let mut by_shard: Vec<Vec<_>> = (0..shards).map(|_| Vec::new()).collect();
        for device in restored.devices {
            by_shard[shard_of(device.identity.device, shards)].push(device);
        }

        let writer_mailbox = writer_box.build()?;
        let bell = writer_mailbox.bell();
        let sealed = journal.sealed_segments().to_vec();
        let limits = history::Limits { age_ms: config.history.age_ms(), bytes: config.history.bytes };
        let (keeper, feed) = Keeper::new(data.history_dir(), journal.events(), limits, Arc::new(metrics.history()));
        let history = keeper.shelf();
        let writer = Writer::new(journal, writer_mailbox, writer_lanes, Arc::new(metrics.journal()), stream_metrics.missed.clone());
        threads.spawn("journal", bell, move |stop| writer.run(stop))?;
        threads.spawn_plain("history", move |stop| keeper.run(stop))?;
        pack(data.journal_dir(), sealed, now.unix);

        for (index, ((mailbox, lanes), devices)) in shard_boxes.into_iter().zip(shard_lanes).zip(by_shard).enumerate() {
            let mailbox = mailbox.build()?;
            let bell = mailbox.bell();
            let mut shard = Shard::new(Box::new(SeededEntropy::new(u64::from_be_bytes(SystemEntropy.array()))));
            devices.into_iter().for_each(|device| shard.restore(now, device));
            let (metrics, subscribed) = (Arc::clone(&shard_metrics), Arc::clone(&subscribed[index]));
            let thread = ShardThread::new(shard, mailbox, lanes, clock, metrics, subscribed);
            threads.spawn(&format!("shard-{index}"), bell, move |stop| thread.run(stop))?;
        }

        let mailbox = handshake_box.build()?;
        let bell = mailbox.bell();
        let admission = Admission::new(HandshakeLimits {
            per_address: config.handshakes.half_open_per_address.as_usize(),
            total: config.handshakes.half_open.as_usize(),
        });
        let handshake_metrics = Arc::new(metrics.handshakes());
        let handshakes = Handshakes::new(
            keys.ec().clone(),
            Arc::clone(&admission),
            config.handshakes.half_open_life,
            mailbox,
            handshake_lanes,
            Arc::clone(registry.keys()),
            Arc::clone(&strangers),
            clock,
            Arc::clone(&handshake_metrics),
        )?;
        threads.spawn("handshakes", bell, move |stop| {
            yield_to_sessions();
            handshakes.run(stop);
        })?;

        let mailbox = rsa_box.build()?;
        let bell = mailbox.bell();
        let (known, strange) = (Arc::clone(registry), Arc::clone(&strangers));
        let handshakes = RsaHandshakes::new(keys.rsa().clone(), mailbox, rsa_lanes, known, strange, clock, handshake_metrics);
        threads.spawn("handshakes-tcp", bell, move |stop| {
            yield_to_sessions();
            handshakes.run(stop);
        })?;

        let limits = Limits::new(&config.limits, u64::from_be_bytes(SystemEntropy.array()));
        let tcp_box = terminator_boxes.pop().expect("one more was made than there are workers");
        let unlabelled = Arc::new(Unlabelled::default());
        let each = sockets.into_iter().zip(terminator_boxes).zip(worker_lanes).zip(by_worker);
        for (index, (((udp, mailbox), lanes), sessions)) in each.enumerate() {
            let mailbox = mailbox.build()?;
            mailbox.watch(udp.as_fd())?;
            let bell = mailbox.bell();
            let number = u16::try_from(index).unwrap_or(u16::MAX);
            let (generations, strangers) = (Arc::clone(&generations), Arc::clone(&strangers));
            let (metrics, limits, ids) = (Arc::clone(&terminator_metrics), limits.clone(), ids.clone());
            let unlabelled = Arc::clone(&unlabelled);
            let mut worker =
                Worker::new(number, workers, udp, mailbox, lanes, unlabelled, ids, clock, generations, strangers, metrics, limits)?;
            sessions.into_iter().for_each(|(session, retired)| worker.restore(session, retired));
            threads.spawn(&format!("terminator-{index}"), bell, move |stop| worker.run(stop))?;
        }

        let mailbox = tcp_box.build()?;
        let bell = mailbox.bell();
        let shared = TcpShared {
            admission,
            ids,
            generations,
            strangers: Arc::clone(&strangers),
            limits,
            metrics: Arc::new(metrics.tcp(&terminator_metrics)),
            clock,
        };
        let number = u16::try_from(workers).unwrap_or(u16::MAX);
        let worker = TcpWorker::new(number, listener, config.tcp.connections, mailbox, tcp_lanes, shared)?;
        threads.spawn("terminator-tcp", bell, move |stop| worker.run(stop))?;

        let streaming = Arc::clone(&streams);
        tokio::spawn(async move { streaming.run(stream_batches, Some(feed)).await });
        let to_shards = api_lanes.into_iter().map(Mutex::new).collect();
        let handle = Arc::new(DataPlaneHandle { shards: to_shards, streams, strangers, history, clock });
        threads.watch_keys(&handle, registry)?;
        tokio::spawn(errands::run(Registry::clone(registry), Arc::clone(&handle), errands));
        let took_ms = began.elapsed().as_millis();
        tracing::info!(%udp, %tcp, sessions, workers, shards, generation = generation.0, took_ms, "devices are served");
        Ok(Self { threads: threads.0, handle, udp, tcp })
    }

    /// What the control plane needs of it.
    pub fn handle(&self) -> Arc<DataPlaneHandle> {
        Arc::clone(&self.handle)
    }

    /// The UDP address devices are served on.
    pub fn udp(&self) -> SocketAddr {
        self.udp
    }

    /// The TCP address devices are served on.
    pub fn tcp(&self) -> SocketAddr {
        self.tcp
    }

    /// Stops every thread, the journal's last, so that what shards passed on is still written. Devices are told nothing.
    pub fn stop(self) {
        for (thread, stop, bell) in self.threads.into_iter().rev() {
            stop.store(true, Ordering::Release);
            bell.ring();
            if thread.join().is_err() {
                tracing::error!("a thread panicked");
            }
        }
    }
}

fn mailboxes<T>(count: usize) -> std::io::Result<Vec<MailboxBuilder<T>>> {
    (0..count).map(|_| MailboxBuilder::new()).collect()
}

fn lanes<T>(mailboxes: &mut [MailboxBuilder<T>], capacity: usize) -> Vec<Lane<T>> {
    mailboxes.iter_mut().map(|mailbox| mailbox.lane(capacity)).collect()
}

#[derive(Default)]
struct Threads(Vec<(JoinHandle<()>, Arc<AtomicBool>, Arc<Bell>)>);

impl Threads {
    fn spawn(&mut self, name: &str, bell: Arc<Bell>, body: impl FnOnce(&AtomicBool) + Send + 'static) -> std::io::Result<()> {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            // A thread that is gone cannot serve its sessions; a restart serves them all within seconds.
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(&seen)));
            if ended.is_err() {
                std::process::abort();
            }
        })?;
        self.0.push((thread, stop, bell));
        Ok(())
    }

    /// A thread that looks by itself whether it shall stop.
    fn spawn_plain(&mut self, name: &str, body: impl FnOnce(&AtomicBool) + Send + 'static) -> std::io::Result<()> {
        let bell = MailboxBuilder::<()>::new()?.build()?.bell();
        self.spawn(name, bell, body)
    }

    /// Passes on what the registry changes: within a fraction of a second, a removed device has no session.
    fn watch_keys(&mut self, handle: &Arc<DataPlaneHandle>, registry: &Arc<Registry>) -> std::io::Result<()> {
        let (handle, registry) = (Arc::clone(handle), Arc::clone(registry));
        let mut changes = registry.keys().subscribe();
        self.spawn_plain("key-changes", move |stop| {
            while !stop.load(Ordering::Acquire) {
                while let Some(change) = changes.next_change() {
                    handle.registry_changed(registry.devices(), change);
                }
                thread::sleep(KEY_CHANGES_EVERY);
            }
        })
    }
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
