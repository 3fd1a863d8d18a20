//! A whole fleet comes back at once, with the timers of Device OS and no chance in them, while devices with sessions publish. All are back as soon as the
//! server can do their handshakes one after the other, and nobody who has a session waits for those who have none.
//!
//! Server and generator have a processor each. What the server can do is measured before, by handshakes that nothing follows: what it does of that while
//! the fleet comes back is judged by its processor time, and by the clock, since it must not stand idle either.

mod curve;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::time::ClockId;
use serde_json::{Map, Value, json};

use self::curve::Curve;
use super::bystanders::{Bystanders, RUN, Record, Watch};
use super::judge::{Verdict, judge};
use super::{Ground, register};
use crate::bench::{Rate, dtls_rate};
use crate::cores::Cores;
use crate::fleet::{Crew, Devices, Fleet, FleetPlan, FleetReport, Moment, Tally, UdpDevices, Work};
use crate::keys::DeviceKeys;
use crate::metrics::Metrics;
use crate::report::{Check, DrillReport};
use crate::server::Server;
use crate::stats::Latencies;
use crate::threads::{self, Ticks};

/// Most devices that come back: as many as there are addresses for.
pub const RETURNING_MAX: u32 = 60_000;
/// Devices behind one socket, each with its own address: there are more of them than open files.
const PER_SOCKET: usize = 64;
/// What 99 of 100 publishes of the bystanders may take at most, in milliseconds, where they took less than half of it before.
const P99_MOST_MS: u64 = 25;
/// Of the handshakes that the server can do, so many of 100 it does while the fleet comes back; the rest of its time goes into what follows each.
const ADMITTED_LEAST_PERCENT: u64 = 60;
/// The same of the handshakes that it may do: a device that was not served within 40 s comes again after 45 s.
const PACED_LEAST_PERCENT: u64 = 80;
/// For how long a hello waits in the server. If it took less until all were back, nobody had to come again.
const PATIENCE: Duration = Duration::from_secs(40);
/// A fleet that comes back slower than this, in devices a second, is not waited for.
const SLOWEST_PER_S: u32 = 500;
/// What is waited for it in any case.
const WAIT_LEAST: Duration = Duration::from_secs(60);
/// Until the bystanders publish as usual after a restart: for the first ten seconds, sessions are new to the server.
const RECOVERY: Duration = Duration::from_secs(12);
/// Times of publishes are looked at for so long each.
const SLICE: Duration = Duration::from_secs(1);

/// What to drill.
#[derive(Clone, Debug)]
pub struct MassReturn {
    /// The server.
    pub ground: Ground,
    /// How many devices come back.
    pub devices: u32,
    /// Handshakes that the server may begin in a second, if it is told.
    pub per_second: Option<u32>,
    /// Whether they have their sessions still. The server is killed and started again then.
    pub keep_sessions: bool,
    /// Whether rates and times are judged.
    pub timed: bool,
    /// Who publishes meanwhile.
    pub bystanders: Bystanders,
    /// For how long they do so in peace.
    pub peace: Duration,
}

/// What happened besides what devices saw.
#[derive(Default)]
struct Story {
    /// Handshakes when nothing follows them.
    possible: Option<Rate>,
    calm: Latencies,
    /// One for each second.
    during: Vec<Latencies>,
    /// The fleet before it came back.
    before: Moment,
    /// Devices that were proved, by time since they came.
    proved: Curve,
    /// Devices connected, and how long it took until they were.
    connected: u64,
    took: Duration,
    waited: Waited,
    spent: Spent,
}

/// Processor time while the fleet came back.
#[derive(Default)]
struct Spent {
    server: Duration,
    generator: Duration,
    /// The server's, by thread.
    by_thread: Ticks,
}

/// What the server says of those who waited.
#[derive(Default)]
struct Waited {
    hellos: u64,
    cookies: u64,
    admitted: u64,
    waited_s: f64,
    /// Hellos and second flights, by reason.
    refused: BTreeMap<String, u64>,
    /// Datagrams, by reason.
    dropped: BTreeMap<String, u64>,
}

impl MassReturn {
    /// No fleet is waited for longer.
    pub fn longest(&self) -> Duration {
        WAIT_LEAST + Duration::from_secs(2 * u64::from(self.devices / self.per_second.unwrap_or(SLOWEST_PER_S)))
    }

    fn plan(&self, returning: UdpDevices) -> FleetPlan {
        FleetPlan {
            crew: Crew { udp: Some(returning), tcp: None },
            work: Work::Return { kept: self.keep_sessions },
            seed: self.bystanders.seed,
            run: RUN,
            per_socket: PER_SOCKET,
            audit: false,
            threads: 1,
            lasts: self.peace + self.longest() * 4,
        }
    }
}

impl Story {
    /// Devices that were connected for each second of the server's processor time.
    fn per_core_s(&self) -> f64 {
        self.connected as f64 / self.spent.server.as_secs_f64().max(0.001)
    }

    /// How long the bystanders' publishes took while the fleet came back.
    fn all_during(&self) -> Latencies {
        let mut all = Latencies::default();
        self.during.iter().for_each(|second| all.merge(second));
        all
    }
}

impl Waited {
    fn from(metrics: &Metrics) -> Self {
        let dtls = |name| metrics.sum(name, Some("transport=\"dtls\""));
        let refused = metrics.by_label("holdfast_dtls_handshakes_refused_total");
        // Why the server let a hello not wait, or not to the end.
        let turned_away = refused.iter().filter(|(reason, _)| reason.starts_with("waiting_")).map(|(_, count)| count).sum::<u64>();
        let (admitted, repeated) = (dtls("holdfast_handshakes_admitted_total"), dtls("holdfast_handshakes_repeated_total"));
        Self {
            hellos: admitted + repeated + turned_away,
            cookies: metrics.sum("holdfast_dtls_cookies_sent_total", None),
            admitted,
            waited_s: metrics.seconds("holdfast_handshakes_waited_seconds_total", Some("transport=\"dtls\"")),
            refused,
            dropped: metrics.by_label("holdfast_datagrams_dropped_total"),
        }
    }
}

impl Spent {
    fn so_far(server: &Server) -> Result<Self> {
        let generator = ClockId::CLOCK_PROCESS_CPUTIME_ID.now()?.into();
        Ok(Self { server: server.cpu_time()?, generator, by_thread: server.cpu_by_thread()? })
    }

    fn since(&self, before: &Self) -> Self {
        let mut by_thread = Ticks::new();
        threads::add_spent(&mut by_thread, &before.by_thread, &self.by_thread);
        Self { server: self.server - before.server, generator: self.generator - before.generator, by_thread }
    }

    /// Of the time that passed, in percent.
    fn percent(spent: Duration, took: Duration) -> f64 {
        100.0 * spent.as_secs_f64() / took.as_secs_f64().max(0.001)
    }
}

/// Runs the drill.
pub fn mass_return(drill: &MassReturn) -> Result<DrillReport> {
    ensure!((1..=RETURNING_MAX).contains(&drill.devices), "from 1 to {RETURNING_MAX} devices come back");
    drill.ground.drill(|server| run(drill, server))
}

fn run(drill: &MassReturn, server: &mut Server) -> Result<DrillReport> {
    let cores = Cores::part()?;
    let mut story = Story::default();
    if drill.timed && drill.per_second.is_none() && !drill.keep_sessions {
        let mut other = Server::prepare(drill.ground.holdfast.as_deref())?;
        other.keep_to(cores.server());
        story.possible = Some(dtls_rate(other).context("measuring handshakes")?);
    }
    server.keep_to(cores.server());
    if let Some(per_second) = drill.per_second {
        server.pace_handshakes(per_second)?;
    }
    let keys = DeviceKeys::derive(drill.devices + drill.bystanders.devices, 0, drill.bystanders.seed)?;
    server.start()?;
    let (watchers, returning) = part(register(server, keys)?, drill.devices as usize).context("nobody comes back")?;
    let mut watch = drill.bystanders.come(watchers)?;
    let fleet = Fleet::start(drill.plan(returning))?;
    play(drill, server, &mut watch, &fleet, &mut story)?;
    let (returned, (record, report)) = (fleet.stop()?.tally, watch.stop()?);
    server.stop()?;
    let verdict = judge(&report.ledgers, RUN, server.cli().accepted_events()?)?;
    Ok(conclude(drill, &story, &record, &report, &returned, verdict))
}

/// The bystanders, and the last `count` on their own.
fn part(mut watchers: Crew, count: usize) -> Option<(Crew, UdpDevices)> {
    let udp = watchers.udp.as_mut()?;
    let keys = udp.keys.split_off(udp.keys.len().checked_sub(count)?);
    let returning = Devices { server: udp.server, server_key: udp.server_key, keys };
    Some((watchers, returning))
}

fn play(drill: &MassReturn, server: &mut Server, watch: &mut Watch, fleet: &Fleet, story: &mut Story) -> Result<()> {
    let all = u64::from(drill.devices);
    watch.connect(server)?;
    if drill.keep_sessions {
        let connected = fleet.wait(drill.longest(), |_| {}, |moment| moment.connected == all);
        ensure!(connected, "not all devices had a session in time: {:?}", fleet.moment());
    }
    watch.work_in_peace(server, drill.peace)?;
    if drill.keep_sessions {
        restart(server, watch, story)?;
    } else {
        story.calm = watch.fleet.take_latencies()?;
    }
    story.before = fleet.moment();
    let (begun, before) = (Instant::now(), Spent::so_far(server)?);
    fleet.work(true)?;
    let proved = |moment: Moment| match drill.keep_sessions {
        true => moment.connected,
        false => moment.handshakes_finished,
    };
    let looked = |moment: Moment| {
        story.proved.note(begun.elapsed(), proved(moment));
        if begun.elapsed() >= SLICE * u32::try_from(story.during.len() + 1).unwrap_or(u32::MAX) {
            story.during.push(watch.fleet.take_latencies().unwrap_or_default());
        }
    };
    fleet.wait(drill.longest(), looked, |moment| moment.connected == all);
    (story.took, story.connected) = (begun.elapsed(), fleet.moment().connected);
    server.check_alive()?;
    story.spent = Spent::so_far(server)?.since(&before);
    story.during.push(watch.fleet.take_latencies()?);
    story.waited = Waited::from(&server.metrics()?);
    watch.settle(server)
}

/// Kills the server while nobody publishes, and waits until those who did publish again as before.
fn restart(server: &mut Server, watch: &Watch, story: &mut Story) -> Result<()> {
    watch.fleet.work(false)?;
    watch.fleet.wait(WAIT_LEAST, |_| {}, |moment| moment.open == 0);
    story.calm = watch.fleet.take_latencies()?;
    server.kill()?;
    server.start()?;
    watch.fleet.work(true)?;
    watch.fleet.wait(RECOVERY, |_| {}, |_| false);
    watch.fleet.take_latencies().map(drop)
}

fn conclude(drill: &MassReturn, story: &Story, record: &Record, report: &FleetReport, returned: &Tally, verdict: Verdict) -> DrillReport {
    let (tally, connected, all) = (&report.tally, record.connected, u64::from(drill.devices));
    let handshakes = returned.handshakes - story.before.handshakes;
    let mut checks = vec![
        Check::equal("bystanders_connected", drill.bystanders.devices.into(), connected.connected),
        Check::equal("devices_back", all, story.connected),
        Check::equal("acknowledged_events_lost", 0, verdict.lost),
        Check::equal("events_accepted_twice", 0, verdict.twice),
        Check::equal("events_not_acknowledged", 0, verdict.unacknowledged + tally.left_out),
        Check::equal("handshakes_of_bystanders", 0, tally.handshakes - connected.handshakes),
        Check::equal("sequences_seen_twice", 0, tally.sequences_repeated + tally.wire_sequences_repeated),
    ];
    if drill.keep_sessions {
        checks.push(Check::equal("handshakes", 0, handshakes));
    } else if story.took < PATIENCE {
        checks.push(Check::equal("handshakes", all, handshakes));
    }
    if drill.timed {
        checks.extend(timed_checks(drill, story));
    }
    let mut figures = drill.bystanders.figures(record);
    figures.remove("seconds");
    add_figures(&mut figures, drill, story, report, returned);
    DrillReport::new(checks, figures)
}

fn timed_checks(drill: &MassReturn, story: &Story) -> Vec<Check> {
    let calm_ms = story.calm.p99_whole_ms().unwrap_or(u64::MAX);
    let during_ms = story.all_during().p99_whole_ms().unwrap_or(u64::MAX);
    let mut checks = vec![Check::at_most("publish_p99_ms_during", P99_MOST_MS.max(calm_ms.saturating_mul(2)), during_ms)];
    if drill.keep_sessions {
        return checks;
    }
    let admitted = story.proved.rate_per_s();
    let (least, rate) = match (drill.per_second, story.possible) {
        (Some(paced), _) => (u64::from(paced) * PACED_LEAST_PERCENT / 100, f64::from(paced)),
        (None, possible) => (possible.map_or(0, |possible| whole(possible.per_s)) * ADMITTED_LEAST_PERCENT / 100, admitted),
    };
    checks.push(Check::at_least("admitted_per_s", least, whole(admitted)));
    if let Some(possible) = story.possible {
        let least = whole(possible.per_core_s) * ADMITTED_LEAST_PERCENT / 100;
        checks.push(Check::at_least("admitted_per_core_s", least, whole(story.per_core_s())));
    }
    let latest_ms = whole(1.25e3 * f64::from(drill.devices) / rate.max(1.0));
    checks.push(Check::at_most("last_back_ms", latest_ms, u64::try_from(story.took.as_millis()).unwrap_or(u64::MAX)));
    checks
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates and times are positive and far below the largest number"
)]
fn whole(number: f64) -> u64 {
    number as u64
}

fn add_figures(figures: &mut Map<String, Value>, drill: &MassReturn, story: &Story, report: &FleetReport, returned: &Tally) {
    let (waited, all) = (&story.waited, f64::from(drill.devices));
    let mut note = |name: &str, value| figures.insert(name.to_owned(), value);
    note("devices", drill.devices.into());
    note("bystanders", drill.bystanders.devices.into());
    note("dtls_handshakes_per_core_s", json!(story.possible.map(|possible| possible.per_core_s)));
    note("dtls_handshakes_per_s", json!(story.possible.map(|possible| possible.per_s)));
    note("admitted_per_core_s", json!(story.per_core_s()));
    note("admitted_per_s", json!(story.proved.rate_per_s()));
    note("last_back_s", json!(story.took.as_secs_f64()));
    note("handshakes_begun", json!(returned.handshakes - story.before.handshakes));
    note("hellos_per_device", json!((waited.hellos + waited.cookies) as f64 / all));
    note("hellos_with_cookie_per_device", json!(waited.hellos as f64 / all));
    note("waited_s_mean", json!(waited.waited_s / (waited.admitted as f64).max(1.0)));
    note("refused", json!(waited.refused));
    note("dropped", json!(waited.dropped));
    note("server_cpu_percent", json!(Spent::percent(story.spent.server, story.took)));
    note("generator_cpu_percent", json!(Spent::percent(story.spent.generator, story.took)));
    note("server_time_by_thread", threads::shares(&story.spent.by_thread).into());
    note("publish_latency_ms_calm", json!(story.calm));
    note("publish_latency_ms_during", json!(story.all_during()));
    note("publish_p99_ms_by_second", story.during.iter().map(Latencies::p99_whole_ms).collect());
    note("returned", json!(returned));
    note("fleet", report.figures());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drill() -> MassReturn {
        let lasts = Duration::from_secs(60);
        let bystanders = Bystanders { devices: 9, every: Duration::from_secs(1), lasts, threads: 1, seed: 1 };
        let ground = Ground::default();
        MassReturn { ground, devices: 1_000, per_second: None, keep_sessions: false, timed: true, bystanders, peace: lasts }
    }

    fn latencies(ms: u64) -> Latencies {
        let mut latencies = Latencies::default();
        latencies.record(Duration::from_millis(ms));
        latencies
    }

    /// All came back at this rate, and the last one after this time.
    fn story(per_s: u64, took_ms: u64) -> Story {
        let mut proved = Curve::default();
        (0..=1_000 / per_s.min(1_000) * 10).for_each(|tenth| proved.note(Duration::from_millis(tenth * 100), per_s * tenth / 10));
        let took = Duration::from_millis(took_ms);
        let possible = Some(Rate { per_core_s: 400.0, per_s: 300.0 });
        let spent = Spent { server: Duration::from_secs(4), ..Spent::default() };
        Story { possible, calm: latencies(2), during: vec![latencies(20)], proved, connected: 1_000, took, spent, ..Story::default() }
    }

    fn failed(drill: &MassReturn, story: &Story, handshakes: u64) -> Vec<&'static str> {
        let record = Record { connected: Moment { connected: 9, handshakes: 9, ..Moment::default() }, ..Record::default() };
        let tally = Tally { handshakes: 9, ..Tally::default() };
        let report = FleetReport { tally, parts: BTreeMap::new(), ledgers: Vec::new() };
        let returned = Tally { handshakes, ..Tally::default() };
        let report = conclude(drill, story, &record, &report, &returned, Verdict::default());
        report.checks.iter().filter(|check| !check.ok).map(|check| check.name).collect()
    }

    #[test]
    fn a_fleet_is_back_in_time_and_nobody_came_twice() {
        assert!(failed(&drill(), &story(200, 6_000), 1_000).is_empty());
        assert_eq!(failed(&drill(), &story(200, 6_000), 1_001), ["handshakes"]);
        assert_eq!(failed(&drill(), &story(200, 6_400), 1_000), ["last_back_ms"]);
        assert_eq!(failed(&drill(), &story(100, 10_000), 1_000), ["admitted_per_s"]);
        let spent = Spent { server: Duration::from_secs(5), ..Spent::default() };
        assert_eq!(failed(&drill(), &Story { spent, ..story(200, 6_000) }, 1_000), ["admitted_per_core_s"]);
        assert_eq!(failed(&drill(), &Story { connected: 999, ..story(200, 6_000) }, 1_000), ["devices_back"]);
        assert_eq!(failed(&drill(), &Story { during: vec![latencies(26)], ..story(200, 6_000) }, 1_000), ["publish_p99_ms_during"]);
        assert!(failed(&drill(), &Story { during: vec![latencies(30)], calm: latencies(15), ..story(200, 6_000) }, 1_000).is_empty());
    }

    #[test]
    fn a_pace_is_judged_by_itself() {
        let drill = MassReturn { per_second: Some(20), ..drill() };
        let story = |per_s, took_ms| Story { possible: None, ..story(per_s, took_ms) };
        assert!(failed(&drill, &story(20, 56_000), 1_200).is_empty(), "whoever waits too long comes again");
        assert_eq!(failed(&drill, &story(20, 63_000), 1_200), ["last_back_ms"]);
        assert!(failed(&MassReturn { timed: false, ..drill }, &story(10, 99_000), 1_200).is_empty());
    }

    #[test]
    fn sessions_that_were_kept_need_no_handshake() {
        let drill = MassReturn { keep_sessions: true, ..drill() };
        let before = Moment { handshakes: 1_000, ..Moment::default() };
        let story = Story { before, ..story(200, 6_000) };
        assert!(failed(&drill, &story, 1_000).is_empty());
        assert_eq!(failed(&drill, &story, 1_001), ["handshakes"]);
    }

    #[test]
    fn what_waited_is_read_from_the_metrics() {
        let text = "holdfast_handshakes_admitted_total{transport=\"dtls\"} 5\nholdfast_handshakes_admitted_total{transport=\"tcp\"} 50\n\
                    holdfast_handshakes_repeated_total{transport=\"dtls\"} 3\nholdfast_dtls_cookies_sent_total 9\n\
                    holdfast_dtls_handshakes_refused_total{reason=\"waiting_expired\"} 2\n\
                    holdfast_dtls_handshakes_refused_total{reason=\"tcp_waiting_expired\"} 20\n";
        let waited = Waited::from(&Metrics::new(text.to_owned()));
        assert_eq!((waited.hellos, waited.cookies, waited.admitted), (10, 9, 5));
        assert_eq!(waited.refused["waiting_expired"], 2);
    }
}
