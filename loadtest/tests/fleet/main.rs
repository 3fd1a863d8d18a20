//! A fleet on real loopback sockets against a small cloud in this process: what it does, and whether it notices when the cloud does wrong.

mod mini_cloud;

use std::time::Duration;

use anyhow::{Result, ensure};
use holdfast_load::drill::{Verdict, judge};
use holdfast_load::fleet::{Fleet, FleetPlan, FleetReport, Moment, Work};
use holdfast_load::keys;
use mini_cloud::{Fault, MiniCloud};

const DEVICES: u32 = 30;
const RUN: u32 = 7;
/// Nothing here takes a tenth of it.
const LIMIT: Duration = Duration::from_secs(60);

struct Scene {
    cloud: MiniCloud,
    fleet: Fleet,
}

impl Scene {
    fn new(work: Work, per_socket: usize, fault: Fault) -> Result<Self> {
        let keys = keys::derive(DEVICES, 1)?;
        let cloud = MiniCloud::start(&keys, fault)?;
        let fleet = Fleet::start(FleetPlan {
            server: cloud.address,
            server_key: cloud.key,
            keys,
            work,
            seed: 3,
            run: RUN,
            per_socket,
            audit: true,
            threads: 2,
            lasts: LIMIT * 2,
        })?;
        Ok(Self { cloud, fleet })
    }

    /// A fleet that publishes often, all of it connected.
    fn publishing(per_socket: usize, fault: Fault) -> Result<Self> {
        let scene = Self::new(Work::Publish { every: Duration::from_millis(100) }, per_socket, fault)?;
        scene.until(|moment| moment.connected == u64::from(DEVICES))?;
        scene.fleet.work(true)?;
        Ok(scene)
    }

    fn until(&self, done: impl Fn(Moment) -> bool) -> Result<()> {
        ensure!(self.fleet.wait(LIMIT, |_| {}, done), "this never came: {:?}", self.fleet.moment());
        Ok(())
    }

    /// Until so many more publishes are acknowledged.
    fn until_acknowledged(&self, more: u64) -> Result<()> {
        let before = self.fleet.moment().acknowledged;
        self.until(|moment| moment.acknowledged >= before + more)
    }

    fn end(self) -> Result<(FleetReport, Verdict)> {
        self.fleet.work(false)?;
        self.until(|moment| moment.open == 0)?;
        let report = self.fleet.stop()?;
        let accepted = self.cloud.stop()?;
        let verdict = judge(&report.ledgers, RUN, accepted.into_iter().map(Ok))?;
        Ok((report, verdict))
    }
}

#[test]
fn everything_published_is_accounted_for() -> Result<()> {
    for per_socket in [1, 7] {
        let scene = Scene::publishing(per_socket, Fault::Nothing)?;
        scene.until_acknowledged(300)?;
        let (FleetReport { tally, ledgers }, verdict) = scene.end()?;
        assert_eq!(verdict, Verdict { accepted: tally.sent, ..Verdict::default() });
        assert_eq!((tally.connected, tally.handshakes, tally.handshakes_finished), (30, 30, 30));
        assert_eq!((tally.acknowledged, tally.failed, tally.open), (tally.sent, 0, 0));
        assert_eq!(ledgers.iter().map(|ledger| ledger.fates.len() as u64).sum::<u64>(), tally.sent);
        assert_eq!(tally.publish_latency.count(), tally.sent);
        assert_eq!((tally.datagrams_unclaimed, tally.datagrams_refused), (0, 0));
        assert_eq!(tally.records_audited, tally.datagrams_received - 2 * u64::from(DEVICES), "all but two datagrams of each handshake");
    }
    Ok(())
}

#[test]
fn a_cloud_that_keeps_its_promises_can_be_killed_at_any_time() -> Result<()> {
    for per_socket in [1, 4] {
        let scene = Scene::publishing(per_socket, Fault::Nothing)?;
        for _ in 0..10 {
            scene.until_acknowledged(20)?;
            scene.cloud.kill()?;
        }
        let (FleetReport { tally, .. }, verdict) = scene.end()?;
        assert_eq!(verdict, Verdict { accepted: tally.sent, ..Verdict::default() });
        assert_eq!((tally.handshakes, tally.sequences_repeated, tally.wire_sequences_repeated), (30, 0, 0));
    }
    Ok(())
}

#[test]
fn record_numbers_used_twice_are_seen_by_the_device_and_on_the_wire() -> Result<()> {
    let scene = Scene::publishing(1, Fault::SameGeneration)?;
    scene.until_acknowledged(20)?;
    scene.cloud.kill()?;
    // Acknowledgements under old numbers are taken for replays: nothing more gets through, but it is seen.
    scene.fleet.wait(Duration::from_millis(500), |_| {}, |_| false);
    let report = scene.fleet.stop()?;
    assert!(report.tally.sequences_repeated > 0 && report.tally.wire_sequences_repeated > 0, "{:?}", report.tally);
    Ok(())
}

#[test]
fn lost_and_doubled_events_are_found() -> Result<()> {
    for fault in [Fault::LosesEvents, Fault::DoublesEvents] {
        let scene = Scene::publishing(1, fault)?;
        scene.until_acknowledged(300)?;
        let (_, verdict) = scene.end()?;
        assert_eq!((verdict.lost > 0, verdict.twice > 0), (fault == Fault::LosesEvents, fault == Fault::DoublesEvents), "{verdict:?}");
        assert_eq!((verdict.unknown, verdict.unacknowledged), (0, 0));
    }
    Ok(())
}

#[test]
fn devices_answer_calls_and_receive_events() -> Result<()> {
    let scene = Scene::publishing(5, Fault::Nothing)?;
    scene.cloud.talk()?;
    scene.until_acknowledged(100)?;
    let (FleetReport { tally, .. }, _) = scene.end()?;
    assert_eq!((tally.calls_answered, tally.events_received), (30, 30));
    Ok(())
}

#[test]
fn fleets_that_only_handshake_or_ping_do_so_as_long_as_they_are_told_to() -> Result<()> {
    for per_socket in [1, 10] {
        let scene = Scene::new(Work::Handshakes, per_socket, Fault::Nothing)?;
        scene.fleet.work(true)?;
        scene.until(|moment| moment.handshakes_finished >= 200)?;
        scene.fleet.work(false)?;
        scene.until(|moment| moment.handshakes == moment.handshakes_finished)?;
        let tally = scene.fleet.stop()?.tally;
        assert_eq!((tally.connected, tally.wire_sequences_repeated), (0, 0));
    }
    let scene = Scene::new(Work::Pings, 1, Fault::Nothing)?;
    scene.fleet.work(true)?;
    scene.until(|moment| moment.pings_answered >= 1000)?;
    let tally = scene.fleet.stop()?.tally;
    assert_eq!((tally.connected, tally.handshakes), (30, 30));
    Ok(())
}

#[test]
fn a_fleet_stays_on_its_machine() -> Result<()> {
    let keys = keys::derive(1, 1)?;
    let plan = FleetPlan {
        server: "192.0.2.1:5684".parse()?,
        server_key: *keys[0].pair.public(),
        keys,
        work: Work::Pings,
        seed: 1,
        run: 1,
        per_socket: 1,
        audit: false,
        threads: 1,
        lasts: LIMIT,
    };
    assert!(Fleet::start(plan).is_err());
    Ok(())
}
