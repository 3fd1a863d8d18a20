//! One device's established session over UDP, from the cloud's side: records in, typed messages out, and back. What is common to UDP and TCP is
//! in `session/conversation.rs`; the session over TCP is [`crate::tcp::session`].
//!
//! A [`Session`] does no I/O and reads no clock. Each call takes a [`Context`] with the moment and appends [`Output`]s to it. A message that has
//! an effect beyond the session comes out as [`Output::Received`]; it is acknowledged when the caller says so, which is after its effect is
//! durable. Repetitions in between stay unanswered, repetitions after it get the same answer. What is not acknowledged within 38 seconds is answered
//! 5.03, because a device whose message stays unanswered gives its session up.
//!
//! State of open exchanges is held only while there are any.

pub(crate) mod conversation;
pub mod describe;
pub mod goodbye;
pub mod hello;
mod ids;
mod inbound;
pub mod modules;
mod outbound;
pub mod publish;
pub mod request;
pub mod stored;
pub mod subscribe;
pub(crate) mod uplink;
pub mod variable;
pub mod vitals;

use crate::coap::{self, Code, Kind, Message};
use crate::crypto::{Aead, digest64};
use crate::dtls::cid::ConnectionId;
use crate::dtls::keys::KeyBlock;
use crate::dtls::messages::{HandshakeMessage, kind};
use crate::dtls::record::{self, Record, content};
use crate::dtls::sequence::{ReplayWindow, SendSequence};
use crate::dtls::server::FinalFlight;
use crate::entropy::Entropy;
use crate::error::RequestError;
use crate::id::{DeviceId, OwnerId};
use crate::path::{KeptPath, Path};
use crate::time::{Millis, Now};

use self::conversation::{Carrier, Conversation, Event, Turn};
use self::describe::DescribeKind;
use self::hello::{Hello, MESSAGE_MAX_UNKNOWN};
use self::request::{Outcome, Request, RequestId};
use self::stored::{Floor, Generation, StoredSession};

pub use self::uplink::Uplink;

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
    /// A message was answered 5.03 by the session itself. To be counted.
    Unkept(Unkept),
    /// The device ended the session.
    Closed,
}

/// Why a message is not known to be kept, so that it was answered 5.03.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Unkept {
    /// It was not acknowledged in time. It may be kept all the same, and an acknowledgement that comes later is ignored.
    Late,
    /// Too many messages of the device wait already. It was not taken.
    TooMany,
}

/// Stands for one received message until it is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Receipt {
    pub(crate) message_id: u16,
    pub(crate) digest: u64,
    pub(crate) confirmable: bool,
    pub(crate) token: Option<u8>,
    pub(crate) subject: Subject,
    came: Millis,
    mark: u16,
}

/// What a received message is about, as far as its answer depends on that.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Subject {
    /// A Hello, which is answered with one over TCP.
    Hello,
    /// What the device says once: without it the session is not whole.
    State,
    /// An event or a farewell.
    News,
    /// An event of the system's, with which a device may ask for something that takes its time.
    Wish,
}

impl Subject {
    pub(crate) fn of(uplink: &Uplink) -> Self {
        match uplink {
            Uplink::Hello { .. } => Self::Hello,
            Uplink::Describe { .. } | Uplink::Subscribe(_) => Self::State,
            Uplink::Publish(publish) if publish.is_system() => Self::Wish,
            Uplink::Publish(_) | Uplink::Goodbye { .. } => Self::News,
        }
    }
}

impl Receipt {
    pub(crate) fn of(message: &Message, digest: u64, subject: Subject, came: Millis) -> Self {
        let token = message.token.first().copied().filter(|_| message.token.len() == 1);
        Self { message_id: message.id, digest, confirmable: message.kind == Kind::Confirmable, token, subject, came, mark: 0 }
    }

    /// The same with a number on it, with which whoever passes the message on knows it again when its answer comes.
    #[must_use]
    pub fn marked(self, mark: u16) -> Self {
        Self { mark, ..self }
    }

    /// The number that was put on it; 0 if none was.
    pub fn mark(&self) -> u16 {
        self.mark
    }

    /// Since when its device waits for an answer that needs nobody but the shard and the journal; `None` if it waits for none, or for more than that.
    pub fn waits_since(&self) -> Option<Millis> {
        (self.confirmable && self.subject != Subject::Wish).then_some(self.came)
    }
}

/// Why a datagram had no effect. Nothing of it is the device's fault: it is counted and forgotten.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Dropped {
    /// Its sequence number was accepted before, or is too old to tell.
    Replayed,
    /// Not sealed with this session's key, and not from where its device is.
    Forged,
    /// Not sealed with this session's key, and from where its device is: one of the two has a wrong key.
    WrongKey,
    /// Not a protected record of this session, or of a type with no meaning here.
    Unexpected,
    /// Authentic, but not CoAP.
    Malformed,
}

/// A device's session.
#[derive(Debug)]
pub struct Session {
    device: DeviceId,
    /// Means something only if `has_owner` says so: an `Option` takes eight bytes more, and there is one session for each device.
    owner: OwnerId,
    has_owner: bool,
    connection: ConnectionId,
    id_on_wire: bool,
    keys: KeyBlock,
    birth: Generation,
    path: KeptPath,
    send: SendSequence,
    received: ReplayWindow,
    conversation: Conversation,
    final_flight: Option<Box<FinalFlight>>,
}

impl Session {
    /// A session that was just made, whose last flight has not been sent. `None` if `generation` is before its birth.
    pub fn established(stored: &StoredSession, finished_sequence: u64, generation: Generation) -> Option<Self> {
        let mut session = Self::new(stored, generation)?;
        session.received.accept(finished_sequence);
        session.final_flight = Some(Box::new(stored.final_flight));
        Some(session)
    }

    /// A session of a former process. `floor` is the highest sequence number known to have been accepted, `message_max` what the device takes
    /// if it has said so ([`Hello::message_cap`]).
    pub fn restored(stored: &StoredSession, floor: Option<u64>, message_max: Option<u16>, generation: Generation) -> Option<Self> {
        let mut session = Self::new(stored, generation)?;
        match floor {
            Some(floor) => session.received = ReplayWindow::above(floor),
            // Nothing was heard after the handshake: the device may still wait for our last flight.
            None => session.final_flight = Some(Box::new(stored.final_flight.after(generation.0 - stored.birth.0))),
        }
        message_max.into_iter().for_each(|max| session.conversation.set_message_max(max));
        Some(session)
    }

    /// Knows messages (id and digest) that a former process acted upon, which ended before `since`. To be called before the first datagram.
    pub fn remember(&mut self, since: Millis, seen: &[(u16, u64)]) {
        self.conversation.remember(since, seen);
    }

    fn new(stored: &StoredSession, generation: Generation) -> Option<Self> {
        Some(Self {
            device: stored.identity.device,
            owner: stored.identity.owner.unwrap_or(OwnerId(0)),
            has_owner: stored.identity.owner.is_some(),
            connection: stored.connection,
            id_on_wire: stored.id_on_wire,
            keys: stored.keys,
            birth: stored.birth,
            path: stored.path.into(),
            send: SendSequence::new(stored.birth, generation)?,
            received: ReplayWindow::default(),
            conversation: Conversation::new(Carrier::Datagrams, generation, MESSAGE_MAX_UNKNOWN),
            final_flight: None,
        })
    }

    /// Who holds the other end.
    pub fn device(&self) -> DeviceId {
        self.device
    }

    /// Whose device that is.
    pub fn owner(&self) -> Option<OwnerId> {
        self.has_owner.then_some(self.owner)
    }

    /// The owner changed while the session lives.
    pub fn set_owner(&mut self, owner: Option<OwnerId>) {
        (self.owner, self.has_owner) = (owner.unwrap_or(OwnerId(0)), owner.is_some());
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
        self.path.get()
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
        self.send_final_flight(cx, self.path());
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
        self.conversation.release(cx.now.at);
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
        let opened = record.open(cx.aead, &self.keys.client());
        let (content_type, plaintext) = opened.ok_or_else(|| self.not_opened(from))?;
        let plaintext = plaintext.to_vec();
        let newest = self.received.is_newest(record.sequence);
        self.received.accept(record.sequence);
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

    /// What a record is that does not open. Where the device knows of no id, its address may be another's by now.
    fn not_opened(&self, from: Path) -> Dropped {
        if self.id_on_wire && from.peer == self.path().peer { Dropped::WrongKey } else { Dropped::Forged }
    }

    /// A record newer than any came from `from`. If that is a new address, it is answered but not believed until a ping to it comes back.
    fn follow(&mut self, cx: &mut Context<'_>, from: Path) {
        if from == self.path() {
            return self.conversation.drop_path_check();
        }
        let is_checked = self.conversation.checked_path() == Some(from);
        self.converse(cx, |conversation, turn| match is_checked {
            true => conversation.remind_of_path_check(turn),
            false => conversation.check_path(turn, from),
        });
    }

    /// Where answers go: to the address the device was last heard from, proved or not.
    pub fn answer_path(&self) -> Path {
        self.conversation.checked_path().unwrap_or_else(|| self.path())
    }

    fn handle_message(&mut self, cx: &mut Context<'_>, sequence: u64, bytes: &[u8], from: Path) -> Result<(), Dropped> {
        let Some(message) = Message::decode(bytes) else {
            if let Some(id) = coap::confirmable_id(bytes) {
                let refusal = Message::new(Kind::Acknowledgement, Code::BAD_REQUEST, id, &[]);
                self.seal(cx, self.answer_path(), content::APPLICATION, &refusal.encode());
            }
            return Err(Dropped::Malformed);
        };
        let received = self.converse(cx, |conversation, turn| conversation.hear(turn, bytes, message, from));
        if let Some((receipt, uplink)) = received {
            if let Uplink::Hello { hello, .. } = &uplink {
                self.introduce(hello);
            }
            let floor = Floor { connection: self.connection, sequence, message_id: receipt.message_id, digest: receipt.digest };
            cx.out.push(Output::Received { receipt, floor, uplink });
        }
        Ok(())
    }

    fn introduce(&mut self, hello: &Hello) {
        self.conversation.set_message_max(hello.message_cap());
    }

    /// Acknowledges a received message: with [`Code::EMPTY`] when its effect is durable, with a code of class 4 or 5 when it was refused. Once is
    /// enough; more is ignored.
    pub fn acknowledge(&mut self, cx: &mut Context<'_>, receipt: Receipt, code: Code) {
        self.converse(cx, |conversation, turn| conversation.acknowledge(turn, receipt, code));
    }

    /// A received message could not be taken. An event is refused with 5.03 at once. What the device says only once is not answered yet, because its
    /// repetition may be taken.
    pub fn forget(&mut self, cx: &mut Context<'_>, receipt: Receipt) {
        match receipt.subject {
            Subject::News | Subject::Wish => self.acknowledge(cx, receipt, Code::UNAVAILABLE),
            Subject::Hello | Subject::State => self.conversation.not_taken(receipt),
        }
    }

    /// Whoever took its messages and sent its requests is gone, and somebody else will. What was not acknowledged is new when the device repeats it; of
    /// requests that are open, nothing is sent again and nobody is told the end.
    pub fn disown(&mut self, cx: &mut Context<'_>) {
        self.conversation.disown(cx.now.at);
    }

    /// Whether nothing is open, in either direction.
    pub fn is_idle(&self) -> bool {
        self.conversation.is_idle()
    }

    /// Sends a request. Its end is told by [`Output::Settled`], at `deadline` at the latest.
    pub fn request(&mut self, cx: &mut Context<'_>, id: RequestId, request: Request, deadline: Millis) -> Result<(), RequestError> {
        self.converse(cx, |conversation, turn| conversation.request(turn, id, request, deadline))
    }

    /// Ends the session with an encrypted `close_notify`: the device makes a new one at once.
    pub fn close(&mut self, cx: &mut Context<'_>) {
        self.seal(cx, self.answer_path(), content::ALERT, &CLOSE_NOTIFY);
        self.end(cx);
    }

    fn end(&mut self, cx: &mut Context<'_>) {
        self.converse(cx, Conversation::end);
    }

    /// When [`Session::handle_timeout`] wants to be called, if at all.
    pub fn timeout_at(&self) -> Option<Millis> {
        self.conversation.timeout_at()
    }

    /// Repeats what is due, ends what has run out of time, and lets go of what is no longer needed.
    pub fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        self.converse(cx, Conversation::handle_timeout);
    }

    fn converse<T>(&mut self, cx: &mut Context<'_>, action: impl FnOnce(&mut Conversation, &mut Turn<'_>) -> T) -> T {
        let mut events = Vec::new();
        let result = action(&mut self.conversation, &mut Turn { now: cx.now, entropy: cx.entropy, events: &mut events });
        for event in events {
            match event {
                Event::Reply(message) => self.seal(cx, self.answer_path(), content::APPLICATION, &message),
                Event::Send(message, path) => self.seal(cx, path.unwrap_or_else(|| self.path()), content::APPLICATION, &message),
                Event::Settled(request, outcome) => cx.out.push(Output::Settled { request, outcome }),
                Event::PathProved(path) => {
                    self.path = path.into();
                    cx.out.push(Output::Moved { path });
                }
                Event::DescribeLost(kind) => cx.out.push(Output::DescribeLost(kind)),
                Event::Unkept(unkept) => cx.out.push(Output::Unkept(unkept)),
            }
        }
        result
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

/// A receipt for `message` as if a session had received it, for tests of what comes after.
#[doc(hidden)]
pub fn test_receipt(message: &Message) -> Receipt {
    Receipt::of(message, digest64(&message.encode()), Subject::News, Millis(0))
}
