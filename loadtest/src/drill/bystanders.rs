//! A fleet that publishes while something is done to its server: it comes, works for a while in peace, goes on meanwhile, and settles.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::fleet::{Crew, Fleet, FleetPlan, FleetReport, Moment, Work};
use crate::progress::Progress;
use crate::server::Server;

/// Longest time until all are connected.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(60);
/// Longest time for publishes that are open at the end: a device gives one up after 20 s.
const SETTLE_LIMIT: Duration = Duration::from_secs(40);
/// Between two looks at the server's memory.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Goes into every text.
pub(super) const RUN: u32 = 1;

/// Who publishes.
#[derive(Clone, Debug)]
pub struct Bystanders {
    /// How many devices publish.
    pub devices: u32,
    /// From one publish of a device to the next.
    pub every: Duration,
    /// How long it lasts what is done to the server, at most. Before it, the fleet works in peace, for no longer.
    pub lasts: Duration,
    /// Threads of the fleet.
    pub threads: usize,
    /// Decides everything random.
    pub seed: u64,
}

/// They at work.
pub(super) struct Watch {
    plan: Bystanders,
    pub(super) fleet: Fleet,
    progress: Progress,
    record: Record,
}

/// What became of them, and of the server meanwhile.
#[derive(Default)]
pub(super) struct Record {
    /// When all had come, or not.
    pub(super) connected: Moment,
    /// The server's memory in peace, at most and at the end.
    pub(super) rss_kib: [u64; 3],
}

impl Bystanders {
    /// For how long they work in peace, where nothing else is said.
    pub(super) fn peace(&self) -> Duration {
        self.lasts / 4
    }

    /// No drill with them takes longer, from the first device's coming to the last one's answer.
    pub(super) fn longest(&self) -> Duration {
        CONNECT_LIMIT * 2 + self.lasts * 2 + SETTLE_LIMIT * 2
    }

    /// What is good to know of them and of the server's memory.
    pub(super) fn figures(&self, record: &Record) -> Map<String, Value> {
        let mut figures = Map::new();
        let mut note = |name: &str, value| figures.insert(name.to_owned(), value);
        note("devices", self.devices.into());
        note("seconds", json!(self.lasts.as_secs()));
        note("seed", self.seed.into());
        note("server_rss_kib_calm", record.rss_kib[0].into());
        note("server_rss_kib_most", record.rss_kib[1].into());
        note("server_rss_kib_after", record.rss_kib[2].into());
        figures
    }

    /// Lets `crew` come.
    pub(super) fn come(&self, crew: Crew) -> Result<Watch> {
        let fleet = Fleet::start(FleetPlan {
            crew,
            work: Work::Publish { every: self.every },
            seed: self.seed,
            run: RUN,
            per_socket: 1,
            audit: true,
            threads: self.threads,
            lasts: self.longest(),
        })?;
        Ok(Watch { plan: self.clone(), fleet, progress: Progress::new(self.devices as usize), record: Record::default() })
    }
}

impl Watch {
    /// Waits until all are connected.
    pub(super) fn connect(&mut self, server: &mut Server) -> Result<Moment> {
        self.progress.phase("connecting");
        let all = u64::from(self.plan.devices);
        self.wait(CONNECT_LIMIT, |moment| moment.connected == all);
        server.check_alive()?;
        self.record.connected = self.fleet.moment();
        Ok(self.record.connected)
    }

    /// Lets them work in peace for so long.
    pub(super) fn work_in_peace(&mut self, server: &Server, peace: Duration) -> Result<()> {
        self.progress.phase("calm");
        self.fleet.work(true)?;
        self.wait(peace, |_| false);
        self.record.rss_kib = [server.rss_kib()?; 3];
        Ok(())
    }

    /// Lets them go on for as long as it lasts what is called `phase`.
    pub(super) fn endure(&mut self, phase: &'static str, lasts: Duration, server: &mut Server) -> Result<()> {
        self.progress.phase(phase);
        let begun = Instant::now();
        while begun.elapsed() < lasts {
            self.wait(LOOK_EVERY.min(lasts.saturating_sub(begun.elapsed())), |_| false);
            server.check_alive()?;
            self.record.rss_kib[1] = self.record.rss_kib[1].max(server.rss_kib()?);
        }
        Ok(())
    }

    /// Lets them rest, and waits for what is open: what was lost at the end is repeated after it.
    pub(super) fn settle(&mut self, server: &mut Server) -> Result<()> {
        self.progress.phase("settling");
        self.fleet.work(false)?;
        self.wait(SETTLE_LIMIT, |moment| moment.open == 0);
        server.check_alive()?;
        self.record.rss_kib[2] = server.rss_kib()?;
        Ok(())
    }

    /// Ends it.
    pub(super) fn stop(self) -> Result<(Record, FleetReport)> {
        Ok((self.record, self.fleet.stop()?))
    }

    fn wait(&self, limit: Duration, done: impl Fn(Moment) -> bool) {
        self.fleet.wait(limit, |moment| self.progress.show(moment), done);
    }
}
