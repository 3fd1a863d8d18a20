//! What others ask, answered.

use std::time::Duration;

use firmware_protocol::time::UnixMillis;
use webhooks::dispatcher::health::State;
use webhooks::dispatcher::{Input, JobId};
use webhooks::hook::HookId;

use super::{DispatchError, Worker};
use crate::deliveries::{DeliveriesError, Job, Selection};
use crate::dispatch::desk::{DeskError, HookStatus, Question};
use crate::dispatch::keeper::Errand;

/// Hooks whose oldest delivery is looked for at once.
const LOOKED_AT_MAX: usize = 1_024;

impl Worker<'_> {
    pub(super) fn answer(&mut self, question: Question) -> Result<(), DispatchError> {
        match question {
            Question::Status(hook, answer) => _ = answer.send(self.status(hook)),
            Question::Replay(hook, selection, answer) => {
                let begun = self.begin_replay(hook, selection)?;
                let _ = answer.send(begun);
            }
            Question::Cancel(hook, job, answer) => {
                let ended = self.cancel(hook, job)?;
                let _ = answer.send(ended);
            }
            Question::Jobs(hook, answer) => {
                let _ = answer.send(Ok(self.deliveries.jobs().rev().filter(|job| job.hook == hook).cloned().collect()));
            }
            Question::Changed(hook, taken) => _ = self.outfit.keeper.send(Errand::Read(hook, taken)),
            Question::AllChanged(taken) => _ = self.outfit.keeper.send(Errand::ReadAll(taken)),
            Question::Test(asked, answer) => {
                let (hook, event) = *asked;
                // What it says may not be stored; what signs for it is.
                if let Some(known) = self.book.get(hook.id) {
                    let listed = super::Listed { hook: hook.into(), ..known.clone() };
                    let couriers = self.outfit.couriers.clone();
                    self.outfit.runtime.spawn(async move { _ = answer.send(couriers.test(listed, event).await) });
                }
            }
        }
        Ok(())
    }

    fn status(&mut self, hook: HookId) -> Result<HookStatus, DeskError> {
        let (standing, now) = (self.standing(hook).map_err(|_| DeskError::Closed)?, self.outfit.clock.now());
        let oldest_pending = self.reader.oldest_pending(hook)?.map(|(_, at)| at);
        Ok(HookStatus { standing, counters: self.deliveries.counters(hook), oldest_pending, view: self.dispatcher.view(now, hook) })
    }

    /// What the database refuses is for whoever asks; that it failed is for everybody.
    fn begin_replay(&mut self, hook: HookId, selection: Selection) -> Result<Result<Job, DeskError>, DispatchError> {
        let job = match self.deliveries.begin_replay(self.outfit.clock.now().unix, hook, selection) {
            Ok(job) => job,
            Err(error @ DeliveriesError::TooMany(_)) => return Ok(Err(error.into())),
            Err(error) => return Err(error.into()),
        };
        self.tell(Input::Replay { hook, job: job.id })?;
        Ok(Ok(self.deliveries.job(job.id).cloned().unwrap_or(job)))
    }

    fn cancel(&mut self, hook: HookId, job: JobId) -> Result<Result<Job, DeskError>, DispatchError> {
        if self.deliveries.job(job).is_none_or(|known| known.hook != hook) {
            return Ok(Err(DeskError::NoSuchJob));
        }
        self.settle()?;
        let ended = self.deliveries.cancel_replay(job)?;
        self.tell(Input::Cancelled { hook, job })?;
        Ok(Ok(ended))
    }

    /// The age of the oldest delivery that no receiver is to blame for.
    pub(super) fn oldest_pending(&self) -> Result<Duration, DispatchError> {
        let now = self.outfit.clock.now();
        let mut oldest: Option<UnixMillis> = None;
        let well = |state| matches!(state, State::Healthy | State::Degraded);
        let waiting = self.deliveries.hooks().filter(|(_, counters)| counters.pending > 0).map(|(hook, _)| hook);
        for hook in waiting.filter(|hook| self.dispatcher.view(now, *hook).is_some_and(|view| well(view.health.state))).take(LOOKED_AT_MAX)
        {
            // A single event that its receiver does not take is retried for days, and says nothing of others.
            let at = self.reader.oldest_in_order(hook)?;
            oldest = [oldest, at].into_iter().flatten().min();
        }
        Ok(oldest.map_or(Duration::ZERO, |at| Duration::from_millis(now.unix.0.saturating_sub(at.0))))
    }
}
