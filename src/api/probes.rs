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
/// Serial numbers that one account looks up in that time.
const SERIAL_NUMBERS: Limit = Limit::AtMost(50);
/// Such devices of one account.
const PER_ACCOUNT: Limit = Limit::AtMost(50);
/// Such devices from one address, behind which a whole class may be.
const PER_ADDRESS: Limit = Limit::AtMost(500);

/// Who asked for devices in vain.
pub(super) struct Probes {
    accounts: Tally<OwnerId>,
    addresses: Tally<IpAddr>,
    serial_numbers: Tally<OwnerId>,
    counters: Arc<Counters>,
}

impl Probes {
    /// Nobody so far. What is refused is counted there.
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        Self {
            accounts: Tally::new(PER_ACCOUNT, WINDOW),
            addresses: Tally::new(PER_ADDRESS, WINDOW),
            serial_numbers: Tally::new(SERIAL_NUMBERS, WINDOW),
            counters,
        }
    }

    /// Lets the caller ask for a device.
    ///
    /// # Errors
    /// It has asked in vain too often.
    pub(super) fn admit(&self, call: &Call) -> Result<(), ApiError> {
        let now = Instant::now();
        let admitted = self.accounts.admit(now, &call.caller.user).and_then(|()| self.addresses.admit(now, &network_of(call.address)));
        admitted.map_err(|wait| self.refuse("You asked for too many devices in vain", wait))
    }

    /// Lets the caller look a serial number up, found or not.
    ///
    /// # Errors
    /// It has done that too often.
    pub(super) fn look_up(&self, call: &Call) -> Result<(), ApiError> {
        let (now, user) = (Instant::now(), call.caller.user);
        self.serial_numbers.admit(now, &user).map_err(|wait| self.refuse("You looked up too many serial numbers", wait))?;
        self.serial_numbers.count(now, user);
        Ok(())
    }

    /// The refusal, after it was counted that the caller asked for a device in vain.
    pub(super) fn missed(&self, call: &Call, refusal: ApiError) -> ApiError {
        let now = Instant::now();
        self.accounts.count(now, call.caller.user);
        self.addresses.count(now, network_of(call.address));
        refusal
    }
    /// Come back after this.
    fn refuse(&self, why: &str, wait: Duration) -> ApiError {
        count(&self.counters.throttled_probes);
        let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).max(1);
        ApiError::api(StatusCode::TOO_MANY_REQUESTS, &format!("{why}. Try again in {seconds} seconds")).retry_after(seconds)
    }
}
