//! Recordings of a device that runs Device OS 6.2 (`testdata/captures`), replayed into a session.

use std::collections::{BTreeMap, HashMap};

use firmware_protocol::coap::{Block, Code, Kind, Message, option};
use firmware_protocol::crypto::DevicePublicKey;
use firmware_protocol::dtls::cid::ConnectionId;
use firmware_protocol::dtls::demux::{Datagram, Junk, demux};
use firmware_protocol::session::Uplink;
use firmware_protocol::session::describe::{Application, DescribeKind};
use firmware_protocol::session::publish::Delivery;
use firmware_protocol::session::request::{Outcome, Request};
use firmware_protocol::session::stored::Generation;
use firmware_protocol::session::subscribe::HandlerKind;

use crate::bench::{Bench, Came, Hand};
use crate::stream::StreamBench;

const SESSION: &str = include_str!("../../testdata/captures/session.txt");
const RECONNECTS: &str = include_str!("../../testdata/captures/reconnects.txt");
const LEDGER: &str = include_str!("../../testdata/captures/ledger.txt");
const BLOCKWISE: &str = include_str!("../../testdata/captures/blockwise.txt");
const KEY_CHANGE: &str = include_str!("../../testdata/captures/key-change.txt");
const SAFE_MODE: &str = include_str!("../../testdata/captures/safe-mode.txt");
const NO_CONNECTION_ID: &str = include_str!("../../testdata/captures/no-connection-id.txt");
const ALERTS: &str = include_str!("../../testdata/captures/alerts.txt");
const TCP_SESSION: &str = include_str!("../../testdata/captures/tcp-session.txt");
const TCP_IDLE: &str = include_str!("../../testdata/captures/tcp-idle.txt");
const ALL: [&str; 8] = [SESSION, RECONNECTS, LEDGER, BLOCKWISE, KEY_CHANGE, SAFE_MODE, NO_CONNECTION_ID, ALERTS];

/// `(first word, direction or "datagram", bytes)` of each line.
fn lines(capture: &str) -> impl Iterator<Item = (&str, &str, Vec<u8>)> {
    capture.lines().map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        (words[0], words[1], hex::decode(words[2]).unwrap())
    })
}

/// What a recorded datagram is, by nothing but its first byte and length; and whether that is how it is told.
fn told(datagram: &[u8]) -> (&'static str, bool) {
    let id_at = |at: usize| ConnectionId(datagram[at..at + 8].try_into().unwrap());
    let told = demux(datagram);
    match (datagram[0], datagram.len()) {
        (22, 116) => ("first hello", matches!(told, Datagram::Hello(hello) if hello.cookie.is_empty() && hello.offers_connection_id)),
        (22, 148) => ("second hello", matches!(told, Datagram::Hello(hello) if hello.cookie.len() == 32 && hello.message_sequence == 1)),
        // A Finished of 48 bytes with an id before it, or one of 40 without.
        (22, len) if datagram[len - 69] == 25 => ("flight", told == Datagram::Flight { connection: Some(id_at(len - 58)) }),
        (22, len) if datagram[len - 53] == 22 => ("flight without id", told == Datagram::Flight { connection: None }),
        (25, _) => ("record", told == Datagram::Record { connection: id_at(11) }),
        (253, _) => ("moved", told == Datagram::Record { connection: id_at(11) }),
        (21, 15) => ("alert", told == Datagram::Junk(Junk::Handshake)),
        _ => ("unknown", false),
    }
}

#[test]
fn every_datagram_is_told_for_what_it_is() {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, _, datagram) in ALL.into_iter().flat_map(lines).filter(|(_, kind, _)| *kind == "datagram") {
        let (kind, right) = told(&datagram);
        assert!(right, "{kind}: {:?} for {}", demux(&datagram), hex::encode(&datagram));
        *counts.entry(kind).or_default() += 1;
    }
    let kinds: Vec<&str> = counts.into_keys().collect();
    assert_eq!(kinds, ["alert", "first hello", "flight", "flight without id", "moved", "record", "second hello"]);
}

#[test]
fn every_message_decodes_and_encodes_to_the_same_bytes() {
    let mut count = 0;
    for (_, _, bytes) in ALL.into_iter().chain([TCP_SESSION, TCP_IDLE]).flat_map(lines).filter(|(_, kind, _)| matches!(*kind, "<-" | "->"))
    {
        let message = Message::decode(&bytes).unwrap_or_else(|| panic!("{}", hex::encode(&bytes)));
        assert_eq!(hex::encode(message.encode()), hex::encode(&bytes));
        count += 1;
    }
    assert!(count > 350, "{count}");
}

/// One recorded session, its device's half played to a session of ours.
struct Replay<H> {
    benches: HashMap<String, H>,
    /// Recorded message ids and tokens of requests to the device, as ours have them.
    ids: HashMap<(String, u16), u16>,
    tokens: HashMap<(String, u8), u8>,
    /// Our acknowledgements of the device's messages.
    answers: HashMap<(String, u16), Message>,
    uplinks: Vec<Uplink>,
    outcomes: Vec<Outcome>,
    /// Requests of the other gateway that ours has no use for.
    foreign: usize,
}

fn replay(capture: &str) -> Replay<Bench> {
    replay_over(capture)
}

fn replay_over<H: Hand>(capture: &str) -> Replay<H> {
    let mut replay = Replay {
        benches: HashMap::new(),
        ids: HashMap::new(),
        tokens: HashMap::new(),
        answers: HashMap::new(),
        uplinks: Vec::new(),
        outcomes: Vec::new(),
        foreign: 0,
    };
    for (session, direction, bytes) in lines(capture).filter(|(_, kind, _)| matches!(*kind, "<-" | "->")) {
        let message = Message::decode(&bytes).unwrap();
        match direction {
            "<-" => replay.play_device(session, message),
            _ => replay.play_gateway(session, &message),
        }
    }
    replay
}

impl<H: Hand> Replay<H> {
    fn bench(&mut self, session: &str) -> &mut H {
        self.benches.entry(session.to_owned()).or_insert_with(|| H::new_in(Generation(5)))
    }

    fn play_device(&mut self, session: &str, mut message: Message) {
        let recorded = message.id;
        if message.kind == Kind::Acknowledgement {
            match self.ids.get(&(session.to_owned(), recorded)) {
                Some(id) => message.id = *id,
                // Over a stream some have an id of the device's own.
                None if H::STREAM => {}
                // To a request of the other gateway that was not played.
                None => return,
            }
        }
        if message.kind == Kind::Acknowledgement || message.code.is_response() {
            for token in &mut message.token {
                *token = self.tokens.get(&(session.to_owned(), *token)).copied().unwrap_or(*token);
            }
        }
        let came = self.bench(session).hear(&message.encode());
        let came = self.take(session, came);
        if message.kind == Kind::Confirmable {
            let answers: Vec<Message> = came.iter().filter(|answer| answer.kind == Kind::Acknowledgement).cloned().collect();
            assert_eq!(answers.len(), 1, "{message:?}: {came:?}");
            assert_eq!(answers[0].id, recorded);
            assert!(answers[0].token.is_empty() || answers[0].token == message.token);
            self.answers.insert((session.to_owned(), recorded), answers[0].clone());
        } else {
            let hello = |answer: &Message| H::STREAM && answer.values(option::URI_PATH).eq([b"h"]);
            assert!(came.iter().all(hello), "{message:?}: {came:?}");
        }
    }

    /// Notes what came and acknowledges what is to be; everything that was sent.
    fn take(&mut self, session: &str, mut came: Came) -> Vec<Message> {
        for (receipt, uplink) in std::mem::take(&mut came.received) {
            self.uplinks.push(uplink);
            came.sent.extend(self.bench(session).acknowledge(receipt, Code::EMPTY).sent);
        }
        self.outcomes.extend(came.settled.into_iter().map(|(_, outcome)| outcome));
        assert!(came.lost.is_empty() && !came.closed);
        came.sent.iter().map(|(_, bytes)| Message::decode(bytes).unwrap()).collect()
    }

    fn play_gateway(&mut self, session: &str, recorded: &Message) {
        if recorded.kind == Kind::Acknowledgement {
            return self.compare_answer(session, recorded);
        }
        // The other gateway answers a Hello as ours does, and subscriptions too, of which devices take no notice.
        if recorded.kind == Kind::NonConfirmable && (recorded.code.is_response() || recorded.values(option::URI_PATH).eq([b"h"])) {
            return;
        }
        let Some(request) = request_of(recorded) else {
            self.foreign += 1;
            return;
        };
        let is_delivery = matches!(request, Request::Deliver(_));
        let (id, came) = self.bench(session).request(request);
        id.unwrap();
        self.outcomes.extend(came.settled.iter().map(|(_, outcome)| outcome.clone()));
        let ours = came.message();
        self.ids.insert((session.to_owned(), recorded.id), ours.id);
        for (theirs, ours) in recorded.token.iter().zip(&ours.token) {
            self.tokens.insert((session.to_owned(), *theirs), *ours);
        }
        if !is_delivery {
            // The other gateway writes each segment of an event's name as an option of its own; devices take either.
            let expected = Message { id: ours.id, token: ours.token.clone(), ..recorded.clone() };
            assert_eq!(hex::encode(ours.encode()), hex::encode(expected.encode()));
        }
        // Over a stream ours asks for no acknowledgement of an event, because there will be none.
        assert!(ours.kind == recorded.kind || H::STREAM && is_delivery);
        assert_eq!(ours.token.len(), recorded.token.len());
    }

    /// Where the device cares what an acknowledgement says, ours is the recorded one.
    fn compare_answer(&mut self, session: &str, recorded: &Message) {
        let Some(ours) = self.answers.get(&(session.to_owned(), recorded.id)) else { return };
        match recorded.code {
            // But for the time of day.
            Code::CONTENT => assert_eq!(&Message { payload: ours.payload.clone(), ..recorded.clone() }, ours),
            Code::CONTINUE => assert_eq!(recorded, ours),
            _ => assert!(ours.code == Code::EMPTY || ours.code == Code::NOT_IMPLEMENTED, "{ours:?}"),
        }
    }

    fn published(&self, name: &str) -> Vec<(u16, Option<&[u8]>)> {
        let all = self.uplinks.iter().filter_map(|uplink| match uplink {
            Uplink::Publish(publish) if publish.name == name => Some((publish.content_format, publish.data.as_deref())),
            _ => None,
        });
        all.collect()
    }

    fn describes(&self, wanted: DescribeKind) -> Vec<&[u8]> {
        let all = self.uplinks.iter().filter_map(|uplink| match uplink {
            Uplink::Describe { kind, payload } if *kind == wanted => Some(&payload[..]),
            _ => None,
        });
        all.collect()
    }

    fn hellos(&self) -> usize {
        self.uplinks.iter().filter(|uplink| matches!(uplink, Uplink::Hello { .. })).count()
    }

    fn subscriptions(&self) -> Vec<(&str, HandlerKind)> {
        let all = self.uplinks.iter().filter_map(|uplink| match uplink {
            Uplink::Subscribe(subscription) => Some((&subscription.prefix[..], subscription.handler)),
            _ => None,
        });
        all.collect()
    }
}

/// The request of ours that `recorded` is.
fn request_of(recorded: &Message) -> Option<Request> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let path: Vec<String> = recorded.values(option::URI_PATH).map(text).collect();
    let query = recorded.values(option::URI_QUERY).next();
    match (recorded.code, path.first().map_or("", String::as_str)) {
        (Code::EMPTY, "") => Some(Request::Ping),
        (Code::POST, "f") => Some(Request::Call { function: path[1].clone(), argument: text(query?) }),
        (Code::GET, "v") => Some(Request::Read { variable: path[1].clone() }),
        (Code::GET, "d") if Block::of(recorded, option::BLOCK2).is_none() => Some(Request::Describe(DescribeKind::from_flag(query?[0])?)),
        (Code::PUT, "s") => Some(Request::Signal { on: query? == [1] }),
        (Code::PUT, "k") => Some(Request::ChangeKey),
        (Code::POST, "e" | "E") => {
            Some(Request::Deliver(Delivery::new(&path[1..].join("/"), recorded.content_format(), Some(&recorded.payload)).unwrap()))
        }
        _ => None,
    }
}

const SUBSCRIPTIONS: [(&str, HandlerKind); 5] = [
    ("particle", HandlerKind::Text),
    ("spark", HandlerKind::Text),
    ("cmd", HandlerKind::Text),
    ("typed", HandlerKind::Cbor),
    ("bin", HandlerKind::Binary),
];

#[test]
fn a_whole_session_is_understood() {
    let replay = replay(SESSION);
    let Some(Uplink::Hello { hello, .. }) = replay.uplinks.first() else { panic!("{:?}", replay.uplinks) };
    assert_eq!((hello.platform, hello.flags, hello.system_version, hello.message_max), (3, 0x36, Some(6200), Some(1152)));
    assert_eq!(hello.device.unwrap().to_string(), "0123456789abcdef00000001");
    assert_eq!(replay.subscriptions(), SUBSCRIPTIONS);
    assert_eq!(replay.describes(DescribeKind::System)[0].len(), 61);
    let application = Application::parse(replay.describes(DescribeKind::Application)[0]).unwrap();
    assert_eq!(application.functions, ["len", "flag", "neg", "do"]);
    assert_eq!(replay.describes(DescribeKind::Metrics)[0].len(), 151);
    assert_eq!(replay.published("particle/device/updates/enabled"), [(0, Some(&b"true"[..]))]);
    assert_eq!(replay.published("vd/noack"), [(0, Some(&br#"{"n":1}"#[..]))]);
    assert_eq!(replay.published("vd/bin"), [(42, Some(&[0, 1, 2, 0xff, 0x78][..]))]);
    let [(65_001, Some(cbor))] = replay.published("vd/typed")[..] else { panic!("{:?}", replay.published("vd/typed")) };
    assert_eq!(cbor[0], 0xa3, "a map of three");

    let values = |wanted: &[u8]| replay.outcomes.contains(&Outcome::Value(wanted.to_vec()));
    assert!(values(&20.75f64.to_le_bytes()) && values(b"vdev") && values(&[1]) && values(&[0, 0, 0, 12]), "{:?}", replay.outcomes);
    for expected in
        [Outcome::Returned(11), Outcome::Returned(-42), Outcome::Returned(0), Outcome::Refused(Code::NOT_FOUND), Outcome::Acknowledged]
    {
        assert!(replay.outcomes.contains(&expected), "{expected:?}");
    }
    let described = |kind| replay.outcomes.iter().any(|outcome| matches!(outcome, Outcome::Described(own, _) if *own == kind));
    assert!(described(DescribeKind::System) && described(DescribeKind::Application) && described(DescribeKind::Metrics));
    assert!(!replay.outcomes.contains(&Outcome::Malformed));
    assert_eq!(replay.foreign, 0);
}

#[test]
fn goodbyes_and_resumed_sessions_are_understood() {
    let replay = replay(RECONNECTS);
    let goodbyes: Vec<_> = replay.uplinks.iter().filter(|uplink| matches!(uplink, Uplink::Goodbye { .. })).collect();
    assert_eq!(goodbyes.len(), 2);
    assert!(goodbyes.iter().all(|goodbye| matches!(goodbye, Uplink::Goodbye { goodbye, .. } if goodbye.cloud_reason == Some(2))));
    assert_eq!(replay.hellos(), 2, "four connections, two of them resumed");
    assert_eq!(replay.published("particle/device/updates/enabled").len(), 4, "each connection says so");
    assert_eq!(replay.published("particle/device/updates/forced").len(), 4);
    assert_eq!(replay.subscriptions(), [SUBSCRIPTIONS, SUBSCRIPTIONS].concat());
    assert_eq!(replay.foreign, 1, "a ledger notification");
}

#[test]
fn ledger_requests_are_answered_as_not_implemented() {
    let replay = replay(LEDGER);
    let refused = replay.answers.values().filter(|answer| answer.code == Code::NOT_IMPLEMENTED).count();
    assert_eq!(refused, 8);
    assert!(replay.answers.values().all(|answer| answer.code != Code::NOT_IMPLEMENTED || answer.token.len() == 1));
    assert_eq!((replay.hellos(), replay.foreign), (1, 1));
}

#[test]
fn a_describe_in_blocks_is_put_together() {
    let replay = replay(BLOCKWISE);
    let application = Application::parse(replay.describes(DescribeKind::Application)[0]).unwrap();
    assert!(application.functions.len() > 4 && application.variables.len() > 4, "{application:?}");
    assert!(application.functions.iter().chain(application.variables.iter().map(|(name, _)| name)).any(|name| name.len() == 64));
    assert_eq!(replay.subscriptions(), SUBSCRIPTIONS, "they come between the blocks");
    assert!(replay.outcomes.contains(&Outcome::Value(vec![0; 4])));
}

#[test]
fn a_key_change_is_the_recorded_message_and_both_sessions_are_understood() {
    let replay = replay(KEY_CHANGE);
    assert_eq!((replay.hellos(), replay.benches.len(), replay.foreign), (2, 2, 0));
    assert_eq!(replay.describes(DescribeKind::System).len(), 2);
}

#[test]
fn safe_mode_is_an_event_without_data() {
    let replay = replay(SAFE_MODE);
    assert_eq!(replay.published("spark/device/safemode"), [(0, None)]);
    assert_eq!(replay.subscriptions(), SUBSCRIPTIONS[..2]);
    assert_eq!(Application::parse(replay.describes(DescribeKind::Application)[0]), Some(Application::default()));
}

/// The frames are those of the recording: sealed with its secret, in its order, they are taken by our reader one by one.
#[test]
fn a_whole_session_over_tcp_is_understood() {
    let replay = replay_over::<StreamBench>(TCP_SESSION);
    let Some(Uplink::Hello { hello, .. }) = replay.uplinks.first() else { panic!("{:?}", replay.uplinks) };
    assert_eq!((hello.platform, hello.flags, hello.system_version, hello.device), (3, 0x36, Some(6200), None));
    assert_eq!(replay.subscriptions(), SUBSCRIPTIONS);
    assert_eq!(replay.describes(DescribeKind::System)[0].len(), 61);
    assert_eq!(Application::parse(replay.describes(DescribeKind::Application)[0]).unwrap().functions, ["len", "flag", "neg", "do"]);
    assert_eq!(replay.describes(DescribeKind::Metrics)[0].len(), 151);
    assert_eq!(replay.published("vd/ack").len(), 3);
    assert_eq!(replay.published("vd/noack").len(), 3);
    assert_eq!(replay.published("vd/bin"), [(42, Some(&[0, 1, 2, 0xff, 0x78][..]))]);
    let values = |wanted: &[u8]| replay.outcomes.contains(&Outcome::Value(wanted.to_vec()));
    assert!(values(&20.5f64.to_le_bytes()) && values(b"vdev") && values(&[1]) && values(&[0, 0, 0, 12]), "{:?}", replay.outcomes);
    for expected in [Outcome::Returned(11), Outcome::Returned(-42), Outcome::Returned(0), Outcome::Refused(Code::NOT_FOUND)] {
        assert!(replay.outcomes.contains(&expected), "{expected:?}");
    }
    let acknowledged = replay.outcomes.iter().filter(|outcome| **outcome == Outcome::Acknowledged).count();
    assert_eq!(acknowledged, 7, "four events, a ping and two signals, whose acknowledgements have ids of the device's own");
    assert!(!replay.outcomes.contains(&Outcome::Malformed));
    assert_eq!(replay.foreign, 0);
}

#[test]
fn an_idle_session_over_tcp_is_pings() {
    let replay = replay_over::<StreamBench>(TCP_IDLE);
    assert_eq!((replay.hellos(), replay.foreign), (1, 0));
    assert_eq!(
        replay.answers.values().filter(|answer| answer.code == Code::EMPTY && answer.token.is_empty()).count(),
        4,
        "two describes, two pings"
    );
}

#[test]
fn the_recorded_handshakes_are_of_the_known_form() {
    for capture in [TCP_SESSION, TCP_IDLE] {
        let part = |wanted: &str| lines(capture).find(|(_, kind, _)| *kind == wanted).unwrap().2;
        assert!(DevicePublicKey::from_spki(&part("key")).is_some());
        let (secret, hello) = (part("secret"), part("<-"));
        let first_id = u16::from_le_bytes([secret[32], secret[33]]).wrapping_add(1);
        assert_eq!(Message::decode(&hello).unwrap().id, first_id, "a device counts its ids from the salt");
    }
}
