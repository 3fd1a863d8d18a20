//! Requests to a device that are not over. In datagrams they are repeated at 4, 12 and 28 seconds (times 1 to 1.5) until acknowledged, and wait
//! for their response until their deadline; nothing is repeated after 45 seconds, when the device would take it for new. Over a stream they are
//! sent once, and end with a response, at their deadline or with the connection.

use std::time::Duration;

use crate::coap::{Block, Code, Kind, Message, option};
use crate::entropy::Entropy;
use crate::error::RequestError;
use crate::path::Path;
use crate::session::conversation::{Carrier, Event, Turn};
use crate::session::describe::{Assembled, Assembly, DescribeKind};
use crate::session::ids::{MessageIds, SPAN, Tokens};
use crate::session::request::{Outcome, Request, RequestId};
use crate::time::Millis;

const ACK_TIMEOUT: Duration = Duration::from_secs(4);
const TRANSMISSIONS: u8 = 4;
/// How often the ping of an address is repeated, besides, because its device was heard from there once more.
const REMINDERS: u8 = 3;
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
    carrier: Carrier,
    sent: u8,
    reminders: u8,
    started_at: Millis,
    timeout: Duration,
    resend_at: Millis,
    deadline: Millis,
    acknowledged: bool,
    assembly: Option<Assembly>,
}

/// The open requests of one session.
#[derive(Debug)]
pub(crate) struct Outbound {
    open: Vec<Exchange>,
    tokens: Tokens,
    carrier: Carrier,
}

impl Outbound {
    pub(crate) fn new(tokens: Tokens, carrier: Carrier) -> Self {
        Self { open: Vec::new(), tokens, carrier }
    }

    /// Opens a request and sends it.
    pub(crate) fn start(
        &mut self,
        turn: &mut Turn<'_>,
        asker: Asker,
        request: Request,
        deadline: Millis,
        ids: &mut MessageIds,
    ) -> Result<(), RequestError> {
        let now = turn.now.at;
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
        let message = request.message(message_id, token, None);
        if self.carrier == Carrier::Stream && request.is_told_only() {
            turn.events.push(Event::Send(Message { kind: Kind::NonConfirmable, ..message }.encode(), None));
            asker.settle(turn, Outcome::Acknowledged);
            return Ok(());
        }
        let mut exchange = Exchange {
            asker,
            bytes: message.encode(),
            request,
            message_id,
            token,
            carrier: self.carrier,
            sent: 0,
            reminders: 0,
            started_at: now,
            timeout: jittered(turn.entropy),
            resend_at: now,
            deadline,
            acknowledged: false,
            assembly: None,
        };
        exchange.transmit(turn);
        self.open.push(exchange);
        Ok(())
    }

    /// An acknowledgement. `from` is where it came from.
    pub(crate) fn acknowledge(&mut self, turn: &mut Turn<'_>, message: &Message, from: Path, ids: &mut MessageIds) {
        let Some(index) = self.acknowledged_by(turn, message) else { return };
        if let Asker::PathCheck(path) = self.open[index].asker {
            if path == from {
                self.open.swap_remove(index);
                turn.events.push(Event::PathProved(path));
            }
            return;
        }
        self.open[index].acknowledged = true;
        if message.code != Code::EMPTY {
            self.respond(turn, index, message, ids);
        } else if let Some(outcome) = self.open[index].request.acknowledged() {
            self.settle(turn, index, outcome);
        }
    }

    /// Which request an acknowledgement is of. Over a stream a device gives the one of a ping or a signal an id of its own (docs/protocol.md):
    /// any proves that it is there, and where there is a token, that counts.
    fn acknowledged_by(&mut self, turn: &mut Turn<'_>, message: &Message) -> Option<usize> {
        if self.carrier == Carrier::Stream {
            while let Some(ping) = self.open.iter().position(|exchange| exchange.request == Request::Ping) {
                self.settle(turn, ping, Outcome::Acknowledged);
            }
            if let [token] = message.token[..] {
                return self.open.iter().position(|exchange| exchange.token == Some(token));
            }
        }
        self.open.iter().position(|exchange| exchange.message_id == message.id && !exchange.acknowledged)
    }

    /// A reset with `id`: the device cannot do it.
    pub(crate) fn reset(&mut self, turn: &mut Turn<'_>, id: u16) {
        if let Some(index) = self.open.iter().position(|exchange| exchange.message_id == id) {
            self.settle(turn, index, Outcome::Refused(Code::BAD_REQUEST));
        }
    }

    /// A separate response. Whether it belongs to an open request or not, its sender gets an acknowledgement.
    pub(crate) fn response(&mut self, turn: &mut Turn<'_>, message: &Message, ids: &mut MessageIds) {
        let [token] = message.token[..] else { return };
        if let Some(index) = self.open.iter().position(|exchange| exchange.token == Some(token)) {
            self.respond(turn, index, message, ids);
        }
    }

    fn respond(&mut self, turn: &mut Turn<'_>, index: usize, response: &Message, ids: &mut MessageIds) {
        let exchange = &mut self.open[index];
        exchange.acknowledged = true;
        let outcome = match (&exchange.request, Block::of(response, option::BLOCK2)) {
            (Request::Describe(kind), Some(block)) if response.code == Code::CONTENT => {
                let kind = *kind;
                match exchange.take_block(turn, kind, block, response, ids) {
                    Some(outcome) => outcome,
                    None => return,
                }
            }
            _ => exchange.request.answered(response),
        };
        self.settle(turn, index, outcome);
    }

    fn settle(&mut self, turn: &mut Turn<'_>, index: usize, outcome: Outcome) {
        let exchange = self.open.swap_remove(index);
        if let Some(token) = exchange.token {
            match outcome {
                Outcome::TimedOut { .. } => self.tokens.rest(token, turn.now.at),
                _ => self.tokens.free(token),
            }
        }
        exchange.asker.settle(turn, outcome);
    }

    /// Repeats what is due and ends what has run out of time.
    pub(crate) fn handle_timeout(&mut self, turn: &mut Turn<'_>) {
        let (now, mut index) = (turn.now.at, 0);
        while let Some(exchange) = self.open.get_mut(index) {
            if now >= exchange.ends_at() {
                let received = exchange.acknowledged;
                self.settle(turn, index, Outcome::TimedOut { received });
                continue;
            }
            if exchange.is_repeated() && now >= exchange.resend_at {
                exchange.transmit(turn);
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

    /// The device was heard once more from the address that is being checked, and may have dropped the ping: it does, while it waits for the
    /// acknowledgement of its Hello. If nobody repeated it, all requests would go to the old address for seconds.
    pub(crate) fn remind_of_path_check(&mut self, turn: &mut Turn<'_>) {
        let check = self.open.iter_mut().find(|exchange| matches!(exchange.asker, Asker::PathCheck(_)));
        if let Some(check) = check.filter(|check| check.reminders < REMINDERS) {
            check.reminders += 1;
            check.send(turn);
        }
    }

    /// Stops checking addresses.
    pub(crate) fn drop_path_check(&mut self) {
        self.open.retain(|exchange| matches!(exchange.asker, Asker::Caller(_)));
    }

    /// Nobody waits any more for what callers asked: none of it is sent again, and what still comes of it is an answer to nothing.
    pub(crate) fn abandon(&mut self, now: Millis) {
        let tokens = &mut self.tokens;
        self.open.retain(|exchange| {
            let is_own = matches!(exchange.asker, Asker::PathCheck(_));
            exchange.token.filter(|_| !is_own).into_iter().for_each(|token| tokens.rest(token, now));
            is_own
        });
    }

    /// Ends everything because the session does.
    pub(crate) fn close(&mut self, turn: &mut Turn<'_>) {
        while let Some(exchange) = self.open.last() {
            let received = exchange.acknowledged;
            self.settle(turn, self.open.len() - 1, Outcome::Closed { received });
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

impl Asker {
    fn settle(self, turn: &mut Turn<'_>, outcome: Outcome) {
        if let Self::Caller(id) = self {
            turn.events.push(Event::Settled(id, outcome));
        }
    }
}

impl Exchange {
    fn transmit(&mut self, turn: &mut Turn<'_>) {
        self.send(turn);
        self.sent += 1;
        self.resend_at = turn.now.at + self.timeout;
        self.timeout *= 2;
    }

    fn send(&self, turn: &mut Turn<'_>) {
        let path = match self.asker {
            Asker::PathCheck(path) => Some(path),
            Asker::Caller(_) => None,
        };
        turn.events.push(Event::Send(self.bytes.clone(), path));
    }

    fn is_repeated(&self) -> bool {
        self.carrier == Carrier::Datagrams && !self.acknowledged && self.sent < TRANSMISSIONS
    }

    /// After this, neither an acknowledgement nor a response helps.
    fn ends_at(&self) -> Millis {
        match self.acknowledged || self.carrier == Carrier::Stream {
            true => self.deadline,
            false => self.deadline.min(self.started_at + SPAN),
        }
    }

    fn timeout_at(&self) -> Millis {
        match self.is_repeated() {
            true => self.ends_at().min(self.resend_at),
            false => self.ends_at(),
        }
    }

    /// Takes a block of a describe and asks for the next. `Some` ends the exchange.
    fn take_block(
        &mut self,
        turn: &mut Turn<'_>,
        kind: DescribeKind,
        block: Block,
        response: &Message,
        ids: &mut MessageIds,
    ) -> Option<Outcome> {
        match Assembly::take(&mut self.assembly, kind, block, &response.payload) {
            Assembled::Complete(payload) => return Some(Outcome::Described(kind, payload)),
            Assembled::Stray | Assembled::TooLong => return Some(Outcome::Malformed),
            Assembled::Partial => {}
        }
        let Some(message_id) = ids.take(turn.now.at) else { return Some(Outcome::TimedOut { received: true }) };
        let next = Block { number: block.number + 1, more: false, size_exponent: block.size_exponent };
        self.message_id = message_id;
        self.bytes = self.request.message(message_id, self.token, Some(next)).encode();
        self.acknowledged = false;
        self.sent = 0;
        self.started_at = turn.now.at;
        self.timeout = jittered(turn.entropy);
        self.transmit(turn);
        None
    }
}

/// The first timeout: 4 seconds times 1 to 1.5 (RFC 7252 §4.2).
fn jittered(entropy: &mut dyn Entropy) -> Duration {
    let mut byte = [0];
    entropy.fill(&mut byte);
    ACK_TIMEOUT + ACK_TIMEOUT * u32::from(byte[0]) / 512
}
