//! A device whose message stays unanswered gives its session up: nothing stays so, however long the journal hangs.

use std::time::Duration;

use firmware_protocol::coap::{Code, Kind, Message};
use firmware_protocol::session::Unkept;
use firmware_protocol::session::stored::Generation;

use crate::bench::{Bench, Hand};
use crate::stream::{HELLO, StreamBench};

const PING: &str = "40000099";
const TIME: &str = "4101000445b174";

fn event(id: u16) -> Vec<u8> {
    Message::new(Kind::Confirmable, Code::POST, id, &[]).path(&["E", "typed"]).payload(*b"aa").encode()
}

fn bytes(hex: &str) -> Vec<u8> {
    hex::decode(hex).unwrap()
}

fn open<H: Hand>() -> H {
    let mut bench = H::new_in(Generation(5));
    let receipt = bench.hear(&bytes(HELLO)).received[0].0;
    bench.acknowledge(receipt, Code::EMPTY);
    bench
}

/// An event whose commit hangs: it is refused in time, once, and what comes later is not told.
fn a_hanging_journal_is_not_silence<H: Hand>() {
    let mut bench = open::<H>();
    let receipt = bench.hear(&event(10)).received[0].0;
    for _ in 0..3 {
        assert!(bench.pass(Duration::from_secs(9)).sent.is_empty());
        assert_eq!(bench.hear(&bytes(PING)).hex(), "60000099", "pings do not wait");
        assert_eq!(bench.hear(&bytes(TIME)).message().code, Code::CONTENT, "nor does the time");
    }
    let came = bench.pass(Duration::from_secs(13));
    let answers: Vec<_> = came.sent.iter().filter_map(|(_, bytes)| Message::decode(bytes)).filter(|message| message.id == 10).collect();
    assert_eq!(answers, [Message::new(Kind::Acknowledgement, Code::UNAVAILABLE, 10, &[])]);
    assert_eq!(came.unkept, [Unkept::Late]);
    assert!(bench.acknowledge(receipt, Code::EMPTY).sent.is_empty(), "a second answer");
    assert!(!bench.close().closed, "the session went on until now");
}

#[test]
fn a_hanging_journal_is_not_silence_over_datagrams() {
    a_hanging_journal_is_not_silence::<Bench>();
}

#[test]
fn a_hanging_journal_is_not_silence_over_a_stream() {
    a_hanging_journal_is_not_silence::<StreamBench>();
}

#[test]
fn a_repetition_after_the_refusal_is_refused_again_and_not_taken() {
    let mut bench = open::<Bench>();
    bench.hear(&event(10));
    bench.pass(Duration::from_secs(40));
    let came = bench.hear(&event(10));
    assert!(came.received.is_empty());
    assert_eq!(came.message(), Message::new(Kind::Acknowledgement, Code::UNAVAILABLE, 10, &[]));
    assert_eq!(bench.hear(&event(11)).received.len(), 1, "another message is another");
}

#[test]
fn an_event_that_found_no_room_is_refused_at_once_and_what_is_said_once_may_be_repeated() {
    let mut bench = open::<Bench>();
    let receipt = bench.hear(&event(10)).received[0].0;
    assert_eq!(bench.forget(receipt).message().code, Code::UNAVAILABLE);
    let subscription = bytes("40010008b16505737061726b");
    for _ in 0..3 {
        let receipt = bench.hear(&subscription).received[0].0;
        assert!(bench.forget(receipt).sent.is_empty());
        bench.pass(Duration::from_secs(9));
    }
    let receipt = bench.hear(&subscription).received[0].0;
    assert_eq!(bench.acknowledge(receipt, Code::EMPTY).hex(), "60000008", "in the end it was taken");
    let receipt = bench.hear(&bytes("40010009b16505737061726c")).received[0].0;
    bench.forget(receipt);
    assert_eq!(bench.pass(Duration::from_secs(40)).unkept, [Unkept::Late], "or not, and then it is refused");
}

/// Four a second is what firmware allows itself; a device that does not keep to that takes no more memory for it.
#[test]
fn more_than_can_wait_is_refused_at_once() {
    let mut bench = open::<Bench>();
    let (mut taken, mut refused) = (0, 0);
    for id in 0..1_000 {
        let came = bench.hear(&event(id));
        taken += came.received.len();
        refused += came.unkept.len();
        assert_eq!((came.sent.len(), came.unkept.len()), (1 - came.received.len(), 1 - came.received.len()));
        assert!(came.unkept.iter().all(|unkept| *unkept == Unkept::TooMany));
    }
    assert_eq!((taken, refused), (384, 616));
    assert_eq!(bench.pass(Duration::from_secs(40)).sent.len(), 384);
}
