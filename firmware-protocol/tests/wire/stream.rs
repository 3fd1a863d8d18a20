//! One session over TCP whose secret is known, with the device's end of its frames; and what only such a session does.

use std::time::Duration;

use firmware_protocol::coap::{Code, Kind, Message, option};
use firmware_protocol::crypto::Cbc;
use firmware_protocol::dtls::cid::ConnectionId;
use firmware_protocol::entropy::SeededEntropy;
use firmware_protocol::error::RequestError;
use firmware_protocol::id::DeviceId;
use firmware_protocol::session::publish::Delivery;
use firmware_protocol::session::request::{Outcome, Request, RequestId};
use firmware_protocol::session::stored::Generation;
use firmware_protocol::session::{Receipt, Uplink};
use firmware_protocol::tcp::frame::{FROM_DEVICE_MAX, FrameError, FrameReader, FrameWriter, TO_DEVICE_MAX};
use firmware_protocol::tcp::handshake::SessionSecret;
use firmware_protocol::tcp::session::{CloseReason, Context, Opening, Output, Patience, TcpSession};
use firmware_protocol::time::{Millis, Now, UnixMillis};

use crate::bench::{Came, Hand, UNIX_S, path};

/// That of `testdata/captures/tcp-session.txt`.
const SECRET: &str = "97bdad759abc4830c87c1134f91269c8df0b02c3b594fc506f0ee8480dd8356867df3e62fee2b0de";
/// That recording's first message.
pub(crate) const HELLO: &str = "5002df68b168ff0003ffff0036000300001838048000a000000200";

pub(crate) struct StreamBench {
    session: TcpSession,
    now: Millis,
    cipher: Cbc,
    entropy: SeededEntropy,
    /// The device's ends of both directions.
    writer: FrameWriter,
    reader: FrameReader,
    requests: u64,
    /// How the session ended by itself.
    closed: Vec<CloseReason>,
}

fn secret() -> SessionSecret {
    SessionSecret(hex::decode(SECRET).unwrap().try_into().unwrap())
}

impl StreamBench {
    /// After a Hello that was acknowledged.
    fn open() -> Self {
        let mut bench = Self::new_in(Generation(5));
        let came = bench.hear_hex(HELLO);
        bench.acknowledge(came.received[0].0, Code::EMPTY);
        bench
    }

    fn call<T>(&mut self, action: impl FnOnce(&mut TcpSession, &mut Context<'_>) -> T) -> (T, Came) {
        let mut out = Vec::new();
        let now = Now { at: self.now, unix: UnixMillis(u64::from(UNIX_S) * 1000) };
        let result = action(&mut self.session, &mut Context { now, cipher: &mut self.cipher, entropy: &mut self.entropy, out: &mut out });
        let mut came = Came::default();
        for output in out {
            assert!(!came.closed, "nothing comes after the end");
            match output {
                Output::Transmit(frame) => {
                    let mut bytes = &frame[..];
                    let message = self.reader.take(&mut self.cipher, &mut bytes).unwrap().expect("a whole frame");
                    assert!(bytes.is_empty(), "and nothing else");
                    came.sent.push((path(1), message));
                }
                Output::Received { receipt, uplink } => came.received.push((receipt, uplink)),
                Output::Settled { request, outcome } => came.settled.push((request, outcome)),
                Output::DescribeLost(kind) => came.lost.push(kind),
                Output::Unkept(unkept) => came.unkept.push(unkept),
                Output::Closed(reason) => {
                    came.closed = true;
                    self.closed.push(reason);
                }
            }
        }
        (result, came)
    }

    fn bytes(&mut self, bytes: &[u8]) -> Came {
        self.call(|session, cx| session.handle_bytes(cx, bytes)).1
    }

    fn hear_hex(&mut self, message: &str) -> Came {
        self.hear(&hex::decode(message).unwrap())
    }

    /// A frame of the device.
    fn frame(&mut self, message: &[u8]) -> Vec<u8> {
        self.writer.write(&mut self.cipher, message).unwrap()
    }
}

impl Hand for StreamBench {
    const STREAM: bool = true;

    fn new_in(generation: Generation) -> Self {
        let now = Millis(1_000_000);
        let opening = Opening {
            device: DeviceId([1; 12]),
            owner: None,
            connection: ConnectionId([3; 8]),
            path: path(1),
            secret: secret(),
            generation,
            patience: Patience::default(),
        };
        Self {
            session: TcpSession::new(Now { at: now, unix: UnixMillis(0) }, &opening),
            now,
            cipher: Cbc::new().unwrap(),
            entropy: SeededEntropy::new(6),
            writer: FrameWriter::new(&secret(), FROM_DEVICE_MAX),
            reader: FrameReader::new(&secret(), TO_DEVICE_MAX),
            requests: 0,
            closed: Vec::new(),
        }
    }

    fn now(&self) -> Millis {
        self.now
    }

    fn timeout_at(&self) -> Option<Millis> {
        self.session.timeout_at()
    }

    fn hear_at(&mut self, _port: u16, message: &[u8]) -> Came {
        let frame = self.frame(message);
        self.bytes(&frame)
    }

    fn acknowledge(&mut self, receipt: Receipt, code: Code) -> Came {
        self.call(|session, cx| session.acknowledge(cx, receipt, code)).1
    }

    fn forget(&mut self, receipt: Receipt) -> Came {
        self.call(|session, cx| session.forget(cx, receipt)).1
    }

    fn disown(&mut self) -> Came {
        self.call(TcpSession::disown).1
    }

    fn request(&mut self, request: Request) -> (Result<RequestId, RequestError>, Came) {
        self.requests += 1;
        let (id, deadline) = (RequestId(self.requests), self.now + Duration::from_secs(60));
        let (result, came) = self.call(|session, cx| session.request(cx, id, request, deadline));
        (result.map(|()| id), came)
    }

    fn pass(&mut self, span: Duration) -> Came {
        let (end, mut all) = (self.now + span, Came::default());
        while let Some(at) = self.session.timeout_at().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            let ((), came) = self.call(|session, cx| session.handle_timeout(cx));
            assert!(self.session.timeout_at().is_none_or(|next| next > at), "a timer that is due again at once");
            all.sent.extend(came.sent);
            all.settled.extend(came.settled);
            all.unkept.extend(came.unkept);
            all.closed |= came.closed;
        }
        self.now = end;
        all
    }

    fn close(&mut self) -> Came {
        self.call(|session, cx| session.close(cx)).1
    }
}

#[test]
fn a_hello_is_answered_with_ours_when_it_is_durable_and_not_when_it_is_refused() {
    let mut bench = StreamBench::new_in(Generation(5));
    let came = bench.hear_hex(HELLO);
    assert!(came.sent.is_empty() && matches!(came.uplink(), Uplink::Hello { .. }));
    let receipt = came.received[0].0;
    assert!(bench.acknowledge(receipt, Code::FORBIDDEN).sent.is_empty());
    assert_eq!(bench.acknowledge(receipt, Code::EMPTY).hex(), "50022800b168");
}

#[test]
fn the_first_message_is_a_hello_or_the_last() {
    let time = "4101000445b174";
    for first in [time, "40000001", "5002df68b168", "5002df68b168ff00", "60000001", "ff"] {
        let mut bench = StreamBench::new_in(Generation(5));
        let came = bench.hear_hex(first);
        assert!(came.closed && came.sent.is_empty() && came.received.is_empty(), "{first}");
        assert_eq!(bench.closed, [CloseReason::Unproved]);
        assert!(bench.session.is_over() && bench.timeout_at().is_none());
        assert!(bench.bytes(&[0, 16]).sent.is_empty());
    }
    let mut bench = StreamBench::new_in(Generation(5));
    assert!(bench.bytes(&[[0, 32].as_slice(), &[9; 32]].concat()).closed, "a frame under another key");
    assert_eq!(bench.closed, [CloseReason::Unproved]);

    let mut silent = StreamBench::new_in(Generation(5));
    assert!(!silent.pass(Duration::from_millis(19_999)).closed);
    assert!(silent.pass(Duration::from_millis(1)).closed);
    assert_eq!(silent.closed, [CloseReason::Unproved]);
}

#[test]
fn what_makes_no_sense_ends_the_connection_and_every_request() {
    let garbage: [(Vec<u8>, CloseReason); 4] = [
        (vec![0, 0], CloseReason::Frame(FrameError::Length)),
        (vec![0xff, 0xff], CloseReason::Frame(FrameError::Length)),
        (vec![0, 17], CloseReason::Frame(FrameError::Length)),
        ([[0, 32].as_slice(), &[9; 32]].concat(), CloseReason::Frame(FrameError::Padding)),
    ];
    for (bytes, reason) in garbage {
        let mut bench = StreamBench::open();
        let (id, _) = bench.request(Request::Ping);
        let came = bench.bytes(&bytes);
        assert!(came.closed);
        assert_eq!(bench.closed, [reason]);
        assert_eq!(came.settled, [(id.unwrap(), Outcome::Closed { received: false })]);
        let (id, came) = bench.request(Request::Ping);
        assert_eq!(came.settled, [(id.unwrap(), Outcome::Closed { received: false })], "and so does every later one");
    }
    for message in [&[][..], &[0xff], &[0x40, 0x01], &[0x40, 0x20, 0, 1]] {
        let mut bench = StreamBench::open();
        assert!(bench.hear(message).closed, "{message:02x?}");
        assert_eq!(bench.closed, [CloseReason::Malformed]);
    }
}

#[test]
fn frames_are_taken_one_by_one_wherever_they_are_cut() {
    let mut bench = StreamBench::open();
    let stream: Vec<u8> = ["40000007", "5002000bb145056e6f61636b320e10ff78", "4101000445b174"]
        .iter()
        .flat_map(|hex| bench.frame(&hex::decode(hex).unwrap()))
        .collect();
    let (mut sent, mut received) = (0, 0);
    for byte in &stream {
        let came = bench.bytes(&[*byte]);
        (sent, received) = (sent + came.sent.len(), received + came.received.len());
    }
    assert_eq!((sent, received), (2, 1));
}

#[test]
fn a_silent_device_is_pinged_once_and_then_given_up() {
    let mut bench = StreamBench::open();
    let came = bench.pass(Duration::from_secs(30));
    assert_eq!((came.message().kind, came.message().code), (Kind::Confirmable, Code::EMPTY));
    assert!(bench.pass(Duration::from_millis(9_999)).sent.is_empty());
    bench.hear_hex("60001234");
    let came = bench.pass(Duration::from_secs(39));
    assert_eq!((came.sent.len(), came.closed), (1, false), "any answer counts, and then it begins again");
    assert!(bench.pass(Duration::from_secs(1)).closed);
    assert_eq!(bench.closed, [CloseReason::Silent]);
}

/// Half a frame now and then is no sign of life.
#[test]
fn bytes_that_are_no_frame_do_not_keep_a_session() {
    let mut bench = StreamBench::open();
    bench.bytes(&[4, 0]);
    for _ in 0..7 {
        bench.pass(Duration::from_secs(5));
        bench.bytes(&[1]);
    }
    assert!(bench.pass(Duration::from_secs(5)).closed);
}

#[test]
fn acknowledgements_under_other_ids_settle_pings_and_signals_only() {
    let mut bench = StreamBench::open();
    let (call, came) = bench.request(Request::Call { function: "fn".into(), argument: String::new() });
    let call_token = came.message().token;
    let (signal, came) = bench.request(Request::Signal { on: true });
    let signal_token = came.message().token;
    let pings: Vec<_> = (0..2).map(|_| bench.request(Request::Ping).0.unwrap()).collect();
    let came = bench.hear_hex("60007777");
    assert_eq!(came.settled, [(pings[0], Outcome::Acknowledged), (pings[1], Outcome::Acknowledged)]);
    let answer = Message::new(Kind::Acknowledgement, Code::CHANGED, 0x7778, &signal_token).encode();
    assert_eq!(bench.hear(&answer).settled, [(signal.unwrap(), Outcome::Acknowledged)]);
    let answer = Message::new(Kind::NonConfirmable, Code::CHANGED, 9, &call_token).payload(7i32.to_be_bytes()).encode();
    let came = bench.hear(&answer);
    assert_eq!((came.settled, came.sent.len()), (vec![(call.unwrap(), Outcome::Returned(7))], 0));
}

#[test]
fn requests_are_sent_once_and_end_at_their_deadline() {
    let mut bench = StreamBench::open();
    let (id, _) = bench.request(Request::Read { variable: "v".into() });
    let mut all = Came::default();
    for _ in 0..6 {
        bench.hear_hex("5002000bb145056e6f61636b320e10ff78");
        let came = bench.pass(Duration::from_secs(10));
        all.sent.extend(came.sent);
        all.settled.extend(came.settled);
    }
    assert!(all.sent.is_empty(), "{all:?}");
    assert_eq!(all.settled, [(id.unwrap(), Outcome::TimedOut { received: false })]);
}

#[test]
fn messages_fit_the_buffer_that_the_hello_tells() {
    let call = |len| Request::Call { function: "f".into(), argument: "a".repeat(len) };
    let mut bench = StreamBench::new_in(Generation(5));
    bench.hear_hex("5002df68b168ff0003ffff00360003");
    assert_eq!(bench.request(call(800)).0, Err(RequestError::TooLarge), "firmware that tells none");
    assert!(bench.request(call(700)).0.is_ok());
    bench.hear_hex(HELLO);
    assert!(bench.request(call(1024)).0.is_ok());
    let event = Delivery::new(&"n".repeat(64), 65_001, Some(&[1; 1024])).unwrap();
    assert!(bench.request(Request::Deliver(event)).0.is_ok());
}

#[test]
fn what_could_not_be_taken_is_refused_or_ends_the_session() {
    let (acknowledged, quiet) = ("4002000ab14505747970656412fde9ffa16161", "5002000bb145056e6f61636b320e10ff78");
    let (subscription, describe) = ("5001df71b1650574797065644163", "4102df6d9cb1644102ff7b7d");
    let mut bench = StreamBench::open();
    let receipt = bench.hear_hex(acknowledged).received[0].0;
    assert_eq!(bench.forget(receipt).message().code, Code::UNAVAILABLE);
    let receipt = bench.hear_hex(quiet).received[0].0;
    assert!(bench.forget(receipt).sent.is_empty() && !bench.session.is_over());
    for state in [HELLO, subscription, describe] {
        let mut bench = StreamBench::open();
        let receipt = bench.hear_hex(state).received[0].0;
        let came = bench.forget(receipt);
        assert!(came.closed && came.sent.is_empty(), "a device says it once");
        assert_eq!(bench.closed, [CloseReason::StateLost]);
    }
}

/// A stream repeats nothing by itself: what comes twice was said twice.
#[test]
fn equal_messages_are_two() {
    let mut bench = StreamBench::open();
    for _ in 0..2 {
        let came = bench.hear_hex("4002000ab14505747970656412fde9ffa16161");
        assert_eq!(bench.acknowledge(came.received[0].0, Code::EMPTY).hex(), "6000000a");
    }
}

#[test]
fn a_key_change_is_not_sent_and_nothing_is_kept_when_nothing_is_open() {
    let mut bench = StreamBench::open();
    let idle = |bench: &StreamBench| format!("{:?}", bench.session).contains("open: None");
    assert!(idle(&bench));
    let (id, came) = bench.request(Request::ChangeKey);
    assert!(came.sent.is_empty());
    assert_eq!(came.settled, [(id.unwrap(), Outcome::Refused(Code::NOT_IMPLEMENTED))]);
    bench.request(Request::Ping).0.unwrap();
    assert!(!idle(&bench));
    bench.hear_hex("60007777");
    assert!(idle(&bench));
    let block = Message::new(Kind::Confirmable, Code::POST, 5, &[9]).path(&["d"]).with(option::URI_QUERY, [2]).with(option::BLOCK1, [0x08]);
    assert_eq!(bench.hear(&block.payload([7; 16]).encode()).message().code, Code::CONTINUE);
    assert!(!idle(&bench));
    bench.hear_hex(HELLO);
    assert!(idle(&bench), "a Hello forgets what was begun");
}
