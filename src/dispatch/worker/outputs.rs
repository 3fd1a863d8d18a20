//! What the dispatcher says, done in order: what came of attempts is collected, what it loads sees all of that, and what begins waits until it is stored.

use std::sync::Arc;

use router::event::Position;
use webhooks::delivery::{DeliveryId, Outcome, Phase};
use webhooks::dispatcher::messages::{Dead, DisableWhy};
use webhooks::dispatcher::{Entry, Input, JobId, Lane, Output, Source, Step};
use webhooks::hook::HookId;

use super::{DispatchError, Worker};
use crate::deliveries::{self, JobState, LastFailure, RETRIES_START, Reason, Recorded, Standing, Then};
use crate::dispatch::courier::Order;
use crate::dispatch::keeper::Errand;

/// How often a replay looks on for more before others have their turn.
const FILLS_MAX: usize = 16;

impl Worker<'_> {
    /// Tells the dispatcher something, and does what it says then.
    pub(super) fn tell(&mut self, input: Input<'_>) -> Result<(), DispatchError> {
        self.dispatcher.handle(self.outfit.clock.now(), input);
        while let Some(output) = self.dispatcher.poll() {
            self.follow(output)?;
        }
        Ok(())
    }

    /// Stores what came of attempts and how hooks are, and then lets others begin.
    pub(super) fn settle(&mut self) -> Result<(), DispatchError> {
        self.store()?;
        self.in_flight += self.orders.len();
        for order in self.orders.drain(..) {
            self.outfit.runtime.spawn(self.outfit.couriers.clone().carry(order));
        }
        Ok(())
    }

    fn store(&mut self) -> Result<(), DispatchError> {
        let now = self.outfit.clock.now().unix;
        if !self.records.is_empty() {
            let records = std::mem::take(&mut self.records);
            self.deliveries.record(now, &records)?;
        }
        for (job, delivery, recorded) in std::mem::take(&mut self.replayed) {
            self.deliveries.record_replay(job, &[(delivery.position, recorded)])?;
        }
        if !self.changed.is_empty() {
            let changed = std::mem::take(&mut self.changed);
            let standings: Vec<_> = changed.into_iter().filter_map(|id| Some((id, self.standings.get(&id)?.clone()))).collect();
            self.deliveries.set_standings(&standings)?;
        }
        Ok(())
    }

    fn follow(&mut self, output: Output) -> Result<(), DispatchError> {
        match output {
            Output::Begin { delivery, attempt, job } => self.begin(delivery, attempt, job)?,
            Output::Load { hook, source, max } => self.load(hook, source, max)?,
            Output::Record { delivery, job, step } => self.record(delivery, job, step),
            Output::State { hook, health } => {
                let now = self.outfit.clock.now().unix;
                self.standing(hook)?;
                self.standings.entry(hook).or_default().follow(now, &health);
                self.changed.insert(hook);
            }
            Output::Notice { hook, notice } => self.tell_owner(hook, notice),
            Output::Disable { hook, why } => {
                self.standings.entry(hook).or_default().why = Some(words(why).to_owned());
                self.changed.insert(hook);
                let _ = self.outfit.keeper.send(Errand::Disable(hook));
            }
            Output::JobRefused { job, .. } => _ = self.deliveries.cancel_replay(job)?,
            // The database knows by itself.
            Output::JobDone { .. } => {}
        }
        Ok(())
    }

    fn begin(&mut self, delivery: DeliveryId, attempt: u8, job: Option<JobId>) -> Result<(), DispatchError> {
        let event = match self.recent.get(delivery.position) {
            Some(event) => Some(Arc::clone(event)),
            None => self.reader.event(delivery.position)?,
        };
        match (self.book.get(delivery.hook), event) {
            (Some(listed), Some(event)) => {
                self.orders.push(Order { delivery, attempt, job, listed: listed.clone(), event });
                Ok(())
            }
            // Its hook is going, or its event went before it: there is nothing to send.
            _ => {
                let outcome = Outcome::Failed { phase: Phase::Render, error: "the event is no longer kept".into() };
                self.dispatcher.handle(self.outfit.clock.now(), Input::Ended { delivery, outcome: &outcome, took: Default::default() });
                Ok(())
            }
        }
    }

    fn load(&mut self, hook: HookId, source: Source, max: usize) -> Result<(), DispatchError> {
        self.store()?;
        let (entries, more) = match source {
            Source::Queue { after } => self.reader.load(hook, after, max)?,
            Source::Lane { lane, after, through } => self.reader.load_lane(hook, lane, (after, through), max)?,
            Source::Retries { after } => self.reader.retries(hook, after.max(RETRIES_START), max)?,
            Source::Replay { job, after } => return self.load_replay(hook, source, (job, after), max),
        };
        let entries: Vec<Entry> = entries.iter().map(entry).collect();
        self.dispatcher.handle(self.outfit.clock.now(), Input::Loaded { hook, source, entries: &entries, more });
        Ok(())
    }

    fn load_replay(&mut self, hook: HookId, source: Source, (job, after): (JobId, Position), max: usize) -> Result<(), DispatchError> {
        for _ in 0..FILLS_MAX {
            let known = self.deliveries.fill_replay(job)?;
            let (loaded, more) = self.deliveries.load_replay(job, after, max)?;
            let is_finding = known.state == JobState::Finding;
            if loaded.is_empty() && is_finding {
                continue;
            }
            let entries: Vec<Entry> =
                loaded.iter().map(|(stored, tries)| Entry { attempts: u8::try_from(*tries).unwrap_or(u8::MAX), ..entry(stored) }).collect();
            let more = more || is_finding;
            self.dispatcher.handle(self.outfit.clock.now(), Input::Loaded { hook, source, entries: &entries, more });
            return Ok(());
        }
        // It looks on after a while.
        self.dispatcher.handle(self.outfit.clock.now(), Input::LoadFailed(hook));
        Ok(())
    }

    fn record(&mut self, delivery: DeliveryId, job: Option<JobId>, step: Step) {
        let attempt = self.ended.take_if(|(its, _)| *its == delivery).map(|(_, attempt)| attempt);
        let is_gone = attempt.as_ref().is_some_and(|attempt| matches!(attempt.outcome, Outcome::Answered { status: 410, .. }));
        let Some(then) = then(step, is_gone) else { return };
        let recorded = Recorded { attempt, then };
        match job {
            None => self.records.push((delivery, recorded)),
            Some(job) => self.replayed.push((job, delivery, recorded)),
        }
    }

    /// Notes how an attempt ended, for the owner of its hook.
    pub(super) fn note(&mut self, hook: HookId, outcome: &Outcome) {
        let Some(standing) = self.standings.get_mut(&hook) else { return };
        let at_ms = self.outfit.clock.now().unix.0;
        if outcome.is_success() {
            standing.delivered_at_ms = Some(at_ms);
            return;
        }
        let (status, phase, error) = match outcome {
            Outcome::Answered { status, .. } => (Some(*status), None, format!("it answered with status {status}")),
            Outcome::Failed { phase, error } => (None, Some(phase.to_string()), error.clone()),
        };
        standing.last_failure = Some(LastFailure { at_ms, status, phase, error });
        self.changed.insert(hook);
    }

    /// How a hook is, as far as that was stored.
    pub(super) fn standing(&mut self, hook: HookId) -> Result<Standing, DispatchError> {
        if let Some(standing) = self.standings.get(&hook) {
            return Ok(standing.clone());
        }
        let standing = self.reader.standing(hook)?.unwrap_or_default();
        self.standings.insert(hook, standing.clone());
        Ok(standing)
    }
}

/// What becomes of the delivery, in the database's words. One that the replay leaves out stays in its queue until it is seen to be there no more.
fn then(step: Step, is_gone: bool) -> Option<Then> {
    Some(match step {
        Step::Done => Then::Delivered,
        Step::Retry { due, attempts, out_of_order } => Then::Retry { at: due, counted: attempts, out_of_order },
        Step::Dead(Dead::Exhausted) if is_gone => Then::Rejected(Reason::Gone),
        Step::Dead(Dead::Exhausted) => Then::Rejected(Reason::Exhausted),
        Step::Dead(Dead::Expired) => Then::Expired,
        Step::Dead(Dead::Unmade) => Then::Rejected(Reason::Unsendable),
        Step::Passed => return None,
    })
}

fn entry(stored: &deliveries::Entry) -> Entry {
    Entry {
        position: stored.id.position,
        lane: stored.device.map(Lane::of),
        bytes: stored.bytes,
        accepted: stored.published_at,
        attempts: stored.counted,
        due: stored.due,
    }
}

fn words(why: DisableWhy) -> &'static str {
    match why {
        DisableWhy::Gone => "the receiver said that it is gone (410)",
        DisableWhy::LongFailing => "every attempt failed for five days",
    }
}
