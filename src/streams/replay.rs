//! The thread from which streams catch up: it reads the journal for readers that come back or have fallen behind, a little for each in turn.
//!
//! It is one thread at a lower priority, whatever the number of readers, so that nobody else waits for them. It owns the index of who hears of what.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use router::event::Position;
use tokio::sync::oneshot;

use super::StreamFilter;
use super::queue::{Placed, weight};
use crate::journal::{AudienceIndex, AudienceReader, Events, EventsError, Read};
use crate::metrics::StreamMetrics;

/// Bytes of events read for one reader in one turn, all they take in memory. The last event may go beyond.
const TURN_BYTES_MAX: usize = 12 * 1024;
/// Bytes of the journal looked at in one turn. Then it is another reader's.
const TURN_SCANNED_MAX: u64 = 4 << 20;
/// How often the index is brought up to date while nobody asks.
const FOLLOW_EVERY: Duration = Duration::from_millis(100);
/// Bytes of new segments that the index takes in before it looks for readers again.
const FOLLOW_BYTES: u64 = 8 << 20;
/// Bytes of older segments that it takes in each time.
const REACH_BACK_BYTES: u64 = 4 << 20;

/// What one stream wants next.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) filter: Arc<StreamFilter>,
    /// From this position on.
    pub(super) from: Position,
    /// Nothing from here on.
    pub(super) before: Option<Position>,
    pub(super) reply: oneshot::Sender<Turn>,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) events: Vec<Placed>,
    /// Events from `from` on are no longer kept; this is the oldest that is.
    pub(super) oldest: Option<Position>,
    /// Everything before this position is in `events`, is not wanted or is gone.
    pub(super) next: Position,
    /// There is nothing more now, or nothing before the end that was asked for.
    pub(super) is_last: bool,
}

/// Where streams ask. Each has one request at a time under way, so that there are never more than streams.
#[derive(Clone, Debug)]
pub struct Replay {
    requests: Sender<Request>,
}

impl Replay {
    /// A way to ask, and who answers.
    pub fn new(events: Events, metrics: Arc<StreamMetrics>) -> (Self, Replayer) {
        let (requests, receiver) = channel();
        (Self { requests }, Replayer { index: AudienceIndex::new(events), is_outdated: false, requests: receiver, metrics })
    }

    /// Asks. If it cannot be answered, the reply is dropped.
    pub(super) fn ask(&self, request: Request) {
        // A request that comes back is dropped with its reply.
        let _ = self.requests.send(request);
    }
}

/// Who answers.
#[derive(Debug)]
pub struct Replayer {
    index: AudienceIndex,
    /// The index could not be brought up to date, and is left as it is.
    is_outdated: bool,
    requests: Receiver<Request>,
    metrics: Arc<StreamMetrics>,
}

impl Replayer {
    /// Runs until `stop` is set. If it panics, everything else goes on, but no stream catches up any more.
    pub fn run(mut self, stop: &AtomicBool) {
        let ended = catch_unwind(AssertUnwindSafe(|| while !stop.load(Ordering::Acquire) && self.turn() {}));
        if ended.is_err() {
            tracing::error!("event streams cannot be continued any more until the next start");
        }
    }

    /// Serves one request, or improves the index. `false` if no request will come any more.
    fn turn(&mut self) -> bool {
        match self.requests.recv_timeout(FOLLOW_EVERY) {
            Ok(request) => {
                self.improve(Some(request.from));
                self.serve(request);
                true
            }
            Err(RecvTimeoutError::Timeout) => {
                self.improve(None);
                true
            }
            Err(RecvTimeoutError::Disconnected) => false,
        }
    }

    /// Without the index everything is found all the same, and takes longer.
    fn improve(&mut self, wanted: Option<Position>) {
        if self.is_outdated {
            return;
        }
        let improved = match self.index.follow(FOLLOW_BYTES) {
            Ok(true) => self.index.reach_back(wanted, REACH_BACK_BYTES).map(drop),
            followed => followed.map(drop),
        };
        if let Err(error) = improved {
            tracing::warn!(%error, "the index of the journal cannot be brought up to date; streams continue more slowly until the next start");
            self.is_outdated = true;
        }
    }

    fn serve(&self, request: Request) {
        let Request { filter, from, before, reply } = request;
        if reply.is_closed() {
            return;
        }
        match self.read(&filter, from, before.unwrap_or(Position(u64::MAX))) {
            Ok(turn) => {
                self.metrics.replayed.inc_by(turn.events.len() as u64);
                let _ = reply.send(turn);
            }
            Err(error) => tracing::error!(%error, "a stream cannot be continued: the journal cannot be read"),
        }
    }

    fn read(&self, filter: &StreamFilter, from: Position, before: Position) -> Result<Turn, EventsError> {
        let mut turn = Turn { events: Vec::new(), oldest: None, next: from, is_last: false };
        let mut reader = AudienceReader::new(&self.index, filter.audience, from);
        let (mut bytes, mut scanned) = (0, 0);
        while bytes < TURN_BYTES_MAX && scanned < TURN_SCANNED_MAX && !turn.is_last {
            let position = reader.next_position();
            match reader.read() {
                Ok(Read::Event(position, event)) => {
                    scanned += weight(&event) as u64;
                    if position < before && filter.wants(&event) {
                        bytes += weight(&event);
                        turn.events.push((position, event));
                    }
                }
                // What is before the position, in a segment without index, does not count: otherwise some readers would never come further.
                Ok(Read::Passed { bytes }) => scanned += if reader.next_position() > position { bytes } else { 0 },
                // What is damaged is as gone as what is not kept.
                Ok(Read::Missing { before, .. }) if turn.events.is_empty() => {
                    (turn.oldest, turn.next) = (Some(before), before);
                    return Ok(turn);
                }
                // It is said in the next turn.
                Ok(Read::Missing { .. }) => return Ok(turn),
                Ok(Read::End) => turn.is_last = true,
                Err(EventsError::Dropped { oldest, .. }) if turn.events.is_empty() && oldest > turn.next => {
                    (turn.oldest, turn.next) = (Some(oldest), oldest);
                    return Ok(turn);
                }
                // It is said in the next turn.
                Err(EventsError::Dropped { .. }) if !turn.events.is_empty() => return Ok(turn),
                Err(error) => return Err(error),
            }
            turn.next = reader.next_position().min(before);
            turn.is_last |= turn.next >= before;
        }
        Ok(turn)
    }
}
