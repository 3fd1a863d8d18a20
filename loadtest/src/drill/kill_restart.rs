//! `kill -9` again and again while every device publishes: nobody makes a new handshake, nothing acknowledged is lost, nothing is taken twice. Who listens
//! meanwhile misses nothing: a reader that continues its event stream sees every event once and in order, and every device hears of all news that a
//! caller was told are accepted.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde_json::{Map, json};

use super::judge::{Verdict, judge};
use super::listeners::{Heard, Listeners, NewsHeard, Outcome};
use super::schedule::{Kill, Schedule};
use super::{Ground, register};
use crate::fleet::{Crew, Fleet, FleetPlan, FleetReport, Work};
use crate::keys::DeviceKeys;
use crate::progress::Progress;
use crate::report::{Check, DrillReport};
use crate::server::Server;
use crate::stats::median;

/// Most kills in one drill.
const KILLS_MAX: u32 = 1000;
/// Longest time for the first connections, apart from what the number of devices adds.
const CONNECT_LIMIT: Duration = Duration::from_secs(60);
const CONNECT_LIMIT_EACH: Duration = Duration::from_millis(2);
/// Longest time for what a burst has delayed: a publish is over after 20 s one way or the other.
const SETTLE_LIMIT: Duration = Duration::from_secs(90);
/// Longest burst with what follows it.
const BURST_LIMIT: Duration = Duration::from_secs(150);

/// What to drill.
#[derive(Clone, Debug)]
pub struct KillRestart {
    /// The server.
    pub ground: Ground,
    /// How many devices.
    pub devices: u32,
    /// How many kills.
    pub kills: u32,
    /// From one publish of a device to the next.
    pub every: Duration,
    /// From one publish of news, which every device hears, to the next.
    pub news_every: Duration,
    /// Decides keys, moments and pauses.
    pub seed: u64,
    /// Devices behind one socket.
    pub per_socket: usize,
    /// Threads of the fleet.
    pub threads: usize,
}

/// What happened besides what devices saw.
#[derive(Default)]
struct Story {
    connected: u64,
    handshakes: u64,
    restarts_ms: Vec<f64>,
    bursts: u32,
    rss_kib: u64,
}

/// Runs the drill.
pub fn kill_restart(drill: &KillRestart) -> Result<DrillReport> {
    ensure!(drill.kills <= KILLS_MAX, "at most {KILLS_MAX} kills");
    drill.ground.drill(|server| run(drill, server))
}

fn run(drill: &KillRestart, server: &mut Server) -> Result<DrillReport> {
    let keys = DeviceKeys::derive(drill.devices, 0, drill.seed)?;
    server.start()?;
    let plan = plan(drill, register(server, keys)?);
    let listeners = Listeners::start(server, drill.news_every)?;
    let (run, begun) = (plan.run, Instant::now());
    let fleet = Fleet::start(plan)?;
    let (story, heard) = break_and_mend(drill, server, &fleet, listeners)?;
    let report = fleet.stop()?;
    server.stop()?;
    let (cli, mut comparing) = (server.cli(), heard.compare());
    let events = cli.accepted_events()?.inspect(|event| event.as_ref().into_iter().for_each(|event| comparing.note(event)));
    let verdict = judge(&report.ledgers, run, events)?;
    let listened = (comparing.end(), heard.by_devices(&report.ledgers));
    Ok(conclude(drill, &story, &report, verdict, listened, begun.elapsed()))
}

fn plan(drill: &KillRestart, crew: Crew) -> FleetPlan {
    FleetPlan {
        crew,
        work: Work::Publish { every: drill.every },
        seed: drill.seed,
        run: 1,
        per_socket: drill.per_socket,
        audit: true,
        threads: drill.threads,
        lasts: CONNECT_LIMIT + CONNECT_LIMIT_EACH * drill.devices + BURST_LIMIT * (drill.kills + 2),
    }
}

fn break_and_mend(drill: &KillRestart, server: &mut Server, fleet: &Fleet, listeners: Listeners) -> Result<(Story, Heard)> {
    let (mut story, progress) = (Story::default(), Progress::new(drill.devices as usize));
    let (devices, limit) = (u64::from(drill.devices), CONNECT_LIMIT + CONNECT_LIMIT_EACH * drill.devices);
    progress.phase("connecting");
    fleet.wait(limit, |moment| progress.show(moment), |moment| moment.connected == devices);
    server.check_alive()?;
    let moment = fleet.moment();
    (story.connected, story.handshakes) = (moment.connected, moment.handshakes);

    let mut schedule = Schedule::new(drill.seed, drill.kills);
    while !schedule.is_over() {
        story.bursts += 1;
        progress.phase(&format!("burst {}", story.bursts));
        fleet.work(true)?;
        listeners.speak(true);
        let mut first = None;
        while let Some(kill) = schedule.next(first.map(|first: Instant| first.elapsed())) {
            kill_once(kill, server, fleet, &progress, &mut first, &mut story)?;
        }
        // The server that came up last serves under load as well.
        fleet.wait(Duration::from_secs(1), |moment| progress.show(moment), |_| false);
        progress.phase("settling");
        listeners.speak(false);
        fleet.work(false)?;
        fleet.wait(SETTLE_LIMIT, |moment| progress.show(moment), |moment| moment.open == 0);
        server.check_alive()?;
    }
    let heard = listeners.finish(fleet, |moment| progress.show(moment))?;
    story.rss_kib = server.rss_kib()?;
    Ok((story, heard))
}

fn kill_once(
    kill: Kill,
    server: &mut Server,
    fleet: &Fleet,
    progress: &Progress,
    first: &mut Option<Instant>,
    story: &mut Story,
) -> Result<()> {
    fleet.wait(kill.up, |moment| progress.show(moment), |_| false);
    server.check_alive()?;
    first.get_or_insert_with(Instant::now);
    server.kill()?;
    thread::sleep(kill.down);
    let started = server.start()?;
    if started > Duration::from_secs(20) {
        bail!("the server took {started:?} to start: devices are right to give up");
    }
    story.restarts_ms.push(started.as_secs_f64() * 1000.0);
    Ok(())
}

fn conclude(
    drill: &KillRestart,
    story: &Story,
    report: &FleetReport,
    verdict: Verdict,
    (outcome, news): (Outcome, NewsHeard),
    took: Duration,
) -> DrillReport {
    let tally = &report.tally;
    let mut checks = vec![
        Check::equal("devices_connected", drill.devices.into(), story.connected),
        Check::equal("new_handshakes", 0, tally.handshakes - story.handshakes),
        Check::equal("acknowledged_events_lost", 0, verdict.lost),
        Check::equal("events_accepted_twice", 0, verdict.twice),
        Check::equal("sequences_seen_twice", 0, tally.sequences_repeated + tally.wire_sequences_repeated),
        Check::equal("unacknowledged_after_settling", 0, verdict.unacknowledged),
    ];
    checks.extend(outcome.checks(news));
    let mut figures = Map::new();
    let mut note = |name: &str, value| figures.insert(name.to_owned(), value);
    note("devices", drill.devices.into());
    note("kills", story.restarts_ms.len().into());
    note("bursts", story.bursts.into());
    note("seed", drill.seed.into());
    note("seconds", json!(took.as_secs()));
    note("restart_ms_median", json!(median(&story.restarts_ms)));
    note("restart_ms_max", json!(story.restarts_ms.iter().copied().reduce(f64::max)));
    note("server_rss_kib", story.rss_kib.into());
    note("events_accepted", verdict.accepted.into());
    note("events_unknown", verdict.unknown.into());
    outcome.figures(news, &mut figures);
    figures.insert("fleet".into(), report.figures());
    DrillReport::new(checks, figures)
}
