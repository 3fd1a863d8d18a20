//! One session whose keys are known, and a hand that writes the device's records: what a test sends is exactly what the session gets.

use std::time::Duration;

use firmware_protocol::coap::{Code, Kind, Message};
use firmware_protocol::crypto::Aead;
use firmware_protocol::dtls::cid::ConnectionId;
use firmware_protocol::dtls::keys::KeyBlock;
use firmware_protocol::dtls::record::{self, Record, content};
use firmware_protocol::dtls::server::FinalFlight;
use firmware_protocol::entropy::SeededEntropy;
use firmware_protocol::error::RequestError;
use firmware_protocol::id::{DeviceId, Identity, KeyHash};
use firmware_protocol::path::Path;
use firmware_protocol::session::describe::DescribeKind;
use firmware_protocol::session::request::{Outcome, Request, RequestId};
use firmware_protocol::session::stored::{Generation, StoredSession};
use firmware_protocol::session::{Context, Dropped, Output, Receipt, Session, Unkept, Uplink};
use firmware_protocol::time::{Millis, Now, UnixMillis};

const CONNECTION: ConnectionId = ConnectionId([0x10, 1, 2, 3, 4, 5, 6, 7]);
const KEYS: KeyBlock = KeyBlock([0x5a; KeyBlock::LEN]);
/// What the device's clock is set to.
pub(crate) const UNIX_S: u32 = 1_800_000_000;

/// What came of one call.
#[derive(Default, Debug)]
pub(crate) struct Came {
    /// Application messages, in the clear, and where they went.
    pub(crate) sent: Vec<(Path, Vec<u8>)>,
    /// Datagrams that are not application messages.
    pub(crate) others: Vec<(Path, Vec<u8>)>,
    pub(crate) received: Vec<(Receipt, Uplink)>,
    pub(crate) settled: Vec<(RequestId, Outcome)>,
    pub(crate) lost: Vec<DescribeKind>,
    pub(crate) moved: Vec<Path>,
    pub(crate) unkept: Vec<Unkept>,
    pub(crate) closed: bool,
}

impl Came {
    /// The only message that was sent.
    pub(crate) fn message(&self) -> Message {
        assert_eq!(self.sent.len(), 1, "{self:?}");
        Message::decode(&self.sent[0].1).unwrap()
    }

    /// The only message that was sent, as hex.
    pub(crate) fn hex(&self) -> String {
        assert_eq!(self.sent.len(), 1, "{self:?}");
        hex::encode(&self.sent[0].1)
    }

    /// What the only message that was received says.
    pub(crate) fn uplink(&self) -> Uplink {
        assert_eq!(self.received.len(), 1, "{self:?}");
        self.received[0].1.clone()
    }
}

/// What a script can do to a session, whatever carries its messages.
pub(crate) trait Hand {
    /// Whether messages come in a stream.
    const STREAM: bool;
    fn new_in(generation: Generation) -> Self;
    fn now(&self) -> Millis;
    fn timeout_at(&self) -> Option<Millis>;
    fn hear_at(&mut self, port: u16, message: &[u8]) -> Came;
    fn acknowledge(&mut self, receipt: Receipt, code: Code) -> Came;
    fn forget(&mut self, receipt: Receipt) -> Came;
    fn disown(&mut self) -> Came;
    fn request(&mut self, request: Request) -> (Result<RequestId, RequestError>, Came);
    fn pass(&mut self, span: Duration) -> Came;
    fn close(&mut self) -> Came;

    fn hear(&mut self, message: &[u8]) -> Came {
        self.hear_at(1, message)
    }
}

impl Hand for Bench {
    const STREAM: bool = false;

    fn new_in(generation: Generation) -> Self {
        Self::in_generation(generation)
    }

    fn now(&self) -> Millis {
        self.now
    }

    fn timeout_at(&self) -> Option<Millis> {
        self.session.timeout_at()
    }

    fn hear_at(&mut self, port: u16, message: &[u8]) -> Came {
        self.hear_from(path(port), message)
    }

    fn acknowledge(&mut self, receipt: Receipt, code: Code) -> Came {
        self.acknowledge(receipt, code)
    }

    fn forget(&mut self, receipt: Receipt) -> Came {
        self.call(|session, cx| session.forget(cx, receipt)).1
    }

    fn disown(&mut self) -> Came {
        self.call(Session::disown).1
    }

    fn request(&mut self, request: Request) -> (Result<RequestId, RequestError>, Came) {
        self.request(request)
    }

    fn pass(&mut self, span: Duration) -> Came {
        self.pass(span)
    }

    fn close(&mut self) -> Came {
        self.close()
    }
}

pub(crate) struct Bench {
    pub(crate) session: Session,
    pub(crate) now: Millis,
    aead: Aead,
    entropy: SeededEntropy,
    sequence: u64,
    requests: u64,
}

pub(crate) fn path(port: u16) -> Path {
    Path { peer: ([192, 0, 2, 1], port).into(), local: None }
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::in_generation(Generation(5))
    }

    pub(crate) fn in_generation(generation: Generation) -> Self {
        let identity = Identity { device: DeviceId([1; 12]), key: KeyHash([2; 32]), owner: None, product: None };
        let stored = StoredSession {
            connection: CONNECTION,
            id_on_wire: true,
            identity,
            keys: KEYS,
            birth: generation,
            established_at: UnixMillis(0),
            path: path(1),
            final_flight: FinalFlight { verify: [3; 12], message_sequence: 5, record_sequence: 9 },
        };
        Self {
            session: Session::established(&stored, 0, generation).unwrap(),
            now: Millis(1_000_000),
            aead: Aead::new().unwrap(),
            entropy: SeededEntropy::new(6),
            sequence: 0,
            requests: 0,
        }
    }

    fn call<T>(&mut self, action: impl FnOnce(&mut Session, &mut Context<'_>) -> T) -> (T, Came) {
        let mut out = Vec::new();
        let now = Now { at: self.now, unix: UnixMillis(u64::from(UNIX_S) * 1000) };
        let result = action(&mut self.session, &mut Context { now, aead: &mut self.aead, entropy: &mut self.entropy, out: &mut out });
        let mut came = Came::default();
        for output in out {
            match output {
                Output::Transmit { path, datagram } => match self.opened(&datagram) {
                    Some(message) => came.sent.push((path, message)),
                    None => came.others.push((path, datagram)),
                },
                Output::Received { receipt, uplink, .. } => came.received.push((receipt, uplink)),
                Output::Settled { request, outcome } => came.settled.push((request, outcome)),
                Output::Moved { path } => came.moved.push(path),
                Output::DescribeLost(kind) => came.lost.push(kind),
                Output::Unkept(unkept) => came.unkept.push(unkept),
                Output::Closed => came.closed = true,
            }
        }
        (result, came)
    }

    fn opened(&mut self, datagram: &[u8]) -> Option<Vec<u8>> {
        let (record, _) = Record::parse(datagram)?;
        let (content_type, plaintext) = record.open(&mut self.aead, &KEYS.server())?;
        (content_type == content::APPLICATION).then(|| plaintext.to_vec())
    }

    /// The device's next record, with any content.
    pub(crate) fn record(&mut self, content_type: u8, plaintext: &[u8]) -> Vec<u8> {
        self.sequence += 1;
        let (sequence, mut datagram) = (self.sequence, Vec::new());
        record::write_sealed(&mut datagram, &mut self.aead, &KEYS.client(), Some(CONNECTION), content_type, sequence, plaintext).unwrap();
        datagram
    }

    pub(crate) fn datagram(&mut self, datagram: &[u8], from: Path) -> (Result<(), Dropped>, Came) {
        self.call(|session, cx| session.handle_datagram(cx, datagram, from))
    }

    /// The device sends `message`.
    pub(crate) fn hear(&mut self, message: &[u8]) -> Came {
        self.hear_from(path(1), message)
    }

    pub(crate) fn hear_from(&mut self, from: Path, message: &[u8]) -> Came {
        let datagram = self.record(content::APPLICATION, message);
        self.datagram(&datagram, from).1
    }

    pub(crate) fn hear_hex(&mut self, message: &str) -> Came {
        self.hear(&hex::decode(message).unwrap())
    }

    /// The device acknowledges what it was sent.
    pub(crate) fn hear_acknowledgement_of(&mut self, message: &Message) -> Came {
        self.hear(&Message::new(Kind::Acknowledgement, Code::EMPTY, message.id, &[]).encode())
    }

    pub(crate) fn acknowledge(&mut self, receipt: Receipt, code: Code) -> Came {
        self.call(|session, cx| session.acknowledge(cx, receipt, code)).1
    }

    pub(crate) fn request(&mut self, request: Request) -> (Result<RequestId, RequestError>, Came) {
        self.requests += 1;
        let (id, deadline) = (RequestId(self.requests), self.now + Duration::from_secs(60));
        let (result, came) = self.call(|session, cx| session.request(cx, id, request, deadline));
        (result.map(|()| id), came)
    }

    /// Everything that is due until `span` from now.
    pub(crate) fn pass(&mut self, span: Duration) -> Came {
        let (end, mut all) = (self.now + span, Came::default());
        while let Some(at) = self.session.timeout_at().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            let ((), came) = self.call(|session, cx| session.handle_timeout(cx));
            assert!(self.session.timeout_at().is_none_or(|next| next > at), "a timer that is due again at once");
            all.sent.extend(came.sent);
            all.others.extend(came.others);
            all.settled.extend(came.settled);
            all.unkept.extend(came.unkept);
        }
        self.now = end;
        all
    }

    pub(crate) fn close(&mut self) -> Came {
        self.call(|session, cx| session.close(cx)).1
    }
}
