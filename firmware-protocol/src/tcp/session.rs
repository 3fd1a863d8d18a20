//! One device's session over TCP, from the cloud's side: bytes of a stream in, typed messages out, and back.
//!
//! A [`TcpSession`] has the outward form of [`crate::session::Session`] and the same messages, requests and outcomes. What differs is what the
//! stream takes off it: nothing comes twice or in another order, so there are no floors, no repetitions and nothing that outlives the connection.
//! A request that is open when the connection ends, ends with it.
//!
//! The stream has no message authentication. Whatever does not decrypt or decode is therefore the end of the connection, always in the same way.

use std::time::Duration;

use crate::coap::{Code, Kind, Message};
use crate::crypto::Cbc;
use crate::dtls::cid::ConnectionId;
use crate::entropy::Entropy;
use crate::error::RequestError;
use crate::id::{DeviceId, OwnerId};
use crate::path::Path;
use crate::session::conversation::{Carrier, Conversation, Event, Turn};
use crate::session::describe::DescribeKind;
use crate::session::request::{Outcome, Request, RequestId};
use crate::session::stored::Generation;
use crate::session::uplink::{Asked, asked};
use crate::session::{Receipt, Subject, Unkept, Uplink};
use crate::tcp::frame::{FROM_DEVICE_MAX, FrameError, FrameReader, FrameWriter, TO_DEVICE_MAX, message_len_max};
use crate::tcp::handshake::SessionSecret;
use crate::time::{Millis, Now};

/// What a call works with.
pub struct Context<'a> {
    /// This moment.
    pub now: Now,
    /// The thread's cipher.
    pub cipher: &'a mut Cbc,
    /// As over UDP; what is sent over TCP needs none.
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
    /// Write these bytes to the connection: one frame, in one piece if the socket takes it.
    Transmit(Vec<u8>),
    /// A message to be acted upon, and acknowledged with [`TcpSession::acknowledge`].
    Received {
        /// To acknowledge it with.
        receipt: Receipt,
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
    /// A describe was lost half-way and should be asked for.
    DescribeLost(DescribeKind),
    /// A message was answered 5.03 by the session itself. To be counted.
    Unkept(Unkept),
    /// The session is over: close the connection. It is the last output there is.
    Closed(CloseReason),
}

/// Why a session ended by itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CloseReason {
    /// The first frame was no Hello under the right key, or none came in time: the device has not proved that it holds its private key.
    Unproved,
    /// Nothing was heard for too long, not even an answer to a ping.
    Silent,
    /// The stream makes no sense any more.
    Frame(FrameError),
    /// A frame did not hold a CoAP message.
    Malformed,
    /// Something could not be taken, or was lost, that the device says only once.
    StateLost,
}

/// How long a session waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patience {
    /// For the Hello, which a device sends as soon as it has our reply.
    pub hello: Duration,
    /// Silence after which we ping: a device pings only when nothing was *sent to it* for 15 or 25 seconds.
    pub ping_after: Duration,
    /// Silence after which the device is gone.
    pub silence: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { hello: Duration::from_secs(20), ping_after: Duration::from_secs(30), silence: Duration::from_secs(40) }
    }
}

/// What a session begins with.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// Who holds the other end.
    pub device: DeviceId,
    /// Whose device that is.
    pub owner: Option<OwnerId>,
    /// The name of the session among all others, over UDP too. Nothing of it is on the wire.
    pub connection: ConnectionId,
    /// The two ends of the connection.
    pub path: Path,
    /// From the handshake.
    pub secret: SessionSecret,
    /// Of this process.
    pub generation: Generation,
    /// How long to wait.
    pub patience: Patience,
}

/// A device's session over TCP.
#[derive(Debug)]
pub struct TcpSession {
    device: DeviceId,
    owner: Option<OwnerId>,
    connection: ConnectionId,
    path: Path,
    reader: FrameReader,
    writer: FrameWriter,
    conversation: Conversation,
    patience: Patience,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Until the Hello, at this moment at the latest.
    Opening {
        until: Millis,
    },
    /// When a frame last came, and whether we have pinged since.
    Open {
        heard_at: Millis,
        pinged: bool,
    },
    Over,
}

impl TcpSession {
    /// After our reply. The device says Hello next.
    pub fn new(now: Now, opening: &Opening) -> Self {
        Self {
            device: opening.device,
            owner: opening.owner,
            connection: opening.connection,
            path: opening.path,
            reader: FrameReader::new(&opening.secret, FROM_DEVICE_MAX),
            writer: FrameWriter::new(&opening.secret, TO_DEVICE_MAX),
            conversation: Conversation::new(Carrier::Stream, opening.generation, message_len_max(None)),
            patience: opening.patience,
            stage: Stage::Opening { until: now.at + opening.patience.hello },
        }
    }

    /// Who holds the other end.
    pub fn device(&self) -> DeviceId {
        self.device
    }

    /// Whose device that is.
    pub fn owner(&self) -> Option<OwnerId> {
        self.owner
    }

    /// The owner changed while the session lives.
    pub fn set_owner(&mut self, owner: Option<OwnerId>) {
        self.owner = owner;
    }

    /// Its connection id.
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// The two ends of the connection.
    pub fn path(&self) -> Path {
        self.path
    }

    /// Whether the device's Hello has come: before, nothing is proved.
    pub fn is_proved(&self) -> bool {
        matches!(self.stage, Stage::Open { .. })
    }

    /// Whether the session is over: it takes nothing and says nothing any more.
    pub fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// Takes what was read from the connection, in any pieces.
    pub fn handle_bytes(&mut self, cx: &mut Context<'_>, mut bytes: &[u8]) {
        while !self.is_over() {
            match self.reader.take(cx.cipher, &mut bytes) {
                Ok(Some(message)) => self.handle_message(cx, &message),
                Ok(None) => break,
                Err(error) => self.end(cx, CloseReason::Frame(error)),
            }
        }
        self.conversation.release(cx.now.at);
    }

    fn handle_message(&mut self, cx: &mut Context<'_>, bytes: &[u8]) {
        let Some(message) = Message::decode(bytes) else { return self.end(cx, CloseReason::Malformed) };
        if !self.is_proved() && !matches!(asked(&message), Asked::Uplink(Uplink::Hello { .. })) {
            return self.end(cx, CloseReason::Unproved);
        }
        self.stage = Stage::Open { heard_at: cx.now.at, pinged: false };
        let path = self.path;
        let received = self.converse(cx, |conversation, turn| conversation.hear(turn, bytes, message, path));
        if let Some((receipt, uplink)) = received {
            if let Uplink::Hello { hello, .. } = &uplink {
                self.conversation.set_message_max(message_len_max(hello.message_max));
            }
            cx.out.push(Output::Received { receipt, uplink });
        }
    }

    /// Acknowledges a received message: with [`Code::EMPTY`] when its effect is durable, with a code of class 4 or 5 when it was refused. A Hello
    /// is answered with one of ours, for which the device waits 4 seconds (docs/protocol.md); a refused one with nothing.
    pub fn acknowledge(&mut self, cx: &mut Context<'_>, receipt: Receipt, code: Code) {
        self.converse(cx, |conversation, turn| {
            conversation.acknowledge(turn, receipt, code);
            if receipt.subject == Subject::Hello
                && code.class() < 4
                && let Some(id) = conversation.take_id(turn.now.at)
            {
                let hello = Message::new(Kind::NonConfirmable, Code::POST, id, &[]).path(&["h"]);
                turn.events.push(Event::Send(hello.encode(), None));
            }
        });
    }

    /// A received message could not be taken, and the device does not repeat it. An event is refused with 5.03 if the device wants to know;
    /// without the rest the session is not whole, so it ends, and the device says everything again.
    pub fn forget(&mut self, cx: &mut Context<'_>, receipt: Receipt) {
        match receipt.subject {
            Subject::News | Subject::Wish => self.acknowledge(cx, receipt, Code::UNAVAILABLE),
            Subject::Hello | Subject::State => self.end(cx, CloseReason::StateLost),
        }
    }

    /// Whoever took its messages and sent its requests is gone, and somebody else will. If a message waits, it is lost, and a device on TCP does not
    /// repeat it: the session ends, and the device says everything again in the next. It is not kept here to be handed over, because a copy of every
    /// message would have to be kept for this. Of requests that are open nobody is told the end.
    pub fn disown(&mut self, cx: &mut Context<'_>) {
        let is_lost = self.conversation.is_waiting();
        self.conversation.disown(cx.now.at);
        if is_lost {
            self.end(cx, CloseReason::StateLost);
        }
    }

    /// Sends a request. Its end is told by [`Output::Settled`], at `deadline` at the latest. An event is over as soon as it is written: a device
    /// on TCP acknowledges none.
    pub fn request(&mut self, cx: &mut Context<'_>, id: RequestId, request: Request, deadline: Millis) -> Result<(), RequestError> {
        let outcome = match (&request, self.is_over()) {
            (_, true) => Outcome::Closed { received: false },
            // A key of TCP ends with its connection, and devices there take no notice of the message.
            (Request::ChangeKey, false) => Outcome::Refused(Code::NOT_IMPLEMENTED),
            _ => return self.converse(cx, |conversation, turn| conversation.request(turn, id, request, deadline)),
        };
        cx.out.push(Output::Settled { request: id, outcome });
        Ok(())
    }

    /// Ends the session because its connection ended, or shall. There is no message for that: the caller closes the connection.
    pub fn close(&mut self, cx: &mut Context<'_>) {
        self.converse(cx, Conversation::end);
        self.stage = Stage::Over;
    }

    fn end(&mut self, cx: &mut Context<'_>, reason: CloseReason) {
        if self.is_over() {
            return;
        }
        let reason = if self.is_proved() { reason } else { CloseReason::Unproved };
        self.close(cx);
        cx.out.push(Output::Closed(reason));
    }

    /// When [`TcpSession::handle_timeout`] wants to be called, if at all.
    pub fn timeout_at(&self) -> Option<Millis> {
        let own = match self.stage {
            Stage::Opening { until } => until,
            Stage::Open { heard_at, pinged: false } => heard_at + self.patience.ping_after,
            Stage::Open { heard_at, pinged: true } => heard_at + self.patience.silence,
            Stage::Over => return None,
        };
        Some(self.conversation.timeout_at().map_or(own, |conversation| conversation.min(own)))
    }

    /// Ends what has run out of time, pings a device that is silent, and gives up one that stays so.
    pub fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        self.converse(cx, Conversation::handle_timeout);
        match &mut self.stage {
            Stage::Opening { until } if cx.now.at >= *until => self.end(cx, CloseReason::Unproved),
            Stage::Open { heard_at, .. } if cx.now.at.since(*heard_at) >= self.patience.silence => self.end(cx, CloseReason::Silent),
            Stage::Open { heard_at, pinged: pinged @ false } if cx.now.at.since(*heard_at) >= self.patience.ping_after => {
                *pinged = true;
                self.ping(cx);
            }
            Stage::Opening { .. } | Stage::Open { .. } | Stage::Over => {}
        }
    }

    /// Whatever the device answers shows that it is there.
    fn ping(&mut self, cx: &mut Context<'_>) {
        self.converse(cx, |conversation, turn| {
            if let Some(id) = conversation.take_id(turn.now.at) {
                turn.events.push(Event::Send(Message::new(Kind::Confirmable, Code::EMPTY, id, &[]).encode(), None));
            }
        });
    }

    fn converse<T>(&mut self, cx: &mut Context<'_>, action: impl FnOnce(&mut Conversation, &mut Turn<'_>) -> T) -> T {
        let mut events = Vec::new();
        let result = action(&mut self.conversation, &mut Turn { now: cx.now, entropy: cx.entropy, events: &mut events });
        for event in events {
            match event {
                Event::Reply(message) | Event::Send(message, _) => self.transmit(cx, &message),
                Event::Settled(request, outcome) => cx.out.push(Output::Settled { request, outcome }),
                Event::DescribeLost(kind) => cx.out.push(Output::DescribeLost(kind)),
                Event::Unkept(unkept) => cx.out.push(Output::Unkept(unkept)),
                // A stream has one address.
                Event::PathProved(_) => {}
            }
        }
        result
    }

    fn transmit(&mut self, cx: &mut Context<'_>, message: &[u8]) {
        if self.is_over() {
            return;
        }
        // Requests were measured before, answers are shorter than any limit.
        if let Ok(frame) = self.writer.write(cx.cipher, message) {
            cx.out.push(Output::Transmit(frame));
        }
    }
}
