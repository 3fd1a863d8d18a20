//! What is to be said of the drill in the end.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::super::bystanders::RUN;
use super::super::judge::judge;
use super::accounts::{Accepted, Account};
use super::cast::{Cast, Role, Tenant};
use super::notices::Said;
use super::{Span, Story, WebhooksDrill};
use crate::fleet::{FleetReport, Ledger};
use crate::hooks::{Arrival, Book, HookView};
use crate::report::{Check, DrillReport};
use crate::server::Server;
use crate::stats::{Latencies, median};

/// With others that are sick, 99 of 100 deliveries take at most twice as long as without, or so long, in milliseconds.
const P99_TIMES: u64 = 2;
const P99_MOST_MS: u64 = 2_000;
/// Owners are told after two minutes; a failure is one when the first attempt has taken its time.
const TOLD_MOST: Duration = Duration::from_secs(150);
/// The last events of a span are delivered after it.
const LATE_MS: u64 = 2_000;
/// Hooks of which something waits for the cure: all that are sick, but the slow one, which may have caught up, and the one that is gone.
const WAITING_LEAST: u64 = 5;

/// All that is judged of receivers.
#[derive(Default)]
struct Served {
    /// Those that are well, the flooded one too.
    well: Account,
    replay: Account,
    wrong_signatures: u64,
    calm: Latencies,
    sick: Latencies,
    kills: Latencies,
    flooded: Latencies,
    /// Hooks whose numbers do not tell what happened.
    not_adding_up: u64,
}

pub(super) fn conclude(drill: &WebhooksDrill, server: &Server, cast: &Cast, story: &Story, reports: &[FleetReport]) -> Result<DrillReport> {
    let ledgers: Vec<Ledger> = reports.iter().flat_map(|report| report.ledgers.clone()).collect();
    let verdict = judge(&ledgers, RUN, server.cli().accepted_events()?)?;
    let accepted = Accepted::read(server.cli().accepted_events()?)?;
    let served = served(cast, story, &accepted);
    let devices = cast.tenants.iter().map(|tenant| tenant.devices.len() as u64).sum();
    let mut checks = vec![
        Check::equal("devices_connected", devices, story.connected),
        Check::equal("acknowledged_events_lost", 0, verdict.lost),
        Check::equal("events_accepted_twice", 0, verdict.twice),
        Check::at_least("events_accepted", 1, verdict.accepted),
        Check::equal("healthy_destinations_drained", 1, story.drained.into()),
    ];
    checks.extend(of_receivers(drill, story, &served));
    checks.extend(of_owners(drill, cast, story));
    let mut figures = figures(drill, story, &served);
    figures.insert("events_accepted".into(), verdict.accepted.into());
    figures.insert("sick".into(), Value::Object(sick_ones(cast, story)));
    Ok(DrillReport::new(checks, figures))
}

fn served(cast: &Cast, story: &Story, accepted: &Accepted) -> Served {
    let mut served = Served::default();
    for (index, tenant) in cast.tenants.iter().enumerate() {
        let book = tenant.desk.book();
        served.not_adding_up += u64::from(!tells(tenant, &book, &story.after[index], accepted.of(&tenant.devices)));
        if Role::SICK.contains(&tenant.role) {
            continue;
        }
        served.well.add(accepted.account(&tenant.devices, &book.arrivals, &story.outages));
        served.wrong_signatures += book.wrong + book.strange;
        let latencies = [(&mut served.calm, story.calm), (&mut served.sick, story.sick), (&mut served.kills, story.kills)];
        if tenant.role == Role::Flooded {
            record(&mut served.flooded, story.sick, &book.arrivals);
        } else {
            latencies.into_iter().for_each(|(latencies, span)| record(latencies, span, &book.arrivals));
        }
        if index == 0 {
            served.replay = accepted.replayed(&book.arrivals, story.replay.from, story.replay.before);
        }
    }
    served
}

/// Whether the numbers of a hook are what its receiver and the journal say too.
fn tells(tenant: &Tenant, book: &Book, view: &HookView, events: u64) -> bool {
    let came: HashSet<_> = book.arrivals.iter().filter(|arrival| !arrival.is_replay).map(|arrival| arrival.event).collect();
    // The hook of one that is gone is disabled, and accepts nothing more.
    let is_all = view.accepted() == events || (tenant.role == Role::Gone && view.accepted() < events);
    view.adds_up() && is_all && view.delivered() <= came.len() as u64
}

/// How long deliveries took of what was accepted in a span, but for its last moments.
fn record(latencies: &mut Latencies, span: Span, arrivals: &[Arrival]) {
    let span = span.from.0..span.before.0.saturating_sub(LATE_MS);
    for arrival in arrivals.iter().filter(|arrival| !arrival.is_replay && span.contains(&arrival.accepted.0)) {
        latencies.record(Duration::from_millis(arrival.at.0.saturating_sub(arrival.accepted.0)));
    }
}

fn of_receivers(drill: &WebhooksDrill, story: &Story, served: &Served) -> Vec<Check> {
    let Served { well, replay, .. } = served;
    let mut checks = vec![
        Check::equal("deliveries_lost", 0, well.missing()),
        Check::equal("deliveries_of_nothing_accepted", 0, well.unknown),
        Check::equal("deliveries_out_of_order", 0, well.disordered),
        Check::equal("deliveries_renamed", 0, well.renamed),
        Check::equal("signatures_wrong", 0, served.wrong_signatures),
        Check::equal("repeats_without_a_kill", 0, well.unexplained),
        Check::at_least("replayed", 1, replay.came),
        Check::equal("replay_missing", 0, replay.missing()),
        Check::equal("replay_out_of_order", 0, replay.disordered),
        Check::equal("replay_renamed", 0, replay.renamed),
        Check::equal("replay_of_nothing_asked_for", 0, replay.unknown),
        Check::equal("hooks_not_adding_up", 0, served.not_adding_up),
        Check::equal("kills", drill.kills.into(), story.outages.len() as u64),
    ];
    if drill.timed {
        let calm = served.calm.p99_whole_ms().unwrap_or(u64::MAX);
        let most = P99_MOST_MS.max(calm.saturating_mul(P99_TIMES));
        checks.push(Check::at_most("healthy_p99_ms", most, served.sick.p99_whole_ms().unwrap_or(u64::MAX)));
    }
    checks
}

fn of_owners(drill: &WebhooksDrill, cast: &Cast, story: &Story) -> Vec<Check> {
    let of = |role| cast.tenants.iter().position(|tenant| tenant.role == role);
    let is_gone_disabled = of(Role::Gone).is_some_and(|gone| story.before[gone].state == "disabled");
    let waiting = cast.tenants.iter().zip(&story.before).filter(|(tenant, view)| Role::SICK.contains(&tenant.role) && view.pending() > 0);
    let mut checks = vec![
        Check::equal("gone_hooks_disabled", 1, is_gone_disabled.into()),
        Check::at_least("sick_hooks_with_something_pending", WAITING_LEAST, waiting.count() as u64),
        Check::equal("sick_hooks_served_after_the_cure", Role::SICK.len() as u64 - 1, story.cured.len() as u64),
        Check::equal("notices_not_signed", 0, story.said.values().map(|said| said.wrong).sum()),
    ];
    // One that has failed for less than two minutes is nothing to be told of.
    if drill.sick() > TOLD_MOST {
        let told = told(story).into_iter().filter(|(_, after)| after.is_some_and(|after| after <= TOLD_MOST)).count();
        checks.push(Check::equal("owners_told_in_time", story.said.len() as u64, told as u64));
    }
    checks
}

/// How long after they were there the owners of those who fail were told.
fn told(story: &Story) -> Vec<(Role, Option<Duration>)> {
    let after = |said: &Said| Some(Duration::from_millis(said.at()?.0.saturating_sub(story.sick.from.0)));
    story.said.iter().map(|(role, said)| (*role, after(said))).collect()
}

fn figures(drill: &WebhooksDrill, story: &Story, served: &Served) -> Map<String, Value> {
    let mut figures = Map::new();
    let mut note = |name: &str, value| figures.insert(name.to_owned(), value);
    note("devices_each", drill.devices_each.into());
    note("seconds", json!(drill.lasts.as_secs()));
    note("seed", drill.seed.into());
    note("deliveries", served.well.came.into());
    note("repeats", served.well.repeats.into());
    note("in_flight_at_kills", story.in_flight.iter().sum::<u64>().into());
    note("replayed", served.replay.came.into());
    note("replayed_twice", served.replay.repeats.into());
    note("restart_ms_median", json!(median(&story.restarts_ms)));
    note("healthy_latency_ms_calm", json!(served.calm));
    note("healthy_latency_ms_sick", json!(served.sick));
    note("healthy_latency_ms_kills", json!(served.kills));
    note("flooded_latency_ms", json!(served.flooded));
    figures
}

/// By what they are called.
fn sick_ones(cast: &Cast, story: &Story) -> Map<String, Value> {
    let told = told(story);
    let views = story.before.iter().zip(&story.after);
    let sick = cast.tenants.iter().zip(views).filter(|(tenant, _)| Role::SICK.contains(&tenant.role));
    let one = |(tenant, (before, after)): (&Tenant, (&HookView, &HookView))| {
        let after_s = told.iter().find(|(role, _)| *role == tenant.role).and_then(|(_, after)| Some(after.as_ref()?.as_secs()));
        let one = json!({
            "state": before.state, "accepted": before.accepted(), "delivered": before.delivered(), "pending": before.pending(),
            "given_up": before.given_up(), "delivered_after_the_cure": after.delivered(), "pending_after_the_cure": after.pending(),
            "requests": tenant.desk.book().requests, "told_after_s": after_s,
        });
        (tenant.role.name().to_owned(), one)
    };
    sick.map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use firmware_protocol::time::UnixMillis;
    use std::collections::BTreeMap;

    fn drill() -> WebhooksDrill {
        WebhooksDrill {
            ground: super::super::Ground::default(),
            devices_each: 1,
            every: Duration::from_secs(1),
            lasts: Duration::from_secs(600),
            kills: 0,
            window: Duration::from_secs(600),
            seed: 1,
            timed: true,
        }
    }

    fn failed(change: impl FnOnce(&mut Served)) -> Vec<&'static str> {
        let mut served = Served { replay: Account { events: 3, came: 3, ..Account::default() }, ..Served::default() };
        served.calm.record(Duration::from_millis(5));
        served.sick.record(Duration::from_secs(2));
        change(&mut served);
        of_receivers(&drill(), &Story::default(), &served).iter().filter(|check| !check.ok).map(|check| check.name).collect()
    }

    #[test]
    fn each_promise_is_judged_by_itself() {
        assert!(failed(|_| {}).is_empty());
        assert_eq!(failed(|served| served.well.events = 1), ["deliveries_lost"]);
        assert_eq!(failed(|served| served.well.unexplained = 1), ["repeats_without_a_kill"]);
        assert!(failed(|served| served.well.repeats = 9).is_empty());
        assert_eq!(failed(|served| served.replay.came = 2), ["replay_missing"]);
        assert_eq!(failed(|served| served.sick.record(Duration::from_millis(2_001))), ["healthy_p99_ms"]);
        assert!(failed(|served| served.calm.record(Duration::from_secs(9))).is_empty());
    }

    #[test]
    fn latencies_are_of_what_was_accepted_in_a_span() {
        let event = crate::fleet::text::EventText { device: firmware_protocol::id::DeviceId([1; 12]), run: RUN, count: 0 };
        let id = crate::hooks::MessageId::of(1, 0);
        let arrival =
            |accepted, at| Arrival { event, id, accepted: UnixMillis(accepted), at: UnixMillis(at), attempt: 1, is_replay: false };
        let (mut latencies, span) = (Latencies::default(), Span { from: UnixMillis(1_000), before: UnixMillis(9_000) });
        record(&mut latencies, span, &[arrival(999, 1_000), arrival(1_000, 1_007), arrival(6_999, 20_000), arrival(7_000, 7_001)]);
        assert_eq!((latencies.count(), latencies.p99_whole_ms()), (2, Some(13_001)));
    }

    #[test]
    fn an_owner_is_told_after_the_hook_began_to_fail() {
        let said =
            |at: Option<u64>| Said { first: at.into_iter().map(|at| ("webhook.failing".to_owned(), UnixMillis(at))).collect(), wrong: 0 };
        let story = Story {
            said: BTreeMap::from([(Role::Silent, said(Some(125_000))), (Role::Gone, said(None))]),
            sick: Span { from: UnixMillis(5_000), before: UnixMillis(9_000) },
            ..Story::default()
        };
        assert_eq!(told(&story), [(Role::Silent, Some(Duration::from_secs(120))), (Role::Gone, None)]);
    }
}
