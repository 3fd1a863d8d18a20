//! A fleet on real loopback sockets against a small cloud in this process: what it does, and whether it notices when the cloud does wrong.

mod mini_cloud;
mod stream_cloud;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use holdfast_load::drill::{Verdict, judge};
use holdfast_load::fleet::text::LOUD_NAME;
use holdfast_load::fleet::{Crew, Devices, Fleet, FleetPlan, FleetReport, Moment, Transport, Work};
use holdfast_load::keys::DeviceKeys;
use holdfast_load::loud::Loud;
use mini_cloud::{Fault, MiniCloud};
use stream_cloud::StreamCloud;

const DEVICES: u32 = 30;
/// On TCP, where there are such.
const TCP_DEVICES: u32 = 12;
const RUN: u32 = 7;
const OFTEN: Work = Work::Publish { every: Duration::from_millis(100) };
/// Nothing here takes a tenth of it.
const LIMIT: Duration = Duration::from_secs(60);

struct Scene {
    cloud: MiniCloud,
    stream_cloud: StreamCloud,
    devices: u64,
    fleet: Fleet,
}

impl Scene {
    fn new(work: Work, per_socket: usize, fault: Fault) -> Result<Self> {
        Self::with(DEVICES, 0, work, per_socket, fault)
    }

    /// So many devices on UDP, and so many on TCP.
    fn with(udp: u32, tcp: u32, work: Work, per_socket: usize, fault: Fault) -> Result<Self> {
        let keys = DeviceKeys::derive(udp, tcp, 1)?;
        let (cloud, stream_cloud) = (MiniCloud::start(&keys.udp, fault)?, StreamCloud::start(&keys.tcp)?);
        let crew = Crew {
            udp: (udp > 0).then_some(Devices { server: cloud.address, server_key: cloud.key, keys: keys.udp }),
            tcp: (tcp > 0).then_some(Devices { server: stream_cloud.address, server_key: stream_cloud.key, keys: keys.tcp }),
        };
        let plan = FleetPlan { crew, work, seed: 3, run: RUN, per_socket, audit: true, threads: 2, lasts: LIMIT * 2 };
        Ok(Self { cloud, stream_cloud, devices: u64::from(udp + tcp), fleet: Fleet::start(plan)? })
    }

    /// A fleet that publishes often, all of it connected.
    fn publishing(per_socket: usize, fault: Fault) -> Result<Self> {
        Self::publish(Self::new(OFTEN, per_socket, fault)?)
    }

    /// The same with devices of both kinds.
    fn mixed() -> Result<Self> {
        Self::publish(Self::with(DEVICES, TCP_DEVICES, OFTEN, 4, Fault::Nothing)?)
    }

    fn publish(scene: Self) -> Result<Self> {
        scene.until(|moment| moment.connected == scene.devices)?;
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
        let accepted = self.cloud.stop()?.into_iter().chain(self.stream_cloud.stop()?);
        let verdict = judge(&report.ledgers, RUN, accepted.map(Ok))?;
        Ok((report, verdict))
    }
}

#[test]
fn everything_published_is_accounted_for() -> Result<()> {
    for per_socket in [1, 7] {
        let scene = Scene::publishing(per_socket, Fault::Nothing)?;
        scene.until_acknowledged(300)?;
        let (FleetReport { tally, ledgers, .. }, verdict) = scene.end()?;
        assert_eq!(verdict, Verdict { accepted: tally.sent, ..Verdict::default() });
        assert_eq!((tally.connected, tally.handshakes, tally.handshakes_finished), (30, 30, 30));
        assert_eq!((tally.acknowledged, tally.failed, tally.open), (tally.sent, 0, 0));
        assert_eq!(ledgers.iter().map(|ledger| ledger.fates.len() as u64).sum::<u64>(), tally.sent);
        assert_eq!(tally.publish_latency.count(), tally.sent);
        assert!(tally.records_audited >= tally.sent && tally.records_unaudited == 0);
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
    scene.until(|moment| moment.sequences_repeated > 0)?;
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
    for talks in 1..=2 {
        scene.cloud.talk()?;
        scene.until(|moment| moment.events_received == 30 * talks)?;
    }
    scene.until_acknowledged(100)?;
    let (FleetReport { tally, ledgers, .. }, _) = scene.end()?;
    assert_eq!((tally.calls_answered, tally.events_received, tally.news_repeated), (60, 60, 30));
    assert!(ledgers.iter().all(|ledger| ledger.news == [0, 0, 2] && ledger.disconnects == 0), "the third of the news, twice");
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
fn devices_that_publish_on_have_one_publish_open_each_until_they_are_told_to_rest() -> Result<()> {
    let scene = Scene::new(Work::Publishes, 1, Fault::Nothing)?;
    scene.fleet.work(true)?;
    scene.until_acknowledged(500)?;
    assert!(scene.fleet.moment().open <= 30);
    let (FleetReport { tally, .. }, verdict) = scene.end()?;
    assert_eq!(verdict, Verdict { accepted: tally.sent, ..Verdict::default() });
    assert_eq!((tally.acknowledged, tally.failed), (tally.sent, 0));
    Ok(())
}

#[test]
fn a_mixed_fleet_is_accounted_for_by_transport_and_in_all() -> Result<()> {
    let scene = Scene::mixed()?;
    scene.cloud.talk()?;
    scene.stream_cloud.talk()?;
    let acknowledged = |transport| scene.fleet.moment_of(transport).acknowledged;
    scene.until(|_| acknowledged(Transport::Udp) >= 150 && acknowledged(Transport::Tcp) >= 150)?;
    let (report, verdict) = scene.end()?;
    let (tally, udp, tcp) = (&report.tally, &report.parts[&Transport::Udp], &report.parts[&Transport::Tcp]);
    assert_eq!(verdict, Verdict { accepted: tally.sent, ..Verdict::default() });
    for (part, devices) in [(udp, u64::from(DEVICES)), (tcp, u64::from(TCP_DEVICES)), (tally, u64::from(DEVICES + TCP_DEVICES))] {
        assert_eq!((part.connected, part.arrived, part.handshakes, part.handshakes_finished), (devices, devices, devices, devices));
        assert_eq!((part.acknowledged, part.failed, part.open), (part.sent, 0, 0));
        assert_eq!((part.calls_answered, part.events_received), (devices, devices));
        assert_eq!(part.publish_latency.count(), part.sent);
    }
    assert_eq!((udp.connections_made, tcp.connections_made, tcp.datagrams_sent), (0, u64::from(TCP_DEVICES), 0));
    assert!(tcp.bytes_sent > 0 && tcp.bytes_received > 0);
    let figures = report.figures();
    assert_eq!((&figures["connected"], &figures["udp"]["connected"], &figures["tcp"]["connected"]), (&42.into(), &30.into(), &12.into()));
    Ok(())
}

#[test]
fn devices_on_tcp_come_again_when_their_connections_end_and_others_do_not_notice() -> Result<()> {
    let scene = Scene::mixed()?;
    for cuts in 1..=3 {
        scene.until_acknowledged(100)?;
        scene.stream_cloud.cut()?;
        let tcp = || scene.fleet.moment_of(Transport::Tcp);
        scene.until(|_| tcp().handshakes == u64::from(TCP_DEVICES) * (cuts + 1) && tcp().connected == u64::from(TCP_DEVICES))?;
    }
    let (report, verdict) = scene.end()?;
    assert_eq!((verdict.lost, verdict.twice, verdict.unknown), (0, 0, 0));
    let tcp = &report.parts[&Transport::Tcp];
    assert_eq!((tcp.disconnects.values().sum::<u64>(), tcp.arrived), (3 * u64::from(TCP_DEVICES), u64::from(TCP_DEVICES)));
    assert_eq!(tcp.sent, tcp.acknowledged + tcp.failed);
    let udp = &report.parts[&Transport::Udp];
    assert_eq!((udp.handshakes, udp.acknowledged), (u64::from(DEVICES), udp.sent));
    Ok(())
}

#[test]
fn devices_on_tcp_handshake_or_ping_as_long_as_they_are_told_to() -> Result<()> {
    let scene = Scene::with(0, TCP_DEVICES, Work::Handshakes, 1, Fault::Nothing)?;
    scene.fleet.work(true)?;
    scene.until(|moment| moment.handshakes_finished >= 100)?;
    scene.fleet.work(false)?;
    scene.until(|moment| moment.handshakes == moment.handshakes_finished)?;
    assert_eq!(scene.fleet.stop()?.tally.connected, 0);
    let scene = Scene::with(0, TCP_DEVICES, Work::Pings, 1, Fault::Nothing)?;
    scene.fleet.work(true)?;
    scene.until(|moment| moment.connected == u64::from(TCP_DEVICES) && moment.pings_answered >= 500)?;
    let tally = scene.fleet.stop()?.tally;
    assert_eq!((tally.connected, tally.handshakes), (u64::from(TCP_DEVICES), u64::from(TCP_DEVICES)));
    Ok(())
}

#[test]
fn latencies_of_one_while_are_told_from_those_of_the_next() -> Result<()> {
    let scene = Scene::mixed()?;
    scene.until_acknowledged(100)?;
    let first = scene.fleet.take_latencies()?.count();
    assert!(first >= 100);
    scene.until_acknowledged(100)?;
    let second = scene.fleet.take_latencies()?.count();
    assert!(second > 0, "the fleet goes on working");
    let (FleetReport { tally, .. }, _) = scene.end()?;
    assert_eq!(first + second + tally.publish_latency.count(), tally.acknowledged);
    Ok(())
}

/// What a loud device of one transport sent, and how much of it came to its cloud.
fn shout(udp: u32, tcp: u32) -> Result<(u64, u64)> {
    const RATE_PER_S: u32 = 2000;
    let keys = DeviceKeys::derive(udp, tcp, 1)?;
    let (cloud, stream_cloud) = (MiniCloud::start(&keys.udp, Fault::Nothing)?, StreamCloud::start(&keys.tcp)?);
    let crew = Crew {
        udp: (udp > 0).then_some(Devices { server: cloud.address, server_key: cloud.key, keys: keys.udp }),
        tcp: (tcp > 0).then_some(Devices { server: stream_cloud.address, server_key: stream_cloud.key, keys: keys.tcp }),
    };
    let loud = Loud::start(crew, RATE_PER_S, 3, LIMIT)?;
    ensure!(loud.wait_connected(LIMIT) && loud.sent() == 0, "it is quiet until it is told");
    let begun = Instant::now();
    loud.shout(true)?;
    while loud.sent() < 300 {
        ensure!(begun.elapsed() < LIMIT, "it is not loud");
        std::thread::yield_now();
    }
    loud.shout(false)?;
    // Never more than was asked for, however slow this machine is.
    ensure!(u128::from(loud.sent()) <= begun.elapsed().as_millis() * u128::from(RATE_PER_S) / 1000 + 100, "{} is too much", loud.sent());
    let tally = loud.stop()?;
    assert_eq!((tally.handshakes, tally.connected, tally.sent), (1, 1, 0));
    let accepted = cloud.stop()?.into_iter().chain(stream_cloud.stop()?).filter(|event| event.name == LOUD_NAME).count();
    Ok((tally.shouted, accepted as u64))
}

#[test]
fn a_loud_device_sends_at_its_pace_until_it_is_told_to_be_quiet() -> Result<()> {
    let (sent, accepted) = shout(1, 0)?;
    assert!(accepted > 0 && accepted <= sent, "{accepted} of {sent}: datagrams may be lost");
    let (sent, accepted) = shout(0, 1)?;
    assert!(accepted > 0 && accepted <= sent, "{accepted} of {sent}: the last ones may be under way");
    assert!(shout(1, 1).is_err(), "one device is loud");
    Ok(())
}

#[test]
fn a_fleet_stays_on_its_machine() -> Result<()> {
    let keys = DeviceKeys::derive(1, 0, 1)?.udp;
    let udp = Devices { server: "192.0.2.1:5684".parse()?, server_key: *keys[0].pair.public(), keys };
    let plan = FleetPlan {
        crew: Crew { udp: Some(udp), tcp: None },
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
