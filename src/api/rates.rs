//! How often one address may ask in five minutes. Only what anybody can ask for without a token is limited unless an operator says otherwise: behind
//! one address there may be a whole class.

use std::net::IpAddr;
use std::time::Instant;

use axum::http::StatusCode;

use super::Settings;
use super::bulkhead::Class;
use super::error::ApiError;
use super::throttle::Throttle;
use crate::config::Limit;

/// What each address has asked for of late.
pub(super) struct Rates {
    requests: Option<Throttle>,
    streams: Option<Throttle>,
    logins: Option<Throttle>,
}

impl Rates {
    pub(super) fn new(settings: &Settings) -> Self {
        let throttle = |limit| (limit != Limit::Unlimited).then(|| Throttle::new(limit));
        Self {
            requests: throttle(settings.requests_per_address),
            streams: throttle(settings.streams_per_address),
            logins: throttle(settings.logins_per_address),
        }
    }

    /// Counts a request of `class` from `address`, or refuses it.
    pub(super) fn admit(&self, now: Instant, address: IpAddr, class: Class) -> Result<(), ApiError> {
        let of_class = match class {
            Class::Streams => &self.streams,
            Class::Logins => &self.logins,
            _ => &None,
        };
        for throttle in [&self.requests, of_class].into_iter().flatten() {
            throttle.take(now, address).map_err(|wait| refusal(wait.as_secs()))?;
        }
        Ok(())
    }
}

fn refusal(wait_s: u64) -> ApiError {
    let seconds = u32::try_from(wait_s).unwrap_or(u32::MAX).max(1);
    let text = format!("Too many requests from this address. Try again in {seconds} seconds");
    ApiError::oauth(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", &text).retry_after(seconds)
}
