//! A session over TCP that is played a script.

use firmware_protocol::coap::Code;
use firmware_protocol::crypto::Cbc;
use firmware_protocol::dtls::cid::ConnectionId;
use firmware_protocol::entropy::SeededEntropy;
use firmware_protocol::id::DeviceId;
use firmware_protocol::path::Path;
use firmware_protocol::session::request::{Request, RequestId};
use firmware_protocol::session::stored::Generation;
use firmware_protocol::tcp::frame::{FROM_DEVICE_MAX, FrameWriter};
use firmware_protocol::tcp::handshake::SessionSecret;
use firmware_protocol::tcp::session::{Context, Opening, Output, Patience, TcpSession};
use firmware_protocol::time::{Millis, Now, UnixMillis};

const SECRET: SessionSecret = SessionSecret([0x5a; SessionSecret::LEN]);
/// A Hello of 6.2 as devices on TCP say it.
const HELLO: &[u8] = b"\x50\x02\xa1\xa1\xb1\x68\xff\xff\xff\xff\xff\x00\x76\x00\x03\x00\x00\x18\x38\x04\x80\x00\x18\x00\x00\x02\x00";

/// Both ends of a connection.
pub(crate) struct Stream {
    session: TcpSession,
    device: FrameWriter,
    cipher: Cbc,
    entropy: SeededEntropy,
    now: Millis,
    requests: u64,
}

impl Stream {
    /// After the handshake and the Hello.
    pub(crate) fn new() -> Self {
        let opening = Opening {
            device: DeviceId([7; 12]),
            owner: None,
            connection: ConnectionId([1; 8]),
            path: Path { peer: ([192, 0, 2, 1], 5683).into(), local: None },
            secret: SECRET,
            generation: Generation(1),
            patience: Patience::default(),
        };
        let now = Millis(0);
        let session = TcpSession::new(Now { at: now, unix: UnixMillis(0) }, &opening);
        let cipher = Cbc::new().expect("OpenSSL has AES-CBC");
        let device = FrameWriter::new(&SECRET, FROM_DEVICE_MAX);
        let mut stream = Self { session, device, cipher, entropy: SeededEntropy::new(1), now, requests: 0 };
        stream.say(HELLO, HELLO.len());
        assert!(stream.session.is_proved());
        stream
    }

    /// One step: its first byte says what is done with the rest.
    pub(crate) fn step(&mut self, step: &[u8]) {
        let Some((what, rest)) = step.split_first() else { return };
        match what {
            0 => self.with(|session, cx| session.handle_bytes(cx, rest)),
            1 => {
                self.now = Millis(self.now.0 + rest.iter().map(|byte| u64::from(*byte) * 100).sum::<u64>());
                self.with(TcpSession::handle_timeout);
            }
            2 => self.request(rest),
            cut => self.say(rest, usize::from(*cut)),
        }
        if self.session.is_over() {
            let outputs = self.outputs(|session, cx| session.handle_bytes(cx, rest));
            assert!(outputs.is_empty(), "what is over says nothing");
        }
    }

    /// A message of the device in two pieces.
    fn say(&mut self, message: &[u8], cut: usize) {
        let Ok(frame) = self.device.write(&mut self.cipher, message) else { return };
        let (head, tail) = frame.split_at(cut.min(frame.len()));
        self.with(|session, cx| session.handle_bytes(cx, head));
        self.with(|session, cx| session.handle_bytes(cx, tail));
    }

    fn request(&mut self, rest: &[u8]) {
        self.requests += 1;
        let (id, deadline) = (RequestId(self.requests), Millis(self.now.0 + 30_000));
        let name = String::from_utf8_lossy(rest).into_owned();
        let request = match rest.len() % 3 {
            0 => Request::Ping,
            1 => Request::Call { function: name, argument: String::new() },
            _ => Request::Signal { on: true },
        };
        self.with(|session, cx| _ = session.request(cx, id, request, deadline));
    }

    fn with(&mut self, action: impl FnOnce(&mut TcpSession, &mut Context<'_>)) {
        for output in self.outputs(action) {
            match output {
                Output::Received { receipt, .. } => {
                    let code = if self.requests.is_multiple_of(2) { Code::EMPTY } else { Code::FORBIDDEN };
                    self.outputs(|session, cx| session.acknowledge(cx, receipt, code));
                }
                Output::Transmit(frame) => assert!(frame.len() % 16 == 2 && frame.len() <= 1122),
                Output::Settled { .. } | Output::DescribeLost(_) | Output::Unkept(_) | Output::Closed(_) => {}
            }
        }
    }

    fn outputs(&mut self, action: impl FnOnce(&mut TcpSession, &mut Context<'_>)) -> Vec<Output> {
        let mut out = Vec::new();
        let now = Now { at: self.now, unix: UnixMillis(self.now.0) };
        action(&mut self.session, &mut Context { now, cipher: &mut self.cipher, entropy: &mut self.entropy, out: &mut out });
        out
    }
}
