//! Devices that nobody registered. While an operator looks, a few of them are let through to their Hello, so that the list shows keys that were
//! proved, with the id that belongs to them; nothing else they send is taken.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use firmware_protocol::id::{DeviceId, KeyHash};
use firmware_protocol::time::UnixMillis;
use openssl::sha::sha256;

use crate::terminators::StrangerSeen;

/// Strangers let through in a second.
const PER_SECOND: u32 = 5;
/// Most strangers on the list.
const LISTED_MAX: usize = 1_000;

/// One line of the list.
#[derive(Clone, Debug)]
pub struct Stranger {
    /// What it said and proved.
    pub seen: StrangerSeen,
    /// When it came first.
    pub first: UnixMillis,
    /// When it came last.
    pub last: UnixMillis,
}

#[derive(Debug, Default)]
struct State {
    open_until: UnixMillis,
    second: u64,
    in_second: u32,
    listed: BTreeMap<(DeviceId, KeyHash), Stranger>,
}

/// The window and the list.
#[derive(Debug, Default)]
pub struct Strangers {
    state: Mutex<State>,
}

impl Strangers {
    /// Lets strangers through for `span` from now, at most five a second.
    pub fn open(&self, now: UnixMillis, span: Duration) {
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        self.with(|state| state.open_until = UnixMillis(now.0.saturating_add(millis)));
    }

    /// Whether one more may come through now.
    pub fn admit(&self, now: UnixMillis) -> bool {
        self.with(|state| {
            if now >= state.open_until {
                return false;
            }
            if state.second != now.0 / 1000 {
                state.second = now.0 / 1000;
                state.in_second = 0;
            }
            state.in_second += 1;
            state.in_second <= PER_SECOND
        })
    }

    /// A stranger proved its key and said Hello.
    pub fn seen(&self, seen: StrangerSeen, now: UnixMillis) {
        self.with(|state| {
            let key = (seen.device, KeyHash(sha256(&seen.spki)));
            let full = state.listed.len() >= LISTED_MAX;
            match state.listed.get_mut(&key) {
                Some(stranger) => {
                    stranger.seen = seen;
                    stranger.last = now;
                }
                None if full => {}
                None => {
                    state.listed.insert(key, Stranger { seen, first: now, last: now });
                }
            }
        });
    }

    /// All that came, by device id.
    pub fn list(&self) -> Vec<Stranger> {
        self.with(|state| state.listed.values().cloned().collect())
    }

    fn with<T>(&self, action: impl FnOnce(&mut State) -> T) -> T {
        action(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_window_admits_nobody_and_an_open_one_five_a_second() {
        let strangers = Strangers::default();
        assert!(!strangers.admit(UnixMillis(10_000)));
        strangers.open(UnixMillis(10_000), Duration::from_secs(2));
        let admitted = |from: u64| (0..100).filter(|n| strangers.admit(UnixMillis(from + n))).count();
        assert_eq!((admitted(10_000), admitted(11_000), admitted(12_000)), (5, 5, 0));
    }
}
