//! One thread per shard: it waits for its mailbox, lets the shard decide, and passes on what comes of it, until it shall stop or another has its shard.

mod subscribed;
mod to_shards;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use firmware_protocol::coap::Code;
use firmware_protocol::id::DeviceId;
use firmware_protocol::session::request::Request;
use firmware_protocol::time::{Millis, Now};
use prometheus::IntCounter;
use router::ask::{Answer, AskError};
use router::device::{DeviceView, Link};
use router::epoch::Tenure;
use router::errand::Errand;
use router::event::{Event, Position};
use router::evidence::Passage;
use router::fate::{Fate, Fates};
use router::journal::RetireReason;
use router::progress::{Heartbeat, Stage};
use router::shard::{Input, Output, Shard, Then};
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;

pub use self::subscribed::{SubscribedOwners, Wanting};
pub use self::to_shards::ToShards;

use crate::clock::Clock;
use crate::errands::Asked;
use crate::evidence::Question;
use crate::fan_out::{ToFanOut, UNTAKEN_MAX};
use crate::faults::{self, Rule, Sifter};
use crate::mailbox::{Lane, Mailbox};
use crate::metrics::ShardMetrics;
use crate::terminators::ToTerminator;
use crate::watchdog::Watched;
use crate::writer::{After, Append, ToWriter};

/// Inputs taken in one turn.
const INPUTS: usize = 512;
/// Events offered to subscribed devices in one turn.
const OFFERS: usize = 256;
/// How soon a shard that could not pass everything on tries again.
const AGAIN: Duration = Duration::from_millis(1);

/// How a caller of the API is answered.
#[derive(Debug)]
pub enum Reply {
    /// It asked something of a device. The question is open until the shard has taken it up.
    Answer(oneshot::Sender<Result<Answer, AskError>>, Option<Question>),
    /// It wanted to see devices. The question is open until they are shown.
    Views(oneshot::Sender<Vec<DeviceView>>, Question),
    /// It published.
    Published(oneshot::Sender<Position>),
}

impl Reply {
    /// A caller that has gone away is no error.
    fn answer(self, answer: Result<Answer, AskError>) {
        if let Self::Answer(sender, _) = self {
            let _ = sender.send(answer);
        }
    }

    fn views(self, views: Vec<DeviceView>) {
        if let Self::Views(sender, _) = self {
            let _ = sender.send(views);
        }
    }

    /// The event is durable.
    pub fn published(self, position: Position) {
        if let Self::Published(sender) = self {
            let _ = sender.send(position);
        }
    }
}

/// Which shard a device belongs to.
pub fn shard_of(device: DeviceId, shards: usize) -> usize {
    let hash = fnv1a(device.0);
    // The upper half depends on the first bytes most and the lower half on the last: together on all.
    usize::try_from((hash ^ hash >> 32) & u64::from(u32::MAX)).unwrap_or_default() % shards.max(1)
}

/// FNV-1a, for bytes that differ in few places, in no pattern that matters, and that nobody gains from choosing.
fn fnv1a(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// Where a shard's outputs go.
#[derive(Debug)]
pub struct ShardLanes {
    /// To the terminators.
    pub terminators: Vec<Lane<ToTerminator>>,
    /// To the journal.
    pub writer: Lane<ToWriter>,
    /// To whoever runs errands.
    pub errands: Sender<Asked>,
    /// To the fan-out.
    pub fan_out: Lane<ToFanOut>,
}

/// A shard on its thread.
#[derive(Debug)]
pub struct ShardThread {
    index: usize,
    shard: Shard<Reply>,
    mailbox: Mailbox<Input<Reply>>,
    lanes: ShardLanes,
    clock: Clock,
    metrics: Arc<ShardMetrics>,
    /// What it has dealt with.
    processed: IntCounter,
    subscribed: Arc<SubscribedOwners>,
    watched: Watched,
    tenure: Tenure,
    passage: Arc<Passage>,
    sifters: Sifters,
    /// Retirements that found a full lane.
    retirements: Vec<(Link, RetireReason)>,
    /// Errands that nobody took.
    failed: Vec<Errand>,
    /// Committed events that were not offered to devices yet.
    events: VecDeque<(Position, Arc<Event>)>,
    /// Deliveries of one event that found a full lane.
    held: VecDeque<Held>,
    /// Events offered since the fan-out was told.
    taken: usize,
    /// What became of events since it was told.
    fates: Vec<(Position, Fate)>,
}

/// What faults hold back, at each stage.
#[derive(Debug, Default)]
struct Sifters {
    mailbox: Sifter<Input<Reply>>,
    apply: Sifter<Input<Reply>>,
    output: Sifter<Output<Reply>>,
}

/// A delivery that waits for room in the lane to its terminator.
#[derive(Debug)]
struct Held {
    terminator: u16,
    message: ToTerminator,
    deadline: Millis,
}

impl ShardThread {
    /// A thread's worth of the shard with number `index`, for as long as its `tenure` lasts.
    pub fn new(
        (index, shard): (usize, Shard<Reply>),
        mailbox: Mailbox<Input<Reply>>,
        lanes: ShardLanes,
        clock: Clock,
        metrics: Arc<ShardMetrics>,
        subscribed: Arc<SubscribedOwners>,
        (watched, tenure, passage): (Watched, Tenure, Arc<Passage>),
    ) -> Self {
        Self {
            index,
            shard,
            mailbox,
            lanes,
            clock,
            processed: metrics.processed(index),
            metrics,
            subscribed,
            watched,
            tenure,
            passage,
            sifters: Sifters::default(),
            retirements: Vec::new(),
            failed: Vec::new(),
            events: VecDeque::new(),
            held: VecDeque::new(),
            taken: 0,
            fates: Vec::new(),
        }
    }

    /// The first thread of its shard has taken over what a former process left: it says what its devices want.
    pub fn note_restored(&mut self) {
        self.enter_subscribers();
        self.subscribed.note_restored();
    }

    /// Does what follows from what it was left, and then runs until `stop` is set, and takes what came before. If another thread has its shard by then, it
    /// takes nothing more: nobody would listen.
    pub fn run(mut self, mut outputs: Vec<Output<Reply>>, stop: &AtomicBool) {
        let mut inputs = Vec::new();
        outputs.drain(..).for_each(|output| self.pass_on(output));
        while !stop.load(Ordering::Acquire) {
            self.watched.enter(Stage::Wait);
            self.mailbox.wait(self.patience());
            if self.tenure.is_over() {
                return tracing::warn!(part = %self.watched.part(), epoch = %self.tenure.epoch(), "its former thread goes on and ends");
            }
            self.turn(INPUTS, &mut inputs, &mut outputs);
        }
        self.turn(usize::MAX, &mut inputs, &mut outputs);
    }

    /// How long it may sleep.
    fn patience(&self) -> Duration {
        let now = self.clock.now();
        let deadline = self.shard.timeout_at().map_or(Duration::from_secs(1), |at| at.since(now.at));
        let is_behind = !self.held.is_empty() || !self.events.is_empty() || !self.fates.is_empty();
        deadline.min(if is_behind { AGAIN } else { Duration::from_secs(1) })
    }

    fn turn(&mut self, limit: usize, inputs: &mut Vec<Input<Reply>>, outputs: &mut Vec<Output<Reply>>) {
        let now = self.clock.now();
        let rule = self.watched.enter(Stage::Mailbox);
        self.send_held(now);
        let (mut heartbeat, mut messages) = (None, 0);
        let take = |input| {
            match input {
                Input::Heartbeat(newest) => heartbeat = Some(newest),
                _ => messages += 1,
            }
            inputs.push(input);
        };
        match rule {
            Some(Rule::Full) => faults::drain_heartbeats(&mut self.mailbox, take),
            _ => self.mailbox.drain(limit, take),
        };
        self.sifters.mailbox.sift_if(now.at, rule, inputs);
        self.passage.taken(count_of_users(inputs));
        self.watched.pass(Stage::Mailbox, heartbeat);
        let rule = self.watched.enter(Stage::Apply);
        self.sifters.apply.sift_if(now.at, rule, inputs);
        let of_users = count_of_users(inputs);
        self.metrics.inputs.inc_by(inputs.len() as u64);
        for mut input in inputs.drain(..) {
            let question = question_of(&mut input);
            match input {
                Input::Committed { position, event } => self.events.push_back((position, event)),
                input => self.shard.apply(now, input, outputs),
            }
            // It is taken up: what comes now depends on a device.
            self.passage.passed(u64::from(question.is_some()));
            drop(question);
        }
        for Errand { device, link, task, .. } in std::mem::take(&mut self.failed) {
            self.shard.apply(now, Input::ErrandDone { device, link, outcome: task.failed() }, outputs);
        }
        self.passage.decided(of_users);
        self.watched.pass(Stage::Apply, heartbeat);
        if self.watched.enter(Stage::Timers) != Some(Rule::Timers) {
            self.shard.handle_timeout(now, outputs);
            let is_done = self.shard.timeout_at().is_none_or(|at| at > now.at);
            self.watched.pass(Stage::Timers, heartbeat.filter(|_| is_done));
        }
        for (link, reason) in std::mem::take(&mut self.retirements) {
            self.retire(link, reason);
        }
        let rule = self.watched.enter(Stage::Output);
        self.sifters.output.sift_if(now.at, rule, outputs);
        // Before any subscription goes to the journal, so that no event committed after it is skipped.
        self.enter_subscribers();
        self.passage.passed(outputs.iter().filter(|output| is_answer(output)).count() as u64);
        outputs.drain(..).for_each(|output| self.pass_on(output));
        self.offer_events(now, outputs);
        self.report();
        self.lanes.writer.ring();
        self.lanes.terminators.iter_mut().for_each(Lane::ring);
        self.processed.inc_by(messages);
    }

    fn enter_subscribers(&mut self) {
        self.shard.take_newly_wanted().iter().for_each(|(owner, prefix)| self.subscribed.add(self.index, *owner, prefix));
    }

    /// Offers committed events to devices, one after the other, as long as there is room for what that comes to.
    fn offer_events(&mut self, now: Now, outputs: &mut Vec<Output<Reply>>) {
        for _ in 0..OFFERS {
            if !self.held.is_empty() {
                return;
            }
            let Some((position, event)) = self.events.pop_front() else { return };
            self.taken += 1;
            self.shard.apply(now, Input::Committed { position, event }, outputs);
            outputs.drain(..).for_each(|output| self.pass_on(output));
        }
    }

    /// Tells the fan-out what became of events, and from time to time how many were taken.
    fn report(&mut self) {
        let fates = self.shard.take_delivery_fates();
        if fates != Fates::default() {
            self.metrics.delivered(&fates);
        }
        if self.fates.is_empty() && self.taken < UNTAKEN_MAX / 4 {
            return;
        }
        let told = ToFanOut::Fates { shard: self.index, taken: self.taken, fates: std::mem::take(&mut self.fates) };
        match self.lanes.fan_out.send(told) {
            Ok(()) => self.taken = 0,
            Err(ToFanOut::Fates { fates, .. }) => self.fates = fates,
            Err(ToFanOut::Committed | ToFanOut::Heartbeat(_) | ToFanOut::TakeOver(_)) => {}
        }
    }

    fn send_held(&mut self, now: Now) {
        while let Some(Held { terminator, message, deadline }) = self.held.pop_front() {
            // One that is too late was given up by the shard.
            if deadline <= now.at {
                continue;
            }
            let Some(lane) = self.lanes.terminators.get_mut(usize::from(terminator)) else { continue };
            if let Err(message) = lane.push(message) {
                return self.held.push_front(Held { terminator, message, deadline });
            }
        }
    }

    fn pass_on(&mut self, output: Output<Reply>) {
        match output {
            Output::Append { record, then } => self.append(record, then),
            Output::Heartbeat(heartbeat) => self.pass_heartbeat_on(heartbeat),
            Output::Request { link, id, request, deadline } => {
                let is_delivery = matches!(request, Request::Deliver(_));
                let message = ToTerminator::Request { connection: link.connection, id, request, deadline };
                match is_delivery {
                    true => self.deliver(link.terminator, message, deadline),
                    false => self.tell_terminator(link.terminator, message),
                }
            }
            Output::Fate { position, fate } => self.fates.push((position, fate)),
            Output::Acknowledge { link, receipt, code } => {
                self.tell_terminator(link.terminator, ToTerminator::Acknowledge { connection: link.connection, receipt, code });
            }
            Output::Retire { link, reason } => self.retire(link, reason),
            Output::Identify { link, identity } => {
                self.tell_terminator(link.terminator, ToTerminator::Identify { connection: link.connection, identity });
            }
            Output::Errand(errand) => self.send(errand),
            Output::Answer { reply, answer } => reply.answer(answer),
            Output::Views { reply, views } => reply.views(views),
        }
    }

    /// By the ways that everything else goes. Whatever has no room for it is late, which shows.
    fn pass_heartbeat_on(&mut self, heartbeat: Heartbeat) {
        let of = self.watched.part();
        let _ = self.lanes.writer.push(ToWriter::Heartbeat { of, heartbeat });
        for lane in &mut self.lanes.terminators {
            let _ = lane.push(ToTerminator::Heartbeat { of, heartbeat });
        }
    }

    fn append(&mut self, record: router::journal::Record, then: Then<Reply>) {
        let after = match then {
            Then::Nothing => After::Nothing,
            Then::Acknowledge { link, receipt } => After::Acknowledge { link, receipt },
            Then::Tell(reply) => After::Tell(reply),
        };
        if let Err(ToWriter::Append(refused)) = self.lanes.writer.push(ToWriter::Append(Append { record, after })) {
            self.metrics.lane_full.with_label_values(&["writer"]).inc();
            // Not accepted: the device is told so, and a caller sees its reply dropped.
            if let After::Acknowledge { link, receipt } = refused.after {
                let (connection, code) = (link.connection, Code::UNAVAILABLE);
                self.tell_terminator(link.terminator, ToTerminator::Acknowledge { connection, receipt, code });
            }
        }
    }

    /// A session that is over must end where it lives: what finds a full lane is tried again before anything else is done.
    fn retire(&mut self, link: Link, reason: RetireReason) {
        let Some(lane) = self.lanes.terminators.get_mut(usize::from(link.terminator)) else { return };
        if lane.push(ToTerminator::Retire { connection: link.connection, reason }).is_err() {
            self.retirements.push((link, reason));
        }
    }

    /// An errand that nobody takes has failed, which the shard hears in its next turn.
    fn send(&mut self, errand: Errand) {
        let asked = Asked { by: self.tenure.clone(), errand };
        if let Err(TrySendError::Full(asked) | TrySendError::Closed(asked)) = self.lanes.errands.try_send(asked) {
            self.metrics.lane_full.with_label_values(&["errands"]).inc();
            self.failed.push(asked.errand);
        }
    }

    /// A delivery that finds a full lane waits, and no other event is offered until it went.
    fn deliver(&mut self, terminator: u16, message: ToTerminator, deadline: Millis) {
        let Some(lane) = self.lanes.terminators.get_mut(usize::from(terminator)) else { return };
        if let Err(message) = lane.push(message) {
            self.held.push_back(Held { terminator, message, deadline });
        }
    }

    fn tell_terminator(&mut self, terminator: u16, message: ToTerminator) {
        let taken = self.lanes.terminators.get_mut(usize::from(terminator)).is_some_and(|lane| lane.push(message).is_ok());
        if !taken {
            self.metrics.lane_full.with_label_values(&["terminator"]).inc();
        }
    }
}

/// How many of these are messages that whoever handed them over takes note of.
fn count_of_users(inputs: &[Input<Reply>]) -> u64 {
    let is_of_user = |input: &&Input<Reply>| match input {
        Input::Received { receipt, .. } => receipt.waits_since().is_some(),
        Input::Ask { .. } | Input::View { .. } | Input::Publish { .. } => true,
        _ => false,
    };
    inputs.iter().filter(is_of_user).count() as u64
}

/// What is to be over when an input was applied.
fn question_of(input: &mut Input<Reply>) -> Option<Question> {
    match input {
        Input::Ask { reply: Reply::Answer(_, question), .. } => question.take(),
        _ => None,
    }
}

/// Whether this passes a message of a user on, or answers it. A question to a device counts when it is taken up.
fn is_answer(output: &Output<Reply>) -> bool {
    match output {
        Output::Append { then: Then::Acknowledge { receipt, .. }, .. } | Output::Acknowledge { receipt, .. } => {
            receipt.waits_since().is_some()
        }
        Output::Append { then: Then::Tell(_), .. } | Output::Views { .. } => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
