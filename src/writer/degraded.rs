//! What the writer does while the disk is full: sessions go on and new ones begin, everything else is refused at once, and once there is room
//! again all is as before.
//!
//! What is refused was not written. Devices are answered 5.03, callers "busy"; nobody waits for room.

use std::io;
use std::time::{Duration, Instant};

use firmware_protocol::coap::Code;
use router::journal::Record;

use super::{After, Batch, Writer, end};
use crate::journal::{CommitError, Journal};
use crate::mailbox::Lane;
use crate::terminators::ToTerminator;

/// How often is tried whether there is room again.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Longest payload that is written from the reserve: what devices say of themselves is shorter, or can be asked for.
const ESSENTIAL_BYTES_MAX: usize = 4_096;

/// Since the disk was found full.
#[derive(Debug)]
pub(super) struct Degraded {
    since: Instant,
    try_again_at: Instant,
    refused: u64,
}

impl Writer {
    /// The disk is full.
    pub(super) fn degrade(&mut self, full: &io::Error) {
        tracing::error!(error = %full, "the disk is full: events are refused until there is room, sessions are served");
        let now = Instant::now();
        self.degraded = Some(Degraded { since: now, try_again_at: now + TRY_AGAIN_AFTER, refused: 0 });
        self.metrics.degraded.set(1);
    }

    /// Looks now and then whether there is room again, with an empty commit.
    pub(super) fn recover_if_due(&mut self, now: Instant) {
        let Some(degraded) = self.degraded.as_mut().filter(|degraded| degraded.try_again_at <= now) else { return };
        match self.journal.commit(&[]) {
            Ok(_) => {
                let (after_s, refused) = (now.duration_since(degraded.since).as_secs(), degraded.refused);
                tracing::warn!(after_s, refused, "the disk has room again: events are accepted");
                self.degraded = None;
                self.metrics.degraded.set(0);
            }
            Err(CommitError::NoSpace(_)) => degraded.try_again_at = now + TRY_AGAIN_AFTER,
            Err(error) => end(&error),
        }
    }

    /// Commits what is essential in `batch` and refuses the rest.
    pub(super) fn take_essential(&mut self, batch: &mut Batch) {
        self.metrics.settled.beat();
        let mut essential = Batch::default();
        for (record, after) in batch.records.drain(..).zip(batch.afters.drain(..)) {
            match is_essential(&record) {
                true => {
                    essential.records.push(record);
                    essential.afters.push(after);
                }
                false => self.refuse(after, "disk_full"),
            }
        }
        if !essential.is_empty() && self.commit(&mut essential, Journal::commit_from_reserve).is_err() {
            essential.afters.into_iter().for_each(|after| self.refuse(after, "reserve_used_up"));
        }
        self.lanes.terminators.iter_mut().for_each(Lane::ring);
    }

    fn refuse(&mut self, after: After, reason: &str) {
        self.metrics.refused(reason);
        if let Some(degraded) = &mut self.degraded {
            degraded.refused += 1;
        }
        match after {
            After::Nothing => {}
            After::Acknowledge { link, receipt } => {
                let message = ToTerminator::Acknowledge { connection: link.connection, receipt, code: Code::UNAVAILABLE };
                self.tell_terminator(link.terminator, message);
            }
            After::Opened { terminator, connection } => self.tell_terminator(terminator, ToTerminator::NotOpened { connection }),
            // Whoever waits for it sees that nobody will answer.
            After::Tell(reply) => drop(reply),
        }
    }
}

/// Whether a record is written from the reserve: it makes or ends a session, or is what a device says once in a session.
fn is_essential(record: &Record) -> bool {
    match record {
        Record::SessionOpened(_) | Record::SessionRetired { .. } | Record::Subscribed { .. } => true,
        Record::Hello { payload, .. } | Record::Describe { payload, .. } => payload.len() <= ESSENTIAL_BYTES_MAX,
        // A device that moved is found where it speaks from.
        Record::SessionMoved { .. } | Record::Goodbye { .. } | Record::Event { .. } | Record::Seen { .. } => false,
    }
}

#[cfg(test)]
mod tests;
