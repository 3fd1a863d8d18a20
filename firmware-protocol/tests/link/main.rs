//! Our session and our device over a seeded link, with a virtual clock: in datagrams that are lost, repeated and reordered, and over a stream that
//! is cut anywhere. What both must do is in `conformance`. A failing seed is printed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod conformance;
mod disk;
mod model;
mod sample;
mod stream;
mod world;

use std::time::Duration;

use firmware_protocol::device::{Age, DeviceEvent};
use firmware_protocol::session::describe::DescribeKind;
use firmware_protocol::session::publish::Delivery;
use firmware_protocol::session::request::{Outcome, Request};
use world::{Link, World};

const SEEDS: u64 = 2000;

/// Every second device is of today; the others are of each age in turn.
fn seeds_and_ages() -> impl Iterator<Item = (u64, Age)> {
    (0..SEEDS).map(|seed| (seed, if seed % 2 == 0 { Age::V6 } else { AGES[usize::try_from(seed / 2 % 3).unwrap()] }))
}

fn request_all(world: &mut World) {
    world.request(Request::Call { function: "double".into(), argument: "21".into() });
    world.request(Request::Call { function: "length".into(), argument: String::new() });
    world.request(Request::Read { variable: "temperature".into() });
    world.request(Request::Read { variable: "missing".into() });
    world.request(Request::Describe(DescribeKind::Application));
    world.request(Request::Ping);
    world.request(Request::Signal { on: true });
}

fn check_all(world: &World) {
    let expected = |outcome: &Outcome| match outcome {
        Outcome::Returned(value) => matches!(value, 42 | 0),
        Outcome::Value(value) => value[..] == 21.5f64.to_le_bytes(),
        Outcome::Refused(code) => code.0 == 0x84,
        Outcome::Described(DescribeKind::Application, payload) => payload.len() > 2048 || world.age() == Age::V2,
        Outcome::Acknowledged => true,
        _ => false,
    };
    assert_eq!(world.outcomes.len(), 7, "each request ends once: {:?}", world.outcomes);
    assert!(world.outcomes.values().all(|outcomes| outcomes.len() == 1 && expected(&outcomes[0])), "{:?}", world.outcomes);
}

const AGES: [Age; 3] = [Age::V2, Age::V3, Age::V6];

/// Everything a device does at connect, publishes and requests in both directions, on a perfect link: one exchange each, nothing repeated.
#[test]
fn a_perfect_link_needs_no_repetition() {
    AGES.into_iter().for_each(a_perfect_link_needs_no_repetition_of);
}

fn a_perfect_link_needs_no_repetition_of(age: Age) {
    let mut world = World::with_age(age, 1, Link::perfect());
    world.run_until(Duration::from_secs(5), |world| world.device.is_connected());
    assert_eq!(world.handshakes, 1);
    assert_eq!(world.events.iter().filter(|event| matches!(event, DeviceEvent::ClockSet(_))).count(), 1);
    let publish = world.publish("temperature", b"21.5");
    request_all(&mut world);
    world.run(Duration::from_secs(2));
    check_all(&world);
    assert_eq!(world.published_ok(publish), 1);
    assert_eq!(world.accepted("temperature"), 1);
    assert_eq!(world.dropped, 0, "nothing was dropped on either side");
}

/// Loss, duplication and reordering: the session still comes up, every confirmable exchange completes exactly once.
#[test]
fn every_exchange_completes_once_over_bad_links() {
    for (seed, age) in seeds_and_ages() {
        let mut world = World::with_age(age, seed, Link::bad(seed));
        world.run_until(Duration::from_secs(600), |world| world.device.is_connected());
        let publishes: Vec<u64> = (0..5).map(|n| world.publish(&format!("event/{n}"), b"data")).collect();
        request_all(&mut world);
        world.run(Duration::from_secs(120));
        let seen: Vec<usize> = (0..5).map(|n| world.accepted(&format!("event/{n}"))).collect();
        assert!(seen.iter().all(|count| *count <= 1), "seed {seed}: accepted more than once: {seen:?}");
        for (n, publish) in publishes.iter().enumerate() {
            assert!(world.published_ok(*publish) == 0 || seen[n] == 1, "seed {seed}: acknowledged but not accepted");
        }
        assert!(world.outcomes.values().all(|outcomes| outcomes.len() == 1), "seed {seed}: {:?}", world.outcomes);
        assert_eq!(world.outcomes.len(), 7, "seed {seed}");
        assert!(!world.events.iter().any(|event| matches!(event, DeviceEvent::SequenceRepeated(_))), "seed {seed}");
    }
}

/// The server is killed again and again, at any moment; only what was made durable comes back. No handshake is repeated after the first, no
/// acknowledged event is lost, none is accepted twice, no record number is used twice.
#[test]
fn sessions_survive_kills_at_any_moment() {
    for (seed, age) in seeds_and_ages() {
        let mut world = World::with_age(age, seed, Link::fair(seed));
        world.run_until(Duration::from_secs(300), |world| world.device.is_connected());
        let handshakes = world.handshakes;
        let mut publishes = Vec::new();
        for n in 0..12 {
            publishes.push((format!("event/{n}"), world.publish(&format!("event/{n}"), b"data")));
            let pause = Duration::from_millis(world.chance(4000));
            world.run(pause);
            world.kill_and_restart();
        }
        world.run(Duration::from_secs(60));
        assert_eq!(world.handshakes, handshakes, "seed {seed}: a kill cost a handshake");
        for (name, publish) in publishes {
            let (acknowledged, accepted) = (world.published_ok(publish), world.accepted(&name));
            // Three transmissions fit into the 20 seconds that firmware waits; a link that loses some may lose all three.
            assert!(acknowledged == 1 || world.link_loses(), "seed {seed}: {name} was not acknowledged");
            assert!(accepted == acknowledged || accepted == 1, "seed {seed}: {name} accepted {accepted} times");
        }
        assert!(!world.events.iter().any(|event| matches!(event, DeviceEvent::SequenceRepeated(_))), "seed {seed}");
    }
}

/// A device that restarts or changes its address goes on with its session, and the server follows only after a ping came back.
#[test]
fn a_device_resumes_from_another_address() {
    for (seed, age) in (0..150).map(|seed| (seed, AGES[usize::try_from(seed % 3).unwrap()])) {
        let mut world = World::with_age(age, seed, Link::fair(seed));
        world.run_until(Duration::from_secs(300), |world| world.device.is_connected());
        let before = world.session_path();
        world.move_device();
        world.restart_device();
        world.run_until(Duration::from_secs(120), |world| world.device.is_connected());
        world.run(Duration::from_secs(50));
        assert_eq!(world.handshakes, 1, "seed {seed}");
        assert_ne!(world.session_path(), before, "seed {seed}");
        request_all(&mut world);
        world.run(Duration::from_secs(60));
        check_all(&world);
    }
}

/// A device that has not told everything begins with a Hello when it comes from another address, and drops the ping with which that address is checked.
#[test]
fn a_device_that_says_hello_from_another_address_is_followed_at_once() {
    let mut world = World::new(14, Link::perfect());
    world.run_until(Duration::from_secs(5), |world| world.device.has_session());
    world.move_device();
    world.restart_device();
    world.run_until(Duration::from_secs(5), |world| world.device.is_connected());
    world.run(Duration::from_millis(500));
    assert_eq!((world.handshakes, world.session_path().port()), (1, 4001));
    request_all(&mut world);
    world.run(Duration::from_secs(1));
    check_all(&world);
}

/// A record that was captured before a crash and is replayed from elsewhere is at most answered: the session stays where it is.
#[test]
fn a_replay_from_elsewhere_moves_nothing() {
    let mut world = World::new(9, Link::perfect());
    world.run_until(Duration::from_secs(5), |world| world.device.is_connected());
    world.capture_next_ping();
    let captured = world.captured.clone().expect("the device pings after 25 s of silence");
    world.kill_and_restart();
    let before = world.session_path();
    world.inject(&captured, "198.51.100.7:9".parse().expect("an address"));
    world.run(Duration::from_secs(120));
    assert_eq!(world.session_path(), before);
    assert_eq!(world.handshakes, 1);
    request_all(&mut world);
    world.run(Duration::from_secs(5));
    check_all(&world);
}

/// What the records of a device look like while it resumes: the same with another first byte, the same with its id behind it, or the same.
#[test]
fn each_age_marks_a_resumed_session_in_its_way() {
    for (age, idle, resumed, longer) in [(Age::V2, 23, 254, 13), (Age::V3, 25, 25, 0), (Age::V6, 25, 253, 0)] {
        let mut world = World::with_age(age, 11, Link::perfect());
        world.run_until(Duration::from_secs(5), |world| world.device.is_connected());
        world.move_device();
        world.restart_device();
        let before = world.sent.len();
        world.run_until(Duration::from_secs(5), |world| world.device.is_connected());
        world.run(Duration::from_secs(40));
        let first = &world.sent[before];
        let last = world.sent.last().unwrap();
        assert_eq!((first[0], last[0]), (resumed, idle), "{age:?}");
        let length = usize::from(u16::from_be_bytes(if age == Age::V2 { [first[11], first[12]] } else { [first[19], first[20]] }));
        assert_eq!(first.len(), length + longer + if age == Age::V2 { 13 } else { 21 });
        assert_eq!((world.handshakes, world.dropped), (1, 0), "{age:?}");
        assert_eq!(world.session_path().port(), 4001, "{age:?}: the session has moved");
    }
}

/// Without a connection id nothing tells whose record comes from a new address. The device notices, resumes, and needs no handshake.
#[test]
fn an_old_device_whose_address_changes_without_a_word_resumes_by_itself() {
    let mut world = World::with_age(Age::V2, 12, Link::perfect());
    world.run_until(Duration::from_secs(5), |world| world.device.is_connected());
    world.move_device();
    world.run(Duration::from_secs(50));
    assert!(world.dropped > 0 && world.session_path().port() == 4000);
    world.run(Duration::from_secs(50));
    assert!(world.device.is_connected() && world.session_path().port() == 4001);
    assert_eq!(world.handshakes, 1);
}

/// A device of 2.x can be told nothing longer than 800 bytes, and takes no Content-Format.
#[test]
fn an_old_device_is_sent_nothing_it_cannot_take() {
    let mut world = World::with_age(Age::V2, 13, Link::perfect());
    world.run_until(Duration::from_secs(5), |world| world.device.is_connected());
    let call = |len| Request::Call { function: "length".into(), argument: "x".repeat(len) };
    world.request(call(780));
    assert!(!world.can_request(call(800)));
    world.request(Request::Deliver(Delivery::new("news/today", 0, Some(b"rain")).unwrap()));
    world.run(Duration::from_secs(60));
    assert_eq!(world.outcomes.values().flatten().collect::<Vec<_>>(), [&Outcome::Returned(780), &Outcome::Acknowledged]);
    let heard = DeviceEvent::EventReceived { name: "news/today".into(), data: b"rain".to_vec(), content_format: 0 };
    assert!(world.events.contains(&heard));
}

/// Forged flights from the device's own address do not stop a handshake, forged records do not stop a session.
#[test]
fn forgeries_from_the_devices_address_change_nothing() {
    AGES.into_iter().for_each(forgeries_change_nothing_for);
}

fn forgeries_change_nothing_for(age: Age) {
    let mut world = World::with_age(age, 3, Link::perfect());
    world.forge_flights = 1000;
    world.run_until(Duration::from_secs(5), |world| world.device.is_connected());
    assert_eq!((world.handshakes, world.forged), (1, 1000));
    world.forge_records(1000);
    request_all(&mut world);
    world.run(Duration::from_secs(5));
    check_all(&world);
    assert_eq!(world.events.iter().filter(|event| matches!(event, DeviceEvent::Disconnected { .. })).count(), 0);
}

/// A wrong key of ours looks like records of the device's own address that do not open; from elsewhere it is noise. Where an address says nothing of who
/// is there, neither does what comes from it.
#[test]
fn a_wrong_key_is_told_from_noise_by_where_records_come_from() {
    for (age, wrong_keys) in AGES.map(|age| (age, if age.knows_connection_ids() { 10 } else { 0 })) {
        let mut world = World::with_age(age, 3, Link::perfect());
        world.run_until(Duration::from_secs(5), |world| world.device.is_connected());
        world.forge_records_from("192.0.2.99:5684".parse().unwrap(), 10);
        assert_eq!(world.wrong_keys, 0);
        world.forge_records(10);
        assert_eq!(world.wrong_keys, wrong_keys);
    }
}

/// An encrypted close_notify makes the device start anew at once.
#[test]
fn close_notify_brings_a_new_session() {
    let mut world = World::new(4, Link::perfect());
    world.run_until(Duration::from_secs(5), |world| world.device.is_connected());
    world.close_session();
    world.run(Duration::from_secs(2));
    assert_eq!(world.handshakes, 2);
    assert!(world.device.is_connected());
}

/// What a driver of many devices leans on: pings on demand are answered one by one, and a device whose memory is lost makes a new session.
#[test]
fn a_driver_can_ping_and_reset_a_device() {
    let mut world = World::new(5, Link::perfect());
    world.run_until(Duration::from_secs(5), |world| world.device.is_connected());
    let keys = world.device.server_keys();
    for answered in 1..=3 {
        world.ping();
        world.ping();
        world.run(Duration::from_secs(1));
        assert_eq!(world.events.iter().filter(|event| **event == DeviceEvent::PingAnswered).count(), answered);
    }
    world.reset_device();
    world.run_until(Duration::from_secs(5), |world| world.device.is_connected());
    assert_eq!(world.handshakes, 2);
    assert!(keys.is_some() && world.device.server_keys() != keys);
}

/// A device gives its session up 45 seconds after a message that it cannot handle, or at a reset, or when something of its own stays
/// unanswered: none of it happens, whatever is asked and told (docs/protocol.md).
#[test]
fn nothing_that_is_sent_costs_the_device_its_session() {
    let mut world = World::new(6, Link::perfect());
    world.run_until(Duration::from_secs(5), |world| world.device.is_connected());
    request_all(&mut world);
    for kind in [DescribeKind::System, DescribeKind::Metrics] {
        world.request(Request::Describe(kind));
    }
    for (name, content_format) in [("news/today", 0), ("nobody/listens", 0), ("news/typed", 65_001), ("particle/device/updates/forced", 0)]
    {
        world.request(Request::Deliver(Delivery::new(name, content_format, Some(b"true")).unwrap()));
    }
    world.publish("event", b"data");
    world.run(Duration::from_secs(200));
    assert_eq!(world.outcomes.len(), 13);
    assert!(world.outcomes.values().all(|outcomes| !matches!(outcomes[..], [Outcome::TimedOut { .. }])), "{:?}", world.outcomes);
    assert!(!world.events.iter().any(|event| matches!(event, DeviceEvent::Disconnected { .. })), "{:?}", world.events);
    assert_eq!((world.handshakes, world.dropped), (1, 0));
}
