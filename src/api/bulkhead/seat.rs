//! The place that a request has while it is served. Where that is may change: once its body is there, and when it turns out that a device is asked.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::http::StatusCode;
use firmware_protocol::id::OwnerId;

use super::accounts::AccountPlace;
use super::{Bulkheads, Class, Permit, whole_seconds};
use crate::api::counters::count;
use crate::api::error::ApiError;

/// It. A handle: clones are the same, and the place is given back with the last of them.
#[derive(Clone)]
pub(in crate::api) struct Seat {
    inner: Arc<Inner>,
}

struct Inner {
    bulkheads: Bulkheads,
    /// What its route is for.
    class: Class,
    deadline: Instant,
    held: Mutex<Held>,
}

struct Held {
    permit: Permit,
    account: Option<AccountPlace>,
}

impl Seat {
    pub(super) fn new(permit: Permit, class: Class, deadline: Instant) -> Self {
        let held = Mutex::new(Held { permit, account: None });
        Self { inner: Arc::new(Inner { bulkheads: permit_bulkheads(&held), class, deadline, held }) }
    }

    /// To be called when the body is there: what was an upload so far is what its route says.
    pub(in crate::api) async fn settle(&self) -> Result<(), ApiError> {
        self.move_to(self.inner.class).await
    }

    /// To be called when the caller is known, where the route asks devices.
    pub(in crate::api) fn count_for(&self, account: OwnerId) -> Result<(), ApiError> {
        if self.inner.class == Class::Calls { self.take_of(account) } else { Ok(()) }
    }

    /// To be called before a device is asked by a route that does not always do that.
    pub(in crate::api) async fn ask_device(&self, account: OwnerId) -> Result<(), ApiError> {
        if self.inner.class == Class::Calls {
            return Ok(());
        }
        self.move_to(Class::Calls).await?;
        self.take_of(account)
    }

    async fn move_to(&self, class: Class) -> Result<(), ApiError> {
        if self.with(|held| held.permit.class) == class {
            return Ok(());
        }
        let permit = self.inner.bulkheads.enter(class, self.inner.deadline).await?;
        let before = self.with(|held| std::mem::replace(&mut held.permit, permit));
        drop(before);
        Ok(())
    }

    fn take_of(&self, account: OwnerId) -> Result<(), ApiError> {
        let Inner { bulkheads, .. } = &*self.inner;
        let place = bulkheads.inner.accounts.take(account).ok_or_else(|| {
            count(&bulkheads.counters(Class::Calls).refused);
            let seconds = whole_seconds(bulkheads.gate(Class::Calls).retry_after(Instant::now()));
            ApiError::api(StatusCode::TOO_MANY_REQUESTS, "Too many requests of this account are waiting for devices")
                .retry_after(seconds)
                .before_anything()
        })?;
        self.with(|held| held.account = Some(place));
        Ok(())
    }

    fn with<T>(&self, work: impl FnOnce(&mut Held) -> T) -> T {
        work(&mut self.inner.held.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn permit_bulkheads(held: &Mutex<Held>) -> Bulkheads {
    held.lock().unwrap_or_else(PoisonError::into_inner).permit.bulkheads.clone()
}
