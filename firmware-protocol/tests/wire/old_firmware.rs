//! Messages of firmware before 6.2, from `testdata/old-firmware.txt`.

use firmware_protocol::coap::{Code, Message};
use firmware_protocol::error::RequestError;
use firmware_protocol::id::DeviceId;
use firmware_protocol::session::Uplink;
use firmware_protocol::session::describe::{Application, DescribeKind};
use firmware_protocol::session::hello::Hello;
use firmware_protocol::session::publish::{Delivery, Publish};
use firmware_protocol::session::request::Request;
use firmware_protocol::session::subscribe::{HandlerKind, Subscription};
use firmware_protocol::session::variable::VariableType;

use crate::bench::Bench;

fn vector(name: &str) -> &'static str {
    let lines = include_str!("../../testdata/old-firmware.txt").lines().filter_map(|line| line.split_once(' '));
    lines.filter(|(own, _)| *own == name).map(|(_, hex)| hex).next().unwrap()
}

fn uplink(name: &str) -> Uplink {
    Bench::new().hear_hex(vector(name)).uplink()
}

fn device() -> DeviceId {
    "e00fce680102030405060708".parse().unwrap()
}

#[test]
fn the_hello_of_every_age_is_understood_and_acknowledged() {
    for (name, by_udp, system_version, message_cap, posts_describes) in [
        ("hello-1.5-udp", true, None, 800, false),
        ("hello-2.x-udp", true, None, 800, true),
        ("hello-3.0-rc-udp", true, Some(3000), 800, true),
        ("hello-3.0.0-udp", true, Some(3000), 1152, true),
        ("hello-2.x-tcp", false, None, 767, true),
        ("hello-3.0.0-tcp", false, Some(3000), 800, true),
    ] {
        let mut bench = Bench::new();
        let came = bench.hear_hex(vector(name));
        let Uplink::Hello { hello, payload } = came.uplink() else { panic!("{came:?}") };
        assert_eq!(hello.device, by_udp.then(device), "{name}");
        assert_eq!(
            (hello.system_version, hello.message_cap(), hello.posts_describes()),
            (system_version, message_cap, posts_describes),
            "{name}"
        );
        assert!(!hello.takes_typed_events());
        assert_eq!((Hello::parse(&payload), hello.encode()), (Some(hello), payload), "{name}");
        let acknowledged = bench.acknowledge(came.received[0].0, Code::EMPTY);
        assert_eq!(acknowledged.sent.len(), usize::from(by_udp), "{name}: what is not confirmable is not acknowledged");
    }
}

#[test]
fn nothing_longer_than_an_old_device_takes_is_sent() {
    let call = |len| Request::Call { function: "fn".into(), argument: "x".repeat(len) };
    for (name, cap) in [("hello-2.x-udp", 800), ("hello-3.0.0-udp", 1152), ("hello-2.x-tcp", 767)] {
        let mut bench = Bench::new();
        bench.hear_hex(vector(name));
        let (result, came) = bench.request(call(700));
        assert_eq!(result.map(|_| came.sent.len()), Ok(1));
        let overhead = came.sent[0].1.len() - 700;
        let longest = (cap - overhead).min(1024);
        assert!(bench.request(call(longest)).0.is_ok(), "{name}");
        assert_eq!(bench.request(call(longest + 1)).0.err(), Some(RequestError::TooLarge), "{name}");
    }
}

#[test]
fn a_combined_describe_is_a_system_describe_that_says_more() {
    let Uplink::Describe { kind: DescribeKind::System, payload } = uplink("describe-combined") else { panic!("a system describe") };
    let application = Application { functions: vec!["fn".into()], variables: vec![("t".into(), VariableType::Double)] };
    assert_eq!(Application::within_system(&payload), Some(application));
    let Uplink::Describe { kind: DescribeKind::System, payload } = uplink("describe-system") else { panic!("a system describe") };
    assert_eq!(Application::within_system(&payload), None);
}

#[test]
fn hostile_describes_say_nothing_about_the_application() {
    let nested = format!("{{\"f\":[],\"v\":{{\"a\":{}{}}}}}", "[".repeat(200), "]".repeat(200));
    let long = format!("{{\"f\":[],\"m\":\"{}\"}}", "x".repeat(16 * 1024));
    let wrong = [r#"{"f":[1]}"#, r#"{"f":{}}"#, r#"{"v":[]}"#, r#"{"f":[],"f":[]}"#, r#"{"f":["#, "[]", "\u{a}\u{0}", ""];
    for payload in wrong.into_iter().chain([&nested[..], &long]) {
        assert_eq!(Application::within_system(payload.as_bytes()), None, "{}", &payload[..payload.len().min(40)]);
    }
    let many: Vec<String> = (0..2000).map(|n| format!("{n}")).collect();
    let application = Application::within_system(serde_json::json!({ "f": many }).to_string().as_bytes()).unwrap();
    assert_eq!(application.functions.len(), 256);
}

#[test]
fn old_subscriptions_mean_the_owners_devices_or_one_of_them() {
    let all = Subscription::new("news", HandlerKind::Text);
    assert_eq!(uplink("subscribe-mine"), Uplink::Subscribe(all.clone()));
    assert_eq!(uplink("subscribe-all"), Uplink::Subscribe(all.clone()));
    assert_eq!(uplink("subscribe-one"), Uplink::Subscribe(Subscription { publisher: Some(device()), ..all }));
}

#[test]
fn public_and_private_events_are_events() {
    let event = |ttl_s| Uplink::Publish(Publish { name: "temp".into(), content_format: 0, data: Some(b"21".to_vec()), ttl_s });
    assert_eq!(uplink("event-public"), event(60));
    assert_eq!(uplink("event-private"), event(3600));
}

#[test]
fn an_event_to_an_old_device_has_no_option_but_its_path() {
    let mut bench = Bench::new();
    bench.hear_hex(vector("hello-2.x-udp"));
    let (_, came) = bench.request(Request::Deliver(Delivery::new("news", 0, Some(b"rain")).unwrap()));
    let message = came.hex();
    assert_eq!(&message[..4], "4002");
    assert_eq!(&message[8..], vector("delivery"));
    assert!(Message::decode(&came.sent[0].1).is_some());
}
