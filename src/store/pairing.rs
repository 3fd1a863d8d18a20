//! The pairing window: while it is open, whoever may use it brings devices along, and they become theirs. It is opened by an operator, stands in memory
//! only, and closes by itself.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use firmware_protocol::id::OwnerId;
use firmware_protocol::time::UnixMillis;

/// Devices that may come through one window.
pub const PAIRED_MAX: u32 = 1_000;

/// The window, open or not.
#[derive(Debug, Default)]
pub struct Pairing {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    opened: u64,
    window: Option<PairingWindow>,
}

/// An open window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PairingWindow {
    /// How many had been opened with this one.
    pub number: u64,
    /// When it closes.
    pub until: UnixMillis,
    /// Whose it is; without that any account's.
    pub user: Option<OwnerId>,
    /// How many devices came through it.
    pub paired: u32,
}

impl Pairing {
    /// Opens a window for `span` from now. One that is open is over.
    pub fn open(&self, now: UnixMillis, span: Duration, user: Option<OwnerId>) -> PairingWindow {
        let mut state = self.lock();
        state.opened += 1;
        let until = UnixMillis(now.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)));
        let window = PairingWindow { number: state.opened, until, user, paired: 0 };
        state.window = Some(window);
        window
    }

    /// The window that is open now.
    pub fn view(&self, now: UnixMillis) -> Option<PairingWindow> {
        self.lock().window.filter(|window| now < window.until)
    }

    /// Whether `user` may bring a device along now.
    pub fn admits(&self, now: UnixMillis, user: OwnerId) -> bool {
        self.view(now).is_some_and(|window| window.user.is_none_or(|whose| whose == user) && window.paired < PAIRED_MAX)
    }

    /// Closes the window of this number, unless another one is open. Says how it was.
    pub fn close(&self, number: u64) -> Option<PairingWindow> {
        self.lock().window.take_if(|window| window.number == number)
    }

    /// One more device came through. Says which of the window it is.
    pub(super) fn count(&self) -> Option<u32> {
        let mut state = self.lock();
        let window = state.window.as_mut()?;
        window.paired += 1;
        Some(window.paired)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_window_is_open_for_its_time_and_for_whom_it_was_opened() {
        let (pairing, start, end) = (Pairing::default(), UnixMillis(1_000), UnixMillis(61_000));
        assert!(!pairing.admits(start, OwnerId(1)));
        pairing.open(start, MINUTE, Some(OwnerId(1)));
        assert!(pairing.admits(start, OwnerId(1)) && !pairing.admits(start, OwnerId(2)));
        assert!(!pairing.admits(end, OwnerId(1)) && pairing.view(end).is_none());
        pairing.open(end, MINUTE, None);
        assert!(pairing.admits(end, OwnerId(2)));
    }

    #[test]
    fn a_window_counts_what_comes_through_and_is_full_some_time() {
        let (pairing, now) = (Pairing::default(), UnixMillis(0));
        assert_eq!(pairing.count(), None);
        pairing.open(now, MINUTE, None);
        assert_eq!((pairing.count(), pairing.count()), (Some(1), Some(2)));
        (2..PAIRED_MAX).for_each(|_| assert!(pairing.count().is_some()));
        assert!(!pairing.admits(now, OwnerId(1)));
        assert_eq!(pairing.view(now).map(|window| window.paired), Some(PAIRED_MAX));
    }

    #[test]
    fn only_the_window_that_was_meant_is_closed() {
        let (pairing, now) = (Pairing::default(), UnixMillis(0));
        let first = pairing.open(now, MINUTE, None);
        let second = pairing.open(now, MINUTE, None);
        assert_eq!(pairing.close(first.number), None);
        assert!(pairing.admits(now, OwnerId(1)));
        assert_eq!(pairing.close(second.number), Some(second));
        assert!(!pairing.admits(now, OwnerId(1)));
    }
}
