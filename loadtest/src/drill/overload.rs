//! Ten times the callers that keep a server busy, and fifty logins a second beside them, while devices publish. The server has one processor for
//! everything. Devices do not notice; callers that are served are about as many as before; when the rush is over, so is what came of it.
//!
//! A caller asks again as soon as it is answered, also when it is refused: none heeds what it is told.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use firmware_protocol::id::DeviceId;
use serde_json::{Map, Value, json};

use super::bystanders::{Bystanders, RUN, Record};
use super::judge::{Verdict, judge};
use super::{Ground, register};
use crate::api::Api;
use crate::callers::{Callers, CallersPlan, Counts};
use crate::cores::Cores;
use crate::dial::allow_sockets;
use crate::fleet::FleetReport;
use crate::keys::DeviceKeys;
use crate::report::{Check, DrillReport};
use crate::server::Server;
use crate::stats::Latencies;

/// So many times as many callers come as keep the server busy.
const TIMES: usize = 10;
/// Requests about each device.
const KINDS: usize = 8;
/// Logins in a second, and how many log in.
const LOGINS_PER_S: u32 = 50;
const LOGGING_IN: u32 = 100;
/// What 99 of 100 publishes of devices take at most, in milliseconds.
const ACK_P99_MOST_MS: u64 = 25;
/// Of what is served at best, so much has to be served in the rush, in percent.
const GOODPUT_LEAST_PERCENT: u64 = 80;
/// As much as before is served again so soon.
const RECOVERY_MOST_MS: u64 = 5_000;
/// What is served is looked at over so long while it recovers.
const LOOK: Duration = Duration::from_millis(500);
const RECOVERY_LIMIT: Duration = Duration::from_secs(30);

/// What to drill.
#[derive(Clone, Debug)]
pub struct Overload {
    /// The server.
    pub ground: Ground,
    /// Devices that publish. How long it lasts is how long the rush does.
    pub bystanders: Bystanders,
    /// Callers that keep the server busy.
    pub callers: usize,
    /// For how long they ask alone before.
    pub peace: Duration,
    /// Whether it is judged how fast it was.
    pub timed: bool,
}

/// What happened.
#[derive(Default)]
struct Story {
    peak_per_s: f64,
    rush_per_s: f64,
    counts: Counts,
    logins: Counts,
    recovery: Option<Duration>,
    calm: Latencies,
    rush: Latencies,
    callers_rush: Latencies,
}

impl Story {
    fn goodput_percent(&self) -> u64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few hundred")]
        let percent = (100.0 * self.rush_per_s / self.peak_per_s.max(1.0)) as u64;
        percent
    }

    fn recovery_ms(&self) -> u64 {
        self.recovery.map_or(u64::MAX, |recovery| u64::try_from(recovery.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Runs the drill.
pub fn overload(drill: &Overload) -> Result<DrillReport> {
    drill.ground.drill(|server| run(drill, server))
}

fn run(drill: &Overload, server: &mut Server) -> Result<DrillReport> {
    allow_sockets(drill.callers * (TIMES + 1) + LOGGING_IN as usize + drill.bystanders.devices as usize)?;
    let keys = DeviceKeys::derive(drill.bystanders.devices, 0, drill.bystanders.seed)?;
    let ids: Vec<DeviceId> = keys.udp.iter().map(|key| key.id).collect();
    let cores = Cores::part()?;
    server.keep_to(cores.server());
    server.admit_logins()?;
    server.start()?;
    let crew = register(server, keys)?;
    let mut watch = drill.bystanders.come(crew)?;
    watch.connect(server)?;
    watch.work_in_peace(server, Duration::from_secs(1))?;

    let mut story = Story::default();
    let api = server.api()?;
    let few = Callers::start(plan(&api, &ids, drill.callers))?;
    few.work(true);
    thread::sleep(drill.peace / 4);
    watch.fleet.take_latencies()?;
    story.peak_per_s = rate(&few, drill.peace);
    story.calm = watch.fleet.take_latencies()?;

    let rest = Callers::start(plan(&api, &ids, drill.callers * (TIMES - 1)))?;
    let logins = Callers::start(logins(&api))?;
    rest.work(true);
    logins.work(true);
    let (before, begun) = (few.counts().served + rest.counts().served, Instant::now());
    watch.endure("rush", drill.bystanders.lasts, server)?;
    story.rush_per_s = (few.counts().served + rest.counts().served - before) as f64 / begun.elapsed().as_secs_f64();
    story.rush = watch.fleet.take_latencies()?;
    story.callers_rush = few.take_latencies();
    rest.work(false);
    logins.work(false);
    story.recovery = recovery(&few, story.peak_per_s);
    few.work(false);
    story.counts = sum(few.counts(), rest.counts());
    story.logins = logins.counts();

    watch.settle(server)?;
    for callers in [few, rest, logins] {
        callers.stop()?;
    }
    let (record, report) = watch.stop()?;
    server.stop()?;
    drop(cores);
    let verdict = judge(&report.ledgers, RUN, server.cli().accepted_events()?)?;
    ensure!(story.peak_per_s > 0.0, "nobody was served in peace");
    Ok(conclude(drill, &story, &record, &report, verdict))
}

/// Of eight requests five read, two publish and one calls a function, of each device in turn: no server can ask a device more than 22 times a second for
/// long, because the device remembers message ids for 45 seconds.
fn plan(api: &Api, ids: &[DeviceId], callers: usize) -> CallersPlan {
    let json = "Content-Type: application/json\r\n";
    let request = |index: usize| -> Arc<[u8]> {
        let device = ids[index / KINDS];
        let text = match index % KINDS {
            0 => api.request("POST", &format!("/v1/devices/{device}/length"), "1.1", json, "{\"args\":\"four\"}"),
            1 | 2 => api.request("POST", "/v1/devices/events", "1.1", json, "{\"name\":\"rush\",\"data\":\"1\"}"),
            _ => api.request("GET", &format!("/v1/devices/{device}"), "1.1", "", ""),
        };
        text.into_bytes().into()
    };
    CallersPlan { server: api.address(), callers, requests: (0..ids.len() * KINDS).map(request).collect(), every: None }
}

/// With a wrong password, which costs as much as a right one and leaves no tokens behind.
fn logins(api: &Api) -> CallersPlan {
    let form = "grant_type=password&username=load@example.com&password=wrong-wrong&client_id=particle&client_secret=particle";
    let request: Arc<[u8]> =
        api.request("POST", "/oauth/token", "1.1", "Content-Type: application/x-www-form-urlencoded\r\n", form).into_bytes().into();
    let every = Duration::from_secs(1) * LOGGING_IN / LOGINS_PER_S;
    CallersPlan { server: api.address(), callers: LOGGING_IN as usize, requests: vec![request], every: Some(every) }
}

/// How many are served in a second, over so long.
fn rate(callers: &Callers, over: Duration) -> f64 {
    let (before, begun) = (callers.counts().served, Instant::now());
    thread::sleep(over);
    (callers.counts().served - before) as f64 / begun.elapsed().as_secs_f64()
}

/// How long it takes until as many are served again.
fn recovery(callers: &Callers, peak_per_s: f64) -> Option<Duration> {
    let begun = Instant::now();
    while begun.elapsed() < RECOVERY_LIMIT {
        let looked = begun.elapsed();
        if rate(callers, LOOK) * 100.0 >= peak_per_s * GOODPUT_LEAST_PERCENT as f64 {
            return Some(looked);
        }
    }
    None
}

fn sum(a: Counts, b: Counts) -> Counts {
    Counts {
        served: a.served + b.served,
        refused: a.refused + b.refused,
        others: a.others + b.others,
        unanswered: a.unanswered + b.unanswered,
    }
}

fn conclude(drill: &Overload, story: &Story, record: &Record, report: &FleetReport, verdict: Verdict) -> DrillReport {
    let (tally, connected) = (&report.tally, record.connected);
    let mut checks = vec![
        Check::equal("devices_connected", drill.bystanders.devices.into(), connected.connected),
        Check::equal("acknowledged_events_lost", 0, verdict.lost),
        Check::equal("events_accepted_twice", 0, verdict.twice),
        Check::equal("events_not_acknowledged", 0, verdict.unacknowledged + tally.left_out),
        Check::equal("handshakes_after_connecting", 0, tally.handshakes - connected.handshakes),
        Check::equal("requests_neither_served_nor_refused", 0, story.counts.others + story.counts.unanswered),
        Check::equal("logins_unanswered", 0, story.logins.unanswered),
        Check::at_least("logins_tried", 1, story.logins.others + story.logins.refused),
    ];
    if drill.timed {
        checks.push(Check::at_most("ack_p99_ms_rush", ACK_P99_MOST_MS, story.rush.p99_whole_ms().unwrap_or(u64::MAX)));
        checks.push(Check::at_least("goodput_percent_of_peak", GOODPUT_LEAST_PERCENT, story.goodput_percent()));
        checks.push(Check::at_most("recovery_ms", RECOVERY_MOST_MS, story.recovery_ms()));
    }
    let mut figures = drill.bystanders.figures(record);
    add_figures(&mut figures, drill, story);
    figures.insert("fleet".into(), report.figures());
    DrillReport::new(checks, figures)
}

fn add_figures(figures: &mut Map<String, Value>, drill: &Overload, story: &Story) {
    let mut note = |name: &str, value| figures.insert(name.to_owned(), value);
    note("callers", json!(drill.callers * TIMES));
    note("served_per_s_peak", json!(story.peak_per_s));
    note("served_per_s_rush", json!(story.rush_per_s));
    note("goodput_percent_of_peak", story.goodput_percent().into());
    note("recovery_ms", json!(story.recovery.map(|_| story.recovery_ms())));
    note("requests_served", story.counts.served.into());
    note("requests_refused", story.counts.refused.into());
    note("requests_of_other_ends", (story.counts.others + story.counts.unanswered).into());
    // A wrong password is another answer than 200.
    note("logins_checked", story.logins.others.into());
    note("logins_refused", story.logins.refused.into());
    note("ack_latency_ms_calm", json!(story.calm));
    note("ack_latency_ms_rush", json!(story.rush));
    note("caller_latency_ms_rush", json!(story.callers_rush));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{Moment, Tally};
    use std::collections::BTreeMap;

    fn failed(change: impl FnOnce(&mut Story)) -> Vec<&'static str> {
        let bystanders = Bystanders { devices: 9, every: LOOK, lasts: LOOK, threads: 1, seed: 1 };
        let drill = Overload { ground: Ground::default(), bystanders, callers: 4, peace: LOOK, timed: true };
        let mut story = Story { peak_per_s: 1000.0, rush_per_s: 800.0, recovery: Some(Duration::from_secs(5)), ..Story::default() };
        story.rush.record(Duration::from_millis(25));
        story.logins.others = 1;
        change(&mut story);
        let record = Record { connected: Moment { connected: 9, ..Moment::default() }, ..Record::default() };
        let report = FleetReport { tally: Tally::default(), parts: BTreeMap::new(), ledgers: Vec::new() };
        let report = conclude(&drill, &story, &record, &report, Verdict::default());
        report.checks.iter().filter(|check| !check.ok).map(|check| check.name).collect()
    }

    #[test]
    fn each_promise_is_judged_by_itself() {
        assert!(failed(|_| {}).is_empty());
        assert_eq!(failed(|story| story.rush_per_s = 799.0), ["goodput_percent_of_peak"]);
        assert_eq!(failed(|story| story.recovery = None), ["recovery_ms"]);
        assert_eq!(failed(|story| story.rush.record(Duration::from_millis(26))), ["ack_p99_ms_rush"]);
        assert_eq!(failed(|story| story.counts.unanswered = 1), ["requests_neither_served_nor_refused"]);
        assert_eq!(failed(|story| story.logins.others = 0), ["logins_tried"]);
    }
}
