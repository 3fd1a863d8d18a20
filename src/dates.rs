//! The wall clock. Times as text are `router::dates`.

use std::time::{SystemTime, UNIX_EPOCH};

use firmware_protocol::time::UnixMillis;

pub use router::dates::{Iso, parse};

/// The wall clock now. Before 1970 it is 1970.
pub fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
