//! A shard whose thread stands still, and another that takes its devices over: sessions go on, what was accepted is there once, and what the old thread
//! still says counts for nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use firmware_protocol::crypto::DeviceKeyPair;
use firmware_protocol::device::DeviceEvent;
use firmware_protocol::id::DeviceId;
use holdfast::api::gateway::{CallError, Gateway, PublishError};
use holdfast::gateway::Devices;
use holdfast::shards::shard_of;
use holdfast::streams::{EventStream, Item};
use router::ask::{Answer, Ask};
use router::event::{Audience, NewEvent, Source};

use crate::device_driver::{Driver, id};
use crate::drive::Drive;
use crate::sessions::{Running, next_event};
use crate::tcp_driver::TcpDriver;

const SHARDS: usize = 4;
/// The shard that stalls. It is not the one by which the account publishes.
const SICK: usize = 2;
const PATIENCE: Duration = Duration::from_secs(20);
/// From a standstill until its devices are served again.
const SERVED_WITHIN: Duration = Duration::from_secs(8);

/// The `nth` device that is in this shard.
fn device_of(shard: usize, nth: usize) -> u8 {
    (1..=200).filter(|n| shard_of(id(*n), SHARDS) == shard).nth(nth).unwrap()
}

struct World {
    running: Running,
    gateway: Arc<Devices>,
    _directory: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let running = Running::start(directory.path(), "127.0.0.1:0").await;
        running.plane.watch().bulletin.arm();
        let gateway = Arc::new(Devices::new(running.plane.handle(), running.opened.metrics.calls()));
        Self { running, gateway, _directory: directory }
    }

    /// Device `n`, connected.
    async fn device(&self, n: u8) -> Driver {
        self.running.register(n).await;
        let mut driver = Driver::new(n, self.running.plane.udp(), self.running.server_key());
        driver.connect();
        driver.run_for(Duration::from_millis(300));
        driver
    }

    fn fault(&self, line: &str) {
        self.running.plane.watch().faults.perform(line).unwrap();
    }

    fn metric(&self, series: &str) -> u64 {
        let text = self.running.opened.metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix(series)).unwrap_or_else(|| panic!("no {series} in {text}"));
        line.trim().parse().unwrap()
    }

    fn stream(&self, prefix: &str) -> EventStream {
        self.running.stream(Audience::Owner(self.running.owner), prefix)
    }

    fn news(&self, name: &str) -> NewEvent {
        let owner = self.running.owner;
        NewEvent { owner, product: None, source: Source::Api, name: name.into(), content_format: 0, data: None, ttl_s: 60 }
    }

    /// Calls a function of a device, and says how long that took.
    fn call(&self, device: DeviceId) -> tokio::task::JoinHandle<(Result<i32, CallError>, Duration)> {
        let (gateway, began) = (Arc::clone(&self.gateway), Instant::now());
        tokio::spawn(async move {
            let answer = gateway.call(device, "length", "four", began + Duration::from_secs(30)).await;
            (answer, began.elapsed())
        })
    }
}

/// The names of all that comes on a stream until nothing does.
async fn names(stream: &mut EventStream) -> Vec<String> {
    let mut names = Vec::new();
    while let Ok(Some(Item::Event((_, event)))) = tokio::time::timeout(Duration::from_millis(300), stream.next()).await {
        names.push(event.name.clone());
    }
    names
}

/// A shard that stops in this stage is taken over, with everything that devices, callers and readers of streams see of that.
async fn is_taken_over_in(stage: &str) {
    let world = World::start().await;
    let (sick, neighbour) = (device_of(SICK, 0), device_of(SICK + 1, 0));
    let (mut driver, mut other) = (world.device(sick).await, world.device(neighbour).await);
    let mut stream = world.stream("temp");
    let before = driver.publish("temp/before", b"1");
    driver.run_until(PATIENCE, |driver| driver.published(before));

    world.fault(&format!("freeze shard-{SICK} {stage}"));
    let froze = Instant::now();
    driver.run_for(Duration::from_millis(300));
    let open = world.call(id(sick));
    let during = driver.publish("temp/during", b"2");
    let event = world.news("news/during");
    let gateway = Arc::clone(&world.gateway);
    let told = tokio::spawn(async move { gateway.publish(event).await });
    // Another shard's device does not notice.
    let elsewhere = other.publish("temp/elsewhere", b"3");
    other.run_until(Duration::from_secs(2), |other| other.published(elsewhere));

    driver.run_until(PATIENCE, |driver| driver.published(during));
    let served = froze.elapsed();
    assert!(served < SERVED_WITHIN, "{stage}: {served:?}");
    let (answer, took) = open.await.unwrap();
    assert_eq!(answer, Err(CallError::Interrupted), "{stage}");
    assert!(took < Duration::from_secs(5), "{stage}: {took:?}");
    told.await.unwrap().unwrap();
    assert_eq!(world.metric("holdfast_takeovers_total"), 1);
    assert_eq!(world.metric(&format!("holdfast_shard_epoch{{shard=\"{SICK}\"}}")), 2);
    assert!(world.metric("holdfast_takeover_timestamp_seconds") > 1_700_000_000);

    // The new thread knows its functions and what it subscribes to, and everything works as before.
    let call = world.call(id(sick));
    driver.run_until(PATIENCE, |_| call.is_finished());
    assert_eq!(call.await.unwrap().0, Ok(4), "{stage}");
    world.gateway.publish(world.news("news/after")).await.unwrap();
    for news in ["news/during", "news/after"] {
        driver.run_until(PATIENCE, |driver| driver.heard().iter().any(|(name, _)| name == news));
    }
    let presence = world.gateway.presences(vec![id(sick)]).await.remove(0);
    assert!(presence.online && presence.functions.is_some_and(|functions| functions[..] == ["length"]), "{stage}");

    // The old thread goes on where it stood. Nothing that it says counts.
    let heard = driver.heard().len();
    world.fault(&format!("thaw shard-{SICK}"));
    driver.run_for(Duration::from_secs(2));
    let after = driver.publish("temp/after", b"4");
    driver.run_until(PATIENCE, |driver| driver.published(after));
    assert_eq!((driver.heard().len(), driver.handshakes()), (heard, 1), "{stage}");
    let mut seen = names(&mut stream).await;
    seen.sort();
    assert_eq!(seen, ["temp/after", "temp/before", "temp/during", "temp/elsewhere"], "{stage}");
    assert_eq!(world.metric("holdfast_takeovers_total"), 1);
    world.running.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_stops_before_its_mailbox_is_taken_over() {
    is_taken_over_in("mailbox").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_stops_with_messages_in_hand_is_taken_over() {
    is_taken_over_in("apply").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_stops_before_it_passes_on_what_it_decided_is_taken_over() {
    is_taken_over_in("output").await;
}

/// What the old thread had decided reaches nobody when it goes on: it is refused where it would take effect.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_thawed_thread_says_is_refused_and_counted() {
    let world = World::start().await;
    let sick = device_of(SICK, 0);
    let mut driver = world.device(sick).await;
    let mut stream = world.stream("temp");
    world.fault(&format!("freeze shard-{SICK} apply"));
    driver.run_for(Duration::from_millis(300));
    let publish = driver.publish("temp/once", b"1");
    driver.run_until(PATIENCE, |driver| driver.published(publish));
    assert_eq!(next_event(&mut stream).await.1.name, "temp/once");
    let refused = || world.metric("holdfast_fenced_messages_total{by=\"journal\"}");
    let before = refused();
    world.fault(&format!("thaw shard-{SICK}"));
    driver.run_until(PATIENCE, |_| refused() > before);
    driver.run_for(Duration::from_secs(1));
    assert!(names(&mut stream).await.is_empty(), "it is in the journal once");
    assert_eq!(driver.handshakes(), 1);
    world.running.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_publishes_over_a_shard_that_stalls_is_told_that_it_may_have_been_accepted() {
    let world = World::start().await;
    let shard = usize::try_from(world.running.owner.0).unwrap() % SHARDS;
    world.gateway.publish(world.news("temp/before")).await.unwrap();
    world.fault(&format!("freeze shard-{shard} apply"));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let began = Instant::now();
    assert_eq!(world.gateway.publish(world.news("temp/during")).await, Err(PublishError::Interrupted));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    world.gateway.publish(world.news("temp/after")).await.unwrap();
    world.running.stop();
}

/// Over TCP a device waits for its acknowledgement and repeats nothing: one with a lost message comes anew, the others notice nothing.
#[tokio::test(flavor = "multi_thread")]
async fn connections_without_a_lost_message_go_on() {
    let world = World::start().await;
    let (quiet, busy) = (device_of(SICK, 0), device_of(SICK, 1));
    let mut drivers = Vec::new();
    for n in [quiet, busy] {
        let pair = DeviceKeyPair::generate().unwrap();
        world.running.register_key(n, pair.public().spki()).await;
        let address = ([127, 0, 0, 1], world.running.plane.tcp().port()).into();
        let mut driver = TcpDriver::new(n, pair, true, address, *world.running.opened.keys.rsa().public());
        driver.connect();
        driver.run_for(Duration::from_millis(500));
        drivers.push(driver);
    }
    let [quiet_driver, busy_driver] = &mut drivers[..] else { panic!("two") };
    world.fault(&format!("freeze shard-{SICK} apply"));
    quiet_driver.run_for(Duration::from_millis(300));
    busy_driver.publish("temp/lost", b"1");
    let connections = |driver: &TcpDriver| driver.events.iter().filter(|event| matches!(event, DeviceEvent::Connected { .. })).count();
    let before = connections(busy_driver);
    let began = Instant::now();
    while connections(busy_driver) == before {
        assert!(began.elapsed() < PATIENCE, "{:?}", busy_driver.events);
        busy_driver.turn();
        quiet_driver.turn();
    }
    assert_eq!(connections(quiet_driver), 1);
    for (n, driver) in [quiet, busy].into_iter().zip([quiet_driver, busy_driver]) {
        driver.run_for(Duration::from_millis(500));
        let mut answer = world.running.ask(n, Ask::Call { function: "length".into(), argument: "four".into() });
        driver.run_for(Duration::from_millis(500));
        assert_eq!(answer.try_recv().unwrap(), Ok(Answer::Returned(4)), "{:?}", driver.events);
    }
    world.running.stop();
}

/// A device that is removed while its shard stands still is gone when the next thread has it.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_registry_said_meanwhile_counts() {
    let world = World::start().await;
    let (kept, removed) = (device_of(SICK, 0), device_of(SICK, 1));
    let (mut kept_driver, mut removed_driver) = (world.device(kept).await, world.device(removed).await);
    world.fault(&format!("freeze shard-{SICK} output"));
    kept_driver.run_for(Duration::from_millis(300));
    world.running.opened.registry.remove_device(id(removed)).await.unwrap();
    let publish = kept_driver.publish("temp", b"1");
    kept_driver.run_until(PATIENCE, |driver| driver.published(publish));
    removed_driver.run_until(PATIENCE, |driver| !driver.device.is_connected());
    assert_eq!(kept_driver.handshakes(), 1);
    world.running.stop();
}
