//! The thread that brings committed events to the shards of subscribed devices: it reads the journal, for each shard from that shard's cursor on.
//!
//! A shard is sent what its devices may want, as fast as it takes it, and says what became of each event. One that does not keep up falls behind
//! and reads on by itself when it has room, so that it holds up no other; nothing is left out. As long as shards keep up, the journal is read once
//! for all of them. Nothing is written here: what became of events is put where the stock-taking finds it (`src/stock.rs`).

pub mod account;
mod line;
mod window;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use firmware_protocol::time::UnixMillis;
use router::event::Position;
use router::fate::Fate;
use router::progress::{Heartbeat, Stage};
use router::shard::Input;

use self::account::SharedAccount;
use self::line::Line;
use self::window::Lapse;
use crate::clock::Clock;
use crate::journal::{Events, EventsError, Tail, TailRead};
use crate::mailbox::{Lane, Mailbox};
use crate::metrics::FanOutMetrics;
use crate::shards::{Reply, SubscribedOwners};
use crate::takeover::{Answer, FanOutHandover};
use crate::watchdog::Watched;

/// Most events that a shard was sent and has not offered to its devices yet: the room in its lane.
pub const UNTAKEN_MAX: usize = 1_024;
/// Messages taken in one turn.
const MESSAGES: usize = 4_096;
/// Steps in the journal in one turn, each of one event or one frame of events that nobody wants.
const STEPS: usize = 256;
/// How often it reads on while nobody wants anything, and tries again what failed.
const TICK: Duration = Duration::from_secs(1);
/// How often it looks whether the shards have taken over what a former process left.
const PAUSE: Duration = Duration::from_millis(5);

/// What the fan-out is told.
#[derive(Debug)]
pub enum ToFanOut {
    /// Passed on when everything was read that could be.
    Heartbeat(Heartbeat),
    /// Something was committed that a shard may want.
    Committed,
    /// What a shard has done.
    Fates {
        /// Its number.
        shard: usize,
        /// How many events it has offered to its devices since the last time.
        taken: usize,
        /// What became of which.
        fates: Vec<(Position, Fate)>,
    },
    /// Another thread takes a shard over.
    TakeOver(Box<FanOutHandover>),
}

/// The fan-out.
#[derive(Debug)]
pub struct FanOut {
    events: Events,
    /// Reads for all shards that keep up.
    front: Tail,
    lines: Vec<Line>,
    mailbox: Mailbox<ToFanOut>,
    subscribed: Arc<SubscribedOwners>,
    clock: Clock,
    metrics: FanOutMetrics,
    watched: Watched,
    heartbeat: Option<Heartbeat>,
    /// Reading failed, and that was said.
    failing: bool,
}

impl FanOut {
    /// Brings `events` to the shards at the end of these lanes, to each from where its account stands. The lanes have room for [`UNTAKEN_MAX`].
    pub fn new(
        events: Events,
        shards: Vec<(Lane<Input<Reply>>, SharedAccount)>,
        mailbox: Mailbox<ToFanOut>,
        subscribed: Arc<SubscribedOwners>,
        clock: Clock,
        metrics: FanOutMetrics,
        watched: Watched,
    ) -> Self {
        let last = events.last();
        let lines = shards.into_iter().enumerate().map(|(shard, (lane, account))| Line::new(shard, lane, account, &events, last)).collect();
        let front = Tail::after(events.clone(), last);
        Self { events, front, lines, mailbox, subscribed, clock, metrics, watched, heartbeat: None, failing: false }
    }

    /// Runs until `stop` is set, and takes what it was told before.
    pub fn run(mut self, stop: &AtomicBool) {
        // Before a shard has taken over its devices, nobody would seem to want anything.
        while self.subscribed.restored() < self.lines.len() && !stop.load(Ordering::Acquire) {
            self.listen();
            self.mailbox.wait(PAUSE);
        }
        while !stop.load(Ordering::Acquire) {
            self.listen();
            let more = self.turn();
            self.publish();
            self.watched.pass(Stage::Read, self.heartbeat.take());
            self.watched.enter(Stage::Wait);
            if !more {
                self.mailbox.wait(TICK);
            }
        }
        self.listen();
        self.publish();
    }

    /// Takes what it was told.
    fn listen(&mut self) {
        self.watched.enter(Stage::Mailbox);
        let (lines, newest, mut takeovers) = (&mut self.lines, &mut self.heartbeat, Vec::new());
        self.mailbox.drain(MESSAGES, |message| match message {
            ToFanOut::Heartbeat(heartbeat) => *newest = Some(heartbeat),
            ToFanOut::Committed => {}
            ToFanOut::Fates { shard, taken, fates } => {
                if let Some(line) = lines.get_mut(shard) {
                    line.told(taken, &fates);
                }
            }
            ToFanOut::TakeOver(takeover) => takeovers.push(*takeover),
        });
        takeovers.into_iter().for_each(|takeover| self.take_over(takeover));
        self.watched.pass(Stage::Mailbox, self.heartbeat);
    }

    /// Goes on with another thread of a shard. It is sent everything whose fate is not known.
    fn take_over(&mut self, FanOutHandover { shard, from_shard, to_shard, mut answer }: FanOutHandover) {
        self.mailbox.exchange(from_shard);
        if let Some(line) = self.lines.get_mut(shard) {
            line.begin_again(to_shard, &self.events, self.front.reached());
        }
        // Whoever waits has made room for it.
        let _ = answer.send(Answer::FanOut);
    }

    /// Reads on. `true` if there is more to read at once.
    fn turn(&mut self) -> bool {
        self.watched.enter(Stage::Read);
        let now = self.clock.now().unix;
        let mut failed = None;
        let mut more = self.read_front(now).unwrap_or_else(|error| {
            failed = Some(error);
            false
        });
        let level = self.front.reached();
        for line in &mut self.lines {
            line.pass_to(level);
            match line.catch_up(&self.subscribed, level, now, STEPS) {
                Ok(went_on) => more |= went_on,
                Err(error) => failed = Some(error),
            }
            line.ring();
        }
        self.note_failure(failed);
        more
    }

    /// Reads on for all shards that keep up. `true` if there is more.
    fn read_front(&mut self, now: UnixMillis) -> Result<bool, EventsError> {
        for _ in 0..STEPS {
            let subscribed = &self.subscribed;
            match self.front.read(|whose| subscribed.wanting(whose.owner).any())? {
                TailRead::Event(position, event) => {
                    let wanting = subscribed.wanting_named(event.owner, &event.name);
                    for line in &mut self.lines {
                        let fell_behind = line.see(&self.events, position, &event, wanting, now);
                        self.metrics.behind.inc_by(fell_behind.into());
                    }
                }
                TailRead::Passed => {}
                TailRead::Expired { from, before } => self.lapse(from, before, Lapse::Expired),
                TailRead::Missing { from, before } => {
                    complain_of_damage(from, before);
                    self.lapse(from, before, Lapse::Missing);
                }
                TailRead::End => return Ok(false),
            }
        }
        Ok(true)
    }

    fn lapse(&mut self, from: Position, before: Position, lapse: Lapse) {
        self.lines.iter_mut().for_each(|line| line.lapse(from, before, lapse));
    }

    /// Says once that reading failed. It is tried again at the next tick.
    fn note_failure(&mut self, failed: Option<EventsError>) {
        if let Some(error) = &failed {
            self.metrics.failures.inc();
            if !self.failing {
                tracing::error!(%error, "the journal cannot be read for subscribed devices; trying again");
            }
        }
        self.failing = failed.is_some();
    }

    /// Lets the stock-taking see how far it is.
    fn publish(&mut self) {
        let waiting = self.lines.iter_mut().map(Line::publish).sum::<usize>();
        if self.metrics.set.beat() {
            self.metrics.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        }
    }
}

fn complain_of_damage(from: Position, before: Position) {
    tracing::error!(%from, %before, "events are missing in the journal; subscribed devices do not get them");
}

#[cfg(test)]
pub(crate) mod tests;
