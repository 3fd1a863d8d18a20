//! The cloud's side of one handshake and one session, with keys that everybody knows.

use firmware_protocol::coap::Code;
use firmware_protocol::crypto::{Aead, Curve, KeyPair};
use firmware_protocol::dtls::cid::ConnectionId;
use firmware_protocol::dtls::client::ClientHandshake;
use firmware_protocol::dtls::cookie::Cookies;
use firmware_protocol::dtls::hello::ClientHello;
use firmware_protocol::dtls::keys::KeyBlock;
use firmware_protocol::dtls::record::{content, write_sealed};
use firmware_protocol::dtls::server::{FinalFlight, Handshaker, Pending, ServerCertificate};
use firmware_protocol::entropy::SeededEntropy;
use firmware_protocol::id::{DeviceId, Identity, KeyHash};
use firmware_protocol::path::Path;
use firmware_protocol::session::describe::DescribeKind;
use firmware_protocol::session::request::{Request, RequestId};
use firmware_protocol::session::stored::{Generation, StoredSession};
use firmware_protocol::session::{Context, Output, Session};
use firmware_protocol::time::{Millis, Now, UnixMillis};

const CONNECTION: ConnectionId = ConnectionId([0x10, 1, 2, 3, 4, 5, 6, 7]);
const KEYS: KeyBlock = KeyBlock([0x5a; KeyBlock::LEN]);

/// Both halves.
pub(crate) struct Cloud {
    entropy: SeededEntropy,
    handshaker: Handshaker,
    cookies: Cookies,
    pending: Pending,
    aead: Aead,
}

fn path(port: u16) -> Path {
    Path { peer: ([192, 0, 2, 1], port).into(), local: None }
}

impl Cloud {
    pub(crate) fn new() -> Self {
        let mut entropy = SeededEntropy::new(1);
        let mut curve = Curve::new().expect("OpenSSL has P-256");
        let mut pair = || KeyPair::generate(&mut curve, &mut entropy).expect("OpenSSL makes keys");
        let (server, device) = (pair(), pair());
        let cookies = Cookies::new(Millis(0), &mut entropy);
        let mut handshaker = Handshaker::new(server.clone(), ServerCertificate::Omitted).expect("OpenSSL has AES-CCM");
        let client = ClientHandshake::new(Millis(0), device, *server.public(), true, &mut entropy);
        let hello = ClientHello::parse(client.datagram()).expect("our own hello parses");
        let pending = handshaker.begin(&hello, Some(CONNECTION), &mut entropy).expect("OpenSSL signs");
        Self { entropy, handshaker, cookies, pending, aead: Aead::new().expect("OpenSSL has AES-CCM") }
    }

    pub(crate) fn answer_hello(&mut self, hello: &ClientHello<'_>, len: usize) {
        let peer = path(1).peer;
        assert!(self.cookies.challenge(peer, hello).len() <= len, "an answer larger than the question is an amplifier");
        assert!(!self.cookies.proves(peer, hello), "nobody was given a cookie");
        let mut pending = self.handshaker.begin(hello, Some(CONNECTION), &mut self.entropy).expect("OpenSSL signs");
        assert!(pending.flight(hello.record_sequence).len() < 600);
    }

    pub(crate) fn flight_is_accepted(&mut self, datagram: &[u8]) -> bool {
        self.handshaker.finish(&self.pending, datagram, |_| Some(())).is_ok()
    }

    fn session(&self) -> Session {
        let identity = Identity { device: DeviceId([1; 12]), key: KeyHash([2; 32]), owner: None, product: None };
        let stored = StoredSession {
            connection: CONNECTION,
            id_on_wire: true,
            identity,
            keys: KEYS,
            birth: Generation(5),
            established_at: UnixMillis(0),
            path: path(1),
            final_flight: FinalFlight { verify: [3; 12], message_sequence: 5, record_sequence: 9 },
        };
        Session::established(&stored, 0, Generation(5)).expect("the generation is its birth's")
    }

    pub(crate) fn forged(&mut self, datagram: &[u8]) {
        let mut session = self.session();
        let mut out = Vec::new();
        let now = Now::default();
        let mut cx = Context { now, aead: &mut self.aead, entropy: &mut self.entropy, out: &mut out };
        assert!(session.handle_datagram(&mut cx, datagram, path(2)).is_err());
        assert!(out.is_empty());
    }

    /// Each part begins with a byte that says what it is; what is left is a message's plaintext.
    pub(crate) fn play(&mut self, script: &[u8]) {
        let mut session = self.session();
        let (mut receipts, mut sequence, mut now) = (Vec::new(), 0, Now { at: Millis(1), unix: UnixMillis(1) });
        for part in script.split(|byte| *byte == 0xfe).filter(|part| !part.is_empty()).take(64) {
            let (kind, plaintext) = part.split_first().expect("empty parts are left out");
            let mut out = Vec::new();
            let mut datagram = Vec::new();
            sequence += 1;
            let content_type = match kind >> 5 {
                0..=4 => content::APPLICATION,
                5 => content::ALERT,
                _ => content::HANDSHAKE,
            };
            write_sealed(&mut datagram, &mut self.aead, &KEYS.client(), Some(CONNECTION), content_type, sequence, plaintext)
                .expect("plaintext is short");
            let mut cx = Context { now, aead: &mut self.aead, entropy: &mut self.entropy, out: &mut out };
            match kind & 0x1f {
                0..=15 => _ = session.handle_datagram(&mut cx, &datagram, path(1)),
                16..=19 => _ = session.handle_datagram(&mut cx, &datagram, path(2)),
                20 => receipts.drain(..).for_each(|receipt| session.acknowledge(&mut cx, receipt, Code::EMPTY)),
                21 => receipts.drain(..).for_each(|receipt| session.forget(&mut cx, receipt)),
                22..=25 => {
                    let request = match kind & 3 {
                        0 => Request::Ping,
                        1 => Request::Describe(DescribeKind::Application),
                        2 => Request::Read { variable: "v".to_owned() },
                        _ => Request::Call { function: "f".to_owned(), argument: String::new() },
                    };
                    let deadline = Millis(now.at.0 + 30_000);
                    let _ = session.request(&mut cx, RequestId(sequence), request, deadline);
                }
                26 => session.close(&mut cx),
                _ => {
                    now.at = Millis(now.at.0 + 5_000);
                    cx.now = now;
                    session.handle_timeout(&mut cx);
                }
            }
            for output in out {
                match output {
                    Output::Received { receipt, floor, .. } => {
                        assert_eq!(floor.sequence, sequence);
                        receipts.push(receipt);
                    }
                    Output::Transmit { datagram, .. } => assert!(datagram.len() <= 1232, "{}", datagram.len()),
                    _ => {}
                }
            }
        }
        // However it went, everything that was opened ends.
        let mut out = Vec::new();
        while let Some(at) = session.timeout_at() {
            now.at = at;
            session.handle_timeout(&mut Context { now, aead: &mut self.aead, entropy: &mut self.entropy, out: &mut out });
            assert!(session.timeout_at().is_none_or(|next| next > at), "a timer that is due again at once");
        }
    }
}
