//! The threads that serve devices: terminators, handshakes, shards and the journal's writer, and the lanes between them.

mod door;
mod handle;
mod heritage;
mod launch;
mod registry;
mod rewiring;
mod takeover;
mod threads;
mod wiring;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

pub use self::door::{NoAnswer, Pass};
pub use self::handle::DataPlaneHandle;

use self::door::Door;
use self::launch::{Launch, random};
use self::threads::Threads;
use self::wiring::Wiring;
use crate::commit_bell::CommitBell;
use crate::config::Config;
use crate::cursors::Cursors;
use crate::diagnose::Witness;
use crate::generation;
use crate::generations::Generations;
use crate::journal::{Events, Journal, Options};
use crate::server::recovery::{self, restore};
use crate::server::{Opened, StartError};
use crate::store::Registry;
use crate::streams::{Replay, Streams};
use crate::terminators::{self, Limits, Shared, Udp, tcp};
use crate::watchdog::Watch;

/// The running data plane.
pub struct DataPlane {
    threads: Threads,
    handle: Arc<DataPlaneHandle>,
    watch: Watch,
    followed: Followed,
    udp: SocketAddr,
    tcp: SocketAddr,
}

/// What whoever follows the journal needs of it.
#[derive(Clone, Debug)]
pub struct Followed {
    /// What was committed.
    pub events: Events,
    /// How far each sink has come.
    pub cursors: Cursors,
    /// Rings when there is more.
    pub bell: CommitBell,
}

impl fmt::Debug for DataPlane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataPlane").field("threads", &self.threads.len()).field("udp", &self.udp).finish_non_exhaustive()
    }
}

impl DataPlane {
    /// Recovers what the last process left, binds the ports of devices and starts all threads.
    ///
    /// # Errors
    /// What was left cannot be read, a port cannot be had, or the system refuses a thread.
    pub fn start(config: &Config, opened: &Opened) -> Result<Self, StartError> {
        Self::start_with(config, opened, Options::new(random()))
    }

    /// [`DataPlane::start`] with a journal of another shape: a test sees segments begin and end that are small.
    ///
    /// # Errors
    /// As for [`DataPlane::start`].
    pub fn start_with(config: &Config, opened: &Opened, options: Options) -> Result<Self, StartError> {
        let began = Instant::now();
        let Opened { data, registry, metrics, clock, .. } = opened;
        let (workers, shards, now) = (config.udp.workers.get(), config.shards.count.get(), clock.now());

        let generation = generation::raise(data.path(), now.unix)?;
        let ids = terminators::cid_keys::load(&data.keys_dir(), 1, !data.has_journal())?;
        let (journal, recovered) = Journal::open(&data.journal_dir(), options)?;
        if let Some(torn) = &recovered.report.torn_tail {
            tracing::warn!(segment = %torn.segment.display(), offset = torn.offset, bytes = torn.bytes_cut, what = %torn.what,
                "the journal's unfinished tail was cut");
        }
        let restored = restore(recovered.state, workers, shards);
        let (sessions, generation_number) = (restored.sessions.iter().map(Vec::len).sum::<usize>(), generation.0);
        let sockets = terminators::bind_group(config.udp.listen, workers)?;
        let listener = tcp::bind(config.tcp.listen).map_err(|source| StartError::Listen { address: config.tcp.listen, source })?;
        let (udp, tcp) = (sockets[0].local_addr()?, listener.local_addr()?);

        let watch = Watch::new(workers + 1, shards);
        let shared = Shared {
            ids,
            generations: Arc::new(Generations::new(data.path().to_owned(), generation)),
            strangers: Arc::default(),
            orphans: Arc::default(),
            limits: Limits::new(&config.limits, random()),
            noisy: Arc::default(),
            metrics: Arc::new(metrics.terminators()),
            watch: watch.clone(),
            backlog: Arc::default(),
            clock: *clock,
        };
        let names = sockets.iter().map(Udp::names).collect::<Result<Vec<_>, _>>()?;
        metrics.kernel_drops(names.concat());
        let wiring = Wiring::new(workers, shards, &metrics.shards_enqueued(shards), &shared.metrics.shard_full(), &watch)?;
        let stream_metrics = Arc::new(metrics.streams());
        let missed = stream_metrics.missed.clone();
        let (replay, replayer) = Replay::new(journal.events(), Arc::clone(&stream_metrics));
        let (streams, strangers) = (Arc::new(Streams::new(journal.events(), replay, stream_metrics)), Arc::clone(&shared.strangers));
        let orphans = Arc::clone(&shared.orphans);
        let (noisy, place) = (Arc::clone(&shared.noisy), data.path().to_owned());
        let (witness, sampler) = Witness::new(&watch, metrics, noisy, &opened.changes, &opened.config_hash, place, *clock);

        // The journal first, which is so the last to end: what shards passed on is still written.
        let (restoring, mut restored_all) = mpsc::channel(1);
        let mut launch = Launch { config, opened, shared, restoring, threads: Threads::default() };
        let (mark, events) = (journal.latest_mark(), journal.events());
        let cursors = Cursors::open(&data.cursors_dir(), events.clone())?;
        let (history, feed) = launch.journal((journal, recovered.covered), replayer, wiring.writer, cursors.clone(), missed)?;
        let followed = Followed { events: events.clone(), cursors: cursors.clone(), bell: wiring.bell };
        launch.fan_out((events, cursors), wiring.fan_out, Arc::clone(&wiring.subscribed))?;
        let shard_threads = launch.shards(wiring.shards, &wiring.subscribed, (&restored.former, restored.devices))?;
        let admission = launch.handshakes(wiring.handshakes, wiring.rsa_handshakes)?;
        launch.workers(sockets, wiring.workers, (&restored.former, restored.sessions))?;
        launch.tcp(workers, listener, admission, wiring.tcp)?;

        let streaming = Arc::clone(&streams);
        tokio::spawn(async move { streaming.run(wiring.streams, Some(feed)).await });
        let takeovers = metrics.takeovers();
        let doors = wiring.api.into_iter().enumerate();
        let to_shards = doors.map(|(shard, lane)| Door::new(shard, lane, &watch.epochs, takeovers.fenced("api"))).collect();
        let handle = Arc::new(DataPlaneHandle {
            shards: to_shards,
            streams,
            strangers,
            orphans,
            history,
            mark,
            bulletin: watch.bulletin.clone(),
            notes: watch.notes_of_api(),
            witness,
            clock: *clock,
        });
        launch.key_changes(&handle, registry)?;
        let refused = takeovers.fenced("errands");
        launch.takeover(wiring.rewiring, shard_threads, &handle, takeovers)?;
        launch.watchdog(wiring.watchdog, wiring.api_heartbeats)?;
        launch.sampler(sampler)?;
        drop(launch.restoring);
        tokio::spawn(recovery::forget(restored.former));
        let (registry, in_service) = (Registry::clone(registry), Arc::clone(&handle));
        tokio::spawn(async move {
            // Ends when the last thread has taken over its share.
            let _: Option<()> = restored_all.recv().await;
            let took_ms = began.elapsed().as_millis();
            tracing::info!(%udp, %tcp, sessions, workers, shards, generation = generation_number, took_ms, "devices are served");
            registry::serve(registry, in_service, restored.awaited, (wiring.errands, refused)).await;
        });
        Ok(Self { threads: launch.threads, handle, watch, followed, udp, tcp })
    }

    /// What the control plane needs of it.
    pub fn handle(&self) -> Arc<DataPlaneHandle> {
        Arc::clone(&self.handle)
    }

    /// What whoever follows the journal needs of it.
    pub fn followed(&self) -> &Followed {
        &self.followed
    }

    /// The UDP address devices are served on.
    pub fn udp(&self) -> SocketAddr {
        self.udp
    }

    /// The TCP address devices are served on.
    pub fn tcp(&self) -> SocketAddr {
        self.tcp
    }

    /// Who watches its threads.
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Stops every thread, the journal's last. Devices are told nothing.
    pub fn stop(self) {
        self.watch.bulletin.disarm();
        self.threads.stop();
    }
}
