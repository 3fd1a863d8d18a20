//! The two clocks, read in one place.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use firmware_protocol::time::{Millis, Now, UnixMillis};

/// How far the wall clock is set off, in milliseconds, while a test wants it so.
static OFFSET_MS: AtomicI64 = AtomicI64::new(0);

/// Sets the wall clock off by so many seconds, against what the system says.
pub(crate) fn shift(seconds: i32) {
    OFFSET_MS.store(i64::from(seconds) * 1_000, Ordering::Relaxed);
}

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
        let unix = millis(unix).saturating_add_signed(OFFSET_MS.load(Ordering::Relaxed));
        Now { at: Millis(millis(self.origin.elapsed())), unix: UnixMillis(unix) }
    }

    /// A moment of the operating system's monotonic clock on this one.
    pub fn at(&self, moment: Instant) -> Millis {
        Millis(u64::try_from(moment.saturating_duration_since(self.origin).as_millis()).unwrap_or(u64::MAX))
    }
}
