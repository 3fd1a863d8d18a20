//! The two clocks, read in one place.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use firmware_protocol::time::{Millis, Now, UnixMillis};

/// Milliseconds since the process began, and since 1970. Copies agree with each other.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// Starts the monotonic clock.
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// This moment.
    pub fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Now { at: Millis(millis(self.origin.elapsed())), unix: UnixMillis(millis(unix)) }
    }

    /// A moment of the operating system's monotonic clock on this one.
    pub fn at(&self, moment: Instant) -> Millis {
        Millis(u64::try_from(moment.saturating_duration_since(self.origin).as_millis()).unwrap_or(u64::MAX))
    }
}
