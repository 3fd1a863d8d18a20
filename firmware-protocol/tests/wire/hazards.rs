//! What a server must never do to a device (docs/protocol.md), row by row: no input and no request makes a session do it. One checker looks at
//! every message that leaves; random scripts try to get something past it, over UDP and over TCP.

use std::collections::HashMap;
use std::time::Duration;

use firmware_protocol::coap::{Code, Kind, Message, option};
use firmware_protocol::error::RequestError;
use firmware_protocol::session::describe::DescribeKind;
use firmware_protocol::session::publish::{Delivery, Harmful};
use firmware_protocol::session::request::Request;
use firmware_protocol::session::stored::Generation;
use firmware_protocol::session::{Receipt, Uplink};
use firmware_protocol::tcp::frame::message_len_max;
use firmware_protocol::time::Millis;
use proptest::prelude::*;

use crate::bench::{Bench, Came, Hand};
use crate::stream::StreamBench;

/// How long a device remembers the id of a message.
const SPAN: Duration = Duration::from_secs(45);
/// What a Hello allows that says nothing.
const MAX_UNKNOWN: u16 = 800;

/// Looks at every message that leaves.
struct Checker {
    stream: bool,
    message_max: u16,
    /// Confirmable messages of the device by id, which a script may use again: whether they ask for the time, and their tokens.
    heard: HashMap<u16, Vec<(bool, Vec<u8>)>>,
    /// Our messages by id: when first sent, and what they were.
    sent: HashMap<u16, (Millis, Vec<u8>)>,
}

impl Checker {
    fn new(stream: bool) -> Self {
        let message_max = if stream { message_len_max(None) } else { MAX_UNKNOWN };
        Self { stream, message_max, heard: HashMap::new(), sent: HashMap::new() }
    }

    fn hear(&mut self, bytes: &[u8]) {
        if bytes.len() >= 4 && bytes[0] >> 4 == 4 {
            let message = Message::decode(bytes);
            let is_time = message.as_ref().is_some_and(|message| message.code == Code::GET && letter(message) == Some(b't'));
            let token = message.map(|message| message.token).unwrap_or_default();
            self.heard.entry(u16::from_be_bytes([bytes[2], bytes[3]])).or_default().push((is_time, token));
        }
    }

    fn check(&mut self, now: Millis, came: &Came) {
        for (_, bytes) in &came.sent {
            let message = Message::decode(bytes).unwrap_or_else(|| panic!("not CoAP: {bytes:02x?}"));
            assert_eq!(message.encode(), *bytes);
            match message.kind {
                Kind::Reset => panic!("a reset ends the session: {message:?}"),
                Kind::NonConfirmable if self.stream => self.check_unconfirmable(now, &message, bytes),
                Kind::NonConfirmable => panic!("nothing is sent that way: {message:?}"),
                Kind::Acknowledgement => self.check_acknowledgement(&message),
                Kind::Confirmable => {
                    check_request(&message, bytes);
                    assert!(!self.stream || !matches!(letter(&message), Some(b'E' | b'k')), "no device on TCP acknowledges {message:?}");
                    self.check_id(now, &message, bytes);
                }
            }
        }
        for (_, uplink) in &came.received {
            if let Uplink::Hello { hello, .. } = uplink {
                self.message_max = match self.stream {
                    true => message_len_max(hello.message_max),
                    false => hello.message_max.unwrap_or(MAX_UNKNOWN),
                };
            }
        }
    }

    /// Over a stream: our Hello, and events.
    fn check_unconfirmable(&mut self, now: Millis, message: &Message, bytes: &[u8]) {
        match letter(message) {
            Some(b'h') => assert_eq!(hex::encode([&bytes[..2], &bytes[4..]].concat()), "5002b168"),
            Some(b'E') => {
                check_event(message);
                self.check_id(now, message, bytes);
            }
            _ => panic!("nothing is sent that way: {message:?}"),
        }
    }

    fn check_acknowledgement(&self, message: &Message) {
        let heard = self.heard.get(&message.id).unwrap_or_else(|| panic!("acknowledges nothing: {message:?}"));
        assert!(message.token.is_empty() || heard.iter().any(|(_, token)| message.token == *token), "{message:?}");
        if message.code == Code::CONTENT {
            assert!(heard.contains(&(true, message.token.clone())), "2.05 sets the clock: {message:?}");
            assert!(message.options.is_empty() && message.payload.len() == 4, "{message:?}");
        } else {
            assert!(message.payload.is_empty() && !message.code.is_request(), "{message:?}");
            assert_ne!(message.code, Code::CHANGED, "a ledger would take it for success: {message:?}");
        }
    }

    fn check_id(&mut self, now: Millis, message: &Message, bytes: &[u8]) {
        match self.sent.get(&message.id) {
            Some((first, same)) if same == bytes && now.since(*first) < SPAN && !self.stream => {}
            Some((first, _)) if now.since(*first) < SPAN => panic!("the device would swallow {message:?}"),
            _ => {
                assert!(bytes.len() <= usize::from(self.message_max).max(4), "longer than {}: {message:?}", self.message_max);
                self.sent.insert(message.id, (now, bytes.to_vec()));
            }
        }
    }
}

fn letter(message: &Message) -> Option<u8> {
    match message.values(option::URI_PATH).next() {
        Some(&[letter]) => Some(letter),
        _ => None,
    }
}

/// A confirmable message is one that every device acknowledges, in the shape that devices read at fixed offsets.
fn check_request(message: &Message, bytes: &[u8]) {
    if message.code == Code::EMPTY {
        return assert_eq!(bytes.len(), 4);
    }
    assert!(message.code.is_request(), "a device keeps a response and gives up over it: {message:?}");
    let tokens = message.token.len();
    let letter = letter(message).unwrap_or_else(|| panic!("{message:?}"));
    assert_eq!(bytes[4 + tokens..][..2], [0xb1, letter], "the letter stands right behind the token");
    let numbers: Vec<u16> = message.options.iter().map(|(number, _)| *number).collect();
    let value = |index: usize| &message.options[index].1[..];
    match (message.code, letter) {
        (Code::POST, b'f') => {
            assert_eq!((tokens, &numbers[..]), (1, &[option::URI_PATH, option::URI_PATH, option::URI_QUERY][..]), "{message:?}");
            assert!((1..=64).contains(&value(1).len()) && value(2).len() <= 1024 && message.payload.is_empty());
        }
        (Code::GET, b'v') => {
            assert_eq!((tokens, &numbers[..]), (1, &[option::URI_PATH, option::URI_PATH][..]), "{message:?}");
            assert!((1..=64).contains(&value(1).len()) && message.payload.is_empty());
        }
        (Code::GET, b'd') => {
            assert_eq!((tokens, &numbers[..2]), (1, &[option::URI_PATH, option::URI_QUERY][..]), "{message:?}");
            assert!(matches!(value(1), [1] | [2] | [4]), "{message:?}");
            assert!(numbers.len() == 2 || numbers[2..] == [option::BLOCK2]);
        }
        (Code::PUT, b's') => {
            assert_eq!((tokens, &numbers[..]), (1, &[option::URI_PATH, option::URI_QUERY][..]), "{message:?}");
            assert!(matches!(value(1), [0] | [1]) && bytes.len() == 9);
        }
        (Code::PUT, b'k') => assert_eq!((tokens, hex::encode(&bytes[4..])), (0, "b16b4101".to_owned())),
        (Code::POST, b'E') => check_event(message),
        _ => panic!("no device acknowledges {message:?}"),
    }
}

fn check_event(message: &Message) {
    assert!(message.token.is_empty());
    let name = std::str::from_utf8(&message.options[1].1).unwrap();
    assert!((1..=64).contains(&name.len()) && message.payload.len() <= 1024);
    match &message.options[2..] {
        [] => {}
        [(option::CONTENT_FORMAT, format)] => assert!(!format.is_empty() && format[0] != 0, "text goes without the option: {message:?}"),
        other => panic!("{other:?}"),
    }
    assert!(!name.starts_with("particle/device/updates/") || !message.payload.is_empty(), "the device would read a null pointer");
    assert!(!name.starts_with("spark/device/key/restore") && !name.starts_with("spark/device/claim/code"), "{name}");
}

#[derive(Clone, Debug)]
enum Step {
    Hear {
        port: u16,
        bytes: Vec<u8>,
    },
    HearAgain {
        back: usize,
    },
    /// Answers one of our requests that are open, by id or by token.
    Respond {
        back: usize,
        separate: bool,
        code: Code,
        block: Option<u8>,
        payload: Vec<u8>,
    },
    Acknowledge {
        code: Code,
    },
    Forget,
    Ask(Request),
    Deliver {
        name: String,
        format: u16,
        data: Option<Vec<u8>>,
    },
    Pass(u64),
}

fn device_message() -> impl Strategy<Value = Vec<u8>> {
    let letter = prop::sample::select(&["h", "d", "e", "E", "t", "x", "L", "f", "z", "description"][..]);
    let kind = prop::sample::select(&[Kind::Confirmable, Kind::NonConfirmable, Kind::Acknowledgement, Kind::Reset][..]);
    let query = prop::option::of(prop::sample::select(vec![&[1u8][..], &[2], &[4], &[3], b"c", b"b", b""]));
    let block = prop::option::of(prop::sample::select(&[0x00u8, 0x08, 0x10, 0x18, 0x0e, 0x16, 0x07][..]));
    let parts = (kind, 0u8..8, 0u16..6, prop::collection::vec(any::<u8>(), 0..9), letter, "[a-z/]{0,70}", query, block);
    (parts, prop::collection::vec(any::<u8>(), 0..40), any::<bool>()).prop_map(|(parts, payload, whole)| {
        let (kind, code, id, token, letter, name, query, block) = parts;
        let code =
            [Code::EMPTY, Code::GET, Code::POST, Code::POST, Code::PUT, Code::CHANGED, Code::CONTENT, Code::NOT_FOUND][usize::from(code)];
        if code == Code::EMPTY {
            return Message::new(kind, code, id, &[]).encode();
        }
        let mut message = Message::new(kind, code, id, &token).path(&[letter]);
        if !name.is_empty() {
            message = message.path(&[&name]);
        }
        if let Some(query) = query {
            message = message.with(option::URI_QUERY, query);
        }
        if let Some(block) = block {
            message = message.with(option::BLOCK1, [block]);
        }
        // A block that is not the last is full.
        message.payload(if whole { vec![7; 16] } else { payload }).encode()
    })
}

fn hello() -> impl Strategy<Value = Vec<u8>> {
    (0u16..4, prop::sample::select(&[16u16, 20, 100, 600, 1152, 65_535][..])).prop_map(|(id, max)| {
        let mut payload = hex::decode("ffffffff0076000d000ce00fce68010203040506070818380480001800000200").unwrap();
        payload[24..26].copy_from_slice(&max.to_be_bytes());
        Message::new(Kind::Confirmable, Code::POST, 100 + id, &[]).path(&["h"]).payload(payload).encode()
    })
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        (".{0,70}", ".{0,40}").prop_map(|(function, argument)| Request::Call { function, argument }),
        (1000usize..1030).prop_map(|len| Request::Call { function: "f".into(), argument: "a".repeat(len) }),
        ".{0,70}".prop_map(|variable| Request::Read { variable }),
        prop::sample::select(&[DescribeKind::System, DescribeKind::Application, DescribeKind::Metrics][..]).prop_map(Request::Describe),
        Just(Request::Ping),
        any::<bool>().prop_map(|on| Request::Signal { on }),
        Just(Request::ChangeKey),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = prop_oneof![4 => device_message(), 1 => hello(), 1 => prop::collection::vec(any::<u8>(), 1..40)];
    let refusal = prop::sample::select(&[Code::EMPTY, Code::BAD_REQUEST, Code::FORBIDDEN, Code::TOO_MANY, Code::UNAVAILABLE][..]);
    let response = prop::sample::select(&[Code::EMPTY, Code::CHANGED, Code::CONTENT, Code::NOT_FOUND][..]);
    let block = prop::option::of(prop::sample::select(&[0x08u8, 0x18, 0x28, 0x10, 0x00][..]));
    let name = prop_oneof![
        "[a-z/]{0,70}",
        prop::sample::select(
            &[
                "particle/device/updates/forced",
                "particle/device/updates/",
                "spark/device/key/restore",
                "spark/device/claim/code",
                "spark/x"
            ][..]
        )
        .prop_map(str::to_owned),
    ];
    let data = prop::option::of(prop_oneof![prop::collection::vec(any::<u8>(), 0..20), Just(vec![0; 1024]), Just(vec![0; 1025])]);
    prop_oneof![
        6 => (1u16..4, bytes).prop_map(|(port, bytes)| Step::Hear { port, bytes }),
        2 => (0usize..8).prop_map(|back| Step::HearAgain { back }),
        4 => (0usize..4, any::<bool>(), response, block, prop_oneof![Just(vec![7; 16]), prop::collection::vec(any::<u8>(), 0..9)])
            .prop_map(|(back, separate, code, block, payload)| Step::Respond { back, separate, code, block, payload }),
        3 => refusal.prop_map(|code| Step::Acknowledge { code }),
        1 => Just(Step::Forget),
        4 => request().prop_map(Step::Ask),
        2 => (name, prop::sample::select(&[0u16, 42, 60, 65_001][..]), data)
            .prop_map(|(name, format, data)| Step::Deliver { name, format, data }),
        2 => (1u64..60_000).prop_map(Step::Pass),
    ]
}

/// A script as it goes on.
struct Play<H> {
    bench: H,
    checker: Checker,
    history: Vec<Vec<u8>>,
    asked: Vec<Message>,
    receipts: Vec<Receipt>,
    device_id: u16,
}

impl<H: Hand> Play<H> {
    fn new(generation: u32) -> Self {
        let bench = H::new_in(Generation(generation));
        Self { bench, checker: Checker::new(H::STREAM), history: vec![], asked: vec![], receipts: vec![], device_id: 1000 }
    }

    fn came(&mut self, came: &Came) {
        self.checker.check(self.bench.now(), came);
        self.receipts.extend(came.received.iter().map(|(receipt, _)| *receipt));
        let asked = came.sent.iter().filter_map(|(_, bytes)| Message::decode(bytes)).filter(|message| message.kind == Kind::Confirmable);
        self.asked.extend(asked);
    }

    fn hear(&mut self, port: u16, bytes: Vec<u8>) {
        // That this ends a stream is tested elsewhere; here it is to go on.
        if H::STREAM && Message::decode(&bytes).is_none() {
            return;
        }
        self.checker.hear(&bytes);
        let came = self.bench.hear_at(port, &bytes);
        self.came(&came);
        self.history.push(bytes);
    }

    fn step(&mut self, step: Step) {
        let came = match step {
            Step::Hear { port, bytes } => return self.hear(port, bytes),
            Step::HearAgain { back } => {
                let again = self.history.iter().rev().nth(back).cloned();
                return again.into_iter().for_each(|bytes| self.hear(1, bytes));
            }
            Step::Respond { back, separate, code, block, payload } => {
                let Some(asked) = self.asked.iter().rev().nth(back).cloned() else { return };
                self.device_id += 1;
                let (kind, id) = if separate { (Kind::Confirmable, self.device_id) } else { (Kind::Acknowledgement, asked.id) };
                if code == Code::EMPTY {
                    return self.hear(1, Message::new(kind, code, id, &[]).encode());
                }
                let mut message = Message::new(kind, code, id, &asked.token);
                if let Some(block) = block {
                    message = message.with(option::BLOCK2, [block]);
                }
                return self.hear(1, message.payload(payload).encode());
            }
            Step::Acknowledge { code } => match self.receipts.pop() {
                Some(receipt) => self.bench.acknowledge(receipt, code),
                None => return,
            },
            Step::Forget => match self.receipts.pop() {
                Some(receipt) => self.bench.forget(receipt),
                None => return,
            },
            Step::Ask(request) => self.bench.request(request).1,
            Step::Deliver { name, format, data } => match Delivery::new(&name, format, data.as_deref()) {
                Ok(delivery) => self.bench.request(Request::Deliver(delivery)).1,
                Err(_) => return,
            },
            Step::Pass(millis) => return self.pass(millis),
        };
        self.came(&came);
    }

    /// Goes from timer to timer, so that each message is checked at its own time.
    fn pass(&mut self, millis: u64) {
        let end = self.bench.now() + Duration::from_millis(millis);
        while self.bench.now() < end {
            let next = self.bench.timeout_at().map_or(end, |at| at.clamp(self.bench.now(), end));
            let came = self.bench.pass(next.since(self.bench.now()));
            self.came(&came);
            if next == self.bench.now() && self.bench.timeout_at().is_none_or(|at| at > end) {
                self.bench.pass(end.since(self.bench.now()));
            }
        }
    }
}

fn play_to_the_end<H: Hand>(generation: u32, steps: Vec<Step>) {
    let mut play = Play::<H>::new(generation);
    steps.into_iter().for_each(|step| play.step(step));
    let came = play.bench.close();
    play.came(&came);
    assert_eq!(play.bench.timeout_at(), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// All rows at once: whatever the device says and whatever is asked of it, nothing harmful leaves, and everything ends.
    #[test]
    fn nothing_harmful_leaves_a_session(generation in 1u32..64, steps in prop::collection::vec(step(), 0..60)) {
        play_to_the_end::<Bench>(generation, steps);
    }

    /// The same over a stream.
    #[test]
    fn nothing_harmful_leaves_a_stream(generation in 1u32..64, steps in prop::collection::vec(step(), 0..60)) {
        play_to_the_end::<StreamBench>(generation, steps);
    }

    /// Row 1, its other half: no confirmable message of a device stays unanswered, however broken, or it would give its session up.
    #[test]
    fn every_confirmable_message_is_acknowledged(tail in prop::collection::vec(any::<u8>(), 3..60), tokens in 0u8..16) {
        let bytes = [&[0x40 | tokens][..], &tail].concat();
        let mut bench = Bench::new();
        let mut came = bench.hear(&bytes);
        for (receipt, _) in std::mem::take(&mut came.received) {
            prop_assert!(came.sent.is_empty());
            came = bench.acknowledge(receipt, Code::EMPTY);
        }
        prop_assert_eq!(came.sent.len(), 1);
        prop_assert_eq!((came.sent[0].1[0] >> 4, &came.sent[0].1[2..4]), (0b0110, &bytes[2..4]));
    }
}

/// Row 1: "RST to anything; CON it cannot handle; CON 2.05".
#[test]
fn whatever_a_device_asks_is_acknowledged_and_never_reset() {
    let mut bench = Bench::new();
    for letter in ["h", "d", "e", "E", "t", "x", "L", "A", "z", "S", "M"] {
        for (n, code) in [Code::GET, Code::POST, Code::PUT, Code(4), Code(5)].into_iter().enumerate() {
            let id = 256 * u16::from(letter.as_bytes()[0]) + u16::try_from(n).unwrap();
            let mut came = bench.hear(&Message::new(Kind::Confirmable, code, id, &[9]).path(&[letter]).encode());
            if let Some((receipt, _)) = came.received.pop() {
                came = bench.acknowledge(receipt, Code::EMPTY);
            }
            let answer = came.message();
            assert_eq!((answer.kind, answer.id), (Kind::Acknowledgement, id), "{letter} {code}");
        }
    }
}

/// Row 2: "2.05 to anything but /t".
#[test]
fn only_the_time_is_told_with_content() {
    let mut bench = Bench::new();
    assert_eq!(bench.hear_hex("4101000445b174").message().code, Code::CONTENT);
    for hex in ["4102000545b174", "4101000645b164", "4101000745b14c", "410100084562746d", "40000009"] {
        assert_ne!(bench.hear_hex(hex).message().code, Code::CONTENT, "{hex}");
    }
    assert!(bench.hear_hex("5101000a45b174").sent.is_empty(), "not even that to a message that wants no acknowledgement");
}

/// Row 3: "GET /d with flags other than 1, 2, 4; 2-byte tokens; undecodable event".
#[test]
fn describes_are_asked_for_with_one_flag_and_every_token_is_one_byte() {
    let mut bench = Bench::new();
    for (kind, flag) in [(DescribeKind::System, 1), (DescribeKind::Application, 2), (DescribeKind::Metrics, 4)] {
        let asked = bench.request(Request::Describe(kind)).1.message();
        assert_eq!(asked.values(option::URI_QUERY).collect::<Vec<_>>(), [&[flag]]);
        assert_eq!(asked.token.len(), 1);
    }
    // Until there are no more tokens, none is longer.
    let rest = std::iter::from_fn(|| {
        let (result, came) = bench.request(Request::Read { variable: "v".into() });
        result.ok().map(|_| came.message().token.len())
    });
    assert_eq!(rest.collect::<Vec<_>>(), vec![1; 61]);
}

/// Row 4: "/f without Uri-Query".
#[test]
fn a_call_without_argument_still_has_a_query() {
    let asked = Bench::new().request(Request::Call { function: "fn".into(), argument: String::new() }).1.message();
    assert_eq!(asked.values(option::URI_QUERY).collect::<Vec<_>>(), [b""]);
    assert_eq!(asked.encode().last(), Some(&0x40));
}

/// Row 5: "updates/* without payload"; row 6: "key/restore, echo of claim/code".
#[test]
fn harmful_events_cannot_be_made() {
    for name in
        ["particle/device/updates/enabled", "particle/device/updates/forced", "particle/device/updates/pending", "particle/device/updates/"]
    {
        assert_eq!(Delivery::new(name, 0, None), Err(Harmful::UpdateWithoutPayload));
        assert_eq!(Delivery::new(name, 0, Some(b"")), Err(Harmful::UpdateWithoutPayload));
    }
    for name in ["spark/device/key/restore", "spark/device/key/restore/x", "spark/device/claim/code", "spark/device/claim/codes"] {
        assert_eq!(Delivery::new(name, 0, Some(b"x")), Err(Harmful::Forbidden), "{name}");
    }
}

/// Row 7 is about updates: no message of theirs can be asked for, which the checker's list of letters says. Rows 8 and 9 are about TCP: frames are
/// measured where they are written, and the list of letters holds there too. Row 10: "reused
/// message id within 45 s", as fast as requests can be made.
#[test]
fn ids_rest_for_45_seconds() {
    let (mut play, mut refused) = (Play::<Bench>::new(31), 0);
    for round in 0..6000 {
        let (result, came) = play.bench.request(Request::Ping);
        refused += usize::from(result == Err(RequestError::Busy));
        play.came(&came);
        if let Some((_, bytes)) = came.sent.first() {
            play.hear(1, Message::new(Kind::Acknowledgement, Code::EMPTY, u16::from_be_bytes([bytes[2], bytes[3]]), &[]).encode());
        }
        if round % 100 == 0 {
            play.pass(1000);
        }
    }
    assert!(refused > 0, "there are fewer ids than were asked for");
}

/// Row 11: "GET_DATA response without data": no ledger request is answered with success.
#[test]
fn ledger_requests_never_succeed() {
    let mut bench = Bench::new();
    for hex in
        ["4102000cbab14cff080112100a0676642d6332640a0676642d643263", "4102000ebcb14cff080322160a0676642d633264120c0123456789abcdef00000001"]
    {
        assert_eq!(bench.hear_hex(hex).message().code, Code::NOT_IMPLEMENTED);
    }
}

/// Not in the table: nothing longer than the device said it takes, and no Content-Format option where none is needed (§2.7, §3.9).
#[test]
fn messages_fit_and_text_goes_without_a_format() {
    let mut bench = Bench::new();
    let call = |len| Request::Call { function: "f".into(), argument: "a".repeat(len) };
    assert_eq!(bench.request(call(800)).0, Err(RequestError::TooLarge), "before a Hello there is room for 800 bytes");
    bench.hear_hex("40020001b168ffffffffff0076000d000ce00fce68010203040506070818380480001800000200");
    assert!(bench.request(call(1024)).0.is_ok());
    bench.hear_hex("40020002b168ffffffffff0076000d000ce00fce68010203040506070818380200001800000200");
    assert_eq!(bench.request(call(520)).0, Err(RequestError::TooLarge));
    let text = Delivery::new("a", 0, Some(b"x")).unwrap();
    assert_eq!(hex::encode(&bench.request(Request::Deliver(text)).1.message().encode()[4..]), "b1450161ff78");
}
