//! The recorded CoAP session of `testdata/vectors.json`, message by message, and the requests that its device understood.

use firmware_protocol::coap::{Code, Kind, Message};
use firmware_protocol::session::Uplink;
use firmware_protocol::session::describe::DescribeKind;
use firmware_protocol::session::publish::{Delivery, Publish};
use firmware_protocol::session::request::{Outcome, Request};
use firmware_protocol::session::subscribe::{HandlerKind, Subscription};

use crate::bench::{Bench, UNIX_S};

/// The recorded messages of the device, in order.
fn recorded() -> Vec<String> {
    let json: serde_json::Value = serde_json::from_str(include_str!("../../testdata/vectors.json")).unwrap();
    let all = json["coap_udp_session"].as_array().unwrap().iter();
    all.inspect(|message| assert_eq!(message["dir"], "D->S")).map(|message| message["hex"].as_str().unwrap().to_owned()).collect()
}

fn publish(name: &str, content_format: u16, data: Option<&[u8]>, ttl_s: u32) -> Uplink {
    Uplink::Publish(Publish { name: name.into(), content_format, data: data.map(<[u8]>::to_vec), ttl_s })
}

fn subscribe(prefix: &str, handler: HandlerKind) -> Uplink {
    Uplink::Subscribe(Subscription::new(prefix, handler))
}

/// The device's requests, what they mean and the acknowledgement they get once they are durable.
#[test]
fn every_request_of_the_device_means_what_it_says() {
    let (mut bench, recorded) = (Bench::new(), recorded());
    let metrics = hex::decode("0004000200040006004d000000").unwrap();
    let application = br#"{"f":["fn"],"v":{"i":2}}"#.to_vec();
    let expected = [
        (1, Uplink::Describe { kind: DescribeKind::System, payload: vec![0x53; 40] }),
        (2, publish("spark/device/claim/code", 0, Some(b"CLAIM"), 60)),
        (4, publish("particle/device/updates/enabled", 0, Some(b"true"), 60)),
        (5, Uplink::Describe { kind: DescribeKind::Application, payload: application }),
        (6, subscribe("particle", HandlerKind::Text)),
        (7, subscribe("spark", HandlerKind::Text)),
        (8, subscribe("my/evt", HandlerKind::Cbor)),
        (9, publish("typed", 65_001, Some(&[0xa1, 0x61, 0x61]), 60)),
        (10, publish("noack", 0, Some(b"x"), 3600)),
        (11, publish("big-ttl", 0, None, 100_000)),
        (12, Uplink::Describe { kind: DescribeKind::Metrics, payload: metrics }),
    ];
    let came = bench.hear_hex(&recorded[0]);
    let Uplink::Hello { hello, payload } = came.uplink() else { panic!("{came:?}") };
    assert_eq!(hello.device.unwrap().to_string(), "e00fce680102030405060708");
    assert_eq!((hello.platform, hello.flags, hello.encode()), (13, 0x76, payload));
    assert_eq!(bench.acknowledge(came.received[0].0, Code::EMPTY).hex(), "60000001");

    for (index, uplink) in expected {
        let came = bench.hear_hex(&recorded[index]);
        assert!(came.sent.is_empty(), "nothing before it is durable: {came:?}");
        assert_eq!(came.uplink(), uplink);
        let (receipt, confirmable) = (came.received[0].0, recorded[index].starts_with('4'));
        match confirmable {
            true => assert_eq!(bench.acknowledge(receipt, Code::EMPTY).hex(), format!("6000{}", &recorded[index][4..8])),
            false => assert!(bench.acknowledge(receipt, Code::EMPTY).sent.is_empty()),
        }
    }

    let seconds = hex::encode(UNIX_S.to_be_bytes());
    assert_eq!(bench.hear_hex(&recorded[3]).hex(), format!("6145000445ff{seconds}"));
    assert_eq!(bench.hear_hex(&recorded[13]).hex(), "61a1000e48", "a ledger request");
    let came = bench.hear_hex(&recorded[37]);
    assert!(matches!(came.uplink(), Uplink::Goodbye { goodbye, .. } if goodbye.sleep.map(|sleep| sleep.as_secs()) == Some(3600)));
    assert_eq!(bench.acknowledge(came.received[0].0, Code::EMPTY).hex(), "60000018");
}

/// The device's answers, under the id and token that our request has.
#[test]
fn every_answer_of_the_device_settles_its_request() {
    let recorded = recorded();
    let read = || Request::Read { variable: "d".into() };
    let application = br#"{"f":["fn"],"v":{"i":2}}"#.to_vec();
    let metrics = hex::decode("0004000200040006004d000000").unwrap();
    let cases = [
        (read(), 15, Some(16), Outcome::Value(1.5f64.to_le_bytes().to_vec())),
        (read(), 17, Some(18), Outcome::Value(b"hello".to_vec())),
        (read(), 19, Some(20), Outcome::Value(vec![1])),
        (read(), 21, Some(22), Outcome::Refused(Code::NOT_FOUND)),
        (Request::Call { function: "fn".into(), argument: "arg".into() }, 23, Some(24), Outcome::Returned(42)),
        (Request::Ping, 14, None, Outcome::Acknowledged),
        (Request::Signal { on: true }, 26, None, Outcome::Acknowledged),
        (Request::Describe(DescribeKind::Application), 27, Some(28), Outcome::Described(DescribeKind::Application, application)),
        (Request::Describe(DescribeKind::Metrics), 29, Some(30), Outcome::Described(DescribeKind::Metrics, metrics)),
        (Request::Deliver(Delivery::new("a", 0, Some(b"b")).unwrap()), 33, None, Outcome::Acknowledged),
    ];
    let mut bench = Bench::new();
    for (request, acknowledgement, response, outcome) in cases {
        let (id, came) = bench.request(request);
        let asked = came.message();
        let mine = |index: usize| {
            let message = Message::decode(&hex::decode(&recorded[index]).unwrap()).unwrap();
            let id = if message.kind == Kind::Acknowledgement { asked.id } else { message.id };
            let token = if message.token.is_empty() { vec![] } else { asked.token.clone() };
            Message { id, token, ..message }
        };
        let first = bench.hear(&mine(acknowledgement).encode());
        let last = match response {
            None => first,
            Some(response) => {
                assert!(first.settled.is_empty() && first.sent.is_empty());
                let came = bench.hear(&mine(response).encode());
                assert_eq!(came.hex(), format!("6000{}", &recorded[response][4..8]), "a response is acknowledged");
                came
            }
        };
        assert_eq!(last.settled, [(id.unwrap(), outcome)]);
    }
    // Answers to what nobody asked: acknowledged where they want it, and no more.
    for message in &recorded[14..37] {
        let came = bench.hear_hex(message);
        assert!(came.settled.is_empty() && came.received.is_empty(), "{message}: {came:?}");
        assert_eq!(came.sent.len(), usize::from(message.starts_with('4')), "{message}");
    }
}
