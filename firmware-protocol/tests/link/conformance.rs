//! What holds over UDP and over TCP: the same suite runs over both, with seeds.

use std::time::Duration;

use firmware_protocol::coap::{Code, format};
use firmware_protocol::device::DeviceEvent;
use firmware_protocol::entropy::{Entropy, SeededEntropy};
use firmware_protocol::session::Uplink;
use firmware_protocol::session::describe::{Application, DescribeKind};
use firmware_protocol::session::goodbye::Goodbye;
use firmware_protocol::session::publish::Delivery;
use firmware_protocol::session::request::{Outcome, Request};
use firmware_protocol::session::subscribe::{HandlerKind, Subscription};
use firmware_protocol::session::variable::{Value, VariableType};

use crate::sample;
use crate::stream::StreamWorld;
use crate::world::{Link, World};

const SEEDS: u64 = 20;

/// A cloud and a device with a transport between them.
trait Rig: Sized {
    fn start(seed: u64) -> Self;
    fn run_for(&mut self, span: Duration);
    fn is_connected(&self) -> bool;
    fn events(&self) -> &[DeviceEvent];
    fn uplinks(&self) -> &[Uplink];
    fn ask(&mut self, request: Request) -> u64;
    fn outcomes(&self, request: u64) -> &[Outcome];
    fn publish_event(&mut self, name: &str, content_format: u16, data: &[u8]) -> u64;
    fn publish_without_ack(&mut self, name: &str, content_format: u16, data: &[u8]);
    fn say_goodbye(&mut self, cloud_reason: u8);
    fn ping_server(&mut self);
    /// Bytes come to the server as if from the device.
    fn hostile(&mut self, bytes: &[u8]);

    fn connected(seed: u64) -> Self {
        let mut rig = Self::start(seed);
        rig.run_for(Duration::from_secs(5));
        assert!(rig.is_connected(), "seed {seed}: {:?}", rig.events());
        rig
    }

    fn outcome(&mut self, request: Request) -> Outcome {
        let number = self.ask(request.clone());
        self.run_for(Duration::from_secs(5));
        let [outcome] = self.outcomes(number) else { panic!("{request:?}: {:?}", self.outcomes(number)) };
        outcome.clone()
    }

    fn happened(&self, event: &DeviceEvent) -> usize {
        self.events().iter().filter(|own| *own == event).count()
    }
}

/// The rig of a world: how it starts, and how strange bytes get into it. All else goes by the same names in both worlds.
macro_rules! rig {
    ($world:ty, start: $start:expr, hostile: $hostile:expr) => {
        impl Rig for $world {
            fn start(seed: u64) -> Self {
                $start(seed)
            }

            fn run_for(&mut self, span: Duration) {
                self.run(span);
            }

            fn is_connected(&self) -> bool {
                self.device.is_connected()
            }

            fn events(&self) -> &[DeviceEvent] {
                &self.events
            }

            fn uplinks(&self) -> &[Uplink] {
                &self.uplinks
            }

            fn ask(&mut self, request: Request) -> u64 {
                self.request(request)
            }

            fn outcomes(&self, request: u64) -> &[Outcome] {
                self.outcomes.get(&request).map_or(&[], Vec::as_slice)
            }

            fn publish_event(&mut self, name: &str, content_format: u16, data: &[u8]) -> u64 {
                self.publish_typed(name, content_format, data)
            }

            fn publish_without_ack(&mut self, name: &str, content_format: u16, data: &[u8]) {
                self.publish_unacknowledged(name, content_format, data);
            }

            fn say_goodbye(&mut self, cloud_reason: u8) {
                self.goodbye(cloud_reason);
            }

            fn ping_server(&mut self) {
                self.ping();
            }

            fn hostile(&mut self, bytes: &[u8]) {
                $hostile(self, bytes);
            }
        }
    };
}

rig! {
    World,
    start: |seed| World::with_app(seed, Link::whole(seed), sample::subscribed_app()),
    hostile: |world: &mut World, bytes: &[u8]| world.inject(bytes, world.address())
}
rig! { StreamWorld, start: StreamWorld::new, hostile: StreamWorld::inject }

/// Each of these runs over both transports.
macro_rules! over_both {
    ($($name:ident)*) => {
        mod over_udp {
            $(#[test] fn $name() { super::$name::<super::World>(); })*
        }
        mod over_tcp {
            $(#[test] fn $name() { super::$name::<super::StreamWorld>(); })*
        }
    };
}

over_both! {
    a_device_introduces_itself_completely
    events_arrive_with_and_without_acknowledgement
    functions_return_and_unknown_ones_never_answer
    variables_of_all_types_are_read
    describes_are_fetched_in_blocks
    pings_and_signals_are_answered
    events_are_delivered_to_the_handlers_that_take_them
    many_requests_at_once_each_end_once
    a_goodbye_says_why
    an_idle_session_stays
    hostile_bytes_do_no_lasting_harm
}

/// Hello, both describes in blocks, subscriptions, the time, update flags.
fn a_device_introduces_itself_completely<R: Rig>() {
    for seed in 0..SEEDS {
        let rig = R::connected(seed);
        let Some(Uplink::Hello { hello, .. }) = rig.uplinks().first() else { panic!("seed {seed}: {:?}", rig.uplinks()) };
        assert_eq!((hello.system_version, hello.message_max), (Some(6200), Some(1152)));
        let described = |wanted| {
            let payload = rig.uplinks().iter().find_map(|uplink| match uplink {
                Uplink::Describe { kind, payload } if *kind == wanted => Some(payload.clone()),
                _ => None,
            });
            payload.unwrap_or_else(|| panic!("seed {seed}: no {wanted:?}"))
        };
        assert_eq!(described(DescribeKind::System), sample::system_describe());
        let application = Application::parse(&described(DescribeKind::Application)).unwrap();
        assert!(application.has_function("double") && application.variable("flag") == Some(VariableType::Bool));
        for (prefix, handler) in [
            ("particle", HandlerKind::Text),
            ("spark", HandlerKind::Text),
            ("news", HandlerKind::Text),
            ("tree", HandlerKind::Cbor),
            ("raw", HandlerKind::Binary),
        ] {
            let wanted = Uplink::Subscribe(Subscription { prefix: prefix.into(), handler, publisher: None });
            assert_eq!(rig.uplinks().iter().filter(|own| **own == wanted).count(), 1, "seed {seed}: {prefix}");
        }
        assert_eq!(rig.events().iter().filter(|event| matches!(event, DeviceEvent::ClockSet(1_800_000_000..))).count(), 1);
        assert_eq!(published(&rig, "particle/device/updates/enabled"), [(0, b"true".to_vec())]);
    }
}

fn published<R: Rig>(rig: &R, name: &str) -> Vec<(u16, Vec<u8>)> {
    let all = rig.uplinks().iter().filter_map(|uplink| match uplink {
        Uplink::Publish(publish) if publish.name == name => Some((publish.content_format, publish.data.clone().unwrap_or_default())),
        _ => None,
    });
    all.collect()
}

fn events_arrive_with_and_without_acknowledgement<R: Rig>() {
    for seed in 0..SEEDS {
        let mut rig = R::connected(seed);
        let cases: [(u16, &[u8]); 5] = [
            (format::TEXT, b"21.5"),
            (format::TEXT, b""),
            (format::OCTETS, &[0, 0xff]),
            (format::JSON_CBOR, &[0xa1, 0x61, 0x61, 1]),
            (22, &[0x55; 1024]),
        ];
        for (n, (content_format, data)) in cases.into_iter().enumerate() {
            let publish = rig.publish_event(&format!("with/{n}"), content_format, data);
            rig.publish_without_ack(&format!("without/{n}"), content_format, data);
            rig.run_for(Duration::from_secs(1));
            assert_eq!(rig.happened(&DeviceEvent::Published { publish, accepted: true }), 1, "seed {seed}");
            assert_eq!(published(&rig, &format!("with/{n}")), [(content_format, data.to_vec())]);
            assert_eq!(published(&rig, &format!("without/{n}")), [(content_format, data.to_vec())]);
        }
    }
}

fn functions_return_and_unknown_ones_never_answer<R: Rig>() {
    for seed in 0..SEEDS {
        let mut rig = R::connected(seed);
        let call = |function: &str, argument: &str| Request::Call { function: function.into(), argument: argument.into() };
        assert_eq!(rig.outcome(call("double", "-21")), Outcome::Returned(-42));
        assert_eq!(rig.outcome(call("length", "")), Outcome::Returned(0));
        assert_eq!(rig.outcome(call("length", &"x".repeat(1024))), Outcome::Returned(1024));
        assert!(rig.happened(&DeviceEvent::Called { function: "double".into(), argument: "-21".into() }) == 1);
        let unknown = rig.ask(call("nothing", ""));
        rig.run_for(Duration::from_secs(61));
        assert_eq!(rig.outcomes(unknown), [Outcome::TimedOut { received: true }], "seed {seed}");
        assert!(rig.is_connected());
    }
}

fn variables_of_all_types_are_read<R: Rig>() {
    for seed in 0..SEEDS {
        let mut rig = R::connected(seed);
        for (variable, kind, expected) in [
            ("temperature", VariableType::Double, Value::Double(21.5)),
            ("flag", VariableType::Bool, Value::Bool(true)),
            ("count", VariableType::Int, Value::Int(-7)),
            ("name", VariableType::String, Value::String("grüße".into())),
        ] {
            let Outcome::Value(bytes) = rig.outcome(Request::Read { variable: variable.into() }) else { panic!("seed {seed}: {variable}") };
            assert_eq!(kind.decode(&bytes), Some(expected));
        }
        assert_eq!(rig.outcome(Request::Read { variable: "nothing".into() }), Outcome::Refused(Code::NOT_FOUND));
    }
}

fn describes_are_fetched_in_blocks<R: Rig>() {
    for seed in 0..SEEDS {
        let mut rig = R::connected(seed);
        let system = sample::system_describe();
        assert_eq!(rig.outcome(Request::Describe(DescribeKind::System)), Outcome::Described(DescribeKind::System, system));
        let Outcome::Described(_, application) = rig.outcome(Request::Describe(DescribeKind::Application)) else { panic!("seed {seed}") };
        assert_eq!(Application::parse(&application).unwrap().variables.len(), 64);
        let Outcome::Described(_, vitals) = rig.outcome(Request::Describe(DescribeKind::Metrics)) else { panic!("seed {seed}") };
        assert_eq!(vitals[0], 0);
    }
}

fn pings_and_signals_are_answered<R: Rig>() {
    for seed in 0..SEEDS {
        let mut rig = R::connected(seed);
        assert_eq!(rig.outcome(Request::Ping), Outcome::Acknowledged);
        for on in [true, false] {
            assert_eq!(rig.outcome(Request::Signal { on }), Outcome::Acknowledged, "seed {seed}");
            assert_eq!(rig.happened(&DeviceEvent::Signal(on)), 1);
        }
        for answered in 1..=3 {
            rig.ping_server();
            rig.run_for(Duration::from_secs(1));
            assert_eq!(rig.happened(&DeviceEvent::PingAnswered), answered, "seed {seed}");
        }
    }
}

fn events_are_delivered_to_the_handlers_that_take_them<R: Rig>() {
    for seed in 0..SEEDS {
        let mut rig = R::connected(seed);
        for (name, content_format, data, taken) in [
            ("news/today", format::TEXT, &b"rain"[..], 1),
            ("news/binary", format::OCTETS, &[1, 2], 0),
            ("tree/a", format::CBOR, &[0xa0], 1),
            ("tree/b", format::JSON_CBOR, &[0xa0], 0),
            ("raw/a", format::OCTETS, &[0x55; 1024], 1),
            ("nobody", format::TEXT, b"x", 0),
        ] {
            let delivery = Delivery::new(name, content_format, Some(data)).unwrap();
            assert_eq!(rig.outcome(Request::Deliver(delivery)), Outcome::Acknowledged);
            let event = DeviceEvent::EventReceived { name: name.into(), data: data.to_vec(), content_format };
            assert_eq!(rig.happened(&event), taken, "seed {seed}: {name}");
        }
    }
}

fn many_requests_at_once_each_end_once<R: Rig>() {
    for seed in 0..SEEDS {
        let mut rig = R::connected(seed);
        let numbers: Vec<(u64, Outcome)> = (0..30)
            .flat_map(|n| {
                let call = Request::Call { function: "double".into(), argument: n.to_string() };
                [(call, Outcome::Returned(2 * n)), (Request::Ping, Outcome::Acknowledged)]
            })
            .map(|(request, outcome)| (rig.ask(request), outcome))
            .collect();
        rig.run_for(Duration::from_secs(10));
        for (number, outcome) in numbers {
            assert_eq!(rig.outcomes(number), [outcome], "seed {seed}");
        }
    }
}

fn a_goodbye_says_why<R: Rig>() {
    for seed in 0..SEEDS {
        let mut rig = R::connected(seed);
        rig.say_goodbye(6);
        rig.run_for(Duration::from_secs(1));
        let expected = Goodbye { cloud_reason: Some(6), ..Goodbye::default() };
        assert!(matches!(rig.uplinks().last(), Some(Uplink::Goodbye { goodbye, .. }) if *goodbye == expected), "seed {seed}");
    }
}

fn an_idle_session_stays<R: Rig>() {
    for seed in 0..SEEDS {
        let mut rig = R::connected(seed);
        rig.run_for(Duration::from_secs(600));
        assert!(rig.is_connected(), "seed {seed}");
        assert!(!rig.events().iter().any(|event| matches!(event, DeviceEvent::Disconnected { .. })), "seed {seed}: {:?}", rig.events());
        assert_eq!(rig.outcome(Request::Ping), Outcome::Acknowledged);
    }
}

/// Before, during and after the handshake. A stream that was tampered with ends, a datagram is dropped; either way the device is served soon after.
fn hostile_bytes_do_no_lasting_harm<R: Rig>() {
    for seed in 0..SEEDS {
        let mut entropy = SeededEntropy::new(seed);
        let mut rig = R::start(seed);
        for _ in 0..40 {
            let pause = Duration::from_millis(entropy.below(400));
            rig.run_for(pause);
            let mut bytes = vec![0; usize::try_from(1 + entropy.below(400)).unwrap()];
            entropy.fill(&mut bytes);
            if seed % 2 == 0 {
                // A frame of a possible length, or a record of this version.
                bytes.splice(..0, [[0, 64], [25, 0xfe]][usize::try_from(entropy.below(2)).unwrap()]);
            }
            rig.hostile(&bytes);
        }
        rig.run_for(Duration::from_secs(120));
        assert!(rig.is_connected(), "seed {seed}: {:?}", rig.events().iter().rev().take(4).collect::<Vec<_>>());
        let call = Request::Call { function: "double".into(), argument: "4".into() };
        assert_eq!(rig.outcome(call), Outcome::Returned(8), "seed {seed}");
    }
}

/// What only a stream has.
mod stream_only {
    use super::*;
    use firmware_protocol::tcp::session::CloseReason;

    /// A device that hears something every few seconds has no reason to ping, and does not acknowledge events: we ask.
    #[test]
    fn a_device_that_only_listens_is_not_taken_for_gone() {
        let mut world = StreamWorld::connected(1);
        for _ in 0..60 {
            world.request(Request::Deliver(Delivery::new("news/x", 0, Some(b"x")).unwrap()));
            world.run(Duration::from_secs(5));
        }
        assert!(world.is_connected() && world.closed.is_empty());
        assert_eq!(world.happened(&DeviceEvent::HandshakeStarted), 1);
    }

    #[test]
    fn a_device_that_is_gone_is_noticed_and_open_requests_end() {
        let mut world = StreamWorld::connected(2);
        world.cut_cable();
        let call = world.request(Request::Call { function: "double".into(), argument: "1".into() });
        world.run(Duration::from_secs(34));
        assert!(world.closed.is_empty());
        world.run(Duration::from_secs(7));
        assert_eq!(world.closed, [CloseReason::Silent]);
        assert_eq!(world.outcomes(call), [Outcome::Closed { received: false }]);
    }

    #[test]
    fn a_hello_that_is_never_durable_brings_the_device_back_until_it_is() {
        let mut world = StreamWorld::start(3);
        world.commits_fail = true;
        world.run(Duration::from_secs(20));
        assert!(!world.is_connected());
        assert!(world.happened(&DeviceEvent::HandshakeStarted) > 2, "it tries again after 4 seconds each time");
        world.commits_fail = false;
        world.run(Duration::from_secs(20));
        assert!(world.is_connected());
    }

    #[test]
    fn a_new_connection_brings_everything_again() {
        let mut world = StreamWorld::connected(4);
        let before = world.uplinks.len();
        world.device.power_off();
        world.device.power_on(world.now);
        world.run(Duration::from_secs(5));
        assert!(world.is_connected());
        assert_eq!(world.uplinks.len(), 2 * before);
        assert_eq!(world.happened(&DeviceEvent::HandshakeStarted), 2);
    }
}
