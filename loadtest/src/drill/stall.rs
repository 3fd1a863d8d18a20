//! The disk on which the journal is hangs, and then is full, while devices publish and callers publish, ping and read. No session is lost: what cannot be
//! kept is refused in words before its device gives up, pings and reads go on, nothing that was acknowledged is missing in the end, and once the disk is well
//! everything is accepted again, in the same process.
//!
//! A device repeats a message at 4–6, 12–18 and 28–42 s and drops its session after 60–90 s without an answer; its application gives up after 20 s.

mod asker;
mod story;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use self::asker::Asker;
use self::story::{Part, Story, conclude};
use super::bystanders::{Bystanders, RUN, Watch};
use super::judge::judge;
use super::{Ground, register};
use crate::api::Api;
use crate::fleet::Crew;
use crate::herald::{Herald, HeraldPlan, Words};
use crate::keys::DeviceKeys;
use crate::report::DrillReport;
use crate::server::Server;
use crate::sick_disk::{SickDisk, Sickness};

/// Callers are kept waiting no longer than this (docs/configuration.md), or half as long as the disk hangs.
const CALL_TIMEOUT_MOST_S: u64 = 30;
/// How long they work in peace, before and at the end.
const PEACE: Duration = Duration::from_secs(5);
/// From one publish of a caller to the next.
const CALL_EVERY: Duration = Duration::from_millis(250);
/// A caller that hears nothing for longer than it was promised counts as unanswered.
const CALL_PATIENCE: Duration = Duration::from_secs(45);
/// Longest time until the room is used up that the journal has made for itself.
const FILL_LIMIT: Duration = Duration::from_secs(90);
/// Text of each event that uses it up.
const FILL_BYTES: usize = 1000;
/// Longest wait until everything is accepted again.
const RECOVERY_LIMIT: Duration = Duration::from_secs(30);

/// What to drill.
#[derive(Clone, Debug)]
pub struct StallDrill {
    /// The server.
    pub ground: Ground,
    /// How many devices publish.
    pub devices: u32,
    /// From one publish of a device to the next.
    pub every: Duration,
    /// How long the disk hangs.
    pub hangs: Duration,
    /// How long it is full after that.
    pub full: Duration,
    /// Threads of the fleet.
    pub threads: usize,
    /// Decides everything random.
    pub seed: u64,
}

impl StallDrill {
    fn call_timeout_s(&self) -> u64 {
        (self.hangs.as_secs() / 2).clamp(1, CALL_TIMEOUT_MOST_S)
    }

    fn bystanders(&self) -> Bystanders {
        let lasts = self.hangs + self.full + FILL_LIMIT + (RECOVERY_LIMIT + self.served_again_limit() + PEACE) * 2;
        Bystanders { devices: self.devices, every: self.every, lasts, threads: self.threads, seed: self.seed }
    }

    /// Longest wait until every device has been told that a publish is kept.
    fn served_again_limit(&self) -> Duration {
        self.every * 2 + RECOVERY_LIMIT
    }
}

/// Runs the drill.
pub fn stall(drill: &StallDrill) -> Result<DrillReport> {
    drill.ground.drill(|server| run(drill, server))
}

fn run(drill: &StallDrill, server: &mut Server) -> Result<DrillReport> {
    let disk = SickDisk::build(server.dir())?;
    server.work_on(disk.clone());
    server.answer_within(drill.call_timeout_s())?;
    let keys = DeviceKeys::derive(drill.devices, 0, drill.seed)?;
    let ids = keys.udp.iter().map(|key| key.id).collect();
    server.start()?;
    let (crew, api) = (register(server, keys)?, server.api()?);
    let asker = Asker::start(api.clone(), ids)?;
    let mut scene = Scene::new(drill, server, disk, api, crew)?;
    let played = scene.play(&asker);
    // A server that hangs does not end.
    scene.disk.be(Sickness::Healthy)?;
    played?;
    let Scene { server, watch, herald, fill, mut story, .. } = scene;
    asker.stop()?;
    let words = [herald.stop()?, fill.context("the disk was never full")?];
    let (record, report) = watch.stop()?;
    server.stop()?;
    let (cli, mut accounts) = (server.cli(), words.each_ref().map(Words::account));
    let events = cli.accepted_events()?.inspect(|event| {
        event.as_ref().into_iter().for_each(|event| accounts.iter_mut().for_each(|account| account.note(event)));
    });
    story.verdict = judge(&report.ledgers, RUN, events)?;
    story.lost_of_callers = accounts.iter().map(|account| account.missing()).sum();
    let [calls, _] = &words;
    Ok(conclude(drill, &story, &record, &report, calls))
}

/// Everybody who takes part.
struct Scene<'a> {
    drill: &'a StallDrill,
    server: &'a mut Server,
    disk: SickDisk,
    api: Api,
    watch: Watch,
    herald: Herald,
    fill: Option<Words>,
    story: Story,
}

impl<'a> Scene<'a> {
    fn new(drill: &'a StallDrill, server: &'a mut Server, disk: SickDisk, api: Api, crew: Crew) -> Result<Self> {
        let plan = HeraldPlan { name: "stall/call", every: CALL_EVERY, patience: CALL_PATIENCE, padding: 0 };
        let (watch, herald) = (drill.bystanders().come(crew)?, Herald::start(api.clone(), plan)?);
        Ok(Self { drill, server, disk, api, watch, herald, fill: None, story: Story::default() })
    }

    fn play(&mut self, asker: &Asker) -> Result<()> {
        let connected = self.watch.connect(self.server)?;
        ensure!(connected.connected == u64::from(self.drill.devices), "not all devices connected: {connected:?}");
        asker.ask(true);
        self.herald.speak(true);
        self.watch.work_in_peace(self.server, PEACE)?;
        self.story.calm = Part { asked: asker.take(), ..Part::default() };
        self.story.calm_publishes = self.watch.fleet.take_latencies()?;

        self.disk.be(Sickness::Hangs)?;
        self.story.hangs = self.suffer("disk hangs", self.drill.hangs, asker)?;
        self.fill()?;
        self.story.full = self.suffer("disk full", self.drill.full, asker)?;

        self.watch.endure("calm again", PEACE, self.server)?;
        asker.ask(false);
        self.herald.speak(false);
        self.watch.settle(self.server)?;
        self.story.end = self.watch.fleet.moment();
        self.story.take_metrics(&self.server.metrics()?);
        Ok(())
    }

    /// From now, when the disk is sick, until it is well and has been for a while.
    fn suffer(&mut self, phase: &'static str, lasts: Duration, asker: &Asker) -> Result<Part> {
        let (begun, before) = (Instant::now(), self.watch.fleet.moment());
        self.watch.endure(phase, lasts, self.server)?;
        let (asked, after) = (asker.take(), self.watch.fleet.moment());
        self.disk.be(Sickness::Healthy)?;
        let mended = Instant::now();
        let (accepted_again, served_again) = self.recover(mended)?;
        Ok(Part { begun: Some(begun), mended: Some(mended), asked, failed: after.failed - before.failed, accepted_again, served_again })
    }

    /// How long it takes until a publish of a caller is accepted that begins now, and how many publishes of devices are acknowledged before long.
    fn recover(&mut self, mended: Instant) -> Result<(Duration, u64)> {
        let (fleet, devices) = (&self.watch.fleet, u64::from(self.drill.devices));
        let before = fleet.moment().acknowledged;
        let plan = HeraldPlan { name: "stall/again", every: CALL_EVERY, patience: CALL_PATIENCE, padding: 0 };
        let herald = Herald::start(self.api.clone(), plan)?;
        herald.speak(true);
        fleet.wait(RECOVERY_LIMIT, |_| {}, |_| herald.accepted() > 0);
        let again = mended.elapsed();
        herald.stop()?;
        fleet.wait(self.drill.served_again_limit(), |_| {}, |moment| moment.acknowledged - before >= devices);
        self.server.check_alive()?;
        Ok((again, fleet.moment().acknowledged - before))
    }

    /// There is no room from now on; publishes until that is felt.
    fn fill(&mut self) -> Result<()> {
        self.disk.be(Sickness::Full)?;
        let plan = HeraldPlan { name: "stall/fill", every: Duration::ZERO, patience: CALL_PATIENCE, padding: FILL_BYTES };
        let herald = Herald::start(self.api.clone(), plan)?;
        herald.speak(true);
        let is_full = self.watch.fleet.wait(FILL_LIMIT, |_| {}, |_| herald.refused() > 0);
        self.fill = Some(herald.stop()?);
        ensure!(is_full, "the disk was not full within {FILL_LIMIT:?}");
        Ok(())
    }
}
