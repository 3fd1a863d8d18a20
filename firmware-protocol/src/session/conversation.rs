//! What both transports have in common: messages of one device in, answers, uplinks and the ends of requests out. Knows no records and no
//! frames; what it wants sent are CoAP messages.

use std::time::Duration;

use crate::coap::{Code, Kind, Message, option};
use crate::crypto::digest64;
use crate::entropy::Entropy;
use crate::error::RequestError;
use crate::path::Path;
use crate::session::describe::{Assembled, Assembly, DescribeKind};
use crate::session::ids::{MessageIds, SPAN, Tokens};
use crate::session::inbound::{Answer, Inbound, Overdue};
use crate::session::outbound::{Asker, Outbound};
use crate::session::request::{Outcome, Request, RequestId};
use crate::session::stored::Generation;
use crate::session::uplink::{Asked, Uplink, asked};
use crate::session::{Receipt, Subject, Unkept};
use crate::time::{Millis, Now};

/// How long the blocks of an unfinished describe are kept.
const ASSEMBLY_LIFE: Duration = Duration::from_secs(90);

/// What messages travel in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Carrier {
    /// Any message may be lost, repeated or late: requests are repeated, and the device's repetitions recognised.
    Datagrams,
    /// Everything comes once and in order, or the connection ends.
    Stream,
}

/// What a call works with.
pub(crate) struct Turn<'a> {
    /// This moment.
    pub(crate) now: Now,
    /// For retransmission times.
    pub(crate) entropy: &'a mut dyn Entropy,
    /// What is to be done, in order.
    pub(crate) events: &'a mut Vec<Event>,
}

/// What a conversation wants done.
#[derive(Debug, PartialEq)]
pub(crate) enum Event {
    /// Send this message to where the device was last heard from.
    Reply(Vec<u8>),
    /// Send this message, to this address if it is a check of one.
    Send(Vec<u8>, Option<Path>),
    /// A caller's request is over.
    Settled(RequestId, Outcome),
    /// The device answered a check of this address.
    PathProved(Path),
    /// A describe was lost half-way.
    DescribeLost(DescribeKind),
    /// A message was answered 5.03.
    Unkept(Unkept),
}

/// The exchanges with one device. Their state is held only while there are any.
#[derive(Debug)]
pub(crate) struct Conversation {
    ids: MessageIds,
    message_max: u16,
    carrier: Carrier,
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

impl Conversation {
    /// With nothing open. `message_max` is what a device takes that says nothing, in bytes.
    pub(crate) fn new(carrier: Carrier, generation: Generation, message_max: u16) -> Self {
        Self { ids: MessageIds::new(generation), message_max, carrier, open: None }
    }

    /// The device's Hello allows messages of this many bytes.
    pub(crate) fn set_message_max(&mut self, max: u16) {
        self.message_max = max;
    }

    /// Knows messages (id and digest) that a former process acted upon.
    pub(crate) fn remember(&mut self, now: Millis, seen: &[(u16, u64)]) {
        for (id, digest) in seen {
            self.open().inbound.remember(now, *id, *digest, Answer::Given(Code::EMPTY));
        }
    }

    /// Takes `message`, which came from `from` as `bytes`. What has an effect beyond the session is returned.
    pub(crate) fn hear(&mut self, turn: &mut Turn<'_>, bytes: &[u8], message: Message, from: Path) -> Option<(Receipt, Uplink)> {
        match message.kind {
            Kind::Acknowledgement => {
                self.with_outbound(turn, |outbound, ids, turn| outbound.acknowledge(turn, &message, from, ids));
            }
            Kind::Reset => self.with_outbound(turn, |outbound, _, turn| outbound.reset(turn, message.id)),
            Kind::Confirmable | Kind::NonConfirmable if message.code == Code::EMPTY => answer(turn, &message, Code::EMPTY),
            Kind::Confirmable | Kind::NonConfirmable if message.code.is_response() => self.hear_response(turn, bytes, &message),
            Kind::Confirmable | Kind::NonConfirmable => return self.hear_request(turn, bytes, &message),
        }
        None
    }

    /// A separate response. By the time a lost acknowledgement makes the device repeat it, its token may belong to another request: the
    /// repetition is acknowledged, and that is all.
    fn hear_response(&mut self, turn: &mut Turn<'_>, bytes: &[u8], message: &Message) {
        answer(turn, message, Code::EMPTY);
        if message.kind == Kind::Confirmable && self.carrier == Carrier::Datagrams {
            let (inbound, digest) = (&mut self.open().inbound, digest64(bytes));
            if inbound.recognise(message.id, digest).is_some() {
                return;
            }
            inbound.remember(turn.now.at, message.id, digest, Answer::Given(Code::EMPTY));
        }
        self.with_outbound(turn, |outbound, ids, turn| outbound.response(turn, message, ids));
    }

    fn hear_request(&mut self, turn: &mut Turn<'_>, bytes: &[u8], message: &Message) -> Option<(Receipt, Uplink)> {
        let digest = match self.carrier {
            Carrier::Datagrams => digest64(bytes),
            Carrier::Stream => 0,
        };
        let recognised = |open: &Exchanges| open.inbound.recognise(message.id, digest);
        let known = self.open.as_deref().filter(|_| self.carrier == Carrier::Datagrams).and_then(recognised);
        match known {
            Some(Answer::Waiting) => return None,
            Some(Answer::Given(code)) => {
                answer(turn, message, code);
                return None;
            }
            Some(Answer::NotTaken) | None => {}
        }
        match asked(message) {
            Asked::Time => answer_time(turn, message),
            Asked::Unwanted(code) => answer(turn, message, code),
            Asked::DescribeBlock(kind, block) => {
                let open = self.open();
                open.assembly_since = turn.now.at;
                match Assembly::take(&mut open.assembly, kind, block, &message.payload) {
                    Assembled::Partial if message.kind == Kind::NonConfirmable => {}
                    Assembled::Partial => {
                        let reply = Message::new(Kind::Acknowledgement, Code::CONTINUE, message.id, &message.token);
                        turn.events.push(Event::Reply(reply.with(option::BLOCK1, block.value()).encode()));
                    }
                    Assembled::Complete(payload) => {
                        return self.receive(turn, digest, message, Uplink::Describe { kind, payload });
                    }
                    // The acknowledgement makes the device go on to its next block and finally rest; what was lost is asked for instead.
                    Assembled::Stray => {
                        answer(turn, message, Code::INCOMPLETE);
                        if !block.more {
                            self.remember_answer(turn.now.at, message.id, digest, Answer::Given(Code::INCOMPLETE));
                            turn.events.push(Event::DescribeLost(kind));
                        }
                    }
                    Assembled::TooLong => answer(turn, message, Code::TOO_LARGE),
                }
            }
            Asked::Uplink(uplink) => return self.receive(turn, digest, message, uplink),
        }
        None
    }

    fn receive(&mut self, turn: &mut Turn<'_>, digest: u64, message: &Message, uplink: Uplink) -> Option<(Receipt, Uplink)> {
        if let (Uplink::Hello { .. }, Some(open)) = (&uplink, self.open.as_deref_mut()) {
            open.assembly = None;
        }
        let receipt = Receipt::of(message, digest, Subject::of(&uplink), turn.now.at);
        if receipt.confirmable {
            let inbound = &mut self.open().inbound;
            if inbound.is_full() {
                answer(turn, message, Code::UNAVAILABLE);
                turn.events.push(Event::Unkept(Unkept::TooMany));
                return None;
            }
            inbound.wait(turn.now.at, receipt.message_id, digest, receipt.token);
        }
        Some((receipt, uplink))
    }

    /// Over a stream nothing comes twice.
    fn remember_answer(&mut self, now: Millis, id: u16, digest: u64, answer: Answer) {
        if self.carrier == Carrier::Datagrams {
            self.open().inbound.remember(now, id, digest, answer);
        }
    }

    /// Acknowledges a received message, once; more is ignored, also what comes after it was answered 5.03 because nothing had come in time.
    pub(crate) fn acknowledge(&mut self, turn: &mut Turn<'_>, receipt: Receipt, code: Code) {
        let Receipt { message_id, digest, confirmable, token, .. } = receipt;
        let carrier = self.carrier;
        let waited = |open: &mut Box<Exchanges>| match carrier {
            Carrier::Datagrams => open.inbound.answer(message_id, digest, code),
            Carrier::Stream => open.inbound.settle(message_id, digest),
        };
        if confirmable && self.open.as_mut().is_some_and(waited) {
            turn.events.push(Event::Reply(acknowledgement(message_id, token, code)));
        }
        if carrier == Carrier::Stream {
            self.release(turn.now.at);
        }
    }

    /// Nobody could take a message: its repetition shall be new. If none comes, it is answered 5.03 in the end.
    pub(crate) fn not_taken(&mut self, receipt: Receipt) {
        if let Some(open) = self.open.as_deref_mut() {
            open.inbound.not_taken(receipt.message_id, receipt.digest);
        }
    }

    /// Whoever took its messages and sent its requests is gone: what waits is new when it comes again, and nobody is told of requests that are open.
    pub(crate) fn disown(&mut self, now: Millis) {
        if let Some(open) = self.open.as_deref_mut() {
            open.inbound.disown();
            open.outbound.abandon(now);
        }
    }

    /// Whether a message of the device waits for its answer.
    pub(crate) fn is_waiting(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.inbound.is_waiting())
    }

    /// Whether nothing is open.
    pub(crate) fn is_idle(&self) -> bool {
        self.open.is_none()
    }

    /// Answers what has waited too long. It may have been kept all the same.
    fn answer_overdue(&mut self, turn: &mut Turn<'_>) {
        let Some(open) = self.open.as_deref_mut() else { return };
        while let Some(Overdue { id, token }) = open.inbound.pop_overdue(turn.now.at, Code::UNAVAILABLE) {
            turn.events.push(Event::Reply(acknowledgement(id, token, Code::UNAVAILABLE)));
            turn.events.push(Event::Unkept(Unkept::Late));
        }
    }

    /// Sends a request of a caller.
    pub(crate) fn request(&mut self, turn: &mut Turn<'_>, id: RequestId, request: Request, deadline: Millis) -> Result<(), RequestError> {
        request.check(self.message_max)?;
        let mut result = Ok(());
        self.open();
        self.with_outbound(turn, |outbound, ids, turn| {
            result = outbound.start(turn, Asker::Caller(id), request, deadline, ids);
        });
        result
    }

    /// A number for a message of ours that belongs to no request; `None` if there is none just now.
    pub(crate) fn take_id(&mut self, now: Millis) -> Option<u16> {
        self.ids.take(now)
    }

    /// Begins to check whether the device answers at `path`, instead of any other that is being checked.
    pub(crate) fn check_path(&mut self, turn: &mut Turn<'_>, path: Path) {
        let deadline = turn.now.at + SPAN;
        self.open();
        self.with_outbound(turn, |outbound, ids, turn| {
            outbound.drop_path_check();
            // Without a free id or slot the check waits for the next record.
            let _ = outbound.start(turn, Asker::PathCheck(path), Request::Ping, deadline, ids);
        });
    }

    /// The device was heard from the address that is being checked.
    pub(crate) fn remind_of_path_check(&mut self, turn: &mut Turn<'_>) {
        self.with_outbound(turn, |outbound, _, turn| outbound.remind_of_path_check(turn));
    }

    /// Stops checking addresses.
    pub(crate) fn drop_path_check(&mut self) {
        if let Some(open) = self.open.as_deref_mut() {
            open.outbound.drop_path_check();
        }
    }

    /// The address that is being checked.
    pub(crate) fn checked_path(&self) -> Option<Path> {
        self.open.as_ref().and_then(|open| open.outbound.checked_path())
    }

    /// Ends everything because the session does.
    pub(crate) fn end(&mut self, turn: &mut Turn<'_>) {
        self.with_outbound(turn, |outbound, _, turn| outbound.close(turn));
        self.open = None;
    }

    /// When [`Conversation::handle_timeout`] wants to be called, if at all.
    pub(crate) fn timeout_at(&self) -> Option<Millis> {
        let open = self.open.as_ref()?;
        let assembly = open.assembly.as_ref().map(|_| open.assembly_since + ASSEMBLY_LIFE);
        let wanted = [open.inbound.timeout_at(), open.outbound.timeout_at(), assembly].into_iter().flatten().min();
        wanted.or_else(|| open.outbound.rested_at())
    }

    /// Repeats what is due, ends what has run out of time, and lets go of what is no longer needed.
    pub(crate) fn handle_timeout(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.at;
        self.with_outbound(turn, |outbound, _, turn| outbound.handle_timeout(turn));
        self.answer_overdue(turn);
        let Some(open) = self.open.as_deref_mut() else { return };
        open.inbound.forget_old(now);
        if open.assembly.is_some() && now.since(open.assembly_since) >= ASSEMBLY_LIFE {
            open.assembly = None;
        }
        self.release(now);
    }

    /// Lets go of the state of exchanges once there are none.
    pub(crate) fn release(&mut self, now: Millis) {
        let idle = |open: &mut Box<Exchanges>| open.inbound.is_empty() && open.assembly.is_none() && open.outbound.is_idle(now);
        if self.open.as_mut().is_some_and(idle) {
            self.open = None;
        }
    }

    fn open(&mut self) -> &mut Exchanges {
        self.open.get_or_insert_with(|| Exchanges::new(self.ids.token_quarter(), self.carrier))
    }

    fn with_outbound(&mut self, turn: &mut Turn<'_>, action: impl FnOnce(&mut Outbound, &mut MessageIds, &mut Turn<'_>)) {
        if let Some(open) = self.open.as_deref_mut() {
            action(&mut open.outbound, &mut self.ids, turn);
        }
    }
}

impl Exchanges {
    fn new(token_quarter: u8, carrier: Carrier) -> Box<Self> {
        Box::new(Self {
            inbound: Inbound::default(),
            outbound: Outbound::new(Tokens::new(token_quarter), carrier),
            assembly: None,
            assembly_since: Millis::default(),
        })
    }
}

/// An acknowledgement of message `id`. An empty one has no token.
fn acknowledgement(id: u16, token: Option<u8>, code: Code) -> Vec<u8> {
    Message::new(Kind::Acknowledgement, code, id, token.filter(|_| code != Code::EMPTY).as_slice()).encode()
}

/// Acknowledges a confirmable message with `code`; says nothing to any other.
fn answer(turn: &mut Turn<'_>, message: &Message, code: Code) {
    if message.kind == Kind::Confirmable {
        let token: &[u8] = if code == Code::EMPTY { &[] } else { &message.token };
        turn.events.push(Event::Reply(Message::new(Kind::Acknowledgement, code, message.id, token).encode()));
    }
}

/// The one message with code 2.05 that a device is sent: it sets its clock by it (docs/protocol.md).
fn answer_time(turn: &mut Turn<'_>, message: &Message) {
    if message.kind == Kind::Confirmable {
        let seconds = turn.now.unix.seconds().to_be_bytes();
        let reply = Message::new(Kind::Acknowledgement, Code::CONTENT, message.id, &message.token).payload(seconds);
        turn.events.push(Event::Reply(reply.encode()));
    }
}
