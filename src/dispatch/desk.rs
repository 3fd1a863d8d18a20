//! Where everybody else asks about hooks and has things done: whoever answers callers, and the command line.

use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use firmware_protocol::time::UnixMillis;
use router::event::Event;
use thiserror::Error;
use tokio::sync::oneshot;
use webhooks::dispatcher::View;
use webhooks::hook::{Hook, HookId};

use super::message::Message;
use crate::deliveries::{Counters, DeliveriesError, Job, JobId, Reader, Selection, Standing};

/// What whoever decides is asked.
#[derive(Debug)]
pub(super) enum Question {
    /// How a hook is.
    Status(HookId, oneshot::Sender<Result<HookStatus, DeskError>>),
    /// Make finished deliveries again.
    Replay(HookId, Selection, oneshot::Sender<Result<Job, DeskError>>),
    /// End a replay.
    Cancel(HookId, JobId, oneshot::Sender<Result<Job, DeskError>>),
    /// The replays of a hook, the newest first.
    Jobs(HookId, oneshot::Sender<Result<Vec<Job>, DeskError>>),
    /// Read what the registry says of a hook now, and answer when events go by it.
    Changed(HookId, oneshot::Sender<()>),
    /// Read what the registry says of all hooks, likewise.
    AllChanged(oneshot::Sender<()>),
    /// Send one request for this event, and tell what came of it. Nothing is stored or published.
    Test(Box<(Hook, Event)>, oneshot::Sender<Tested>),
}

/// How a hook is.
#[derive(Clone, PartialEq, Debug)]
pub struct HookStatus {
    /// How well its deliveries go, since when, and what went wrong last.
    pub standing: Standing,
    /// How many there were, and what became of them.
    pub counters: Counters,
    /// When the event of the oldest one that is still to be made was accepted.
    pub oldest_pending: Option<UnixMillis>,
    /// What is under way; `None` if the dispatcher does not know it yet.
    pub view: Option<View>,
}

/// What came of a test.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tested {
    /// The status code, if there was an answer.
    pub status: Option<u16>,
    /// What the receiver answered, as text and at most 4 KiB of it; or why there is no answer.
    pub text: String,
    /// How long it took, in milliseconds.
    pub took_ms: u32,
}

/// Nobody can say.
#[derive(Debug, Error)]
pub enum DeskError {
    /// Hooks are not carried out now: their database or the registry is not open yet, or has failed.
    #[error("webhooks are not carried out now")]
    Closed,
    /// There is no such replay of that hook.
    #[error("there is no such replay")]
    NoSuchJob,
    /// The database refused.
    #[error(transparent)]
    Deliveries(#[from] DeliveriesError),
}

/// The desk. A handle: clones are the same.
#[derive(Clone, Debug)]
pub struct Desk {
    inbox: Sender<Message>,
    shelf: Shelf,
}

/// Where the reading end of the database is, once that is open. A handle: clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Shelf(Arc<Mutex<Option<Reader>>>);

impl Shelf {
    pub(super) fn put(&self, reader: Option<Reader>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = reader;
    }

    pub(super) fn get(&self) -> Option<Reader> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Tested {
    /// Whether the receiver took it.
    pub fn is_success(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

impl Desk {
    pub(super) fn new(inbox: Sender<Message>, shelf: Shelf) -> Self {
        Self { inbox, shelf }
    }

    /// What is stored of deliveries, once that is open. Reading may wait for the disk. Whoever keeps it keeps the database open.
    pub fn reader(&self) -> Option<Reader> {
        self.shelf.get()
    }

    /// How a hook is.
    ///
    /// # Errors
    /// Hooks are not carried out now, or the database failed.
    pub async fn status(&self, hook: HookId) -> Result<HookStatus, DeskError> {
        self.ask(|answer| Question::Status(hook, answer)).await?
    }

    /// Makes finished deliveries of a hook again.
    ///
    /// # Errors
    /// Hooks are not carried out now, there are too many replays, or the database failed.
    pub async fn replay(&self, hook: HookId, selection: Selection) -> Result<Job, DeskError> {
        self.ask(|answer| Question::Replay(hook, selection, answer)).await?
    }

    /// Ends a replay, and says how far it came.
    ///
    /// # Errors
    /// There is none, hooks are not carried out now, or the database failed.
    pub async fn cancel(&self, hook: HookId, job: JobId) -> Result<Job, DeskError> {
        self.ask(|answer| Question::Cancel(hook, job, answer)).await?
    }

    /// The replays of a hook that are remembered, the newest first.
    ///
    /// # Errors
    /// Hooks are not carried out now.
    pub async fn jobs(&self, hook: HookId) -> Result<Vec<Job>, DeskError> {
        self.ask(|answer| Question::Jobs(hook, answer)).await?
    }

    /// To be called when a hook was created, replaced or removed, or has another key. Events that are accepted after this returns go by it.
    ///
    /// # Errors
    /// Hooks are not carried out now: they will go by it when they are.
    pub async fn changed(&self, hook: HookId) -> Result<(), DeskError> {
        self.ask(|answer| Question::Changed(hook, answer)).await
    }

    /// The same of any number of hooks.
    ///
    /// # Errors
    /// As for [`Desk::changed`].
    pub async fn all_changed(&self) -> Result<(), DeskError> {
        self.ask(Question::AllChanged).await
    }

    /// Sends one request of `hook` for `event` now, whatever waits, and tells what came of it. Nothing is stored, published or counted for the hook.
    ///
    /// # Errors
    /// Hooks are not carried out now.
    pub async fn test(&self, hook: Hook, event: Event) -> Result<Tested, DeskError> {
        self.ask(|answer| Question::Test(Box::new((hook, event)), answer)).await
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Result<T, DeskError> {
        let (sender, receiver) = oneshot::channel();
        self.inbox.send(Message::Question(question(sender))).map_err(|_| DeskError::Closed)?;
        receiver.await.map_err(|_| DeskError::Closed)
    }
}
