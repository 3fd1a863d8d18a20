//! What a session remembers, and for how long.

use std::time::Duration;

use firmware_protocol::coap::{Code, Kind, Message, option};
use firmware_protocol::dtls::record::content;
use firmware_protocol::session::describe::DescribeKind;
use firmware_protocol::session::request::{Outcome, Request};

use crate::bench::{Bench, path};

fn call() -> Request {
    Request::Call { function: "fn".into(), argument: String::new() }
}

fn returned(id: u16, token: &[u8], value: i32) -> Vec<u8> {
    Message::new(Kind::Confirmable, Code::CHANGED, id, token).payload(value.to_be_bytes()).encode()
}

/// The device repeats a response whose acknowledgement was lost; by then a later call has the same token, because nothing was open in between.
#[test]
fn a_repeated_response_does_not_answer_a_later_request() {
    let mut bench = Bench::new();
    bench.hear_hex("40020001b14505747970656412fde9ffa16161");
    bench.pass(Duration::from_secs(85));
    let (first, came) = bench.request(call());
    let asked = came.message();
    let response = returned(7, &asked.token, 1);
    assert_eq!(bench.hear(&response).settled, [(first.unwrap(), Outcome::Returned(1))]);

    bench.pass(Duration::from_secs(20));
    let (second, came) = bench.request(call());
    let asked = came.message();
    let repeated = bench.hear(&response);
    assert_eq!(repeated.message().kind, Kind::Acknowledgement, "it is acknowledged again");
    assert!(repeated.settled.is_empty());
    assert_eq!(bench.hear(&returned(8, &asked.token, 2)).settled, [(second.unwrap(), Outcome::Returned(2))]);
}

#[test]
fn nothing_is_kept_when_nothing_is_open() {
    let mut bench = Bench::new();
    let idle = format!("{:?}", bench.session);
    assert!(idle.contains("open: None"));
    let (_, came) = bench.request(Request::Ping);
    assert!(format!("{:?}", bench.session).contains("open: Some"));
    bench.hear_acknowledgement_of(&came.message());
    assert!(format!("{:?}", bench.session).contains("open: None"), "an acknowledged ping leaves nothing");

    // A call that is never answered keeps its token out of use for a while, and no longer.
    bench.request(call()).0.unwrap();
    bench.pass(Duration::from_secs(60));
    assert!(bench.session.timeout_at().is_some());
    bench.pass(Duration::from_secs(301));
    assert_eq!(bench.session.timeout_at(), None);
    assert!(format!("{:?}", bench.session).contains("open: None"));

    // An acknowledgement that comes too late finds nothing and leaves nothing.
    let came = bench.hear_hex("40020001b14505747970656412fde9ffa16161");
    bench.pass(Duration::from_secs(91));
    assert!(bench.acknowledge(came.received[0].0, Code::EMPTY).sent.is_empty());
    assert!(format!("{:?}", bench.session).contains("open: None"));
}

#[test]
fn a_moved_device_is_answered_while_many_requests_are_open() {
    let mut bench = Bench::new();
    while bench.request(Request::Ping).0.is_ok() {}
    let came = bench.hear_from(path(2), &hex::decode("40000007").unwrap());
    let check = came.sent.iter().find(|(_, bytes)| bytes[0] == 0x40).expect("the new address is checked");
    assert!(came.sent.iter().all(|(to, _)| *to == path(2)), "ping and answer go to where the device is");
    let check = Message::decode(&check.1).unwrap();
    let came = bench.hear_from(path(2), &Message::new(Kind::Acknowledgement, Code::EMPTY, check.id, &[]).encode());
    assert_eq!(came.moved, [path(2)]);
}

#[test]
fn the_last_flight_is_repeated_to_where_the_device_waits_for_it() {
    let mut bench = Bench::new();
    let finished = [&[20, 0, 0, 12, 0, 5, 0, 0, 0, 0, 0, 12][..], &[0; 12]].concat();
    let datagram = bench.record(content::HANDSHAKE, &finished);
    let (result, came) = bench.datagram(&datagram, path(2));
    assert_eq!(result, Ok(()));
    assert_eq!(came.others.len(), 1);
    assert_eq!(came.others[0].0, path(2));
    assert!(came.others[0].1.len() < datagram.len() + 40, "no amplifier");
    let (result, came) = bench.datagram(&datagram, path(2));
    assert!(result.is_err() && came.others.is_empty(), "once for each record number");
    assert_eq!(bench.session.path(), path(1));
}

#[test]
fn a_describe_that_was_lost_half_way_is_asked_for_once() {
    let mut bench = Bench::new();
    let last = |id| {
        let message = Message::new(Kind::Confirmable, Code::POST, id, &[9]).path(&["d"]);
        message.with(option::URI_QUERY, [2]).with(option::BLOCK1, [0x16]).payload("x").encode()
    };
    assert_eq!(bench.hear(&last(5)).lost, [DescribeKind::Application]);
    let repeated = bench.hear(&last(5));
    assert!(repeated.lost.is_empty());
    assert_eq!(repeated.message().code, Code::INCOMPLETE);
    assert_eq!(bench.hear(&last(6)).lost, [DescribeKind::Application], "another attempt of the device");
}

#[test]
fn a_block_that_wants_no_acknowledgement_gets_none() {
    let mut bench = Bench::new();
    let block = |kind| {
        let message = Message::new(kind, Code::POST, 5, &[9]).path(&["d"]);
        message.with(option::URI_QUERY, [2]).with(option::BLOCK1, [0x08]).payload([7; 16]).encode()
    };
    assert!(bench.hear(&block(Kind::NonConfirmable)).sent.is_empty());
    assert_eq!(bench.hear(&block(Kind::Confirmable)).message().code, Code::CONTINUE);
}
