//! One device's established session, from the cloud's side: records in, typed messages out, and back.
//!
//! A [`Session`] does no I/O and reads no clock. Each call takes a [`Context`] with the moment and appends [`Output`]s to it. A message that has
//! an effect beyond the session comes out as [`Output::Received`]; it is acknowledged when the caller says so, which is after its effect is
//! durable. Repetitions in between stay unanswered, repetitions after it get the same answer.
//!
//! State of open exchanges is held only while there are any.

pub mod describe;
pub mod goodbye;
pub mod hello;
mod ids;
mod inbound;
mod outbound;
pub mod publish;
pub mod request;
pub mod stored;
pub mod subscribe;
mod uplink;
pub mod variable;

use std::time::Duration;

use crate::coap::{self, Code, Kind, Message, option};
use crate::crypto::{Aead, digest64};
use crate::dtls::cid::ConnectionId;
use crate::dtls::keys::KeyBlock;
use crate::dtls::messages::{HandshakeMessage, kind};
use crate::dtls::record::{self, Record, content};
use crate::dtls::sequence::{ReplayWindow, SendSequence};
use crate::dtls::server::FinalFlight;
use crate::entropy::Entropy;
use crate::error::RequestError;
use crate::id::Identity;
use crate::path::Path;
use crate::time::{Millis, Now, UnixMillis};

use self::describe::{Assembled, Assembly, DescribeKind};
use self::hello::{Hello, MESSAGE_MAX_UNKNOWN};
use self::ids::{MessageIds, SPAN, Tokens};
use self::inbound::{Answer, Inbound};
use self::outbound::{Asker, Event, Outbound};
use self::request::{Outcome, Request, RequestId};
use self::stored::{Floor, Generation, StoredSession};
use self::uplink::{Asked, asked};

pub use self::uplink::Uplink;

/// How long the blocks of an unfinished describe are kept.
const ASSEMBLY_LIFE: Duration = Duration::from_secs(90);
/// `close_notify` as a warning (RFC 5246 §7.2.1).
const CLOSE_NOTIFY: [u8; 2] = [1, 0];

/// What a call works with.
pub struct Context<'a> {
    /// This moment.
    pub now: Now,
    /// The thread's cipher.
    pub aead: &'a mut Aead,
    /// For retransmission times.
    pub entropy: &'a mut dyn Entropy,
    /// What is to be done. Appended to, never read.
    pub out: &'a mut Vec<Output>,
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("now", &self.now).finish_non_exhaustive()
    }
}

/// What a session wants done.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// Send this datagram.
    Transmit {
        /// From and to where.
        path: Path,
        /// The bytes.
        datagram: Vec<u8>,
    },
    /// A message to be acted upon, and acknowledged with [`Session::acknowledge`].
    Received {
        /// To acknowledge it with.
        receipt: Receipt,
        /// What identifies it.
        floor: Floor,
        /// What it says.
        uplink: Uplink,
    },
    /// A request is over.
    Settled {
        /// Which.
        request: RequestId,
        /// How.
        outcome: Outcome,
    },
    /// The device has proved to be at another address.
    Moved {
        /// Where.
        path: Path,
    },
    /// A describe was lost half-way and should be asked for.
    DescribeLost(DescribeKind),
    /// The device ended the session.
    Closed,
}

/// Stands for one received message until it is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Receipt {
    message_id: u16,
    digest: u64,
    confirmable: bool,
    token: Option<u8>,
}

/// Why a datagram had no effect. Nothing of it is the device's fault: it is counted and forgotten.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Dropped {
    /// Its sequence number was accepted before, or is too old to tell.
    Replayed,
    /// Not sealed with this session's key.
    Forged,
    /// Not a protected record of this session, or of a type with no meaning here.
    Unexpected,
    /// Authentic, but not CoAP.
    Malformed,
}

/// A device's session.
#[derive(Debug)]
pub struct Session {
    identity: Identity,
    connection: ConnectionId,
    id_on_wire: bool,
    keys: KeyBlock,
    birth: Generation,
    established_at: UnixMillis,
    path: Path,
    send: SendSequence,
    received: ReplayWindow,
    ids: MessageIds,
    generation: Generation,
    message_max: u16,
    last_heard: UnixMillis,
    final_flight: Option<Box<FinalFlight>>,
    open: Option<Box<Exchanges>>,
}

/// What is held only while something is open.
#[derive(Debug)]
struct Exchanges {
    inbound: Inbound,
    outbound: Outbound,
    assembly: Option<Assembly>,
    assembly_since: Millis,
}

impl Session {
    /// A session that was just made, whose last flight has not been sent. `None` if `generation` is before its birth.
    pub fn established(stored: &StoredSession, finished_sequence: u64, generation: Generation) -> Option<Self> {
        let mut session = Self::new(stored, generation)?;
        session.received.accept(finished_sequence);
        session.final_flight = Some(Box::new(stored.final_flight));
        Some(session)
    }

    /// A session of a former process. `floor` is the highest sequence number known to have been accepted, `seen` the messages (id and digest) known
    /// to have been acted upon, `hello` the device's last.
    pub fn restored(
        stored: &StoredSession,
        floor: Option<u64>,
        seen: &[(u16, u64)],
        hello: Option<&Hello>,
        generation: Generation,
        now: Now,
    ) -> Option<Self> {
        let mut session = Self::new(stored, generation)?;
        match floor {
            Some(floor) => session.received = ReplayWindow::above(floor),
            // Nothing was heard after the handshake: the device may still wait for our last flight.
            None => session.final_flight = Some(Box::new(stored.final_flight.after(generation.0 - stored.birth.0))),
        }
        if !seen.is_empty() {
            let open = session.open();
            for (id, digest) in seen {
                open.inbound.remember(now.at, *id, *digest, Answer::Given(Code::EMPTY));
            }
        }
        if let Some(hello) = hello {
            session.message_max = hello.message_cap();
        }
        Some(session)
    }

    fn new(stored: &StoredSession, generation: Generation) -> Option<Self> {
        Some(Self {
            identity: stored.identity,
            connection: stored.connection,
            id_on_wire: stored.id_on_wire,
            keys: stored.keys,
            birth: stored.birth,
            established_at: stored.established_at,
            path: stored.path,
            send: SendSequence::new(stored.birth, generation)?,
            received: ReplayWindow::default(),
            ids: MessageIds::new(generation),
            generation,
            message_max: MESSAGE_MAX_UNKNOWN,
            last_heard: stored.established_at,
            final_flight: None,
            open: None,
        })
    }

    /// Who holds the other end.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The owner changed while the session lives.
    pub fn set_identity(&mut self, identity: Identity) {
        self.identity = identity;
    }

    /// Its connection id.
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// Whether the device's records carry the id.
    pub fn id_on_wire(&self) -> bool {
        self.id_on_wire
    }

    /// Where the device is.
    pub fn path(&self) -> Path {
        self.path
    }

    /// When an authentic record last came.
    pub fn last_heard(&self) -> UnixMillis {
        self.last_heard
    }

    /// When the handshake ended.
    pub fn established_at(&self) -> UnixMillis {
        self.established_at
    }

    /// Whether a fresh generation should be given to [`Session::renew`] soon.
    pub fn needs_generation(&self) -> bool {
        self.send.is_running_out()
    }

    /// Goes on in a generation that no process has used.
    pub fn renew(&mut self, fresh: Generation) {
        self.send.renew(self.birth, fresh);
    }

    /// Sends our last handshake flight. The session must be durable by now: a device that has a session which the server lost is silent for minutes.
    pub fn confirm(&mut self, cx: &mut Context<'_>) {
        self.send_final_flight(cx, self.path);
    }

    /// Takes a datagram that carries this session's connection id, or comes from its device's address if the device knows of none.
    pub fn handle_datagram(&mut self, cx: &mut Context<'_>, datagram: &[u8], from: Path) -> Result<(), Dropped> {
        let (mut rest, mut result) = (datagram, Err(Dropped::Unexpected));
        while let Some((record, tail)) = Record::parse(rest) {
            if self.is_own(&record) {
                result = self.handle_record(cx, &record, from);
            }
            rest = tail;
        }
        self.release(cx.now.at);
        result
    }

    fn is_own(&self, record: &Record<'_>) -> bool {
        match self.id_on_wire {
            true => record.connection == Some(self.connection),
            false => record.is_unlabelled(),
        }
    }

    fn handle_record(&mut self, cx: &mut Context<'_>, record: &Record<'_>, from: Path) -> Result<(), Dropped> {
        if record.epoch != 1 {
            return Err(Dropped::Unexpected);
        }
        if !self.received.is_fresh(record.sequence) {
            return Err(Dropped::Replayed);
        }
        let (content_type, plaintext) = record.open(cx.aead, &self.keys.client()).ok_or(Dropped::Forged)?;
        let plaintext = plaintext.to_vec();
        let newest = self.received.is_newest(record.sequence);
        self.received.accept(record.sequence);
        self.last_heard = cx.now.unix;
        match content_type {
            content::APPLICATION => {
                self.final_flight = None;
                if newest {
                    self.follow(cx, from);
                }
                self.handle_message(cx, record.sequence, &plaintext, from)
            }
            content::HANDSHAKE => {
                let repeated = HandshakeMessage::parse(&plaintext).is_some_and(|(message, _)| message.kind == kind::FINISHED);
                if repeated && self.final_flight.is_some() {
                    // To where it came from: the device's address may have changed while it waited.
                    self.send_final_flight(cx, from);
                    return Ok(());
                }
                Err(Dropped::Unexpected)
            }
            content::ALERT if plaintext == CLOSE_NOTIFY || plaintext.first() == Some(&2) => {
                self.end(cx);
                cx.out.push(Output::Closed);
                Ok(())
            }
            _ => Err(Dropped::Unexpected),
        }
    }

    /// A record newer than any came from `from`. If that is a new address, it is answered but not believed until a ping to it comes back.
    fn follow(&mut self, cx: &mut Context<'_>, from: Path) {
        if from == self.path {
            if let Some(open) = self.open.as_deref_mut() {
                open.outbound.drop_path_check();
            }
            return;
        }
        if self.open().outbound.checked_path() == Some(from) {
            return;
        }
        let mut events = Vec::new();
        let deadline = cx.now.at + SPAN;
        let ids = &mut self.ids;
        let open = self.open.get_or_insert_with(|| Exchanges::new(self.generation));
        open.outbound.drop_path_check();
        // Without a free id or slot the check waits for the next record.
        let _ = open.outbound.start(cx.now.at, Asker::PathCheck(from), Request::Ping, deadline, ids, cx.entropy, &mut events);
        self.apply(cx, events);
    }

    /// Where answers go: to the address the device was last heard from, proved or not.
    pub fn answer_path(&self) -> Path {
        self.open.as_ref().and_then(|open| open.outbound.checked_path()).unwrap_or(self.path)
    }

    fn handle_message(&mut self, cx: &mut Context<'_>, sequence: u64, bytes: &[u8], from: Path) -> Result<(), Dropped> {
        let Some(message) = Message::decode(bytes) else {
            if let Some(id) = coap::confirmable_id(bytes) {
                self.send(cx, &Message::new(Kind::Acknowledgement, Code::BAD_REQUEST, id, &[]));
            }
            return Err(Dropped::Malformed);
        };
        match message.kind {
            Kind::Acknowledgement => {
                self.with_outbound(cx, |outbound, now, ids, entropy, events| {
                    outbound.acknowledge(now, &message, from, ids, entropy, events)
                });
            }
            Kind::Reset => self.with_outbound(cx, |outbound, now, _, _, events| outbound.reset(now, message.id, events)),
            Kind::Confirmable | Kind::NonConfirmable if message.code == Code::EMPTY => self.answer(cx, &message, Code::EMPTY),
            Kind::Confirmable | Kind::NonConfirmable if message.code.is_response() => self.handle_response(cx, bytes, &message),
            Kind::Confirmable | Kind::NonConfirmable => self.handle_request(cx, sequence, bytes, &message),
        }
        Ok(())
    }

    /// A separate response. By the time a lost acknowledgement makes the device repeat it, its token may belong to another request: the
    /// repetition is acknowledged, and that is all.
    fn handle_response(&mut self, cx: &mut Context<'_>, bytes: &[u8], message: &Message) {
        self.answer(cx, message, Code::EMPTY);
        if message.kind == Kind::Confirmable {
            let (inbound, digest) = (&mut self.open().inbound, digest64(bytes));
            if inbound.recognise(message.id, digest).is_some() {
                return;
            }
            inbound.remember(cx.now.at, message.id, digest, Answer::Given(Code::EMPTY));
        }
        self.with_outbound(cx, |outbound, now, ids, entropy, events| outbound.response(now, message, ids, entropy, events));
    }

    fn handle_request(&mut self, cx: &mut Context<'_>, sequence: u64, bytes: &[u8], message: &Message) {
        let digest = digest64(bytes);
        match self.open.as_ref().and_then(|open| open.inbound.recognise(message.id, digest)) {
            Some(Answer::Waiting) => return,
            Some(Answer::Given(code)) => return self.answer(cx, message, code),
            None => {}
        }
        match asked(message) {
            Asked::Time => self.answer_time(cx, message),
            Asked::Unwanted(code) => self.answer(cx, message, code),
            Asked::DescribeBlock(kind, block) => {
                let open = self.open();
                open.assembly_since = cx.now.at;
                match Assembly::take(&mut open.assembly, kind, block, &message.payload) {
                    Assembled::Partial if message.kind == Kind::NonConfirmable => {}
                    Assembled::Partial => {
                        let reply = Message::new(Kind::Acknowledgement, Code::CONTINUE, message.id, &message.token);
                        self.send(cx, &reply.with(option::BLOCK1, block.value()));
                    }
                    Assembled::Complete(payload) => self.receive(cx, sequence, digest, message, Uplink::Describe { kind, payload }),
                    // The acknowledgement makes the device go on to its next block and finally rest; what was lost is asked for instead.
                    Assembled::Stray => {
                        self.answer(cx, message, Code::INCOMPLETE);
                        if !block.more {
                            self.open().inbound.remember(cx.now.at, message.id, digest, Answer::Given(Code::INCOMPLETE));
                            cx.out.push(Output::DescribeLost(kind));
                        }
                    }
                    Assembled::TooLong => self.answer(cx, message, Code::TOO_LARGE),
                }
            }
            Asked::Uplink(uplink) => self.receive(cx, sequence, digest, message, uplink),
        }
    }

    fn receive(&mut self, cx: &mut Context<'_>, sequence: u64, digest: u64, message: &Message, uplink: Uplink) {
        if let Uplink::Hello { hello, .. } = &uplink {
            self.message_max = hello.message_cap();
            self.open().assembly = None;
        }
        let confirmable = message.kind == Kind::Confirmable;
        if confirmable {
            self.open().inbound.remember(cx.now.at, message.id, digest, Answer::Waiting);
        }
        let token = message.token.first().copied().filter(|_| message.token.len() == 1);
        cx.out.push(Output::Received {
            receipt: Receipt { message_id: message.id, digest, confirmable, token },
            floor: Floor { connection: self.connection, sequence, message_id: message.id, digest },
            uplink,
        });
    }

    /// Acknowledges a received message: with [`Code::EMPTY`] when its effect is durable, with a code of class 4 or 5 when it was refused. Once is
    /// enough; more is ignored.
    pub fn acknowledge(&mut self, cx: &mut Context<'_>, receipt: Receipt, code: Code) {
        let Some(open) = self.open.as_deref_mut().filter(|_| receipt.confirmable) else { return };
        if !open.inbound.answer(receipt.message_id, receipt.digest, code) {
            return;
        }
        let token = receipt.token.filter(|_| code != Code::EMPTY);
        self.send(cx, &Message::new(Kind::Acknowledgement, code, receipt.message_id, token.as_slice()));
    }

    /// Forgets a received message that could not be taken, without a word: the device's repetition will be new.
    pub fn forget(&mut self, receipt: Receipt) {
        if let Some(open) = self.open.as_deref_mut() {
            open.inbound.forget(receipt.message_id, receipt.digest);
        }
    }

    /// Sends a request. Its end is told by [`Output::Settled`], at `deadline` at the latest.
    pub fn request(&mut self, cx: &mut Context<'_>, id: RequestId, request: Request, deadline: Millis) -> Result<(), RequestError> {
        request.check(self.message_max)?;
        let mut result = Ok(());
        self.open();
        self.with_outbound(cx, |outbound, now, ids, entropy, events| {
            result = outbound.start(now, Asker::Caller(id), request, deadline, ids, entropy, events);
        });
        result
    }

    /// Ends the session with an encrypted `close_notify`: the device makes a new one at once.
    pub fn close(&mut self, cx: &mut Context<'_>) {
        self.seal(cx, self.answer_path(), content::ALERT, &CLOSE_NOTIFY);
        self.end(cx);
    }

    fn end(&mut self, cx: &mut Context<'_>) {
        self.with_outbound(cx, |outbound, now, _, _, events| outbound.close(now, events));
        self.open = None;
    }

    /// When [`Session::handle_timeout`] wants to be called, if at all.
    pub fn timeout_at(&self) -> Option<Millis> {
        let open = self.open.as_ref()?;
        let assembly = open.assembly.as_ref().map(|_| open.assembly_since + ASSEMBLY_LIFE);
        let wanted = [open.inbound.timeout_at(), open.outbound.timeout_at(), assembly].into_iter().flatten().min();
        wanted.or_else(|| open.outbound.rested_at())
    }

    /// Repeats what is due, ends what has run out of time, and lets go of what is no longer needed.
    pub fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        let now = cx.now.at;
        self.with_outbound(cx, |outbound, now, _, _, events| outbound.handle_timeout(now, events));
        let Some(open) = self.open.as_deref_mut() else { return };
        open.inbound.forget_old(now);
        if open.assembly.is_some() && now.since(open.assembly_since) >= ASSEMBLY_LIFE {
            open.assembly = None;
        }
        self.release(now);
    }

    /// Lets go of the state of exchanges once there are none.
    fn release(&mut self, now: Millis) {
        let idle = |open: &mut Box<Exchanges>| open.inbound.is_empty() && open.assembly.is_none() && open.outbound.is_idle(now);
        if self.open.as_mut().is_some_and(idle) {
            self.open = None;
        }
    }

    fn open(&mut self) -> &mut Exchanges {
        self.open.get_or_insert_with(|| Exchanges::new(self.generation))
    }

    fn with_outbound(
        &mut self,
        cx: &mut Context<'_>,
        action: impl FnOnce(&mut Outbound, Millis, &mut MessageIds, &mut dyn Entropy, &mut Vec<Event>),
    ) {
        let Some(open) = self.open.as_deref_mut() else { return };
        let mut events = Vec::new();
        action(&mut open.outbound, cx.now.at, &mut self.ids, cx.entropy, &mut events);
        self.apply(cx, events);
    }

    fn apply(&mut self, cx: &mut Context<'_>, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Send(bytes, path) => self.seal(cx, path.unwrap_or(self.path), content::APPLICATION, &bytes),
                Event::Settled(request, outcome) => cx.out.push(Output::Settled { request, outcome }),
                Event::PathProved(path) => {
                    self.path = path;
                    cx.out.push(Output::Moved { path });
                }
            }
        }
    }

    /// Acknowledges a confirmable message with `code`; says nothing to any other.
    fn answer(&mut self, cx: &mut Context<'_>, message: &Message, code: Code) {
        if message.kind == Kind::Confirmable {
            let token: &[u8] = if code == Code::EMPTY { &[] } else { &message.token };
            self.send(cx, &Message::new(Kind::Acknowledgement, code, message.id, token));
        }
    }

    /// The one message with code 2.05 that a device is sent: it sets its clock by it (device-os.md §3.11).
    fn answer_time(&mut self, cx: &mut Context<'_>, message: &Message) {
        if message.kind == Kind::Confirmable {
            let seconds = cx.now.unix.seconds().to_be_bytes();
            self.send(cx, &Message::new(Kind::Acknowledgement, Code::CONTENT, message.id, &message.token).payload(seconds));
        }
    }

    fn send(&mut self, cx: &mut Context<'_>, message: &Message) {
        self.seal(cx, self.answer_path(), content::APPLICATION, &message.encode());
    }

    fn seal(&mut self, cx: &mut Context<'_>, path: Path, content_type: u8, plaintext: &[u8]) {
        // Without a number nothing may be sent. The caller was told by `needs_generation` four million records ago.
        let Some(sequence) = self.send.take() else { return };
        let mut datagram = Vec::with_capacity(plaintext.len() + 32);
        if record::write_sealed(&mut datagram, cx.aead, &self.keys.server(), None, content_type, sequence, plaintext).is_ok() {
            cx.out.push(Output::Transmit { path, datagram });
        }
    }

    fn send_final_flight(&mut self, cx: &mut Context<'_>, path: Path) {
        let (Some(flight), Some(sequence)) = (self.final_flight.as_deref_mut(), self.send.take()) else { return };
        if let Ok(datagram) = flight.write(cx.aead, &self.keys, sequence) {
            cx.out.push(Output::Transmit { path, datagram });
        }
    }
}

impl Exchanges {
    fn new(generation: Generation) -> Box<Self> {
        Box::new(Self {
            inbound: Inbound::default(),
            outbound: Outbound::new(Tokens::new(generation)),
            assembly: None,
            assembly_since: Millis::default(),
        })
    }
}

/// A receipt for `message` as if a session had received it, for tests of what comes after.
#[doc(hidden)]
pub fn test_receipt(message: &Message) -> Receipt {
    let token = message.token.first().copied().filter(|_| message.token.len() == 1);
    Receipt { message_id: message.id, digest: digest64(&message.encode()), confirmable: message.kind == Kind::Confirmable, token }
}
