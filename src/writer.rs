//! The journal's thread: takes what shards and terminators want written, commits it in batches, and tells everybody who waits.
//!
//! A commit starts when the last one has returned, so that a batch is whatever came meanwhile. While the disk is full only what makes and ends
//! sessions is written, and everything else is refused at once (`degraded.rs`). If the journal fails in any other way, the process ends: what was
//! not acknowledged was not accepted, and devices repeat it.

mod degraded;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use firmware_protocol::coap::Code;
use firmware_protocol::dtls::cid::ConnectionId;
use firmware_protocol::session::Receipt;
use router::device::Link;
use router::event::{CommittedEvents, Event, Position};
use router::journal::Record;
use router::progress::{Board, Heartbeat, Part, Stage};

use crate::commit_bell::CommitBell;
use crate::fan_out::ToFanOut;
use crate::journal::{CommitError, Committed, Journal};
use crate::mailbox::{Lane, Mailbox};
use crate::metrics::JournalMetrics;
use crate::shards::{Reply, SubscribedOwners};
use crate::takeover::{Answer, Handover, WriterHandover};
use crate::terminators::ToTerminator;
use crate::watchdog::{Watch, Watched, last_words};

use self::degraded::Degraded;

/// Most records in one commit.
const BATCH_MAX: usize = 4_096;
/// With which the process ends when the journal cannot be written (docs/operations.md).
const EXIT_CODE: i32 = 70;
/// Most news held back for a terminator that is behind.
const BACKLOG_MAX: usize = 65_536;

/// What the writer is told.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are the large one, and a box for each would cost more")]
pub enum ToWriter {
    /// Write this.
    Append(Append),
    /// Passed with the commit of everything that came before it, or at once if nothing did.
    Heartbeat {
        /// Whose.
        of: Part,
        /// The heartbeat.
        heartbeat: Heartbeat,
    },
    /// Another thread takes a shard over: nothing more is taken from the old one.
    TakeOver(Box<WriterHandover>),
}

/// A record to write, and what follows.
#[derive(Debug)]
pub struct Append {
    /// What.
    pub record: Record,
    /// And then.
    pub after: After,
}

/// What follows a commit.
#[derive(Debug)]
pub enum After {
    /// Nothing.
    Nothing,
    /// A device is told that its message was taken.
    Acknowledge {
        /// Over which session.
        link: Link,
        /// Which message.
        receipt: Receipt,
    },
    /// A session may be used.
    Opened {
        /// By which terminator.
        terminator: u16,
        /// Which.
        connection: ConnectionId,
    },
    /// A caller is told the position.
    Tell(Reply),
}

/// Where the writer reports to.
#[derive(Debug)]
pub struct WriterLanes {
    /// The terminators.
    pub terminators: Vec<Lane<ToTerminator>>,
    /// The fan-out, which reads events for subscribed devices when it is woken.
    pub fan_out: Lane<ToFanOut>,
    /// Whose events these want.
    pub subscribed: Arc<SubscribedOwners>,
    /// Whoever follows the journal besides.
    pub bell: CommitBell,
    /// The event streams.
    pub streams: tokio::sync::mpsc::Sender<CommittedEvents>,
}

/// The writer.
#[derive(Debug)]
pub struct Writer {
    journal: Journal,
    mailbox: Mailbox<ToWriter>,
    lanes: WriterLanes,
    watched: Watched,
    board: Board,
    /// Heartbeats on their way, and whose they are.
    heartbeats: Vec<(Part, Heartbeat)>,
    /// Takeovers whose shard is not listened to any more, and has something to be committed perhaps.
    takeovers: Vec<(Vec<Handover<ToTerminator>>, Lane<Answer>)>,
    /// News that found a full lane. An acknowledgement must not be lost: its device would repeat the message in vain.
    backlog: Vec<VecDeque<ToTerminator>>,
    metrics: Arc<JournalMetrics>,
    missed: prometheus::IntCounter,
    /// While the disk is full.
    degraded: Option<Degraded>,
}

/// Records that are written together, and what follows each.
#[derive(Debug, Default)]
struct Batch {
    records: Vec<Record>,
    afters: Vec<After>,
}

impl Batch {
    fn push(&mut self, append: Append) {
        self.records.push(append.record);
        self.afters.push(append.after);
    }

    fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

impl Writer {
    /// A writer of `journal`.
    pub fn new(
        journal: Journal,
        mailbox: Mailbox<ToWriter>,
        lanes: WriterLanes,
        metrics: Arc<JournalMetrics>,
        missed: prometheus::IntCounter,
        watch: &Watch,
    ) -> Self {
        let backlog = lanes.terminators.iter().map(|_| VecDeque::new()).collect();
        let (watched, board) = (watch.watched(Part::Journal), watch.board.clone());
        let (heartbeats, takeovers) = (Vec::new(), Vec::new());
        Self { journal, mailbox, lanes, watched, board, heartbeats, takeovers, backlog, metrics, missed, degraded: None }
    }

    /// Runs until `stop` is set and everything that was sent before is written or refused. Ends the process if the journal cannot be written.
    pub fn run(mut self, stop: &AtomicBool) {
        let mut batch = Batch::default();
        loop {
            let stopping = stop.load(Ordering::Acquire);
            self.fill(&mut batch);
            self.watched.enter(Stage::Commit);
            self.recover_if_due(Instant::now());
            if batch.is_empty() {
                if stopping {
                    return;
                }
                self.pass_takeovers_on();
                self.pass_heartbeats_on();
                let behind = self.flush_backlog();
                self.watched.enter(Stage::Wait);
                self.mailbox.wait(if behind { Duration::from_millis(5) } else { Duration::from_secs(1) });
                continue;
            }
            self.take(&mut batch);
            self.pass_takeovers_on();
            self.flush_backlog();
            self.pass_heartbeats_on();
        }
    }

    /// Takes what it was told.
    fn fill(&mut self, batch: &mut Batch) {
        self.watched.enter(Stage::Mailbox);
        let (heartbeats, mut takeovers) = (&mut self.heartbeats, Vec::new());
        self.mailbox.drain(BATCH_MAX, |told| match told {
            ToWriter::Append(append) => batch.push(append),
            ToWriter::Heartbeat { of, heartbeat } => heartbeats.push((of, heartbeat)),
            ToWriter::TakeOver(takeover) => takeovers.push(*takeover),
        });
        for WriterHandover { from_shard, terminators, answer } in takeovers {
            self.mailbox.exchange(from_shard);
            self.takeovers.push((terminators, answer));
        }
        for (_, heartbeat) in self.heartbeats.iter().filter(|(of, _)| *of == Part::Journal) {
            self.watched.pass(Stage::Mailbox, *heartbeat);
        }
    }

    /// What came before them is committed or refused, and passed on.
    fn pass_heartbeats_on(&mut self) {
        for (of, heartbeat) in self.heartbeats.drain(..) {
            match self.board.row(of) {
                Some(row) if of != Part::Journal => row.pass(Stage::Journal, heartbeat),
                _ => [Stage::Commit, Stage::Output].iter().for_each(|stage| self.watched.pass(*stage, heartbeat)),
            }
        }
    }

    /// Everything that came from the old thread of a shard is committed or refused: tells the terminators, behind whatever they hear of that.
    fn pass_takeovers_on(&mut self) {
        for (terminators, mut answer) in std::mem::take(&mut self.takeovers) {
            for (number, handover) in (0..).zip(terminators) {
                self.tell_terminator(number, ToTerminator::TakeOver(Box::new(handover)));
            }
            // Whoever waits has made room for it.
            let _ = answer.send(Answer::Written(self.journal.latest_mark().get()));
        }
    }

    /// Commits or refuses all of `batch`, which is empty after that.
    fn take(&mut self, batch: &mut Batch) {
        if self.degraded.is_none() {
            match self.commit(batch, Journal::commit) {
                Ok(()) => return,
                Err(full) => self.degrade(&full),
            }
        }
        self.take_essential(batch);
    }

    /// Gives `batch` back untouched if the disk is full.
    fn commit(
        &mut self,
        batch: &mut Batch,
        commit: impl FnOnce(&mut Journal, &[Record]) -> Result<Committed, CommitError>,
    ) -> Result<(), io::Error> {
        let began = Instant::now();
        match commit(&mut self.journal, &batch.records) {
            Ok(committed) => self.committed(began, committed, batch),
            Err(CommitError::NoSpace(error)) => return Err(error),
            Err(error) => end(&error),
        }
        Ok(())
    }

    fn committed(&mut self, began: Instant, committed: Committed, batch: &mut Batch) {
        self.watched.enter(Stage::Output);
        self.metrics.settled.beat();
        self.metrics.commits.inc();
        let took_s = began.elapsed().as_secs_f64();
        self.metrics.commit_s.inc_by(took_s);
        self.metrics.commit_duration.observe(took_s);
        self.metrics.records.inc_by(batch.records.len() as u64);
        self.metrics.events.inc_by(committed.events);

        let (mut next, mut events) = (committed.first, Vec::new());
        for (record, after) in batch.records.drain(..).zip(batch.afters.drain(..)) {
            let position = match record {
                Record::Event { event, .. } => {
                    events.push((next, event));
                    let position = next;
                    next = next.next();
                    Some(position)
                }
                _ => None,
            };
            self.follow_up(after, position);
        }
        self.lanes.terminators.iter_mut().for_each(Lane::ring);
        if !events.is_empty() {
            self.fan_out(events);
        }
    }

    fn follow_up(&mut self, after: After, position: Option<Position>) {
        match after {
            After::Nothing => {}
            After::Acknowledge { link, receipt } => {
                let message = ToTerminator::Acknowledge { connection: link.connection, receipt, code: Code::EMPTY };
                self.tell_terminator(link.terminator, message);
            }
            After::Opened { terminator, connection } => self.tell_terminator(terminator, ToTerminator::Opened { connection }),
            After::Tell(reply) => reply.published(position.unwrap_or_default()),
        }
    }

    fn tell_terminator(&mut self, terminator: u16, message: ToTerminator) {
        let index = usize::from(terminator);
        let (Some(lane), Some(backlog)) = (self.lanes.terminators.get_mut(index), self.backlog.get_mut(index)) else { return };
        let refused = if backlog.is_empty() { lane.push(message).err() } else { Some(message) };
        if let Some(message) = refused {
            if backlog.len() >= BACKLOG_MAX {
                // A terminator that is so far behind has stopped.
                tracing::error!(terminator, "a terminator does not take acknowledgements; ending the process");
                std::process::exit(EXIT_CODE);
            }
            backlog.push_back(message);
        }
    }

    /// Passes on what was held back. `true` if something still is.
    fn flush_backlog(&mut self) -> bool {
        for (lane, backlog) in self.lanes.terminators.iter_mut().zip(&mut self.backlog) {
            while let Some(message) = backlog.pop_front() {
                if let Err(message) = lane.push(message) {
                    backlog.push_front(message);
                    break;
                }
            }
            lane.ring();
        }
        self.backlog.iter().any(|backlog| !backlog.is_empty())
    }

    fn fan_out(&mut self, events: Vec<(Position, Arc<Event>)>) {
        if events.iter().any(|(_, event)| self.lanes.subscribed.wanting_named(event.owner, &event.name).any()) {
            // If the lane is full, it is about to look anyway.
            let _ = self.lanes.fan_out.send(ToFanOut::Committed);
        }
        if !events.is_empty() {
            self.lanes.bell.ring();
        }
        if self.lanes.streams.try_send(events.into()).is_err() {
            self.missed.inc();
        }
    }
}

/// Nothing of what was to be committed was acknowledged. A restart serves every session again within seconds; going on would not.
fn end(error: &CommitError) -> ! {
    tracing::error!(%error, "the journal cannot be written; ending the process");
    last_words::leave(format_args!("holdfast: the journal cannot be written: {error}"));
    std::process::exit(EXIT_CODE);
}

#[cfg(test)]
mod tests;
