//! Twenty accounts have hooks, and the receivers of seven are sick, each in its own way; one more publishes fifty times as much as any other. Then the server
//! is killed again and again. Nobody whose receiver is well notices the others; nothing that was accepted is lost; what comes again was under way when
//! the server was killed; owners of what fails are told; what was delivered can be had again; and who is cured is served.

mod accounts;
mod cast;
mod notices;
mod verdict;

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use firmware_protocol::entropy::SeededEntropy;
use firmware_protocol::time::UnixMillis;

use super::Ground;
use super::bystanders::CONNECT_LIMIT;
use crate::fleet::Fleet;
use crate::hooks::{HookView, now};
use crate::progress::Progress;
use crate::report::DrillReport;
use crate::server::Server;

use self::accounts::Outage;
use self::cast::{Cast, FLOOD_TIMES, Role, Tenant};
use self::notices::{Notices, Said};

/// Of the time that it lasts, so much belongs to those who are well alone, and so much to the kills, in percent.
const CALM_PERCENT: u32 = 15;
const KILLS_PERCENT: u32 = 45;
/// Most kills.
const KILLS_MAX: u32 = 200;
/// Longest time for publishes that are open at the end: a device gives one up after 20 s.
const SETTLE_LIMIT: Duration = Duration::from_secs(40);
/// Longest time until receivers that are well have everything.
const DRAIN_LIMIT: Duration = Duration::from_secs(120);
/// Longest time until a replay has come as a whole.
const REPLAY_LIMIT: Duration = Duration::from_secs(120);
/// Longest time until those who are cured are served.
const CURE_LIMIT: Duration = Duration::from_secs(60);
/// A replay rests when nothing has come for so long.
const REST: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Longest time that the server is left dead, in milliseconds.
const DOWN_MOST_MS: u64 = 500;

/// What to drill.
#[derive(Clone, Debug)]
pub struct WebhooksDrill {
    /// The server.
    pub ground: Ground,
    /// Devices of each account.
    pub devices_each: u32,
    /// From one publish of a device to the next.
    pub every: Duration,
    /// How long they publish.
    pub lasts: Duration,
    /// How many kills.
    pub kills: u32,
    /// The span of time that is replayed.
    pub window: Duration,
    /// Decides keys and moments.
    pub seed: u64,
    /// Whether it is judged how fast it was.
    pub timed: bool,
}

/// From when to when something was so.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Span {
    from: UnixMillis,
    before: UnixMillis,
}

/// What happened.
#[derive(Default)]
struct Story {
    connected: u64,
    /// Only those who are well.
    calm: Span,
    /// All of them, and no kills.
    sick: Span,
    /// All of them, and kills.
    kills: Span,
    outages: Vec<Outage>,
    restarts_ms: Vec<f64>,
    /// Attempts under way right before each kill, as the server counts them.
    in_flight: Vec<u64>,
    replay: Span,
    /// What was said of each hook that fails.
    said: BTreeMap<Role, Said>,
    /// How hooks were before and after the cure.
    before: Vec<HookView>,
    after: Vec<HookView>,
    /// Who was served after it.
    cured: Vec<Role>,
    drained: bool,
}

/// The three fleets.
struct Fleets {
    well: Fleet,
    sick: Fleet,
    flood: Fleet,
}

impl WebhooksDrill {
    fn calm(&self) -> Duration {
        self.lasts * CALM_PERCENT / 100
    }

    fn kills_last(&self) -> Duration {
        self.lasts * KILLS_PERCENT / 100
    }

    fn sick(&self) -> Duration {
        self.lasts - self.calm() - self.kills_last()
    }

    fn fleets_last(&self) -> Duration {
        self.lasts * 2 + CONNECT_LIMIT * 3 + SETTLE_LIMIT + Duration::from_secs(30) * self.kills
    }
}

/// Runs the drill.
pub fn webhooks(drill: &WebhooksDrill) -> Result<DrillReport> {
    ensure!((1..=KILLS_MAX).contains(&drill.kills), "from 1 to {KILLS_MAX} kills");
    drill.ground.drill(|server| run(drill, server))
}

fn run(drill: &WebhooksDrill, server: &mut Server) -> Result<DrillReport> {
    let progress = Progress::new(drill.devices_each as usize * cast::WELL);
    progress.phase("accounts");
    let trust = Cast::prepare(server)?;
    server.start()?;
    let mut cast = Cast::new(server, trust, drill.devices_each, drill.seed)?;
    let notices = Notices::open(&cast.receivers)?;
    let mut story = Story::default();

    let fleets = live(drill, server, &mut cast, &notices, &progress, &mut story)?;
    break_and_mend(drill, server, &fleets.well, &progress, &mut story)?;
    progress.phase("settling");
    settle(&fleets, &progress)?;
    server.check_alive()?;
    story.drained = drain(&cast)?;
    replay(drill, &cast, &progress, &mut story)?;
    progress.phase("curing");
    cure(&mut cast, &notices, &mut story)?;

    let Fleets { well, sick, flood } = fleets;
    let reports = [well.stop()?, sick.stop()?, flood.stop()?];
    server.stop()?;
    verdict::conclude(drill, server, &cast, &story, &reports)
}

/// Those who are well work alone, and then all.
fn live(
    drill: &WebhooksDrill,
    server: &mut Server,
    cast: &mut Cast,
    notices: &Notices,
    progress: &Progress,
    story: &mut Story,
) -> Result<Fleets> {
    let (every, lasts, seed) = (drill.every, drill.fleets_last(), drill.seed);
    cast.make_hooks(&[Role::Well], notices.address())?;
    let well = cast.fleet(server, &[Role::Well], every, lasts, seed)?;
    story.connected = connect(&well)?;
    progress.phase("calm");
    well.work(true)?;
    story.calm = pass(drill.calm(), server, &well, progress)?;

    let others = [&Role::SICK[..], &[Role::Flooded]].concat();
    cast.make_hooks(&others, notices.address())?;
    let sick = cast.fleet(server, &Role::SICK, every, lasts, seed)?;
    let flood = cast.fleet(server, &[Role::Flooded], every / FLOOD_TIMES, lasts, seed)?;
    story.connected += connect(&sick)? + connect(&flood)?;
    progress.phase("all");
    sick.work(true)?;
    flood.work(true)?;
    story.sick = pass(drill.sick(), server, &well, progress)?;
    Ok(Fleets { well, sick, flood })
}

/// Waits until all devices of a fleet have come: how many did.
fn connect(fleet: &Fleet) -> Result<u64> {
    let all = fleet.devices() as u64;
    fleet.wait(CONNECT_LIMIT, |_| {}, |moment| moment.connected == all);
    Ok(fleet.moment().connected)
}

/// Lets time pass.
fn pass(lasts: Duration, server: &mut Server, fleet: &Fleet, progress: &Progress) -> Result<Span> {
    let (from, begun) = (now(), Instant::now());
    while begun.elapsed() < lasts {
        let left = lasts.saturating_sub(begun.elapsed());
        fleet.wait(left.min(Duration::from_secs(1)), |moment| progress.show(moment), |_| false);
        server.check_alive()?;
    }
    Ok(Span { from, before: now() })
}

fn break_and_mend(drill: &WebhooksDrill, server: &mut Server, fleet: &Fleet, progress: &Progress, story: &mut Story) -> Result<()> {
    let (from, mut entropy) = (now(), SeededEntropy::new(drill.seed));
    let each_ms = u64::try_from((drill.kills_last() / drill.kills).as_millis())?;
    for kill in 1..=drill.kills {
        progress.phase(&format!("kill {kill}"));
        let early = Duration::from_millis(entropy.below(each_ms / 2 + 1));
        let begun = Instant::now();
        pass(early, server, fleet, progress)?;
        // A server that is busy may not tell in time: the figure is for people only.
        story.in_flight.extend(server.metrics().ok().map(|metrics| metrics.sum("holdfast_webhook_in_flight_attempts", None)));
        let killed = now();
        server.kill()?;
        thread::sleep(Duration::from_millis(entropy.below(DOWN_MOST_MS)));
        story.restarts_ms.push(server.start()?.as_secs_f64() * 1000.0);
        story.outages.push(Outage { killed, up: now() });
        pass(Duration::from_millis(each_ms).saturating_sub(begun.elapsed()), server, fleet, progress)?;
    }
    story.kills = Span { from, before: now() };
    Ok(())
}

/// All rest, and what is open comes to an end.
fn settle(fleets: &Fleets, progress: &Progress) -> Result<()> {
    let all = [&fleets.well, &fleets.sick, &fleets.flood];
    all.iter().try_for_each(|fleet| fleet.work(false))?;
    for fleet in all {
        fleet.wait(SETTLE_LIMIT, |moment| progress.show(moment), |moment| moment.open == 0);
    }
    Ok(())
}

/// Waits until nothing is left to deliver to those who are well: whether it is so.
fn drain(cast: &Cast) -> Result<bool> {
    let begun = Instant::now();
    while begun.elapsed() < DRAIN_LIMIT {
        let before = arrived(cast);
        thread::sleep(LOOK_EVERY * 4);
        let mut pending = 0;
        for tenant in cast.of(&[Role::Well, Role::Flooded]) {
            pending += tenant.view()?.pending();
        }
        if pending == 0 && arrived(cast) == before {
            return Ok(true);
        }
    }
    Ok(false)
}

fn arrived(cast: &Cast) -> usize {
    cast.of(&[Role::Well, Role::Flooded]).map(|tenant| tenant.desk.arrived()).sum()
}

/// One of those who are well asks for everything once more that it has got in a span of time.
fn replay(drill: &WebhooksDrill, cast: &Cast, progress: &Progress, story: &mut Story) -> Result<()> {
    progress.phase("replay");
    let (tenant, before) = (chosen(cast)?, story.kills.before);
    let from = UnixMillis(before.0.saturating_sub(u64::try_from(drill.window.as_millis())?));
    story.replay = Span { from, before };
    tenant.owner().replay(tenant.hook()?, from, before)?;
    let (begun, mut last, mut since) = (Instant::now(), tenant.desk.arrived(), Instant::now());
    while begun.elapsed() < REPLAY_LIMIT && since.elapsed() < REST {
        thread::sleep(LOOK_EVERY);
        let arrived = tenant.desk.arrived();
        if std::mem::replace(&mut last, arrived) != arrived {
            since = Instant::now();
        }
    }
    Ok(())
}

/// The one whose deliveries are replayed.
fn chosen(cast: &Cast) -> Result<&Tenant> {
    cast.of(&[Role::Well]).next().context("somebody is well")
}

fn cure(cast: &mut Cast, notices: &Notices, story: &mut Story) -> Result<()> {
    for tenant in cast.of(&Role::SICK).filter(|tenant| tenant.role.must_be_told()) {
        story.said.insert(tenant.role, notices.of(tenant.hook()?, tenant.owner().key(tenant.hook()?)?));
    }
    story.before = views(cast)?;
    let before: Vec<usize> = cast.tenants.iter().map(|tenant| tenant.desk.arrived()).collect();
    cast.cure()?;
    let begun = Instant::now();
    while story.cured.len() + 1 < Role::SICK.len() && begun.elapsed() < CURE_LIMIT {
        thread::sleep(LOOK_EVERY);
        let served = cast.tenants.iter().zip(&before).filter(|(tenant, before)| tenant.desk.arrived() > **before);
        story.cured = served.map(|(tenant, _)| tenant.role).filter(|role| Role::SICK.contains(role)).collect();
    }
    story.after = views(cast)?;
    Ok(())
}

/// How the hook of each is, in their order.
fn views(cast: &Cast) -> Result<Vec<HookView>> {
    cast.tenants.iter().map(Tenant::view).collect()
}
