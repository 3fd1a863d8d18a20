//! Fuzz targets, as functions: the binaries of `cargo fuzz` and the smoke test both call them.
//!
//! None may panic, and whatever decodes must mean the same after it was encoded again.

mod cloud;
mod stream;

use std::cell::RefCell;
use std::fs;
use std::hint::black_box;

use firmware_protocol::coap::{Block, Message, option};
use firmware_protocol::dtls::demux;
use firmware_protocol::dtls::hello::ClientHello;
use firmware_protocol::dtls::messages::HandshakeMessage;
use firmware_protocol::dtls::record::Record;
use firmware_protocol::session::describe::Application;
use firmware_protocol::session::goodbye::Goodbye;
use firmware_protocol::session::hello::Hello;
use firmware_protocol::session::modules::Modules;
use firmware_protocol::session::variable::VariableType;
use firmware_protocol::session::vitals::{Reading, Vitals};
use holdfast::journal::{Journal, Options};
use webhooks::template::{Budget, Template};

use cloud::Cloud;
use stream::Stream;

/// What is set up once for all inputs of a thread.
fn with_cloud<T>(action: impl FnOnce(&mut Cloud) -> T) -> T {
    thread_local!(static CLOUD: RefCell<Cloud> = RefCell::new(Cloud::new()));
    CLOUD.with_borrow_mut(action)
}

/// Any datagram.
pub fn demux(datagram: &[u8]) {
    black_box(demux::demux(datagram));
}

/// A hello, its challenge, and the handshake it would begin.
pub fn hello(datagram: &[u8]) {
    if let Some(hello) = ClientHello::parse(datagram) {
        with_cloud(|cloud| cloud.answer_hello(&hello, datagram.len()));
    }
}

/// A device's second flight against a handshake that waits for it: nothing made up is ever accepted.
pub fn flight(datagram: &[u8]) {
    with_cloud(|cloud| assert!(!cloud.flight_is_accepted(datagram)));
}

/// Records and handshake messages as they stand, and as datagrams of a session whose keys they were not sealed with.
pub fn record(datagram: &[u8]) {
    let mut rest = datagram;
    while let Some((record, tail)) = Record::parse(rest) {
        black_box(HandshakeMessage::parse(record.body));
        assert!(tail.len() < rest.len());
        rest = tail;
    }
    with_cloud(|cloud| cloud.forged(datagram));
}

/// A sequence of authentic messages, cut at every 0xfe 0xfe, mixed with time-outs, acknowledgements and requests.
pub fn session(script: &[u8]) {
    with_cloud(|cloud| cloud.play(script));
}

/// Steps of a connection over TCP, cut at every 0xfe 0xfe: bytes, messages, time-outs, requests.
pub fn stream(script: &[u8]) {
    let mut stream = Stream::new();
    let mut rest = script;
    while let Some(at) = rest.windows(2).position(|window| window == [0xfe, 0xfe]) {
        stream.step(&rest[..at]);
        rest = &rest[at + 2..];
    }
    stream.step(rest);
}

/// A CoAP message.
pub fn coap(bytes: &[u8]) {
    let Some(message) = Message::decode(bytes) else { return };
    black_box((Block::of(&message, option::BLOCK1), Block::of(&message, option::BLOCK2), message.content_format()));
    let again = Message::decode(&message.encode());
    assert_eq!(again.as_ref(), Some(&message));
}

/// Payloads of messages; the first byte says of which.
pub fn payloads(bytes: &[u8]) {
    let Some((kind, payload)) = bytes.split_first() else { return };
    match kind % 4 {
        0 => {
            if let Some(hello) = Hello::parse(payload) {
                black_box(hello.encode());
            }
        }
        1 => _ = black_box(Goodbye::parse(payload)),
        2 => {
            black_box(Application::within_system(payload));
            if let Some(application) = Application::parse(payload) {
                assert_eq!(Application::parse(&application.encode()).map(|again| again.functions), Some(application.functions));
            }
        }
        _ => {
            for kind in [VariableType::Bool, VariableType::Int, VariableType::String, VariableType::Double] {
                black_box(kind.decode(payload));
            }
        }
    }
}

/// A page of vitals.
pub fn vitals(page: &[u8]) {
    let Some(vitals) = Vitals::parse(page) else { return };
    for (id, reading) in vitals.iter() {
        black_box((id.name(), id.unit(), vitals.reading(id)));
        if let Reading::Value(bits) = reading {
            assert!(id.unit().amount(bits).is_finite());
        }
    }
    assert_eq!(Vitals::parse(&vitals.encode()), Some(vitals));
}

/// A system describe of either age.
pub fn modules(describe: &[u8]) {
    let Some(modules) = Modules::parse(describe) else { return };
    black_box((modules.iter().count(), modules.missing().count()));
}

/// A template, a zero, and a view in JSON: what comes out stays within its budget.
pub fn template(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let text = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let view = parts.next().and_then(|view| serde_json::from_slice(view).ok()).unwrap_or_default();
    let Ok(template) = Template::parse(&text) else { return };
    let mut budget = Budget { bytes: 4_096, steps: 4_096 };
    if let Ok(out) = template.render_within(&view, &mut budget) {
        assert_eq!(out.len() + budget.bytes, 4_096);
    }
}

/// A journal whose only segment holds these bytes.
pub fn journal_segment(bytes: &[u8]) {
    open_journal("00000000000000000001-000000000001.segment", bytes);
}

/// A journal whose only snapshot holds these bytes: sessions are imported from it.
pub fn journal_snapshot(bytes: &[u8]) {
    open_journal("000000000001.snapshot", bytes);
}

fn open_journal(name: &str, bytes: &[u8]) {
    let Ok(directory) = tempfile::tempdir() else { return };
    if fs::write(directory.path().join(name), bytes).is_ok() {
        let _ = black_box(Journal::open(directory.path(), Options::new(1)).map(|(_, recovered)| recovered.state.sessions.len()));
    }
}
