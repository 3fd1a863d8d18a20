//! The allocator, and how memory goes back to the system that only a start needed.

#![expect(unsafe_code, reason = "the allocator can be told to give memory back by its C interface only")]

use std::time::Duration;

/// How long a restored session remembers what its device said last, and a little more.
const RESTORED: Duration = Duration::from_secs(120);

/// Gives back what the calling thread has freed. The allocator keeps it otherwise until the thread needs it or works again, which for the thread
/// that recovers sessions is never.
pub fn give_back() {
    // SAFETY: mi_collect takes no pointer and has no precondition; it may be called from any thread at any time.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

/// Gives back what the start has used, at once and when restored sessions have forgotten what they shall forget. To be awaited on the thread that
/// recovered them. Does not end.
pub async fn give_back_after_start() {
    give_back();
    tokio::time::sleep(RESTORED).await;
    give_back();
    std::future::pending().await
}
