//! Reliability on a device (docs/protocol.md): its confirmable messages are repeated until acknowledged, the server's are remembered.

use std::time::Duration;

use crate::coap::Message;
use crate::entropy::SeededEntropy;
use crate::session::describe::DescribeKind;
use crate::time::Millis;

const ACK_TIMEOUT: Duration = Duration::from_secs(4);
const TRANSMISSIONS: u8 = 4;
const SPAN: Duration = Duration::from_secs(45);
/// A publish with acknowledgement has failed for the application after this.
pub(super) const PUBLISH_LIMIT: Duration = Duration::from_secs(20);

/// What a message of the device is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    Hello,
    /// Part of what has to be acknowledged before the device counts as connected.
    Connect,
    /// A block of a describe that is followed by another.
    DescribeBlock(DescribeKind, u32),
    Publish(u64),
    /// A ping on an open connection.
    Ping,
    Other,
}

/// What time did to a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ended {
    SlowPublish(u64),
    GivenUp,
    NeverHandled,
}

#[derive(Debug)]
struct Sent {
    purpose: Purpose,
    id: u16,
    bytes: Vec<u8>,
    count: u8,
    started_at: Millis,
    timeout: Duration,
    resend_at: Millis,
    told: bool,
}

/// Messages in both directions that are not over.
#[derive(Debug)]
pub(super) struct Reliability {
    next_id: u16,
    sent: Vec<Sent>,
    /// Server messages: id, when, the acknowledgement that was sent.
    handled: Vec<(u16, Millis, Option<Vec<u8>>)>,
}

impl Reliability {
    pub(super) fn new() -> Self {
        Self { next_id: 0, sent: Vec::new(), handled: Vec::new() }
    }

    /// A new connection of the same session starts with nothing open.
    pub(super) fn forget_connection(&mut self) {
        self.sent.clear();
    }

    /// The next message id.
    pub(super) fn take_id(&mut self) -> u16 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }

    pub(super) fn start(&mut self, now: Millis, purpose: Purpose, mut message: Message, entropy: &mut SeededEntropy) -> Vec<u8> {
        message.id = self.take_id();
        let bytes = message.encode();
        let timeout = ACK_TIMEOUT + Duration::from_millis(entropy.below(1993));
        let sent = Sent {
            purpose,
            id: message.id,
            bytes: bytes.clone(),
            count: 1,
            started_at: now,
            timeout,
            resend_at: now + timeout,
            told: false,
        };
        self.sent.push(sent);
        bytes
    }

    pub(super) fn acknowledge(&mut self, id: u16) -> Option<Purpose> {
        let index = self.sent.iter().position(|sent| sent.id == id)?;
        let sent = self.sent.swap_remove(index);
        Some(if sent.told { Purpose::Other } else { sent.purpose })
    }

    /// `Some` if the server's message `id` was handled within the last 45 seconds: the acknowledgement to repeat, if there was one.
    pub(super) fn recognise(&self, now: Millis, id: u16) -> Option<Option<Vec<u8>>> {
        let recent = self.handled.iter().find(|(own, at, _)| *own == id && now.since(*at) < SPAN);
        recent.map(|(_, _, reply)| reply.clone())
    }

    pub(super) fn remember(&mut self, now: Millis, id: u16, reply: Option<Vec<u8>>) {
        // What got no reply stays until its time is up: it ends the session then.
        self.handled.retain(|(_, at, reply)| reply.is_none() || now.since(*at) < SPAN);
        self.handled.push((id, now, reply));
    }

    pub(super) fn is_connecting(&self) -> bool {
        self.sent.iter().any(|sent| matches!(sent.purpose, Purpose::Hello | Purpose::Connect | Purpose::DescribeBlock(..)))
    }

    pub(super) fn open_publishes(&self) -> Vec<u64> {
        let open = self.sent.iter().filter(|sent| !sent.told);
        open.filter_map(|sent| match sent.purpose {
            Purpose::Publish(publish) => Some(publish),
            _ => None,
        })
        .collect()
    }

    /// Bytes to repeat, and what came to an end.
    pub(super) fn handle_timeout(&mut self, now: Millis) -> (Vec<Vec<u8>>, Vec<Ended>) {
        let (mut due, mut ended) = (Vec::new(), Vec::new());
        for sent in &mut self.sent {
            if let Purpose::Publish(publish) = sent.purpose
                && !sent.told
                && now.since(sent.started_at) >= PUBLISH_LIMIT
            {
                sent.told = true;
                // First, because whatever follows may end the connection.
                ended.insert(0, Ended::SlowPublish(publish));
            }
            if now < sent.resend_at {
                continue;
            }
            if sent.count == TRANSMISSIONS {
                ended.push(Ended::GivenUp);
                continue;
            }
            sent.count += 1;
            sent.timeout *= 2;
            sent.resend_at = now + sent.timeout;
            due.push(sent.bytes.clone());
        }
        if self.handled.iter().any(|(_, at, reply)| reply.is_none() && now.since(*at) >= SPAN) {
            ended.push(Ended::NeverHandled);
        }
        self.handled.retain(|(_, at, _)| now.since(*at) < SPAN);
        (due, ended)
    }

    pub(super) fn timeout_at(&self) -> Option<Millis> {
        let sent = self.sent.iter().map(|sent| match sent.purpose {
            Purpose::Publish(_) if !sent.told => sent.resend_at.min(sent.started_at + PUBLISH_LIMIT),
            _ => sent.resend_at,
        });
        let unhandled = self.handled.iter().filter(|(_, _, reply)| reply.is_none()).map(|(_, at, _)| *at + SPAN);
        sent.chain(unhandled).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coap::{Code, Kind};

    #[test]
    fn a_slow_publish_is_told_before_a_message_that_ends_the_connection() {
        let (mut reliability, mut entropy) = (Reliability::new(), SeededEntropy::new(1));
        let message = || Message::new(Kind::Confirmable, Code::EMPTY, 0, &[]);
        reliability.start(Millis(0), Purpose::Ping, message(), &mut entropy);
        for at in [10_000, 30_000, 60_000] {
            reliability.handle_timeout(Millis(at));
        }
        reliability.start(Millis(100_000), Purpose::Publish(7), message(), &mut entropy);
        assert_eq!(reliability.handle_timeout(Millis(120_000)).1, [Ended::SlowPublish(7), Ended::GivenUp]);
    }

    #[test]
    fn what_was_handled_is_forgotten_without_a_timeout() {
        let mut reliability = Reliability::new();
        for n in 0..10_000 {
            reliability.remember(Millis(n * 100), 1, Some(Vec::new()));
        }
        assert!(reliability.handled.len() <= 450, "{}", reliability.handled.len());
    }
}
