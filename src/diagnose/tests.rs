//! Tables: for each incident, what is known then and which cause comes first.

use std::fs;
use std::path::Path;

use firmware_protocol::id::{DeviceId, OwnerId};
use firmware_protocol::time::{Millis, UnixMillis};
use router::progress::{Part, Stage};
use router::verdict::State;

use super::*;
use crate::changes::{Before, Change};
use crate::store::registry::Trouble;
use crate::terminators::{Refusals, Who};

/// The server has been up for so long when somebody asks.
const UP_S: u64 = 300;
const NOON: u64 = 1_800_000_000_000;

/// A server that has been up for five minutes, since an unrelated and orderly restart, and to which things happen.
struct World {
    evidence: Evidence,
    changes: Vec<Change>,
}

fn now() -> Now {
    Now { at: Millis(UP_S * 1000), unix: UnixMillis(NOON) }
}

/// Every part with a heartbeat of a moment ago.
fn healthy_parts() -> Vec<PartEvidence> {
    let shards = (0..16).map(Part::Shard);
    let parts = [Part::Journal, Part::FanOut, Part::Api, Part::Terminator(0), Part::Terminator(1)].into_iter().chain(shards);
    let progress = |part: Part| part.stages().iter().map(|stage| (*stage, Some(Duration::from_millis(200)))).collect();
    parts
        .map(|part| PartEvidence { part, state: State::Healthy, stage: None, lasts: Duration::from_secs(UP_S), progress: progress(part) })
        .collect()
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            evidence: Evidence {
                parts: healthy_parts(),
                samples: (0..=UP_S / 5).map(|n| Sample::empty(Millis(n * 5_000))).collect(),
                judged_ago: Duration::from_millis(80),
                disk: Some(Room { free: 50 << 30, total: 100 << 30 }),
                processor_pressure: Some(3.0),
                ..Evidence::default()
            },
            changes: Vec::new(),
        };
        let started = |before| What::Started { version: "0.1.0".into(), revision: "x".into(), config: "y".into(), before };
        world.changed(5_000, started(Before::None));
        world.changed(UP_S + 1, What::Stopped);
        world.changed(UP_S, started(Before::Stopped));
        // What a quiet fleet does all the time.
        world
            .rises(Measure::Messages, UP_S, 50.0)
            .rises(Measure::Acknowledged, UP_S, 50.0)
            .rises(Measure::Commits, UP_S, 40.0)
            .rises(Measure::CommitSeconds, UP_S, 0.08)
            .rises(Measure::Proved, UP_S, 0.1)
            .rises(Measure::Begun, UP_S, 0.1)
            .is(Measure::RegistryUp, UP_S, 1.0)
            .is(Measure::Sessions, UP_S, 1_000.0)
    }

    /// Something changed so many seconds ago.
    fn changed(&mut self, ago_s: u64, what: What) {
        self.changes.push(Change { at_ms: NOON - ago_s * 1000, what });
        self.changes.sort_by_key(|change| change.at_ms);
    }

    fn with_change(mut self, ago_s: u64, what: What) -> Self {
        self.changed(ago_s, what);
        self
    }

    fn with_setting(self, ago_s: u64, key: &str, from: &str, to: &str) -> Self {
        self.with_change(ago_s, What::Setting { key: key.into(), from: Some(from.into()), to: Some(to.into()) })
    }

    /// A counter rises by so much in a second, since so many seconds.
    fn rises(mut self, measure: Measure, since_s: u64, per_s: f64) -> Self {
        let began = (UP_S - since_s) * 1000;
        for sample in &mut self.evidence.samples {
            let rose = sample.at.since(Millis(began)).as_secs_f64() * per_s;
            *sample = sample.with(measure, sample.value(measure) + rose);
        }
        self
    }

    /// A gauge shows this, since so many seconds.
    fn is(mut self, measure: Measure, since_s: u64, value: f64) -> Self {
        let began = Millis((UP_S - since_s) * 1000);
        for sample in self.evidence.samples.iter_mut().filter(|sample| sample.at >= began) {
            *sample = sample.with(measure, value);
        }
        self
    }

    /// A thread passes no heartbeat on in a stage, since so many seconds.
    fn stands(mut self, part: Part, stage: Stage, since_s: f64) -> Self {
        let stood = self.evidence.parts.iter_mut().find(|other| other.part == part).unwrap();
        let since = Duration::from_secs_f64(since_s);
        stood.state = if since_s >= 2.25 { State::Stalled } else { State::Slow };
        (stood.stage, stood.lasts) = (Some(stage), Duration::from_millis(300));
        stood.progress.iter_mut().skip_while(|(other, _)| *other != stage).for_each(|(_, ago)| *ago = Some(since));
        self
    }

    fn refuses(mut self, loud: Who, share: u64) -> Self {
        self.evidence.noisy = vec![Refusals { who: loud, count: share }];
        let others = (0..10).map(|n| Refusals { who: Who::Device(DeviceId([n + 1; 12])), count: (100 - share) / 10 });
        self.evidence.noisy.extend(others.filter(|line| line.count > 0));
        self
    }

    fn causes(mut self) -> Vec<Cause> {
        self.evidence.changes = self.changes;
        diagnose(now(), &self.evidence)
    }
}

const LOUD: Who = Who::Device(DeviceId([0xee; 12]));

fn bad_key_import() -> World {
    World::new()
        .with_change(50, What::DevicesRemoved { count: 200 })
        .with_change(45, What::DevicesAdded { count: 200 })
        .rises(Measure::UnknownKeys, 40, 4.0)
        .rises(Measure::Begun, 40, 4.0)
}

fn frozen_shard() -> World {
    World::new().stands(Part::Shard(3), Stage::Apply, 2.9)
}

fn slow_store() -> World {
    World::new().rises(Measure::CommitSeconds, 30, 38.0).rises(Measure::Unkept, 10, 1.0)
}

fn full_disk() -> World {
    World::new().is(Measure::Degraded, 20, 1.0).rises(Measure::JournalRefused, 20, 50.0).rises(Measure::Unkept, 20, 50.0)
}

fn storm() -> World {
    World::new().is(Measure::Waiting, 15, 8_000.0).rises(Measure::Begun, 15, 400.0).rises(Measure::Proved, 15, 395.0)
}

fn noisy_device() -> World {
    World::new().rises(Measure::OverDevice, 25, 300.0).refuses(LOUD, 98)
}

fn clock_step() -> World {
    World::new().with_change(20, What::ClockStepped { by_ms: 3_600_000 })
}

fn registry_gone() -> World {
    let mut world = World::new().is(Measure::RegistryUp, 12, 0.0).rises(Measure::RegistryErrors, 12, 1.0);
    world.evidence.registry = Some(Trouble::Gone);
    world
}

fn stuck_terminator() -> World {
    World::new().stands(Part::Terminator(1), Stage::Output, 2.5)
}

fn config_change() -> World {
    World::new().with_setting(UP_S, "limits.device_events_per_s", "20", "1").rises(Measure::OverDevice, UP_S - 10, 40.0).refuses(LOUD, 8)
}

/// The ten incidents that are to be told apart.
fn incidents() -> [(&'static str, World, Kind); 10] {
    [
        ("bad key import", bad_key_import(), Kind::BadKeys),
        ("frozen shard", frozen_shard(), Kind::FrozenShard),
        ("slow store", slow_store(), Kind::SlowStore),
        ("full disk", full_disk(), Kind::FullDisk),
        ("storm", storm(), Kind::Storm),
        ("noisy device", noisy_device(), Kind::NoisyDevice),
        ("clock step", clock_step(), Kind::ClockStep),
        ("registry gone", registry_gone(), Kind::RegistryGone),
        ("stuck terminator", stuck_terminator(), Kind::StuckTerminator),
        ("config change", config_change(), Kind::ConfigChange),
    ]
}

fn told(causes: &[Cause]) -> Vec<(Kind, u8, &str)> {
    causes.iter().map(|cause| (cause.kind, cause.score, cause.sentence.as_str())).collect()
}

#[test]
fn each_incident_comes_first_within_minutes_of_an_unrelated_restart() {
    for (name, world, kind) in incidents() {
        let causes = world.causes();
        assert_eq!(causes[0].kind, kind, "{name}: {:#?}", told(&causes));
        assert!(causes[0].score >= WRONG && causes.iter().all(|cause| !cause.because.is_empty() && !cause.against.is_empty()), "{name}");
        let restart = causes.iter().find(|cause| cause.kind == Kind::Restart).unwrap();
        assert!(restart.score < WRONG, "{name}: {restart:?}");
    }
}

#[test]
fn each_incident_comes_first_beside_harmless_changes_and_a_server_that_was_killed() {
    for (name, world, kind) in incidents() {
        let mut world = world.with_setting(UP_S, "log.filter", "info", "debug").with_change(4_000, What::DevicesAdded { count: 10 });
        let started = world.changes.iter_mut().rev().find(|change| matches!(change.what, What::Started { .. })).unwrap();
        if let What::Started { before, .. } = &mut started.what {
            *before = Before::Killed;
        }
        let causes = world.causes();
        assert_eq!(causes[0].kind, kind, "{name}: {:#?}", told(&causes));
    }
}

#[test]
fn nothing_is_wrong_if_nothing_is_whatever_was_changed() {
    let quiet = World::new;
    let changed = World::new()
        .with_change(30, What::DevicesAdded { count: 5_000 })
        .with_setting(UP_S, "limits.device_events_per_s", "20", "1")
        .with_change(3_000, What::ClockStepped { by_ms: 3_600_000 });
    for (name, world) in
        [("quiet", quiet()), ("changed", changed), ("no samples", World { evidence: Evidence::default(), changes: Vec::new() })]
    {
        let causes = world.causes();
        assert_eq!(causes[0].kind, Kind::Nothing, "{name}: {:#?}", told(&causes));
        assert!(causes[1..].iter().all(|cause| cause.score < WRONG), "{name}: {:#?}", told(&causes));
    }
}

#[test]
fn a_restart_is_named_with_how_likely_it_is() {
    let restart = |world: World| world.causes().into_iter().find(|cause| cause.kind == Kind::Restart).unwrap();
    let before = restart(
        World::new()
            .is(Measure::Degraded, UP_S, 1.0)
            .with_change(30, What::Started { version: "0.1.0".into(), revision: "x".into(), config: "y".into(), before: Before::Stopped }),
    );
    assert!(before.score < 10 && before.against.contains("began before it"), "{before:?}");
    let on_it = restart(World::new().rises(Measure::OverDevice, UP_S - 5, 40.0).refuses(LOUD, 99));
    assert!((30..WRONG).contains(&on_it.score) && on_it.because.contains("after the start"), "{on_it:?}");
    let later = restart(noisy_device());
    assert!(later.score < on_it.score && later.against.contains("long after"), "{later:?}");
}

#[test]
fn what_a_process_said_last_names_the_thread() {
    for (words, kind) in [
        ("holdfast: shard-3 has stalled in apply; ending the process, sessions go on after a restart", Kind::FrozenShard),
        ("holdfast: terminator-1 has stalled in output; ending the process, sessions go on after a restart", Kind::StuckTerminator),
        ("holdfast: the watchdog has stalled; ending the process, sessions go on after a restart", Kind::StuckThread),
    ] {
        let before = Before::Died { at_ms: NOON - 9_000, words: words.to_owned() };
        let started = What::Started { version: "0.1.0".into(), revision: "x".into(), config: "y".into(), before };
        let causes = World::new().with_change(8, started).causes();
        assert_eq!(causes[0].kind, kind, "{:#?}", told(&causes));
        assert!(causes[0].sentence.contains("stalled"), "{}", causes[0].sentence);
    }
}

#[test]
fn what_follows_from_something_else_comes_after_it() {
    let mut disk = full_disk().is(Measure::RegistryUp, 20, 0.0);
    disk.evidence.registry = Some(Trouble::Full);
    let hangs = World::new().stands(Part::Journal, Stage::Commit, 6.0).stands(Part::FanOut, Stage::Read, 6.0);
    let mut overloaded = World::new();
    for part in healthy_parts() {
        overloaded = overloaded.stands(part.part, *part.part.stages().last().unwrap(), 1.8);
    }
    let import_storm = bad_key_import().is(Measure::Waiting, 20, 300.0);
    let pace = storm().with_setting(60, "handshakes.per_second", "unlimited", "5");
    let account = World::new().rises(Measure::OverAccount, 25, 300.0).refuses(Who::Account(OwnerId(7)), 100);
    let alone = World::new().with_setting(UP_S, "limits.device_events_per_s", "20", "10").rises(Measure::OverDevice, UP_S - 10, 2_000.0);
    let twice_as_much = World::new().with_setting(UP_S, "limits.device_events_per_s", "20", "5").rises(Measure::OverDevice, UP_S - 10, 5.0);
    let lost = World::new().with_change(UP_S + 5, What::Restored { made_at: "yesterday".into() }).rises(Measure::Orphaned, UP_S - 5, 2.0);
    let own_key = World::new().with_change(UP_S + 1, What::KeysMade).rises(Measure::Unfinished, 100, 2.0);
    for (name, world, kind) in [
        ("a full disk stops the registry", disk, Kind::FullDisk),
        ("a disk that hangs stops journal and fan-out", hangs, Kind::SlowStore),
        ("everything is late", overloaded, Kind::Machine),
        ("those with wrong keys are many", import_storm, Kind::BadKeys),
        ("a lower pace lets them wait", pace, Kind::ConfigChange),
        ("an account is loud", account, Kind::NoisyDevice),
        ("a device that is loud whatever the limit", alone.refuses(LOUD, 99), Kind::NoisyDevice),
        ("a device that the old limit allowed", twice_as_much.refuses(LOUD, 99), Kind::ConfigChange),
        ("a backup was too old", lost, Kind::LostSessions),
        ("the server has new keys", own_key, Kind::BadKeys),
        ("a shard is gray", World::new().is(Measure::GrayShards, 10, 1.0), Kind::GrayShard),
        ("the machine was paused", World::new().with_change(10, What::Paused { for_ms: 4_000 }), Kind::Machine),
        (
            "a shard was taken over",
            World::new().with_change(10, What::TakenOver { part: "shard-3".into(), stage: "apply".into() }),
            Kind::FrozenShard,
        ),
    ] {
        let causes = world.causes();
        assert_eq!(causes[0].kind, kind, "{name}: {:#?}", told(&causes));
    }
}

#[test]
fn every_cause_has_a_page_that_is_there() {
    for kind in Kind::ALL {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join(kind.runbook());
        assert!(fs::exists(&page).unwrap(), "{kind:?}: {}", page.display());
    }
}

#[test]
fn who_noticed_first_and_how_long_before_it_changes_were_is_told() {
    let mut world = frozen_shard().is(Measure::Degraded, 40, 1.0);
    world.evidence.changes = world.changes;
    let status = crate::control::Status::new(now(), "hash", &crate::watchdog::Bulletin::new(), router::event::Position(1));
    let diagnosis = Diagnosis::new(now(), status, &world.evidence);
    assert!(diagnosis.wrong);
    assert_eq!(diagnosis.causes[0].cause, "full disk");
    let noticed = diagnosis.noticed.unwrap();
    assert_eq!((noticed.by.as_str(), noticed.cause.as_str(), noticed.since_ms), ("the journal's thread", "full disk", 45_000));
    let start = &diagnosis.changes[0];
    assert_eq!((start.ago_ms, start.before_onset_ms), (UP_S * 1000, Some((UP_S as i64 - 45) * 1000)));
    assert!(diagnosis.rates.iter().any(|rate| rate.what == "messages of devices" && rate.now == 3_000), "{:?}", diagnosis.rates);
    let line = serde_json::to_string(&diagnosis.causes[1]).unwrap();
    assert!(line.contains("\"for\":") && line.contains("\"against\":"), "{line}");
}

#[test]
fn spans_are_for_people() {
    for (ms, words) in [(2_140, "2.1 s"), (9_999, "10.0 s"), (45_000, "45 s"), (600_000, "10 min"), (86_400_000, "24 h")] {
        assert_eq!(span(Duration::from_millis(ms)), words);
    }
}
