//! Gives the devices of a shard whose thread stands still to another thread, while everything else goes on.
//!
//! The watchdog has raised the epoch before. Then, in this order:
//!
//! 1. Callers are told that nobody will answer, and wait for the new thread from now on.
//! 2. The writer listens to the old thread no more, commits what it had taken, and passes the word on to the terminators, behind all acknowledgements.
//! 3. Terminators listen to it no more, let devices repeat what was not acknowledged, and say which sessions they have.
//! 4. What the journal says up to there is read, and the new thread begins with that.
//!
//! So nothing is accepted twice, and what was accepted is there. The old thread ends as soon as it goes on; if it never does, it stays, with its memory.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use firmware_protocol::entropy::SeededEntropy;
use firmware_protocol::id::DeviceId;
use firmware_protocol::time::Millis;
use router::epoch::Epoch;
use router::progress::{Part, Stage};
use router::shard::Shard;
use thiserror::Error;

use super::DataPlaneHandle;
use super::heritage::{Book, Heritage};
use super::launch::{Outfit, random};
use super::rewiring::{Rewired, Rewiring};
use super::threads::Place;
use crate::changes::{Register, What};
use crate::fan_out::ToFanOut;
use crate::faults;
use crate::journal::{Mark, OpenError, state_up_to};
use crate::mailbox::{Lane, Mailbox};
use crate::metrics::TakeoverMetrics;
use crate::shards::shard_of;
use crate::store::Registry;
use crate::takeover::{Answer, Held, Order, TakenOver};
use crate::writer::ToWriter;

/// How often it looks whether it shall stop.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How soon a lane that was full is tried again.
const PAUSE: Duration = Duration::from_millis(1);

/// The thread that does it.
pub(super) struct TakeoverThread {
    pub(super) rewiring: Rewiring,
    pub(super) outfit: Outfit,
    /// Of the shards' threads.
    pub(super) places: Vec<Place>,
    pub(super) plane: Arc<DataPlaneHandle>,
    pub(super) registry: Arc<Registry>,
    /// Where the journal is.
    pub(super) journal: PathBuf,
    pub(super) metrics: TakeoverMetrics,
    /// Where it is noted.
    pub(super) changes: Register,
}

/// A shard cannot be taken over. The watchdog finds that it was in vain.
#[derive(Debug, Error)]
enum TakeoverError {
    /// Its journal cannot be read.
    #[error(transparent)]
    Journal(#[from] OpenError),
    /// The system refuses files or a thread.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The process stops.
    #[error("the process stops")]
    Stopping,
}

/// What was answered by all who were told of it.
struct Told {
    mark: Mark,
    /// Sessions of the shard's devices, and the terminators that have them.
    held: Vec<(u16, Held)>,
}

impl TakeoverThread {
    /// Runs until `stop` is set.
    pub(super) fn run(mut self, stop: &AtomicBool) {
        (0..self.places.len()).for_each(|shard| self.metrics.epoch(shard, Epoch::FIRST));
        let gate = self.outfit.watch.faults.named(faults::TAKEOVER);
        while !stop.load(Ordering::Acquire) {
            self.rewiring.orders.wait(LOOK_EVERY);
            let mut orders = Vec::new();
            self.rewiring.orders.drain(usize::MAX, |order| orders.push(order));
            for order in orders {
                gate.pass(Stage::Apply);
                match self.take_over(order, stop) {
                    Ok(()) | Err(TakeoverError::Stopping) => {}
                    Err(error) => tracing::error!(part = %Part::Shard(order.shard), %error, "cannot be taken over"),
                }
            }
        }
    }

    fn take_over(&mut self, Order { shard: number, epoch, stage, since }: Order, stop: &AtomicBool) -> Result<(), TakeoverError> {
        let (began, part, shard) = (Instant::now(), Part::Shard(number), usize::from(number));
        let clock = self.outfit.clock;
        let for_ms = clock.now().at.since(self.last_heard(part).unwrap_or(since)).as_millis();
        tracing::warn!(%part, stage = stage.map_or("", Stage::name), for_ms, %epoch, "stands still: another thread takes its devices over");
        self.metrics.began(clock.now().unix, shard, epoch);
        let stage = stage.map_or("", Stage::name).to_owned();
        self.changes.note(clock.now().unix, What::TakenOver { part: part.to_string(), stage });
        self.places[shard].clear();

        let Rewired { shard: (mailbox, lanes), api, watchdog, writer, fan_out, answers } = self.rewiring.anew(shard, &self.metrics)?;
        self.plane.take_over(shard, api, epoch);
        insist(&mut self.rewiring.writer, ToWriter::TakeOver(Box::new(writer)), stop)?;
        insist(&mut self.rewiring.fan_out, ToFanOut::TakeOver(Box::new(fan_out)), stop)?;
        let Told { mark, held } = Told::by_all(answers, lanes.terminators.len(), stop)?;

        let shards = self.places.len();
        let state = state_up_to(&self.journal, mark, &|device| shard_of(device, shards) == shard)?;
        let is_filled = self.registry.is_filled();
        let identity = |device: DeviceId| self.registry.devices().find(device).and_then(|device| device.identity());
        let heritage = Heritage::new(state, &held, self.rewiring.workers(), is_filled.then_some(&identity as Book<'_>));
        let (devices, ended) = (heritage.devices(), heritage.ended());

        let (outfit, bell) = (self.outfit.clone(), mailbox.bell());
        self.places[shard].spawn(&part.to_string(), bell, move |stop| {
            let mut own = Shard::of_epoch(epoch, Box::new(SeededEntropy::new(random())));
            let outputs = heritage.hand_over(outfit.clock.now(), &mut own);
            drop(heritage);
            let watched = outfit.watch.watched_next(part);
            outfit.watch.evidence.begin_again(shard);
            outfit.thread((shard, own), mailbox, lanes, (watched, epoch)).run(outputs, stop);
        })?;
        insist(&mut self.rewiring.watchdog, TakenOver { shard: number, lane: watchdog }, stop)?;
        tracing::warn!(%part, %epoch, devices, ended, took_ms = began.elapsed().as_millis(), "another thread has its devices");
        Ok(())
    }

    /// When the newest heartbeat was sent that all stages of a part have passed on.
    fn last_heard(&self, part: Part) -> Option<Millis> {
        let reading = self.outfit.watch.board.row(part)?.read();
        reading.passed.iter().filter_map(|(_, passed)| passed.map(|heartbeat| heartbeat.0)).min()
    }
}

impl Told {
    /// Waits until the writer, so many terminators and the fan-out have answered.
    fn by_all(mut answers: Mailbox<Answer>, terminators: usize, stop: &AtomicBool) -> Result<Self, TakeoverError> {
        let (mut mark, mut held, mut missing) = (None, Vec::new(), terminators + 2);
        while missing > 0 {
            if stop.load(Ordering::Acquire) {
                return Err(TakeoverError::Stopping);
            }
            answers.wait(LOOK_EVERY);
            missing -= answers.drain(missing, |answer| match answer {
                Answer::Written(written) => mark = Some(written),
                Answer::Sessions { terminator, held: own } => held.extend(own.into_iter().map(|held| (terminator, held))),
                Answer::FanOut => {}
            });
        }
        Ok(Self { mark: mark.ok_or(TakeoverError::Stopping)?, held })
    }
}

/// Sends something until there is room for it.
fn insist<T>(lane: &mut Lane<T>, mut item: T, stop: &AtomicBool) -> Result<(), TakeoverError> {
    while let Err(back) = lane.send(item) {
        if stop.load(Ordering::Acquire) {
            return Err(TakeoverError::Stopping);
        }
        item = back;
        std::thread::sleep(PAUSE);
    }
    Ok(())
}
