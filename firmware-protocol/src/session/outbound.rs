//! Requests to a device that are not over: repeated at 4, 12 and 28 seconds (times 1 to 1.5) until acknowledged, then waiting for their
//! response until their deadline. Nothing is repeated after 45 seconds, when the device would take it for new.

use std::time::Duration;

use crate::coap::{Block, Code, Message, option};
use crate::entropy::Entropy;
use crate::error::RequestError;
use crate::path::Path;
use crate::session::describe::{Assembled, Assembly, DescribeKind};
use crate::session::ids::{MessageIds, SPAN, Tokens};
use crate::session::request::{Outcome, Request, RequestId};
use crate::time::Millis;

const ACK_TIMEOUT: Duration = Duration::from_secs(4);
const TRANSMISSIONS: u8 = 4;
/// Most requests open to one device.
pub(crate) const OPEN_MAX: usize = 64;

/// Who asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asker {
    /// A caller, who is told how it ended.
    Caller(RequestId),
    /// The session itself: does the device answer at this address?
    PathCheck(Path),
}

#[derive(Debug)]
struct Exchange {
    asker: Asker,
    request: Request,
    message_id: u16,
    token: Option<u8>,
    bytes: Vec<u8>,
    sent: u8,
    started_at: Millis,
    timeout: Duration,
    resend_at: Millis,
    deadline: Millis,
    acknowledged: bool,
    assembly: Option<Assembly>,
}

/// What became of an exchange.
#[derive(Debug, PartialEq)]
pub(crate) enum Event {
    /// Send these bytes, to this address if it is a check of one.
    Send(Vec<u8>, Option<Path>),
    /// A caller's request is over.
    Settled(RequestId, Outcome),
    /// The device answered a check of this address.
    PathProved(Path),
}

/// The open requests of one session.
#[derive(Debug)]
pub(crate) struct Outbound {
    open: Vec<Exchange>,
    tokens: Tokens,
}

impl Outbound {
    pub(crate) fn new(tokens: Tokens) -> Self {
        Self { open: Vec::new(), tokens }
    }

    /// Opens a request; the first transmission is in `events`.
    pub(crate) fn start(
        &mut self,
        now: Millis,
        asker: Asker,
        request: Request,
        deadline: Millis,
        ids: &mut MessageIds,
        entropy: &mut dyn Entropy,
        events: &mut Vec<Event>,
    ) -> Result<(), RequestError> {
        // A check of an address always has room: without it a device that moved gets no answers while requests to its old address are open.
        if self.open.len() >= OPEN_MAX && matches!(asker, Asker::Caller(_)) {
            return Err(RequestError::Busy);
        }
        let token = match request.has_token() {
            true => Some(self.tokens.take(now).ok_or(RequestError::Busy)?),
            false => None,
        };
        let Some(message_id) = ids.take(now) else {
            token.into_iter().for_each(|token| self.tokens.free(token));
            return Err(RequestError::Busy);
        };
        let mut exchange = Exchange {
            asker,
            bytes: request.message(message_id, token, None).encode(),
            request,
            message_id,
            token,
            sent: 0,
            started_at: now,
            timeout: jittered(entropy),
            resend_at: now,
            deadline,
            acknowledged: false,
            assembly: None,
        };
        exchange.transmit(now, events);
        self.open.push(exchange);
        Ok(())
    }

    /// An acknowledgement or reset with `message`'s id. `from` is where it came from.
    pub(crate) fn acknowledge(
        &mut self,
        now: Millis,
        message: &Message,
        from: Path,
        ids: &mut MessageIds,
        entropy: &mut dyn Entropy,
        events: &mut Vec<Event>,
    ) {
        let Some(index) = self.open.iter().position(|exchange| exchange.message_id == message.id && !exchange.acknowledged) else { return };
        if let Asker::PathCheck(path) = self.open[index].asker {
            if path == from {
                self.open.swap_remove(index);
                events.push(Event::PathProved(path));
            }
            return;
        }
        self.open[index].acknowledged = true;
        if message.code != Code::EMPTY {
            self.respond(now, index, message, ids, entropy, events);
        } else if let Some(outcome) = self.open[index].request.acknowledged() {
            self.settle(now, index, outcome, events);
        }
    }

    /// A reset with `id`: the device cannot do it.
    pub(crate) fn reset(&mut self, now: Millis, id: u16, events: &mut Vec<Event>) {
        if let Some(index) = self.open.iter().position(|exchange| exchange.message_id == id) {
            self.settle(now, index, Outcome::Refused(Code::BAD_REQUEST), events);
        }
    }

    /// A separate response. Whether it belongs to an open request or not, its sender gets an acknowledgement.
    pub(crate) fn response(
        &mut self,
        now: Millis,
        message: &Message,
        ids: &mut MessageIds,
        entropy: &mut dyn Entropy,
        events: &mut Vec<Event>,
    ) {
        let [token] = message.token[..] else { return };
        if let Some(index) = self.open.iter().position(|exchange| exchange.token == Some(token)) {
            self.respond(now, index, message, ids, entropy, events);
        }
    }

    fn respond(
        &mut self,
        now: Millis,
        index: usize,
        response: &Message,
        ids: &mut MessageIds,
        entropy: &mut dyn Entropy,
        events: &mut Vec<Event>,
    ) {
        let exchange = &mut self.open[index];
        exchange.acknowledged = true;
        let outcome = match (&exchange.request, Block::of(response, option::BLOCK2)) {
            (Request::Describe(kind), Some(block)) if response.code == Code::CONTENT => {
                let kind = *kind;
                match exchange.take_block(now, kind, block, response, ids, entropy, events) {
                    Some(outcome) => outcome,
                    None => return,
                }
            }
            _ => exchange.request.answered(response),
        };
        self.settle(now, index, outcome, events);
    }

    fn settle(&mut self, now: Millis, index: usize, outcome: Outcome, events: &mut Vec<Event>) {
        let exchange = self.open.swap_remove(index);
        if let Some(token) = exchange.token {
            match outcome {
                Outcome::TimedOut { .. } => self.tokens.rest(token, now),
                _ => self.tokens.free(token),
            }
        }
        if let Asker::Caller(id) = exchange.asker {
            events.push(Event::Settled(id, outcome));
        }
    }

    /// Repeats what is due and ends what has run out of time.
    pub(crate) fn handle_timeout(&mut self, now: Millis, events: &mut Vec<Event>) {
        let mut index = 0;
        while let Some(exchange) = self.open.get_mut(index) {
            if now >= exchange.ends_at() {
                let received = exchange.acknowledged;
                self.settle(now, index, Outcome::TimedOut { received }, events);
                continue;
            }
            if !exchange.acknowledged && now >= exchange.resend_at && exchange.sent < TRANSMISSIONS {
                exchange.transmit(now, events);
            }
            index += 1;
        }
    }

    pub(crate) fn timeout_at(&self) -> Option<Millis> {
        self.open.iter().map(Exchange::timeout_at).min()
    }

    /// Whether an address is being checked.
    pub(crate) fn checked_path(&self) -> Option<Path> {
        self.open.iter().find_map(|exchange| match exchange.asker {
            Asker::PathCheck(path) => Some(path),
            Asker::Caller(_) => None,
        })
    }

    /// Stops checking addresses.
    pub(crate) fn drop_path_check(&mut self) {
        self.open.retain(|exchange| matches!(exchange.asker, Asker::Caller(_)));
    }

    /// Ends everything because the session does.
    pub(crate) fn close(&mut self, now: Millis, events: &mut Vec<Event>) {
        while let Some(exchange) = self.open.last() {
            let received = exchange.acknowledged;
            self.settle(now, self.open.len() - 1, Outcome::Closed { received }, events);
        }
    }

    /// When the last token that rests comes back.
    pub(crate) fn rested_at(&self) -> Option<Millis> {
        self.tokens.rested_at()
    }

    pub(crate) fn is_idle(&mut self, now: Millis) -> bool {
        self.open.is_empty() && self.tokens.is_idle(now)
    }
}

impl Exchange {
    fn transmit(&mut self, now: Millis, events: &mut Vec<Event>) {
        let path = match self.asker {
            Asker::PathCheck(path) => Some(path),
            Asker::Caller(_) => None,
        };
        events.push(Event::Send(self.bytes.clone(), path));
        self.sent += 1;
        self.resend_at = now + self.timeout;
        self.timeout *= 2;
    }

    /// After this, neither an acknowledgement nor a response helps.
    fn ends_at(&self) -> Millis {
        match self.acknowledged {
            true => self.deadline,
            false => self.deadline.min(self.started_at + SPAN),
        }
    }

    fn timeout_at(&self) -> Millis {
        match self.acknowledged || self.sent >= TRANSMISSIONS {
            true => self.ends_at(),
            false => self.ends_at().min(self.resend_at),
        }
    }

    /// Takes a block of a describe and asks for the next. `Some` ends the exchange.
    fn take_block(
        &mut self,
        now: Millis,
        kind: DescribeKind,
        block: Block,
        response: &Message,
        ids: &mut MessageIds,
        entropy: &mut dyn Entropy,
        events: &mut Vec<Event>,
    ) -> Option<Outcome> {
        match Assembly::take(&mut self.assembly, kind, block, &response.payload) {
            Assembled::Complete(payload) => return Some(Outcome::Described(kind, payload)),
            Assembled::Stray | Assembled::TooLong => return Some(Outcome::Malformed),
            Assembled::Partial => {}
        }
        let Some(message_id) = ids.take(now) else { return Some(Outcome::TimedOut { received: true }) };
        let next = Block { number: block.number + 1, more: false, size_exponent: block.size_exponent };
        self.message_id = message_id;
        self.bytes = self.request.message(message_id, self.token, Some(next)).encode();
        self.acknowledged = false;
        self.sent = 0;
        self.started_at = now;
        self.timeout = jittered(entropy);
        self.transmit(now, events);
        None
    }
}

/// The first timeout: 4 seconds times 1 to 1.5 (RFC 7252 §4.2).
fn jittered(entropy: &mut dyn Entropy) -> Duration {
    let mut byte = [0];
    entropy.fill(&mut byte);
    ACK_TIMEOUT + ACK_TIMEOUT * u32::from(byte[0]) / 512
}
