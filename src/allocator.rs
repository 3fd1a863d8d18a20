//! The allocator, and how memory goes back to the system that only a start needed: three times what remains, and the allocator would keep it.

#![expect(unsafe_code, reason = "the allocator can be told to give memory back by its C interface only")]

use std::ffi::{c_int, c_long};
use std::time::Duration;

/// `mi_option_purge_delay`: milliseconds from when memory is free until the system has it back. The crate does not export the name.
const PURGE_DELAY: c_int = 15;
const AT_ONCE: c_long = 0;
/// The allocator's own choice: what is freed under load is needed again at once.
const LATER: c_long = 1_000;

/// How long a restored session remembers what its device said last, and a little more.
const RESTORED: Duration = Duration::from_secs(120);

/// From now on what is free goes back at once.
pub fn start() {
    // SAFETY: both arguments are plain numbers, and the allocator reads its options atomically.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, AT_ONCE) }
}

/// Gives back what the calling thread has freed, and what threads that have ended left free. For a thread that works seldom and then with much: nobody
/// else can give back what it holds.
pub fn give_back() {
    // SAFETY: takes no pointer and may be called from any thread at any time.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

/// Waits until the start is over and restored sessions have forgotten what they shall forget. From then on the allocator does as it likes. To be
/// awaited on the thread that recovered them; does not end.
pub async fn settle() {
    tokio::time::sleep(RESTORED).await;
    give_back();
    // SAFETY: as in `start`.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, LATER) }
    std::future::pending().await
}
