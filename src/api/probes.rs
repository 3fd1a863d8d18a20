//! Against trying ids out: who asks for devices that are not there, or not for them, has to wait after some of these. Whoever claims what may be
//! claimed never waits.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use firmware_protocol::id::OwnerId;

use super::counters::{Counters, count};
use super::error::ApiError;
use super::request::Call;
use super::tally::Tally;
use super::throttle::network_of;
use crate::config::Limit;

/// How long a device counts that was asked for in vain.
const WINDOW: Duration = Duration::from_secs(3600);
/// Such devices of one account.
const PER_ACCOUNT: Limit = Limit::AtMost(50);
/// Such devices from one address, behind which a whole class may be.
const PER_ADDRESS: Limit = Limit::AtMost(500);

/// Who asked for devices in vain.
pub(super) struct Probes {
    accounts: Tally<OwnerId>,
    addresses: Tally<IpAddr>,
    counters: Arc<Counters>,
}

impl Probes {
    /// Nobody so far. What is refused is counted there.
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        Self { accounts: Tally::new(PER_ACCOUNT, WINDOW), addresses: Tally::new(PER_ADDRESS, WINDOW), counters }
    }

    /// Lets the caller ask for a device.
    ///
    /// # Errors
    /// It has asked in vain too often.
    pub(super) fn admit(&self, call: &Call) -> Result<(), ApiError> {
        let now = Instant::now();
        let admitted = self.accounts.admit(now, &call.caller.user).and_then(|()| self.addresses.admit(now, &network_of(call.address)));
        admitted.map_err(|wait| {
            count(&self.counters.throttled_probes);
            too_often(wait)
        })
    }

    /// The refusal, after it was counted that the caller asked for a device in vain.
    pub(super) fn missed(&self, call: &Call, refusal: ApiError) -> ApiError {
        let now = Instant::now();
        self.accounts.count(now, call.caller.user);
        self.addresses.count(now, network_of(call.address));
        refusal
    }
}

/// Come back after this.
fn too_often(wait: Duration) -> ApiError {
    let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).max(1);
    let text = format!("You asked for too many devices in vain. Try again in {seconds} seconds");
    ApiError::api(StatusCode::TOO_MANY_REQUESTS, &text).retry_after(seconds)
}
