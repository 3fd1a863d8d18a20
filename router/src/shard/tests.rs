use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::*;
use firmware_protocol::coap::{Kind, Message};
use firmware_protocol::dtls::cid::ConnectionId;
use firmware_protocol::entropy::SeededEntropy;
use firmware_protocol::id::{KeyHash, ProductId};
use firmware_protocol::session::hello::Hello;
use firmware_protocol::session::publish::Publish;
use firmware_protocol::session::subscribe::{HandlerKind, Subscription};
use firmware_protocol::session::variable::Value;

use crate::device::{AwaitedDevice, Left, RestoredDevice};
use crate::errand::{Claim, Errand, Outcome as Errands, Task, Verdict};
use crate::event::{Position, Whose};

type Outputs = Vec<Output<u32>>;

const DEVICE: DeviceId = DeviceId([1; 12]);
const OTHER: DeviceId = DeviceId([2; 12]);

struct Bench {
    shard: Shard<u32>,
    now: Now,
    message: u16,
}

fn link(n: u8) -> Link {
    Link { terminator: 0, connection: ConnectionId([n; 8]) }
}

fn identity(device: DeviceId) -> Identity {
    Identity { device, key: KeyHash([device.0[0]; 32]), owner: Some(OwnerId(1)), product: None }
}

fn hello(device: DeviceId) -> Hello {
    Hello {
        product: 32,
        product_version: 1,
        flags: 0x36,
        platform: 32,
        device: Some(device),
        system_version: Some(6200),
        message_max: Some(1152),
        binary_max: Some(0),
        ota_chunk: Some(512),
    }
}

impl Bench {
    fn new() -> Self {
        let now = Now { at: Millis(1_000), unix: UnixMillis(1_800_000_000_000) };
        Self { shard: Shard::new(Box::new(SeededEntropy::new(1))), now, message: 0 }
    }

    fn apply(&mut self, input: Input<u32>) -> Outputs {
        let mut out = Vec::new();
        self.shard.apply(self.now, input, &mut out);
        out
    }

    fn later(&mut self, span: Duration) -> Outputs {
        self.now.at = self.now.at + span;
        let mut out = Vec::new();
        self.shard.handle_timeout(self.now, &mut out);
        out
    }

    fn uplink(&mut self, n: u8, device: DeviceId, uplink: Uplink) -> Outputs {
        self.message += 1;
        let floor = Floor { connection: link(n).connection, sequence: self.message.into(), message_id: self.message, digest: 7 };
        self.apply(Input::Received { link: link(n), device, receipt: receipt(), floor, uplink })
    }

    fn restore(&mut self, device: RestoredDevice<'_>) {
        self.shard.restore(self.now, [device].into_iter());
    }

    fn connect(&mut self, n: u8, device: DeviceId) {
        self.apply(Input::Opened { link: link(n), identity: identity(device), ip: [127, 0, 0, 1].into() });
        self.uplink(n, device, Uplink::Hello { hello: hello(device), payload: hello(device).encode() });
        let payload = br#"{"f":["fn"],"v":{"t":9}}"#.to_vec();
        self.uplink(n, device, Uplink::Describe { kind: DescribeKind::Application, payload });
        self.uplink(n, device, Uplink::Describe { kind: DescribeKind::System, payload: vec![1] });
        self.uplink(n, device, Uplink::Subscribe(Subscription::new("news", HandlerKind::Text)));
    }

    fn ask(&mut self, ask: Ask) -> Outputs {
        let deadline = self.now.at + Duration::from_secs(30);
        self.apply(Input::Ask { device: DEVICE, ask, deadline, reply: 9 })
    }
}

/// A receipt can only come from a session.
fn receipt() -> Receipt {
    use firmware_protocol::session::test_receipt;
    test_receipt(&Message::new(Kind::Confirmable, Code::POST, 1, &[]))
}

fn call(function: &str) -> Ask {
    Ask::Call { function: function.into(), argument: String::new() }
}

fn publish(name: &str) -> Uplink {
    Uplink::Publish(Publish { name: name.into(), content_format: 0, data: Some(b"x".to_vec()), ttl_s: 60 })
}

fn names(outputs: &Outputs) -> Vec<String> {
    let name = |output: &Output<u32>| match output {
        Output::Append { record: Record::Event { event, .. }, .. } => Some(event.name.clone()),
        _ => None,
    };
    outputs.iter().filter_map(name).collect()
}

fn answer_of(outputs: &Outputs) -> Option<&Result<Answer, AskError>> {
    outputs.iter().find_map(|output| match output {
        Output::Answer { reply: 9, answer } => Some(answer),
        _ => None,
    })
}

#[test]
fn a_message_is_acknowledged_only_through_the_journal() {
    let mut bench = Bench::new();
    bench.connect(1, DEVICE);
    let out = bench.uplink(1, DEVICE, publish("temp"));
    let [Output::Append { record: Record::Event { floor: Some(_), event }, then: Then::Acknowledge { link: to, .. } }] = &out[..] else {
        panic!("{out:?}");
    };
    assert_eq!((event.name.as_str(), event.source, *to), ("temp", Source::Device(DEVICE), link(1)));
}

#[test]
fn calls_that_need_no_device_end_at_once() {
    let mut bench = Bench::new();
    assert_eq!(answer_of(&bench.ask(call("fn"))), Some(&Err(AskError::Offline)));
    bench.connect(1, DEVICE);
    assert_eq!(answer_of(&bench.ask(call("other"))), Some(&Err(AskError::NoSuchFunction)));
    assert_eq!(answer_of(&bench.ask(Ask::Read { variable: "fn".into() })), Some(&Err(AskError::NoSuchVariable)));
    bench.apply(Input::Closed { device: DEVICE, link: link(1) });
    assert_eq!(answer_of(&bench.ask(call("fn"))), Some(&Err(AskError::Offline)));
}

#[test]
fn a_read_is_decoded_by_the_describe_and_ends_once() {
    let mut bench = Bench::new();
    bench.connect(1, DEVICE);
    let out = bench.ask(Ask::Read { variable: "t".into() });
    let [Output::Request { id, request: Request::Read { .. }, .. }] = out[..] else { panic!("{out:?}") };
    let value = Outcome::Value(1.5f64.to_le_bytes().to_vec());
    let out = bench.apply(Input::Settled { request: id, outcome: Ok(value.clone()) });
    assert_eq!(answer_of(&out), Some(&Ok(Answer::Value(Value::Double(1.5)))));
    assert!(bench.apply(Input::Settled { request: id, outcome: Ok(value) }).is_empty(), "a late repetition");
    assert!(bench.later(Duration::from_secs(40)).is_empty());
}

#[test]
fn a_silent_terminator_does_not_hang_a_caller() {
    let mut bench = Bench::new();
    bench.connect(1, DEVICE);
    bench.ask(call("fn"));
    assert_eq!(answer_of(&bench.later(Duration::from_millis(30_999))), None);
    assert_eq!(answer_of(&bench.later(Duration::from_millis(1))), Some(&Err(AskError::TimedOut { received: false })));
}

#[test]
fn the_end_of_a_request_of_an_earlier_epoch_ends_none_of_a_later_one() {
    let mut bench = Bench::new();
    bench.connect(1, DEVICE);
    let old = requests(&bench.ask(call("fn")));
    bench.shard = Shard::of_epoch(Epoch(2), Box::new(SeededEntropy::new(2)));
    bench.connect(1, DEVICE);
    let new = requests(&bench.ask(call("fn")));
    let settled = |id: RequestId| Input::Settled { request: id, outcome: Ok(Outcome::Returned(7)) };
    assert!(bench.apply(settled(old[0])).is_empty());
    assert_eq!(answer_of(&bench.apply(settled(new[0]))), Some(&Ok(Answer::Returned(7))));
}

#[test]
fn the_newest_session_wins_and_the_old_one_is_not_heard() {
    let mut bench = Bench::new();
    bench.connect(1, DEVICE);
    let out = bench.apply(Input::Opened { link: link(2), identity: identity(DEVICE), ip: [127, 0, 0, 1].into() });
    assert!(matches!(out[..], [Output::Append { .. }, Output::Retire { link: old, reason: RetireReason::Replaced }] if old == link(1)));
    assert!(bench.uplink(1, DEVICE, publish("temp")).is_empty());
    assert!(bench.apply(Input::Closed { device: DEVICE, link: link(1) }).is_empty());
    assert_eq!(bench.shard.counts().stale, 2);
}

#[test]
fn a_hello_of_another_device_ends_the_session() {
    let mut bench = Bench::new();
    bench.apply(Input::Opened { link: link(1), identity: identity(DEVICE), ip: [127, 0, 0, 1].into() });
    let out = bench.uplink(1, DEVICE, Uplink::Hello { hello: hello(OTHER), payload: vec![] });
    assert!(matches!(out[..], [Output::Append { .. }, Output::Retire { reason: RetireReason::WrongDevice, .. }, Output::Append { .. }]));
    assert_eq!(names(&out), ["spark/status"], "it was online since its handshake");
}

#[test]
fn system_events_are_taken_but_only_known_ones_are_shown() {
    let mut bench = Bench::new();
    bench.connect(1, DEVICE);
    assert_eq!(names(&bench.uplink(1, DEVICE, publish("spark/device/last_reset"))), ["spark/device/last_reset"]);
    for name in ["spark/device/claim", "Particle/anything", "spark/device/key/restore"] {
        let out = bench.uplink(1, DEVICE, publish(name));
        assert!(matches!(out[..], [Output::Append { record: Record::Seen { .. }, then: Then::Acknowledge { .. } }]), "{name}");
    }
}

fn committed(position: u64, name: &str, owner: u64) -> Input<u32> {
    let owner = OwnerId(owner);
    let new = NewEvent { owner, product: None, source: Source::Api, name: name.into(), content_format: 0, data: None, ttl_s: 60 };
    Input::Committed { position: Position(position), event: new.accept(UnixMillis(0), [0; 10]).into() }
}

/// The events that have met their fate.
fn fates(outputs: &Outputs) -> Vec<(u64, Fate)> {
    let fate = |output: &Output<u32>| match output {
        Output::Fate { position, fate } => Some((position.0, *fate)),
        _ => None,
    };
    outputs.iter().filter_map(fate).collect()
}

fn requests(outputs: &Outputs) -> Vec<RequestId> {
    let request = |output: &Output<u32>| match output {
        Output::Request { id, .. } => Some(*id),
        _ => None,
    };
    outputs.iter().filter_map(request).collect()
}

#[test]
fn subscribed_devices_of_the_same_owner_get_events() {
    let mut bench = Bench::new();
    bench.connect(1, DEVICE);
    bench.connect(2, OTHER);
    let out = bench.apply(committed(1, "news/today", 1));
    assert!(matches!(out[..], [Output::Request { link: a, .. }, Output::Request { link: b, .. }] if (a, b) == (link(1), link(2))));
    assert_eq!(fates(&bench.apply(committed(2, "weather", 1))), [(2, Fate::Unwanted)]);
    assert_eq!(fates(&bench.apply(committed(3, "news/today", 2))), [(3, Fate::Unwanted)]);
}

#[test]
fn events_of_a_products_devices_are_the_products_too_and_subscribers_are_those_of_the_account() {
    let mut bench = Bench::new();
    bench.connect(1, DEVICE);
    bench.connect(2, OTHER);
    let product = Some(ProductId(7));
    bench.apply(Input::IdentityChanged(Identity { product, ..identity(DEVICE) }));
    bench.apply(Input::IdentityChanged(Identity { owner: Some(OwnerId(2)), product, ..identity(OTHER) }));
    for (n, device, owner) in [(1, DEVICE, 1), (2, OTHER, 2)] {
        let out = bench.uplink(n, device, publish("news"));
        let event = out.iter().find_map(|output| match output {
            Output::Append { record: Record::Event { event, .. }, .. } => Some(event.whose()),
            _ => None,
        });
        assert_eq!(event, Some(Whose { owner: OwnerId(owner), product }));
    }
    let new = NewEvent { owner: OwnerId(1), product, source: Source::Api, name: "news".into(), content_format: 0, data: None, ttl_s: 60 };
    let Some(Output::Append { record: Record::Event { event, .. }, .. }) = bench.apply(Input::Publish { event: new, reply: 3 }).pop()
    else {
        panic!("it is accepted")
    };
    assert_eq!(event.whose(), Whose { owner: OwnerId(1), product });
    let out = bench.apply(Input::Committed { position: Position(1), event });
    assert!(matches!(out[..], [Output::Request { link: to, .. }] if to == link(1)));
}

#[test]
fn an_event_is_delivered_when_every_device_that_was_online_has_it() {
    let mut bench = Bench::new();
    bench.connect(1, DEVICE);
    bench.connect(2, OTHER);
    let third = DeviceId([3; 12]);
    bench.connect(3, third);
    bench.apply(Input::Closed { device: third, link: link(3) });
    let asked = requests(&bench.apply(committed(7, "news", 1)));
    let [one, two] = asked[..] else { panic!("{asked:?}") };
    assert!(fates(&bench.apply(Input::Settled { request: two, outcome: Ok(Outcome::Acknowledged) })).is_empty(), "one is still out");
    assert!(bench.apply(Input::Settled { request: two, outcome: Ok(Outcome::Acknowledged) }).is_empty(), "a late repetition");
    assert_eq!(fates(&bench.apply(Input::Settled { request: one, outcome: Ok(Outcome::Acknowledged) })), [(7, Fate::Delivered)]);
    let tally = bench.shard.take_delivery_fates();
    assert_eq!((tally[Fate::Delivered.index()], tally[Fate::Offline.index()]), (2, 1), "each device for itself");
    assert_eq!(bench.shard.take_delivery_fates(), Fates::default());
}

#[test]
fn the_worst_that_happens_to_an_event_is_its_fate() {
    let refused = Ok(Outcome::Refused(Code::BAD_REQUEST));
    let ends = [
        (Ok(Outcome::Acknowledged), Fate::Delivered),
        (Ok(Outcome::Closed { received: false }), Fate::Offline),
        (Ok(Outcome::TimedOut { received: false }), Fate::Unanswered),
        (Err(RequestError::Busy), Fate::Busy),
        (Err(RequestError::TooLarge), Fate::TooLarge),
        (refused, Fate::Refused),
    ];
    for (outcome, expected) in ends {
        let mut bench = Bench::new();
        bench.connect(1, DEVICE);
        bench.connect(2, OTHER);
        let asked = requests(&bench.apply(committed(7, "news", 1)));
        bench.apply(Input::Settled { request: asked[0], outcome });
        assert_eq!(fates(&bench.apply(Input::Settled { request: asked[1], outcome: Ok(Outcome::Acknowledged) })), [(7, expected)]);
    }
}

#[test]
fn an_event_for_devices_that_are_all_offline_is_rejected_at_once_and_one_without_an_answer_in_the_end() {
    let mut bench = Bench::new();
    bench.connect(1, DEVICE);
    assert!(fates(&bench.apply(committed(1, "news", 1))).is_empty());
    assert!(fates(&bench.later(Duration::from_millis(45_999))).is_empty());
    assert_eq!(fates(&bench.later(Duration::from_millis(1))), [(1, Fate::Unanswered)], "whatever its terminator does");
    bench.apply(Input::Closed { device: DEVICE, link: link(1) });
    assert_eq!(fates(&bench.apply(committed(2, "news", 1))), [(2, Fate::Offline)]);
}

#[test]
fn a_device_gets_a_burst_a_few_at_a_time_and_in_order() {
    let mut bench = Bench::new();
    bench.connect(1, DEVICE);
    let (mut under_way, mut met) = (std::collections::VecDeque::new(), Vec::new());
    for position in 1..=300 {
        let out = bench.apply(committed(position, "news", 1));
        under_way.extend(requests(&out));
        met.extend(fates(&out));
    }
    assert_eq!(under_way.len(), 32);
    assert_eq!(met, (289..=300).map(|position| (position, Fate::Busy)).collect::<Vec<_>>(), "32 are under way and 256 wait");
    met.clear();
    while let Some(request) = under_way.pop_front() {
        let out = bench.apply(Input::Settled { request, outcome: Ok(Outcome::Acknowledged) });
        under_way.extend(requests(&out));
        assert!(under_way.len() <= 32);
        met.extend(fates(&out));
    }
    assert_eq!(met, (1..=288).map(|position| (position, Fate::Delivered)).collect::<Vec<_>>());
    assert_eq!(requests(&bench.apply(committed(301, "news", 1))).len(), 1, "nothing is left behind");
}

#[test]
fn what_waits_for_a_device_that_falls_silent_or_goes_waits_no_longer() {
    for (outcome, expected) in
        [(Outcome::TimedOut { received: false }, Fate::Unanswered), (Outcome::Closed { received: false }, Fate::Offline)]
    {
        let mut bench = Bench::new();
        bench.connect(1, DEVICE);
        let under_way: Vec<_> = (1..=40).flat_map(|position| requests(&bench.apply(committed(position, "news", 1)))).collect();
        if expected == Fate::Offline {
            bench.apply(Input::Closed { device: DEVICE, link: link(1) });
        }
        let mut met = fates(&bench.apply(Input::Settled { request: under_way[0], outcome: Ok(outcome.clone()) }));
        assert_eq!(met.len(), 9, "that one, and the eight that waited");
        for request in &under_way[1..] {
            met.extend(fates(&bench.apply(Input::Settled { request: *request, outcome: Ok(outcome.clone()) })));
        }
        assert!(met.len() == 40 && met.iter().all(|(_, fate)| *fate == expected));
    }
}

#[test]
fn leases_end_and_say_so_once() {
    let mut bench = Bench::new();
    bench.connect(1, DEVICE);
    bench.now.at = bench.now.at + Duration::from_secs(60);
    bench.apply(Input::Heard { device: DEVICE, link: link(1), at: bench.now.unix });
    assert!(bench.later(Duration::from_secs(84)).is_empty());
    assert_eq!(names(&bench.later(Duration::from_secs(1))), ["spark/status"]);
    assert_eq!(answer_of(&bench.ask(call("fn"))), Some(&Err(AskError::Offline)));
    assert!(bench.later(Duration::from_secs(1000)).is_empty());
    let out = bench.apply(Input::Heard { device: DEVICE, link: link(1), at: bench.now.unix });
    assert_eq!(names(&out), ["spark/status"], "back online");
}

#[test]
fn a_sleeping_device_says_until_when() {
    let mut bench = Bench::new();
    bench.connect(1, DEVICE);
    let payload = vec![0x05, 0x06, 0x90, 0x1c];
    let goodbye = firmware_protocol::session::goodbye::Goodbye::parse(&payload).unwrap();
    bench.uplink(1, DEVICE, Uplink::Goodbye { goodbye, payload });
    let until = UnixMillis(bench.now.unix.0 + 3_600_000);
    assert_eq!(answer_of(&bench.ask(call("fn"))), Some(&Err(AskError::AsleepUntil(until))));
    let view = view_of(&mut bench);
    assert_eq!((view.online, view.asleep_until, view.left_for), (false, Some(until), Some("sleep")));

    bench.now.unix.0 += 20_000;
    assert!(
        bench.apply(Input::Heard { device: DEVICE, link: link(1), at: bench.now.unix }).is_empty(),
        "it only waits for acknowledgements"
    );
    bench.now.unix.0 += 3_580_000;
    assert_eq!(answer_of(&bench.ask(call("fn"))), Some(&Err(AskError::Offline)), "it should have come back");
    let out = bench.apply(Input::Heard { device: DEVICE, link: link(1), at: bench.now.unix });
    assert_eq!(names(&out), ["spark/status"]);
    let view = view_of(&mut bench);
    assert_eq!((view.online, view.asleep_until, view.left_for), (true, None, None));
}

fn view_of(bench: &mut Bench) -> DeviceView {
    match bench.apply(Input::View { devices: vec![DEVICE], reply: 9 }).pop() {
        Some(Output::Views { mut views, .. }) => views.remove(0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_version_of_an_application_is_shown_as_its_last_hello_says() {
    let mut bench = Bench::new();
    bench.connect(1, DEVICE);
    for (said, shown) in [(1, Some(1)), (0, Some(0)), (0xffff, None), (65_000, Some(65_000))] {
        let hello = Hello { product_version: said, ..hello(DEVICE) };
        bench.uplink(1, DEVICE, Uplink::Hello { hello, payload: hello.encode() });
        assert_eq!(view_of(&mut bench).firmware_version, shown);
    }
}

#[test]
fn a_device_that_woke_is_online_with_its_first_message() {
    let mut bench = Bench::new();
    bench.connect(1, DEVICE);
    let payload = vec![0x05, 0x06, 0x90, 0x1c];
    let goodbye = firmware_protocol::session::goodbye::Goodbye::parse(&payload).unwrap();
    bench.uplink(1, DEVICE, Uplink::Goodbye { goodbye, payload });
    assert_eq!(names(&bench.uplink(1, DEVICE, publish("particle/device/updates/enabled")))[0], "spark/status");
}

#[test]
fn a_restored_device_that_sleeps_is_not_online_until_it_is_heard() {
    let mut bench = Bench::new();
    let goodbye = firmware_protocol::session::goodbye::Goodbye::parse(&[0x05, 0x06, 0x90, 0x1c]).unwrap();
    let at = UnixMillis(bench.now.unix.0 - 60_000);
    bench.restore(RestoredDevice { left: Some(Left { at, goodbye }), ..restored(true, true, true) });
    assert_eq!(bench.shard.online(bench.now.at), 0);
    assert_eq!(answer_of(&bench.ask(call("fn"))), Some(&Err(AskError::AsleepUntil(UnixMillis(at.0 + 3_600_000)))));
    let out = bench.apply(Input::Heard { device: DEVICE, link: link(1), at: bench.now.unix });
    assert_eq!(names(&out), ["spark/status"]);
}

#[test]
fn a_device_whose_application_lacks_something_is_in_safe_mode() {
    let mut bench = Bench::new();
    bench.connect(1, DEVICE);
    assert!(!view_of(&mut bench).safe_mode);
    // An application that needs version 9 of system part 1, and nothing else.
    let payload = vec![0x0a, 0x0a, 0x08, 0x05, 0x4a, 0x06, 0x08, 0x04, 0x10, 0x01, 0x18, 0x09];
    bench.uplink(1, DEVICE, Uplink::Describe { kind: DescribeKind::System, payload: payload.clone() });
    assert!(view_of(&mut bench).safe_mode);
    let sound = [&payload[..], &[0x0a, 0x06, 0x08, 0x04, 0x10, 0x01, 0x18, 0x09]].concat();
    bench.uplink(1, DEVICE, Uplink::Describe { kind: DescribeKind::System, payload: sound });
    assert!(!view_of(&mut bench).safe_mode);
    let mut bench = Bench::new();
    let system = payload.into();
    bench.restore(RestoredDevice { system: Some(&system), ..restored(true, true, true) });
    assert!(view_of(&mut bench).safe_mode);
}

#[test]
fn a_device_that_says_so_is_in_safe_mode_until_its_application_speaks() {
    let mut bench = Bench::new();
    bench.connect(1, DEVICE);
    let application = |json: &[u8]| Uplink::Describe { kind: DescribeKind::Application, payload: json.to_vec() };
    let spoken = [publish("temperature"), application(br#"{"f":["led"],"v":{}}"#), application(br#"{"f":[],"v":{"x":2}}"#)];
    for spoken in spoken {
        bench.uplink(1, DEVICE, publish("spark/device/safemode"));
        bench.uplink(1, DEVICE, publish("particle/device/updates/enabled"));
        bench.uplink(1, DEVICE, application(br#"{"f":[],"v":{}}"#));
        assert!(view_of(&mut bench).safe_mode);
        bench.uplink(1, DEVICE, spoken);
        assert!(!view_of(&mut bench).safe_mode);
    }
}

fn restored(hello_known: bool, described: bool, subscribed: bool) -> RestoredDevice<'static> {
    static APPLICATION: LazyLock<Arc<[u8]>> = LazyLock::new(|| b"{}"[..].into());
    static SYSTEM: LazyLock<Arc<[u8]>> = LazyLock::new(|| [1].into());
    static SUBSCRIPTIONS: LazyLock<Arc<BTreeSet<Subscription>>> =
        LazyLock::new(|| Arc::new(BTreeSet::from([Subscription::new("spark", HandlerKind::Text)])));
    RestoredDevice {
        identity: identity(DEVICE),
        link: link(1),
        established_at: UnixMillis(5),
        ip: [127, 0, 0, 1].into(),
        hello: hello_known.then(|| hello(DEVICE)),
        application: described.then_some(&APPLICATION),
        system: Some(&SYSTEM),
        left: None,
        subscriptions: subscribed.then_some(&SUBSCRIPTIONS),
        online: true,
    }
}

#[test]
fn a_restored_session_is_online_and_complete_or_completed() {
    for (hello_known, described, subscribed) in [(true, true, true), (true, false, true), (true, true, false), (false, false, false)] {
        let mut bench = Bench::new();
        bench.restore(restored(hello_known, described, subscribed));
        assert_eq!(bench.shard.online(bench.now.at), 1);
        assert!(bench.apply(Input::Heard { device: DEVICE, link: link(1), at: bench.now.unix }).is_empty(), "nothing to announce");
        let out = bench.later(Duration::from_secs(15));
        match (hello_known && subscribed, described) {
            (true, true) => assert!(out.is_empty()),
            (true, false) => assert!(matches!(out[..], [Output::Request { request: Request::Describe(DescribeKind::Application), .. }])),
            (false, _) => {
                assert!(matches!(out[1], Output::Retire { reason: RetireReason::StateLost, .. }));
                assert_eq!(names(&out), ["spark/status"]);
            }
        }
    }
}

/// What owners are told, in order.
fn statuses(outputs: &Outputs) -> Vec<String> {
    let status = |output: &Output<u32>| match output {
        Output::Append { record: Record::Event { event, .. }, .. } if event.name == "spark/status" => event.data.clone(),
        _ => None,
    };
    outputs.iter().filter_map(status).map(|data| String::from_utf8(data).unwrap()).collect()
}

const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn a_restored_device_that_never_comes_back_goes_once_after_its_lease() {
    let mut bench = Bench::new();
    bench.restore(restored(true, true, true));
    let lease = crate::presence::lease(Some(32));
    assert!(bench.later(lease - Duration::from_millis(1)).is_empty());
    assert_eq!(statuses(&bench.later(Duration::from_millis(1))), ["offline"]);
    assert!(bench.later(DAY).is_empty());
    assert_eq!(statuses(&bench.apply(Input::Heard { device: DEVICE, link: link(1), at: bench.now.unix })), ["online"]);
}

#[test]
fn a_restored_device_that_was_offline_stays_silent_until_it_is_heard() {
    let mut bench = Bench::new();
    bench.restore(RestoredDevice { online: false, ..restored(true, true, true) });
    assert_eq!((bench.shard.online(bench.now.at), view_of(&mut bench).online), (0, false));
    assert!(bench.later(DAY).is_empty());
    assert_eq!(statuses(&bench.apply(Input::Heard { device: DEVICE, link: link(1), at: bench.now.unix })), ["online"]);
    assert_eq!(statuses(&bench.later(DAY)), ["offline"]);
}

#[test]
fn a_device_that_was_online_without_a_session_may_come_back_within_its_lease() {
    let awaited = || AwaitedDevice { identity: identity(DEVICE), hello: Some(hello(DEVICE)) };
    let mut bench = Bench::new();
    bench.shard.expect(bench.now, awaited());
    assert_eq!((bench.shard.online(bench.now.at), view_of(&mut bench).online), (0, false), "it cannot be reached");
    assert_eq!(answer_of(&bench.ask(call("fn"))), Some(&Err(AskError::Offline)));
    bench.later(Duration::from_secs(60));
    let out = bench.apply(Input::Opened { link: link(1), identity: identity(DEVICE), ip: [127, 0, 0, 1].into() });
    assert!(statuses(&out).is_empty() && view_of(&mut bench).online);

    let mut bench = Bench::new();
    bench.shard.expect(bench.now, awaited());
    assert_eq!(statuses(&bench.later(crate::presence::lease(Some(32)))), ["offline"]);
    assert!(bench.later(DAY).is_empty());
    let out = bench.apply(Input::Opened { link: link(1), identity: identity(DEVICE), ip: [127, 0, 0, 1].into() });
    assert_eq!(statuses(&out), ["online"]);
}

#[test]
fn a_combined_describe_says_functions_and_variables_also_after_a_restart() {
    let combined = br#"{"f":["fn"],"v":{"t":9},"p":12,"m":[{"s":1,"l":"m","vc":2,"vv":2,"f":"s","n":"1","v":200,"d":[]}]}"#.to_vec();
    let mut bench = Bench::new();
    bench.apply(Input::Opened { link: link(1), identity: identity(DEVICE), ip: [127, 0, 0, 1].into() });
    bench.uplink(1, DEVICE, Uplink::Hello { hello: hello(DEVICE), payload: hello(DEVICE).encode() });
    assert_eq!(answer_of(&bench.ask(call("fn"))), Some(&Err(AskError::NotDescribed)));
    bench.uplink(1, DEVICE, Uplink::Describe { kind: DescribeKind::System, payload: combined.clone() });
    assert!(matches!(bench.ask(call("fn"))[..], [Output::Request { request: Request::Call { .. }, .. }]));
    assert_eq!(answer_of(&bench.ask(call("other"))), Some(&Err(AskError::NoSuchFunction)));

    let mut bench = Bench::new();
    let system = combined.into();
    bench.restore(RestoredDevice { application: None, system: Some(&system), ..restored(true, false, true) });
    bench.apply(Input::Heard { device: DEVICE, link: link(1), at: bench.now.unix });
    assert!(bench.later(Duration::from_secs(15)).is_empty(), "nothing is missing");
    assert!(matches!(bench.ask(call("fn"))[..], [Output::Request { request: Request::Call { .. }, .. }]));
}

#[test]
fn firmware_that_posts_no_describes_is_asked_for_them() {
    let mut bench = Bench::new();
    bench.apply(Input::Opened { link: link(1), identity: identity(DEVICE), ip: [127, 0, 0, 1].into() });
    let old = Hello { flags: 0x06, system_version: None, message_max: None, binary_max: None, ota_chunk: None, ..hello(DEVICE) };
    let out = bench.uplink(1, DEVICE, Uplink::Hello { hello: old, payload: old.encode() });
    assert!(!out.iter().any(|output| matches!(output, Output::Request { .. })), "the device would not hear it yet");
    let asked: Vec<Request> = bench.later(Duration::from_secs(1)).into_iter().filter_map(request_of).collect();
    assert_eq!(asked, [Request::Describe(DescribeKind::System), Request::Describe(DescribeKind::Application)]);
}

fn request_of(output: Output<u32>) -> Option<Request> {
    match output {
        Output::Request { request, .. } => Some(request),
        _ => None,
    }
}

#[test]
fn a_revoked_device_is_retired_and_forgotten() {
    let mut bench = Bench::new();
    bench.connect(1, DEVICE);
    let out = bench.apply(Input::Revoked(DEVICE));
    assert!(matches!(out[1], Output::Retire { reason: RetireReason::Revoked, .. }));
    assert_eq!(names(&out), ["spark/status"]);
    assert!(bench.uplink(1, DEVICE, publish("temp")).is_empty());
}

const PAGE: [u8; 13] = [0, 4, 0, 2, 0, 4, 0, 6, 0, 0x4d, 0, 0, 0];

fn metrics(page: &[u8]) -> Uplink {
    Uplink::Describe { kind: DescribeKind::Metrics, payload: page.to_vec() }
}

#[test]
fn vitals_become_an_event_and_are_acknowledged_with_it() {
    let mut bench = Bench::new();
    bench.connect(1, DEVICE);
    bench.uplink(1, DEVICE, publish("temp"));
    bench.now.unix.0 += 5_000;
    let out = bench.uplink(1, DEVICE, metrics(&PAGE));
    let [Output::Append { record: Record::Event { floor: Some(_), event }, then: Then::Acknowledge { .. } }] = &out[..] else {
        panic!("{out:?}");
    };
    let data = String::from_utf8(event.data.clone().unwrap()).unwrap();
    assert_eq!((event.name.as_str(), event.source), ("spark/device/diagnostics/update", Source::Device(DEVICE)));
    assert!(data.contains(r#""uptime":77"#) && data.contains(r#""cloud":{"publish":{"sent":1},"uptime":5}"#), "{data}");
    for (page, owner) in [(&PAGE[..12], Some(OwnerId(1))), (&PAGE[..], None)] {
        bench.apply(Input::IdentityChanged(Identity { owner, ..identity(DEVICE) }));
        let out = bench.uplink(1, DEVICE, metrics(page));
        assert!(matches!(out[..], [Output::Append { record: Record::Seen { .. }, then: Then::Acknowledge { .. } }]), "{out:?}");
    }
    assert_eq!((bench.shard.counts().vitals, bench.shard.counts().vitals_malformed), (1, 1));
}

#[test]
fn a_device_is_asked_for_its_vitals_once_at_a_time() {
    let mut bench = Bench::new();
    assert_eq!(answer_of(&bench.ask(Ask::Vitals)), Some(&Err(AskError::Offline)));
    bench.connect(1, DEVICE);
    let out = bench.ask(Ask::Vitals);
    let [Output::Request { id, request: Request::Describe(DescribeKind::Metrics), .. }, Output::Answer { answer: Ok(Answer::Done), .. }] =
        out[..]
    else {
        panic!("{out:?}");
    };
    assert!(matches!(bench.ask(Ask::Vitals)[..], [Output::Answer { answer: Ok(Answer::Done), .. }]), "it is being asked already");
    let told = Ok(Outcome::Described(DescribeKind::Metrics, PAGE.to_vec()));
    assert_eq!(names(&bench.apply(Input::Settled { request: id, outcome: told })), ["spark/device/diagnostics/update"]);
    assert_eq!(bench.ask(Ask::Vitals).len(), 2);
    assert!(bench.later(Duration::from_secs(40)).is_empty(), "a device that says nothing");
    assert_eq!(bench.ask(Ask::Vitals).len(), 2);
}

#[test]
fn firmware_without_vitals_is_not_asked_for_them() {
    let mut bench = Bench::new();
    bench.connect(1, DEVICE);
    let hello = Hello { flags: 0x34, ..hello(DEVICE) };
    bench.uplink(1, DEVICE, Uplink::Hello { hello, payload: hello.encode() });
    assert_eq!(answer_of(&bench.ask(Ask::Vitals)), Some(&Err(AskError::NotSupported)));
}

/// The event that a device is told, and the errand that is run.
fn told(outputs: &Outputs) -> Vec<String> {
    let text = |output: &Output<u32>| match output {
        Output::Request { request: Request::Deliver(delivery), link: to, .. } if *to == link(1) => Some(format!("{delivery:?}")),
        _ => None,
    };
    outputs.iter().filter_map(text).collect()
}

fn errand(outputs: &Outputs) -> Option<&Errand> {
    outputs.iter().find_map(|output| match output {
        Output::Errand(errand) => Some(errand),
        _ => None,
    })
}

#[test]
fn a_device_is_told_its_address_and_its_owner_hears_nothing() {
    let mut bench = Bench::new();
    bench.connect(1, DEVICE);
    for name in ["particle/device/ip", "spark/device/ip"] {
        let out = bench.uplink(1, DEVICE, publish(name));
        assert!(matches!(out[0], Output::Append { record: Record::Seen { .. }, then: Then::Acknowledge { .. } }));
        assert_eq!(told(&out), [format!("{:?}", firmware_protocol::session::publish::Delivery::new(name, 0, Some(b"127.0.0.1")).unwrap())]);
        assert_eq!(out.len(), 2);
    }
}

#[test]
fn names_and_randomness_are_fetched_and_told_within_limits() {
    let mut bench = Bench::new();
    bench.connect(1, DEVICE);
    let out = bench.uplink(1, DEVICE, publish("spark/device/name"));
    let asked = errand(&out).unwrap().clone();
    assert_eq!((asked.device, asked.link, asked.task), (DEVICE, link(1), Task::Name { event: "spark/device/name".into() }));
    let answer = Errands::Text { event: "spark/device/name".into(), text: "kelp".into() };
    let out = bench.apply(Input::ErrandDone { device: DEVICE, link: link(1), outcome: answer.clone() });
    assert_eq!((told(&out).len(), out.len()), (1, 1));
    assert!(bench.apply(Input::ErrandDone { device: DEVICE, link: link(2), outcome: answer }).is_empty(), "of another session");

    let errands = (0..10).filter(|_| errand(&bench.uplink(1, DEVICE, publish("particle/device/random"))).is_some()).count();
    assert_eq!((errands, bench.shard.counts().wishes_refused), (4, 6));
    let out = bench.uplink(1, DEVICE, publish("particle/device/random"));
    assert!(matches!(out[..], [Output::Acknowledge { code: Code::TOO_MANY, .. }]));
}

fn present(bench: &mut Bench) -> Claim {
    let out = bench.uplink(1, DEVICE, publish("spark/device/claim/code"));
    assert_eq!(out.len(), 1, "neither shown nor acknowledged yet");
    match errand(&out).unwrap().task.clone() {
        Task::Claim(claim) => claim,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_claim_is_acknowledged_with_its_verdict_and_effective_at_once() {
    let mut bench = Bench::new();
    let unowned = Identity { owner: None, ..identity(DEVICE) };
    bench.apply(Input::Opened { link: link(1), identity: unowned, ip: [127, 0, 0, 1].into() });
    let claim = present(&mut bench);
    assert_eq!(claim.code, b"x");
    assert!(!format!("{claim:?}").contains("code"));
    let out = bench.uplink(1, DEVICE, publish("spark/device/claim/code"));
    assert!(matches!(out[..], [Output::Acknowledge { code: Code::TOO_MANY, .. }]), "one at a time");

    let outcome = Errands::Claimed(claim, Verdict::Owned(identity(DEVICE)));
    let out = bench.apply(Input::ErrandDone { device: DEVICE, link: link(1), outcome });
    assert!(matches!(out[0], Output::Identify { identity: Identity { owner: Some(OwnerId(1)), .. }, .. }));
    assert!(told(&out)[0].contains("spark/device/claim/response"));
    assert_eq!(names(&out), ["spark/status"], "the owner sees that it is online");
    assert!(matches!(out[3], Output::Append { record: Record::Seen { .. }, then: Then::Acknowledge { .. } }));
    assert_eq!(names(&bench.uplink(1, DEVICE, publish("temp"))), ["temp"]);
}

#[test]
fn a_claim_that_is_refused_or_failed_leaves_the_device_its_code() {
    let mut bench = Bench::new();
    bench.connect(1, DEVICE);
    let claim = present(&mut bench);
    let done = |bench: &mut Bench, claim, verdict| {
        bench.apply(Input::ErrandDone { device: DEVICE, link: link(1), outcome: Errands::Claimed(claim, verdict) })
    };
    let out = done(&mut bench, claim, Verdict::Refused);
    assert!(matches!(out[..], [Output::Append { record: Record::Seen { .. }, .. }]));
    let claim = present(&mut bench);
    let out = done(&mut bench, claim, Verdict::Failed);
    assert!(matches!(out[..], [Output::Acknowledge { code: Code::UNAVAILABLE, .. }]));
}
