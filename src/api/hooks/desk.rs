//! The way to whoever carries hooks out: told of what changed, asked, and read from. Each takes a bounded time, and few read at the same time: what is served
//! to others waits for none of it.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{timeout, timeout_at};
use tracing::Instrument;

use crate::api::Context;
use crate::api::error::ApiError;
use crate::deliveries::{DeliveriesError, Reader};
use crate::dispatch::{Desk, DeskError};
use crate::store::{HookId, RegistryError};

/// How long a caller waits until hooks go by what was changed. They do so a little later otherwise.
const TOLD_WITHIN: Duration = Duration::from_secs(1);
/// Readers of deliveries at the same time; the others wait.
const READS_MAX: usize = 4;
/// Hooks that are tried at the same time; others are refused.
const TRIALS_MAX: usize = 32;
/// When one more may be tried.
const TRIAL_RETRY_AFTER_S: u32 = 1;
/// When one more replay may be asked for.
const REPLAY_RETRY_AFTER_S: u32 = 60;
const CLOSED: &str = "Webhooks are not carried out now";

/// Places for what takes long.
pub(in crate::api) struct Places {
    reads: Arc<Semaphore>,
    trials: Arc<Semaphore>,
}

/// What whoever carries hooks out is told of.
pub(in crate::api) enum Told {
    /// This one.
    Hook(HookId),
    /// Any number of them.
    All,
}

impl Default for Places {
    fn default() -> Self {
        Self { reads: Arc::new(Semaphore::new(READS_MAX)), trials: Arc::new(Semaphore::new(TRIALS_MAX)) }
    }
}

/// Makes a change of hooks and tells of it, whether or not the caller waits that long. Whoever cannot be told now goes by it later: the answer is the same.
pub(in crate::api) async fn change<T: Send + 'static>(
    context: &Context,
    change: impl Future<Output = Result<T, RegistryError>> + Send + 'static,
    of: impl FnOnce(&T) -> Told + Send + 'static,
) -> Result<T, RegistryError> {
    let desk = context.settings().desk.clone();
    let told = async move {
        let changed = change.await?;
        if let Some(desk) = desk {
            let _ = timeout(TOLD_WITHIN, tell(&desk, of(&changed))).await;
        }
        Ok(changed)
    };
    tokio::spawn(told.in_current_span()).await.unwrap_or(Err(RegistryError::Interrupted))
}

async fn tell(desk: &Desk, what: Told) -> Result<(), DeskError> {
    match what {
        Told::Hook(hook) => desk.changed(hook).await,
        Told::All => desk.all_changed().await,
    }
}

/// The desk, if there is one.
pub(super) fn desk(context: &Context) -> Result<&Desk, ApiError> {
    context.settings().desk.as_ref().ok_or_else(|| ApiError::unavailable(CLOSED).before_anything())
}

/// Waits for what the desk answers, but not for ever.
pub(super) async fn asked<T>(deadline: Instant, answer: impl Future<Output = Result<T, DeskError>>) -> Result<T, ApiError> {
    Ok(timeout_at(deadline.into(), answer).await.unwrap_or(Err(DeskError::Closed))?)
}

/// Reads what is stored of deliveries, on a thread that may wait for the disk.
pub(super) async fn read<T: Send + 'static>(
    context: &Context,
    deadline: Instant,
    read: impl FnOnce(&Reader) -> Result<T, DeliveriesError> + Send + 'static,
) -> Result<T, ApiError> {
    let reader = desk(context)?.reader().ok_or(DeskError::Closed)?;
    let reads = Arc::clone(&context.hook_places().reads);
    let found = async move {
        let place = reads.acquire_owned().await.map_err(|_| DeskError::Closed)?;
        // The place is taken until the thread is done, whether or not the caller waits for it.
        let reading = move || (read(&reader), drop(place)).0;
        Ok(tokio::task::spawn_blocking(reading).await.map_err(|_| DeskError::Closed)??)
    };
    asked(deadline, found).await
}

/// A place for one that is tried.
pub(super) fn trial_place(context: &Context) -> Result<OwnedSemaphorePermit, ApiError> {
    let refused = |_| {
        let text = "Too many webhooks are being tested at the same time";
        ApiError::api(StatusCode::TOO_MANY_REQUESTS, text).retry_after(TRIAL_RETRY_AFTER_S).before_anything()
    };
    Arc::clone(&context.hook_places().trials).try_acquire_owned().map_err(refused)
}

impl From<DeskError> for ApiError {
    /// What the caller did wrong is told; what is wrong here is logged.
    fn from(error: DeskError) -> Self {
        match error {
            DeskError::Closed => Self::unavailable(CLOSED),
            DeskError::NoSuchJob | DeskError::Deliveries(DeliveriesError::NoSuch(_)) => {
                Self::api(StatusCode::NOT_FOUND, "There is no such replay")
            }
            DeskError::Deliveries(error @ DeliveriesError::TooMany(_)) => {
                Self::api(StatusCode::TOO_MANY_REQUESTS, &error.to_string()).retry_after(REPLAY_RETRY_AFTER_S).before_anything()
            }
            DeskError::Deliveries(error) => {
                tracing::error!(%error, "deliveries cannot be read or replayed");
                Self::unavailable(CLOSED)
            }
        }
    }
}
