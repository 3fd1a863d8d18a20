//! A session whose shard is another from one moment to the next: nothing that waited is lost, nothing is taken twice, and nobody asks twice.

use std::time::Duration;

use firmware_protocol::coap::{Code, Kind, Message};
use firmware_protocol::session::Unkept;
use firmware_protocol::session::request::Request;
use firmware_protocol::session::stored::Generation;

use crate::bench::{Bench, Hand};
use crate::stream::{HELLO, StreamBench};

fn event(id: u16) -> Vec<u8> {
    Message::new(Kind::Confirmable, Code::POST, id, &[]).path(&["E", "typed"]).payload(*b"aa").encode()
}

fn open<H: Hand>() -> H {
    let mut bench = H::new_in(Generation(5));
    let receipt = bench.hear(&hex::decode(HELLO).unwrap()).received[0].0;
    bench.acknowledge(receipt, Code::EMPTY);
    bench
}

fn call() -> Request {
    Request::Call { function: "f".into(), argument: String::new() }
}

#[test]
fn what_waits_is_taken_anew_when_the_device_repeats_it_and_what_was_acknowledged_is_not() {
    let mut bench = open::<Bench>();
    let accepted = bench.hear(&event(10)).received[0].0;
    let lost = bench.hear(&event(11)).received[0].0;
    bench.hear(&event(12));
    bench.acknowledge(accepted, Code::EMPTY);
    bench.disown();
    assert!(bench.acknowledge(lost, Code::EMPTY).sent.is_empty(), "what the old shard says of it does not count");
    bench.pass(Duration::from_secs(4));
    let again = bench.hear(&event(10));
    assert!(again.received.is_empty() && again.message().code == Code::EMPTY);
    let receipt = bench.hear(&event(11)).received[0].0;
    assert!(bench.hear(&event(11)).received.is_empty(), "it waits again");
    assert_eq!(bench.acknowledge(receipt, Code::EMPTY).message().id, 11);
    assert_eq!(bench.pass(Duration::from_secs(40)).unkept, [Unkept::Late], "one that is not repeated is not silence");
    assert!(!bench.close().closed);
}

#[test]
fn a_stream_on_which_something_waits_ends_and_another_goes_on() {
    let mut bench = open::<StreamBench>();
    let receipt = bench.hear(&event(10)).received[0].0;
    bench.acknowledge(receipt, Code::EMPTY);
    assert!(!bench.disown().closed);
    bench.hear(&event(11));
    assert!(bench.disown().closed, "its device would not repeat it");
}

fn nobody_is_told_of_requests<H: Hand>() {
    let mut bench = open::<H>();
    bench.request(call()).0.unwrap();
    bench.request(Request::Ping).0.unwrap();
    let came = bench.disown();
    assert!(came.settled.is_empty() && came.sent.is_empty());
    let came = bench.pass(Duration::from_secs(25));
    let requests = came.sent.iter().filter_map(|(_, bytes)| Message::decode(bytes)).filter(|message| message.code != Code::EMPTY);
    assert_eq!((requests.count(), came.settled.len()), (0, 0), "nothing is sent again");
    let (id, came) = bench.request(call());
    let asked = came.message();
    let answer = Message::new(Kind::Confirmable, Code::CHANGED, 77, &asked.token).payload([0, 0, 0, 7]).encode();
    let came = bench.hear(&answer);
    assert_eq!(came.settled.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [id.unwrap()], "what is asked after it is answered");
}

#[test]
fn nobody_is_told_of_requests_over_datagrams() {
    nobody_is_told_of_requests::<Bench>();
}

#[test]
fn nobody_is_told_of_requests_over_a_stream() {
    nobody_is_told_of_requests::<StreamBench>();
}
