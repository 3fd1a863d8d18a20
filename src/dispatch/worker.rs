//! The thread that decides. It alone writes the database of deliveries and asks the dispatcher; each of its turns takes what it was told, then events from the
//! journal, writes down what came of attempts, and only then lets others begin.

mod answers;
mod outputs;

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use firmware_protocol::entropy::Entropy;
use firmware_protocol::time::Millis;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use webhooks::client::Client;
use webhooks::delivery::DeliveryId;
use webhooks::dispatcher::messages::Notice;
use webhooks::dispatcher::{Dispatcher, Input, JobId};
use webhooks::hook::HookId;

use super::book::{Book, Listed};
use super::courier::{Couriers, Order};
use super::intake::{Intake, Recent, arrivals};
use super::keeper::Errand;
use super::message::{Ended, Message, Taken};
use super::notices::{Notices, Subject};
use crate::clock::Clock;
use crate::commit_bell::CommitBell;
use crate::cursors::{CursorError, Cursors};
use crate::deliveries::{Attempt, Deliveries, DeliveriesError, Limits, Reader, Recorded, Standing};
use crate::entropy::SystemEntropy;
use crate::journal::Events;
use crate::metrics::{Seen, WebhookMetrics};

/// How long it waits for something to happen before it looks whether it shall stop.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Messages taken in one turn.
const MESSAGES: usize = 1_024;
/// How often what was stored is made to outlive a power cut, and the journal's cursor moves.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// How often what is too old or too much goes.
const TIDY_EVERY: Duration = Duration::from_secs(5);
/// How often it is counted how everything is.
const COUNT_EVERY: Duration = Duration::from_secs(5);
/// How long attempts may take to end when the process stops.
const FAREWELL: Duration = Duration::from_millis(500);
/// How long it waits after the journal could not be read.
const JOURNAL_PAUSE: Duration = Duration::from_secs(1);

/// Hooks cannot be carried out.
#[derive(Debug, Error)]
pub(super) enum DispatchError {
    /// The database of deliveries failed.
    #[error(transparent)]
    Deliveries(#[from] DeliveriesError),
    /// The cursor in the journal failed.
    #[error(transparent)]
    Cursor(#[from] CursorError),
    /// It panicked.
    #[error("the thread that carries hooks out panicked")]
    Panicked,
}

/// What a worker is given, and leaves to the one after it.
#[derive(Debug)]
pub(super) struct Outfit {
    /// The journal.
    pub(super) events: Events,
    /// Rung when there is more in it.
    pub(super) bell: CommitBell,
    /// All cursors.
    pub(super) cursors: Cursors,
    /// Where everybody else sees the reading end of the database.
    pub(super) shelf: super::desk::Shelf,
    /// What it is told.
    pub(super) inbox: Receiver<Message>,
    /// Who reads the registry.
    pub(super) keeper: UnboundedSender<Errand>,
    /// Who sends.
    pub(super) couriers: Couriers,
    /// Where they do.
    pub(super) runtime: Handle,
    /// Who tells owners.
    pub(super) notices: Notices,
    /// What is kept of deliveries.
    pub(super) limits: Limits,
    /// Attempts at once.
    pub(super) attempts_max: u32,
    /// The clocks.
    pub(super) clock: Clock,
    /// What is counted.
    pub(super) metrics: WebhookMetrics,
}

/// The worker.
pub(super) struct Worker<'a> {
    outfit: &'a Outfit,
    deliveries: Deliveries,
    reader: Reader,
    dispatcher: Dispatcher,
    intake: Intake,
    book: Book,
    /// The registry has said what there is.
    is_read: bool,
    recent: Recent,
    standings: HashMap<HookId, Standing>,
    /// Those that are to be stored.
    changed: BTreeSet<HookId>,
    /// What came of attempts and is to be stored, and of attempts of replays.
    records: Vec<(DeliveryId, Recorded)>,
    replayed: Vec<(JobId, DeliveryId, Recorded)>,
    /// The attempt whose end the dispatcher is being told.
    ended: Option<(DeliveryId, Attempt)>,
    /// Attempts that begin when everything is stored.
    orders: Vec<Order>,
    in_flight: usize,
    timers: Timers,
}

/// When what is due.
struct Timers {
    sync: Instant,
    tidy: Instant,
    count: Instant,
    journal: Instant,
}

impl<'a> Worker<'a> {
    /// One with this database.
    ///
    /// # Errors
    /// The database or the cursor cannot be used.
    pub(super) fn open(outfit: &'a Outfit, mut deliveries: Deliveries) -> Result<Self, DispatchError> {
        let resumed = deliveries.resume(outfit.events.last())?;
        let intake = Intake::open(&outfit.cursors, outfit.events.clone(), resumed.after)?;
        let mut seed = [0; 8];
        SystemEntropy.fill(&mut seed);
        let (reader, now) = (deliveries.reader().clone(), Instant::now());
        outfit.shelf.put(Some(reader.clone()));
        // Without an answer: it is taken when it comes.
        let _ = outfit.keeper.send(Errand::ReadAll(oneshot::channel().0));
        Ok(Self {
            outfit,
            deliveries,
            reader,
            dispatcher: Dispatcher::new(outfit.attempts_max, u64::from_le_bytes(seed)),
            intake,
            book: Book::default(),
            is_read: false,
            recent: Recent::default(),
            standings: HashMap::new(),
            changed: BTreeSet::new(),
            records: Vec::new(),
            replayed: Vec::new(),
            ended: None,
            orders: Vec::new(),
            in_flight: 0,
            timers: Timers { sync: now, tidy: now + TIDY_EVERY, count: now, journal: now },
        })
    }

    /// Works until `stop` is set, and lets attempts that are under way end.
    ///
    /// # Errors
    /// The database or the cursor failed.
    pub(super) fn run(&mut self, stop: &AtomicBool) -> Result<(), DispatchError> {
        let mut is_more = true;
        while !stop.load(Ordering::Acquire) {
            self.listen(if is_more { Duration::ZERO } else { self.pause() })?;
            is_more = self.turn()?;
        }
        self.say_farewell()
    }

    /// Takes what it was told; waits for it no longer than that.
    fn listen(&mut self, pause: Duration) -> Result<(), DispatchError> {
        let first = self.outfit.inbox.recv_timeout(pause).ok();
        for message in first.into_iter().chain(self.outfit.inbox.try_iter().take(MESSAGES)) {
            self.take(message)?;
        }
        Ok(())
    }

    /// What there is to do besides. `true` if there is more to do at once.
    fn turn(&mut self) -> Result<bool, DispatchError> {
        let now = self.outfit.clock.now();
        if self.dispatcher.timeout_at().is_some_and(|at| at <= now.at) {
            self.tell(Input::Tick)?;
        }
        let mut is_more = self.take_events()?;
        is_more |= self.tidy()?;
        self.settle()?;
        self.sync()?;
        self.count()?;
        Ok(is_more)
    }

    fn pause(&self) -> Duration {
        let now = self.outfit.clock.now().at;
        let timer = self.dispatcher.timeout_at().map_or(LOOK_EVERY, |Millis(at)| Duration::from_millis(at.saturating_sub(now.0)));
        timer.min(LOOK_EVERY)
    }

    fn take(&mut self, message: Message) -> Result<(), DispatchError> {
        match message {
            Message::Committed => {}
            Message::Ended(ended) => self.attempt_ended(*ended)?,
            Message::Hooks { listed, present, taken } => {
                self.read_all(listed, &present)?;
                taken.into_iter().for_each(|taken: Taken| _ = taken.send(()));
            }
            Message::Hook { id, listed, taken } => {
                match listed {
                    Some(listed) => self.put(*listed)?,
                    None => self.remove(id)?,
                }
                let _ = taken.send(());
            }
            Message::Question(question) => self.answer(question)?,
        }
        Ok(())
    }

    /// Reads on in the journal. `true` if there is more.
    fn take_events(&mut self) -> Result<bool, DispatchError> {
        if !self.is_read || Instant::now() < self.timers.journal {
            return Ok(false);
        }
        self.outfit.bell.answer();
        let taken = match self.intake.read(&self.book) {
            Ok(taken) => taken,
            Err(error) => {
                tracing::error!(%error, "the journal cannot be read for hooks; trying again");
                self.timers.journal = Instant::now() + JOURNAL_PAUSE;
                return Ok(false);
            }
        };
        let before = self.deliveries.cursor();
        if taken.upto <= before && taken.accepted.is_empty() {
            return Ok(taken.is_more);
        }
        self.outfit.metrics.read.inc_by(taken.upto.0.saturating_sub(before.0));
        self.deliveries.accept(&taken.accepted, taken.upto)?;
        let arrivals = arrivals(&taken.accepted, |position| self.deliveries.position(position));
        for (position, event, _) in taken.accepted {
            self.recent.keep(self.deliveries.position(position), event);
        }
        for (hook, entries) in &arrivals {
            self.tell(Input::Arrived { hook: *hook, entries })?;
        }
        Ok(taken.is_more)
    }

    /// Removes what is too old or too much. `true` if there is more.
    fn tidy(&mut self) -> Result<bool, DispatchError> {
        if Instant::now() < self.timers.tidy {
            return Ok(false);
        }
        let tidied = self.deliveries.tidy(self.outfit.clock.now().unix, &self.outfit.limits)?;
        for (delivery, _) in &tidied.dropped {
            self.tell(Input::Withdrawn(*delivery))?;
        }
        if !tidied.is_more {
            self.timers.tidy = Instant::now() + TIDY_EVERY;
            self.client().tidy();
        }
        Ok(tidied.is_more)
    }

    fn sync(&mut self) -> Result<(), DispatchError> {
        if Instant::now() >= self.timers.sync {
            let durable = self.deliveries.sync()?;
            self.intake.commit(durable)?;
            self.timers.sync = Instant::now() + SYNC_EVERY;
        }
        Ok(())
    }

    fn count(&mut self) -> Result<(), DispatchError> {
        if Instant::now() < self.timers.count {
            return Ok(());
        }
        self.timers.count = Instant::now() + COUNT_EVERY;
        let (metrics, now) = (&self.outfit.metrics, self.outfit.clock.now());
        metrics.totals(&self.deliveries.totals());
        metrics.client(&self.client().counts());
        let mut seen = Seen { in_flight: self.in_flight as u64, behind: self.intake.behind(), ..Seen::default() };
        for listed in self.book.all().filter(|listed| !listed.is_own) {
            let Some(view) = self.dispatcher.view(now, listed.hook.id) else { continue };
            *seen.hooks.entry(view.health.state).or_default() += 1;
        }
        seen.oldest_pending = self.oldest_pending()?;
        metrics.saw(&seen);
        Ok(())
    }

    /// Lets attempts that are under way end, for a while.
    fn say_farewell(&mut self) -> Result<(), DispatchError> {
        let until = Instant::now() + FAREWELL;
        // None begins any more.
        while self.in_flight > 0 && Instant::now() < until {
            self.orders.clear();
            self.listen(LOOK_EVERY)?;
        }
        self.orders.clear();
        self.settle()?;
        let durable = self.deliveries.sync()?;
        Ok(self.intake.commit(durable)?)
    }

    fn client(&self) -> &Client {
        &self.outfit.couriers.client
    }

    fn attempt_ended(&mut self, ended: Ended) -> Result<(), DispatchError> {
        self.in_flight = self.in_flight.saturating_sub(1);
        let Ended { delivery, job, began_at, took, request, published_at, outcome, answer } = ended;
        self.outfit.metrics.ended(&outcome, took);
        self.note(delivery.hook, &outcome);
        if job.is_none() && outcome.is_success() {
            let age = self.outfit.clock.now().unix.0.saturating_sub(published_at.0);
            self.outfit.metrics.delivered(Duration::from_millis(age));
        }
        let took_ms = super::courier::millis(took);
        // Its number is known where it is stored.
        let attempt = Attempt { number: 0, began_at, took_ms, request, outcome: outcome.clone(), answer };
        self.ended = Some((delivery, attempt));
        self.tell(Input::Ended { delivery, outcome: &outcome, took })?;
        self.ended = None;
        Ok(())
    }

    fn read_all(&mut self, listed: Vec<Listed>, present: &BTreeSet<HookId>) -> Result<(), DispatchError> {
        let gone: Vec<_> = self.book.all().map(|listed| listed.hook.id).filter(|id| !present.contains(id)).collect();
        let left: Vec<_> = self.deliveries.hooks().map(|(hook, _)| hook).filter(|id| !self.is_read && !present.contains(id)).collect();
        gone.into_iter().chain(left).try_for_each(|id| self.remove(id))?;
        listed.into_iter().try_for_each(|listed| self.put(listed))?;
        self.is_read = true;
        Ok(())
    }

    fn put(&mut self, listed: Listed) -> Result<(), DispatchError> {
        let (id, settings) = (listed.hook.id, listed.settings());
        let known = self.book.get(id);
        if known.is_some_and(|known| known.hook.url != listed.hook.url) {
            self.client().forget(id);
        }
        let (is_new, is_same) = (known.is_none(), known.is_some_and(|known| known.settings() == settings));
        self.book.put(listed);
        if is_same {
            return Ok(());
        }
        let standing = self.standing(id)?;
        let health = (standing != Standing::default()).then(|| standing.to_health());
        let has_pending = self.deliveries.counters(id).pending > 0;
        self.tell(Input::HookChanged { hook: id, settings, health, has_pending })?;
        if is_new {
            let jobs: Vec<JobId> = self.deliveries.jobs().filter(|job| job.hook == id && job.is_open()).map(|job| job.id).collect();
            jobs.into_iter().try_for_each(|job| self.tell(Input::Replay { hook: id, job }))?;
        }
        Ok(())
    }

    fn remove(&mut self, id: HookId) -> Result<(), DispatchError> {
        if self.book.remove(id) {
            self.tell(Input::HookRemoved(id))?;
            self.client().forget(id);
        }
        self.standings.remove(&id);
        self.changed.remove(&id);
        Ok(self.deliveries.remove_hook(id)?)
    }

    fn tell_owner(&self, hook: HookId, notice: Notice) {
        let Some(listed) = self.book.get(hook).cloned() else { return };
        let standing = self.standings.get(&hook).cloned().unwrap_or_default();
        let oldest_pending = self.reader.oldest_pending(hook).ok().flatten().map(|(_, accepted)| accepted);
        let (notices, subject) = (self.outfit.notices.clone(), Subject { listed, standing, oldest_pending });
        self.outfit.runtime.spawn(async move { notices.tell(notice, &subject).await });
    }
}
